"""A progress bar and warnings, on standard error."""

import sys
import time
from types import TracebackType

import rich.console
import rich.progress


class ProgressBar:
    """How far a run is: what it works on, how much is done, at what rate, and the time left.

    A context manager. The bar vanishes at its end, and nothing is shown where standard error is not
    a terminal.

    Args:
        length: the length of the run, in `unit`.
        done: how much of it an earlier process did.
        unit: what is counted: steps, parts or runs.
        show: false to show nothing at all.
    """

    def __init__(self, length: int, done: int, unit: str, show: bool = True):
        self._unit = unit
        self._last = time.perf_counter(), done
        self._bar = rich.progress.Progress(
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[rate]}", style="progress.data.speed"),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("left"),
            rich.progress.TimeRemainingColumn(),
            console=rich.console.Console(stderr=True),
            transient=True,
            disable=not (show and sys.stderr.isatty()),
        )
        self._row = self._bar.add_task("starting", total=length, completed=done, rate="")

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def working_on(self, label: str) -> None:
        """Show what is computed next: a trajectory, a part or a batch."""
        self._bar.update(self._row, description=label)

    def reached(self, done: int) -> None:
        """Show that so much is done and stored, and the rate since the last call."""
        (before, earlier), now = self._last, time.perf_counter()
        rate = f"{(done - earlier) / max(now - before, 1e-9):,.3g} {self._unit}/s"
        self._last = now, done
        self._bar.update(self._row, completed=done, rate=rate)


def warn(sentence: str) -> None:
    """Print a warning on standard error, which does not stop the run."""
    console = rich.console.Console(stderr=True, soft_wrap=True)
    console.print(f"warning: {sentence}", style="yellow", markup=False, highlight=False)
