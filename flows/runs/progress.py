"""A progress bar on standard error: the one of this project, which experiments use too."""

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


class ProgressBar:
    """How far something is, its rate and the time left; nothing where that is no terminal.

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

    def __enter__(self) -> "ProgressBar":
        if sys.stderr.isatty():
            self._bar = self._shown()
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def working_on(self, label: str) -> None:
        """Say what is worked on from now on."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=label)

    def reached(self, done: int) -> None:
        """Say how much is done; the rate shown is that since the last call."""
        now = time.perf_counter()
        rate = f"{(done - self._done) / max(now - self._since, 1e-9):,.3g} {self._unit}/s"
        self._since, self._done = now, done
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, rate=rate)

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
