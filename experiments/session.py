"""The abstraction of a session: one process's share of a run, whatever is run."""

import abc
import dataclasses
from pathlib import Path

import xarray as xr

from .progress import AbstractProgress
from .store import Store, load

FINISHED, DIVERGED, RUNNING, INTERRUPTED = "finished", "diverged", "running", "interrupted"


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        directory: the run directory.
        status: "finished" or "diverged".
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
    """One process's share of a run.

    Attributes:
        store: where the results go.
        length: how much there is to do in all, in `unit`.
        unit: what progress is counted in.
    """

    store: Store
    length: int
    unit: str

    @property
    @abc.abstractmethod
    def done(self) -> int:
        """How much is done, in `unit`."""

    @abc.abstractmethod
    def loop(self, bar: AbstractProgress) -> None:
        """Compute and store what is left.

        Raises:
            KeyboardInterrupt: after what was computed is where a resumed run finds it.
        """

    @abc.abstractmethod
    def finish(self) -> None:
        """Write what is known only at the end."""


def complete(session: AbstractSession) -> bool:
    """Whether a run was already brought to its end."""
    return session.store.attributes().get("status") in (FINISHED, DIVERGED)


def result(session: AbstractSession, directory: Path) -> Result:
    """How a run that is complete ended, as its store says."""
    attributes = session.store.attributes()
    return Result(directory, str(attributes["status"]), str(attributes.get("message", "")))
