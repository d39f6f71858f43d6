"""A session: one process brings a run from its beginning, or from where it stood, to its end."""

import contextlib
import dataclasses
from pathlib import Path

import xarray as xr

from ..report.drawing import draw_figures, outdated
from ..run_directory.checkpoint import FINGERPRINT, fingerprint
from ..run_directory.directory import CONFIG
from ..run_directory.environment import EnvironmentFile
from ..store.status import FAILED, INTERRUPTED, RUNNING, is_complete
from ..store.store import RESULTS_FOLDER, Store, load, remove
from ..system.errors import DamagedError, DirectoryError
from ..system.interrupts import deferred_interrupts
from ..system.progress import AbstractProgress, show_progress, warn
from ..tables import Config
from .task import AbstractTask


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


class Session:
    """One process's work on a run: it begins or goes on, computes and stores, ends and draws.

    Args:
        path: the run directory, prepared.
        config: the config.
        share: what is to be computed.
        there: whether there is an earlier share to go on with.

    Raises:
        DirectoryError: if it cannot be gone on with.
    """

    def __init__(self, path: Path, config: Config, share: AbstractTask, there: bool):
        self._path, self._config, self._share = path, config, share
        self._environment = EnvironmentFile(path, config)
        if there:
            self._check_results_are_of_the_config()
        earlier = share.restore() if there else None
        self._store = self._create() if earlier is None else earlier
        if not is_complete(self._store):
            self._environment.start()
            self._store.update("", {"status": RUNNING, "message": ""})

    def run(self, *, draw: bool, progress: bool) -> Result:
        """Compute what is left, if anything is, and draw the config's figures that are not there.

        However it ends, the store then holds no rows but those that were computed.

        Args:
            draw: draw the figures.
            progress: show a progress bar on stderr, if that is a terminal.

        Raises:
            KeyboardInterrupt: after what was computed is where a resumed run finds it.
        """
        if not is_complete(self._store):
            length, done = self._share.length, self._share.done(self._store)
            with show_progress(length, done, progress, self._share.unit) as bar:
                self._compute(bar)
        if draw:
            # A run that is complete may have been interrupted while they were drawn.
            for problem in draw_figures(self._path, outdated(self._path, self._config.figures)):
                warn(problem)
        attributes = self._store.attributes()
        return Result(self._path, str(attributes["status"]), str(attributes.get("message", "")))

    def _compute(self, bar: AbstractProgress) -> None:
        share, store = self._share, self._store
        try:
            share.compute(store, bar)
            ending = share.conclude(store)
        except KeyboardInterrupt:
            with deferred_interrupts():
                share.keep(store)
                self._end(INTERRUPTED, share.place(store))
            raise
        except Exception as error:
            # What broke the run, a full disk perhaps, may break this too, and is what counts.
            with contextlib.suppress(Exception), deferred_interrupts():
                why = " ".join(str(error).split())[:300] or type(error).__name__
                store.finish({"status": FAILED, "message": f"{share.place(store)}: {why}"})
            raise
        self._end(*ending)

    def _end(self, status: str, message: str) -> None:
        self._store.finish({"status": status, "message": message})
        self._environment.write()

    def _check_results_are_of_the_config(self) -> None:
        """Notice a change of the `config.toml` that is there, which the config was compared with.

        Raises:
            DamagedError: if the results were begun with another config.
        """
        try:
            told = Store.open(self._path / RESULTS_FOLDER).attributes().get(FINGERPRINT)
        except DirectoryError:
            return  # The share says so, or does without.
        if told not in (None, fingerprint(self._config)):
            raise DamagedError(
                f"{self._path}: cannot resume, {CONFIG} was changed after the results there were "
                "begun, or they are of another version of the program; undo that, replace them "
                "(--overwrite) or choose another folder (--out)"
            )

    def _create(self) -> Store:
        results, config = self._path / RESULTS_FOLDER, self._config
        if results.exists() or results.is_symlink():
            remove(results)
        attributes = {
            "name": config.name,
            "description": config.description,
            "title": config.description or config.name,
            "status": RUNNING,
            "message": "",
            FINGERPRINT: fingerprint(config),
        }
        return Store.create(results, {**attributes, **self._share.attributes})
