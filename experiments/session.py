"""The abstraction of a session: one process's share of a run, whatever is run."""

import abc
import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from .environment import EnvironmentFile
from .interrupts import deferred_interrupts
from .progress import AbstractProgress
from .schema import Config
from .store import RESULTS, Store, load, remove

FINISHED, DIVERGED, RUNNING, INTERRUPTED = "finished", "diverged", "running", "interrupted"
INCOMPLETE, FAILED = "incomplete", "failed"


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        directory: the run directory.
        status: "finished", "diverged", or of a sweep "incomplete" if one of its runs failed.
        message: which trajectories stopped where, a sentence each; empty if none did.
    """

    directory: Path
    status: str
    message: str

    def tree(self) -> xr.DataTree:
        """Read the results.

        Raises:
            DirectoryError: if they are no longer there.
        """
        return load(self.directory)


class AbstractSession(abc.ABC):
    """One process's share of a run: it begins or goes on, computes and stores, and ends.

    Args:
        path: the run directory, prepared.
        config: the config.
        there: whether there is an earlier share to go on with.

    Attributes:
        store: where the results go.
        unit: what progress is counted in.
    """

    unit: str

    def __init__(self, path: Path, config: Config, there: bool):
        self.path = path
        self._environment = EnvironmentFile(path, config)
        store = self.restore() if there else None
        self.store = self._create(config) if store is None else store
        if not is_complete(self.store):
            self._environment.start()
            self.store.update("", {"status": RUNNING, "message": ""})

    @property
    @abc.abstractmethod
    def attributes(self) -> dict[str, Any]:
        """Attributes of the results' root, besides name, description, title and status."""

    @property
    @abc.abstractmethod
    def length(self) -> int:
        """How much there is to do in all, in `unit`."""

    @property
    @abc.abstractmethod
    def done(self) -> int:
        """How much is done, in `unit`."""

    @property
    @abc.abstractmethod
    def place(self) -> str:
        """Where the run stands, in words."""

    @abc.abstractmethod
    def restore(self) -> Store | None:
        """Go back to where the earlier share can be gone on with.

        Returns:
            Its store, open for writing unless the run is complete; None to begin again.

        Raises:
            DirectoryError: if it cannot be gone on with.
        """

    @abc.abstractmethod
    def compute(self, bar: AbstractProgress) -> None:
        """Compute and store what is left.

        Raises:
            KeyboardInterrupt: at any moment at which nothing is written.
        """

    @abc.abstractmethod
    def keep(self) -> None:
        """Bring what was computed before an interrupt to where a resumed run finds it."""

    @abc.abstractmethod
    def conclude(self) -> tuple[str, str]:
        """Write what is known only at the end.

        Returns:
            The status with which the run ends, and what there is to say about it.
        """

    def run(self, bar: AbstractProgress) -> None:
        """Compute what is left and bring the run to its end.

        However it ends, the store then holds no rows but those that were computed.

        Raises:
            KeyboardInterrupt: after what was computed is where a resumed run finds it.
        """
        try:
            self.compute(bar)
            ending = self.conclude()
        except KeyboardInterrupt:
            with deferred_interrupts():
                self.keep()
                self._end(INTERRUPTED, self.place)
            raise
        except Exception as error:
            # What broke the run, a full disk perhaps, may break this too, and is what counts.
            with contextlib.suppress(Exception), deferred_interrupts():
                why = " ".join(str(error).split())[:300] or type(error).__name__
                self.store.finish({"status": FAILED, "message": f"{self.place}: {why}"})
            raise
        self._end(*ending)

    def result(self) -> Result:
        """How a run that is complete ended, as its store says."""
        attributes = self.store.attributes()
        return Result(self.path, str(attributes["status"]), str(attributes.get("message", "")))

    def _end(self, status: str, message: str) -> None:
        self.store.finish({"status": status, "message": message})
        self._environment.write()

    def _create(self, config: Config) -> Store:
        results = self.path / RESULTS
        if results.exists() or results.is_symlink():
            remove(results)
        attributes = {
            "name": config.name,
            "description": config.description,
            "title": config.description or config.name,
            "status": RUNNING,
            "message": "",
        }
        return Store.create(results, {**attributes, **self.attributes})


def ending(messages: Sequence[str]) -> tuple[str, str]:
    """The status of a run, and its message.

    Args:
        messages: a sentence for each trajectory or part that stopped early.
    """
    return (DIVERGED if messages else FINISHED), "; ".join(messages)


def earlier_store(path: Path) -> Store | None:
    """Open the store that an earlier share of a run left, for writing unless the run is complete.

    Args:
        path: the run directory.

    Returns:
        The store; None if there is none yet.
    """
    if not (path / RESULTS).exists():
        return None
    store = Store.open(path / RESULTS)
    if not is_complete(store):
        store.reopen()
    return store


def is_complete(store: Store) -> bool:
    """Whether a run was already brought to its end."""
    return store.attributes().get("status") in (FINISHED, DIVERGED)
