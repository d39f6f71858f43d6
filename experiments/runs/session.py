"""A session: one process brings a run from its beginning, or from where it stood, to its end."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

import xarray as xr

from flows.runs.progress import ProgressBar

from ..config.schema import Config
from ..report.drawing import draw_figures, outdated
from ..run_directory.checkpoint import FINGERPRINT, fingerprint
from ..run_directory.directory import CONFIG, claimed, lengthen, prepare, writing, written_by
from ..run_directory.environment import EnvironmentFile
from ..store.status import FAILED, INTERRUPTED, RUNNING, is_complete
from ..store.store import RESULTS_FOLDER, Store, load, remove
from ..system.errors import DamagedError, DirectoryError
from ..system.interrupts import deferred_interrupts
from ..system.memory import enough_memory
from ..system.warning import warn
from .task import AbstractTask


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        directory: the run directory.
        status: "finished" or "diverged"; for a sweep "finished", or "incomplete" if a run failed.
        message: which trajectories stopped where, a sentence each; empty if none did.

    Example:
        >>> import tempfile
        >>> from experiments import load_run_config, run
        >>> changes = "steps=4", "flows=[]", "figures=[]"
        >>> config = load_run_config("quartic-descent", changes)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = run(config, folder, progress=False)
        ...     groups = sorted(result.tree().children)
        >>> result.message, groups
        ('', ['discrete'])
    """

    directory: Path
    status: str
    message: str

    def tree(self) -> xr.DataTree:
        """Read the results into memory, as `load` does.

        Raises:
            DirectoryError: if they are no longer there.
        """
        return load(self.directory)


def carry_out(
    path: Path,
    config: Config,
    make_task: Callable[[], AbstractTask],
    blamed: str,
    *,
    overwrite: bool,
    resume: bool,
    draw: bool,
    progress: bool,
) -> Result:
    """Bring a run, a study or a sweep to its end in a run directory.

    Args:
        path: the run directory.
        config: the config, for which the directory is prepared.
        make_task: makes the task. It is called first: what cannot be built leaves no trace in the
            directory, and deletes nothing there.
        blamed: the keys that are named where there is not enough memory.
        overwrite: replace an earlier run that is there.
        resume: go on with an earlier run that is there.
        draw: draw the config's figures at the end.
        progress: show a progress bar on stderr, if that is a terminal.

    Raises:
        ConfigError: if there is not enough memory.
        DirectoryError: if the directory cannot be used or written, or gone on with.
        KeyboardInterrupt: after what was computed is where a resumed run finds it.
    """
    with enough_memory(config.name, blamed):
        task = make_task()
        with claimed(path):
            there = prepare(path, config, overwrite=overwrite, resume=resume)
            with writing(path):
                return _Session(path, config, task, there).run(draw=draw, progress=progress)


class _Session:
    """One process's work on a run: it begins or goes on, computes and stores, ends and draws.

    Args:
        path: the run directory, prepared.
        config: the config.
        task: what is to be computed.
        there: an earlier process left something there to go on with.

    Raises:
        DirectoryError: if it is not possible to go on with that.
    """

    def __init__(self, path: Path, config: Config, task: AbstractTask, there: bool):
        self._path, self._config, self._task = path, config, task
        self._environment = EnvironmentFile(path, config)
        if there:
            self._check_results_are_of_the_config()
        earlier = task.restore() if there else None
        if there:
            lengthen(path, config)
        self._store = self._create() if earlier is None else earlier
        if not is_complete(self._store):
            self._environment.start()
            self._store.update("", {"status": RUNNING, "message": ""})

    def run(self, *, draw: bool, progress: bool) -> Result:
        """Compute what is left, if anything is, and draw the config's figures that are missing.

        However it ends, the store then holds no rows but those that were computed.
        """
        task, store = self._task, self._store
        if not is_complete(store):
            bar = ProgressBar(
                task.length, done=task.done(store), label="starting", unit=task.unit, transient=True
            )
            with bar if progress else contextlib.nullcontext():
                self._compute(bar)
        if draw:
            # A run that is complete may have been interrupted while they were drawn.
            for problem in draw_figures(self._path, outdated(self._path, self._config.figures)):
                warn(problem)
        attributes = store.attributes()
        return Result(self._path, str(attributes["status"]), str(attributes.get("message", "")))

    def _compute(self, bar: ProgressBar) -> None:
        task, store = self._task, self._store
        try:
            task.compute(store, bar)
            ending = task.conclude(store)
        except KeyboardInterrupt:
            with deferred_interrupts():
                task.keep(store)
                self._end(INTERRUPTED, task.place(store))
            raise
        except Exception as error:
            # What broke the run, a full disk perhaps, may break this too: the first error counts.
            with contextlib.suppress(Exception), deferred_interrupts():
                why = " ".join(str(error).split())[:300] or type(error).__name__
                store.finish({"status": FAILED, "message": f"{task.place(store)}: {why}"})
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
            noted = Store.open(self._path / RESULTS_FOLDER).attributes().get(FINGERPRINT)
        except DirectoryError:
            return  # `AbstractTask.restore` says so, or does without the store.
        if noted not in (None, fingerprint(self._config)):
            raise DamagedError(
                f"{self._path}: cannot resume, {CONFIG} was changed after the results there were "
                f"begun, or they are of another version of the program ({written_by(self._path)}); "
                "undo that, replace them (--overwrite) or choose another folder (--out)"
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
        return Store.create(results, {**attributes, **self._task.attributes})
