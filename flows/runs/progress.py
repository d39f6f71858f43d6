"""A progress bar on standard error: the one of this project, which experiments use too."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import rich.progress

Progress: TypeAlias = bool | np.bool_ | Callable[[int, int], object]
"""What `simulate` and `iterate` take: show a bar, or a function of (saves done, saves in all)."""


_BAR_LENGTH = 30
# Notebooks keep all that is written: not more often than this, in seconds.
_BETWEEN_LINES = 0.1


def _in_notebook() -> bool:
    """Return True in a notebook's kernel, where standard error is no terminal but is shown."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


class _NotebookLine:
    """A bar of text, written over again at each change.

    (That of rich needs the widgets of ipywidgets in a notebook.)
    """

    def __init__(self, label: str, total: int):
        self.label = label
        self._total = total
        self._began = time.perf_counter()
        self._shown = -math.inf
        self._length = 0

    def show(self, done: int, rate: str) -> None:
        """Write how much is done, its rate, and the time that it took or may take."""
        now = time.perf_counter()
        if done < self._total and now - self._shown < _BETWEEN_LINES:
            return
        self._shown = now
        taken = now - self._began
        full = round(_BAR_LENGTH * done / self._total)
        left = taken * (self._total - done) / max(done, 1)
        bar = "#" * full + "-" * (_BAR_LENGTH - full)
        self._write(
            f"{self.label} {bar} {done}/{self._total} {rate}, {taken:.0f} s, {left:.0f} s left"
        )

    def stop(self, remove: bool) -> None:
        """End the line, or remove it."""
        if remove:
            self._write("")
        sys.stderr.write("\r" if remove else "\n")
        sys.stderr.flush()

    def _write(self, text: str) -> None:
        sys.stderr.write("\r" + text.ljust(self._length))
        sys.stderr.flush()
        self._length = len(text)


class ProgressBar:
    """How far something is, its rate and the time left; nothing where nobody would see it.

    It is shown while it is entered, `with ProgressBar(...) as bar:`, and without being entered it
    does nothing.

    Args:
        total: How much there is to do, in `unit`.
        done: How much of it was done before, by an earlier process perhaps.
        label: What is being worked on.
        unit: What the rate counts.
        transient: True to remove the bar at the end.
    """

    def __init__(
        self,
        total: int,
        *,
        done: int = 0,
        label: str = "",
        unit: str = "saves",
        transient: bool = False,
    ):
        self._total = total
        self._done = done
        self._label = label
        self._unit = unit
        self._transient = transient
        self._since = time.perf_counter()
        self._bar: rich.progress.Progress | None = None
        self._line: _NotebookLine | None = None

    def __enter__(self) -> "ProgressBar":
        if _in_notebook():
            self._line = _NotebookLine(self._label, self._total)
        elif sys.stderr.isatty():
            self._bar = self._shown()
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._line is not None:
            self._line.stop(self._transient)
            self._line = None

    def working_on(self, label: str) -> None:
        """Say what is worked on from now on."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=label)
        if self._line is not None:
            self._line.label = label

    def reached(self, done: int) -> None:
        """Say how much is done; the rate shown is that since the last call."""
        now = time.perf_counter()
        rate = f"{(done - self._done) / max(now - self._since, 1e-9):,.3g} {self._unit}/s"
        self._since, self._done = now, done
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, rate=rate)
        if self._line is not None:
            self._line.show(done, rate)

    def _shown(self) -> "rich.progress.Progress":
        # rich takes longer to import than a short run takes.
        import rich.console
        import rich.progress

        bar = rich.progress.Progress(
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[rate]}", style="progress.data.speed"),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("left"),
            rich.progress.TimeRemainingColumn(),
            console=rich.console.Console(stderr=True),
            transient=self._transient,
        )
        bar.add_task(self._label, total=self._total, completed=self._done, rate="")
        return bar


@contextmanager
def reporting(progress: Progress, name: str, total: int) -> Iterator[Callable[[int], object]]:
    """Report how much of a run is done, as its `progress` asks for.

    Args:
        progress: True for a bar, False for nothing, or a function of (done, total).
        name: What runs.
        total: How much there is to do.

    Yields:
        A function to call with how much is done.
    """
    if callable(progress):
        yield lambda done: progress(done, total)
    elif progress:
        with ProgressBar(total, label=name) as bar:
            yield bar.reached
    else:
        yield lambda done: None
