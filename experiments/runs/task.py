"""The abstraction of a task: what a process has to do of a run, whatever is run."""

import abc
from pathlib import Path
from typing import Any

from flows.runs.progress import ProgressBar

from ..store.status import is_complete
from ..store.store import RESULTS_FOLDER, Store, has_begun


class AbstractTask(abc.ABC):
    """What is run: an experiment, a study or a sweep, from where it stands to its end.

    A session makes the store, calls `compute` and `conclude`, and notes how the run ended.

    Attributes:
        unit: what progress is counted in.
    """

    unit: str

    @property
    @abc.abstractmethod
    def attributes(self) -> dict[str, Any]:
        """Attributes of the results' root, besides name, description, title and status."""

    @property
    @abc.abstractmethod
    def length(self) -> int:
        """How much there is to do in all, in `unit`."""

    @abc.abstractmethod
    def done(self, store: Store) -> int:
        """How much is done, in `unit`."""

    @abc.abstractmethod
    def place(self, store: Store) -> str:
        """Where the run stands, in words."""

    @abc.abstractmethod
    def restore(self) -> Store | None:
        """Go back to the last point from which an earlier process's work can be continued.

        Returns:
            Its store, open for writing unless the run is complete; None to begin again.

        Raises:
            DirectoryError: if there is no such point.
        """

    @abc.abstractmethod
    def compute(self, store: Store, bar: ProgressBar) -> None:
        """Compute and store what is left.

        Raises:
            KeyboardInterrupt: at any moment at which nothing is written.
        """

    @abc.abstractmethod
    def keep(self, store: Store) -> None:
        """Write what was computed before an interrupt to where a resumed run finds it."""

    @abc.abstractmethod
    def conclude(self, store: Store) -> tuple[str, str]:
        """Write what is known only at the end.

        Returns:
            The status with which the run ends, and a message about it, empty if all is well.
        """


def earlier_store(path: Path) -> Store | None:
    """Open the store that an earlier process left, for writing unless the run is complete.

    Args:
        path: the run directory.

    Returns:
        The store; None if there is none yet.
    """
    if not has_begun(path / RESULTS_FOLDER):
        return None
    store = Store.open(path / RESULTS_FOLDER)
    if not is_complete(store):
        store.reopen()
    return store
