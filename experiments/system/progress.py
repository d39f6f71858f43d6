"""A progress bar on standard error; silent when that is not a terminal."""

import abc
import contextlib
import sys
from collections.abc import Iterator

import rich.console
import rich.progress
import rich.text


class AbstractProgress(abc.ABC):
    """What the runner tells about how far it is."""

    @abc.abstractmethod
    def working_on(self, label: str) -> None:
        """A trajectory is about to be advanced."""

    @abc.abstractmethod
    def reached(self, done: int) -> None:
        """So much is done: all trajectories are at this step, or so many parts are stored."""


class _Bar(AbstractProgress):
    def __init__(self, bar: rich.progress.Progress, length: int, done: int):
        self._bar = bar
        self._task = bar.add_task("starting", total=length, completed=done)

    def working_on(self, label: str) -> None:
        self._bar.update(self._task, description=label)

    def reached(self, done: int) -> None:
        self._bar.update(self._task, completed=done)


class _Silence(AbstractProgress):
    def working_on(self, label: str) -> None:
        del label

    def reached(self, done: int) -> None:
        del done


class _Rate(rich.progress.ProgressColumn):
    """Steps (or parts) per second, all trajectories together counting as one."""

    def __init__(self, unit: str):
        super().__init__()
        self._unit = unit

    def render(self, task: rich.progress.Task) -> rich.text.Text:
        speed = task.finished_speed or task.speed
        text = "" if speed is None else f"{speed:,.3g} {self._unit}/s"
        return rich.text.Text(text, style="progress.data.speed")


def warn(sentence: str) -> None:
    """Tell the user something on stderr that does not stop the run."""
    console = rich.console.Console(stderr=True, soft_wrap=True)
    console.print(f"warning: {sentence}", style="yellow", markup=False, highlight=False)


@contextlib.contextmanager
def show_progress(
    length: int, done: int, show: bool, unit: str = "steps"
) -> Iterator[AbstractProgress]:
    """Show how far a run is, its rate and the time left, while a block of code runs.

    Args:
        length: the run's length.
        done: how much of it an earlier process did.
        show: whether to show anything; nothing is shown anyway where stderr is not a terminal.
        unit: what the length is counted in.
    """
    if not (show and sys.stderr.isatty()):
        yield _Silence()
        return
    columns = (
        rich.progress.SpinnerColumn(),
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        _Rate(unit),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
    )
    console = rich.console.Console(stderr=True)
    with rich.progress.Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar, length, done)
