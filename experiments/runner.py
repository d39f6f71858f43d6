"""Run an experiment: the optimizer and its flows in segments that are stored as they go."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from . import checkpoint, summary
from .build import Built, build, build_study, precision
from .directory import continued, prepare, writing
from .drawing import draw_figures
from .errors import ConfigError, DirectoryError, Problem
from .interrupts import deferred_interrupts
from .landscape import landscape
from .lockstep import Lockstep
from .progress import AbstractProgress, show_progress, warn
from .schema import Experiment, RunConfig, StudyExperiment
from .session import RUNNING, AbstractSession, Result, ending, is_complete
from .store import RESULTS, Store, load
from .study_session import StudySession

# What a segment may hold in memory, all trajectories together, in bytes.
_SEGMENT_BYTES = 2**29


def run(
    config: RunConfig,
    directory: str | Path | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    draw: bool = True,
    progress: bool = True,
) -> Result:
    """Run an experiment or a study, and store what it gives.

    JAX's precision is set to the config's for the time of the run, and restored.

    Args:
        config: the experiment or study, from `load_run_config`.
        directory: the run directory; by default the experiment's name in `runs/`.
        overwrite: replace an earlier run that is there.
        resume: go on with an earlier run of the same config that is there, from its last
            checkpoint; begin if there is none. The results equal those of an uninterrupted run.
            With more `steps` than before, a finished run goes on too.
        draw: draw the config's figures at the end.
        progress: show a progress bar on stderr, if that is a terminal.

    Returns:
        How it ended. A trajectory that diverges stops, keeps its rows and does not stop the others.

    Raises:
        ConfigError: if data are missing or values do not fit together.
        DirectoryError: if the directory cannot be used or written.
        KeyboardInterrupt: on Ctrl-C, after a checkpoint was written.
    """
    path = Path(directory) if directory is not None else Path("runs") / config.name
    config = continued(path, config) if resume else config
    with precision(config.precision), _enough_memory(config):
        # Built first: what cannot be built leaves no trace in the directory.
        begin = _beginning(config)
        there = prepare(path, config, overwrite=overwrite, resume=resume)
        with writing(path):
            session = begin(path, there)
            if not is_complete(session.store):
                with show_progress(session.length, session.done, progress, session.unit) as bar:
                    session.run(bar)
                if draw:
                    for problem in draw_figures(path, config.figures):
                        warn(problem)
            return session.result()


@contextlib.contextmanager
def _enough_memory(config: RunConfig) -> Iterator[None]:
    """Say in one sentence that a run does not fit into memory.

    Raises:
        UserError: in place of what Python or JAX raises.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        what = str(error).partition("\n")[0]
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in what:
            raise
        blamed = "study" if isinstance(config, StudyExperiment) else "potential, curvature, flows"
        problem = Problem(blamed, f"more memory than there is would be needed ({what})")
        raise ConfigError(config.name, [problem]) from error


def _beginning(config: RunConfig) -> Callable[[Path, bool], AbstractSession]:
    if isinstance(config, StudyExperiment):
        study = build_study(config, config.name)
        return lambda path, there: StudySession(path, config, study, there)
    built = build(config, config.name)
    return lambda path, there: _Session(path, config, built, there)


class _Session(AbstractSession):
    """One process's share of an experiment.

    Args:
        path: the run directory, prepared.
        config: the config.
        built: what it stands for.
        there: whether there is an earlier share to go on with.
    """

    unit = "steps"

    def __init__(self, path: Path, config: Experiment, built: Built, there: bool):
        self.config, self.built = config, built
        self.lockstep = Lockstep(config, built)
        super().__init__(path, config, there)

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate, and the optimizer's critical sharpness with its formula."""
        return {
            "learning_rate": self.config.optimizer.learning_rate,
            "critical_sharpness": float(np.asarray(self.built.optimizer.critical_sharpness)),
            "critical_label": self.config.optimizer.critical_label,
            "time_label": "step",
        }

    @property
    def length(self) -> int:
        """The optimizer's steps."""
        return self.config.steps

    @property
    def done(self) -> int:
        """At which step all trajectories are."""
        return self.lockstep.steps_done

    @property
    def place(self) -> str:
        """At which step."""
        return f"at step {self.done}"

    def compute(self, bar: AbstractProgress) -> None:
        """Advance to the end of the run, storing each segment."""
        while self._left and not self.lockstep.stopped:
            with deferred_interrupts(_say_that_it_finishes):
                self._advance(bar)

    def _advance(self, bar: AbstractProgress) -> None:
        """Compute the next segment and store it."""
        segment = self.lockstep.advance(self._next_segment(), bar.working_on)
        for track in self.lockstep.tracks:
            if track.label in segment.warnings and not track.warning:
                warn(f"{track.label}: {segment.warnings[track.label]}")
        with deferred_interrupts():
            self.lockstep.accept(segment)
            self._append(segment.rows)
            if self._checkpoint_is_due():
                self._checkpoint()
        bar.reached(self.lockstep.steps_done)

    def keep(self) -> None:
        """Write a checkpoint of the last segment."""
        if self.lockstep.steps_done and not self._checkpoint_is_due():
            self._checkpoint()

    def conclude(self) -> tuple[str, str]:
        """Write summary numbers and the landscape."""
        if self.config.save_params and self.built.size == 2:
            tree = load(self.path)
            groups = [node.dataset for node in tree.children.values()]
            paths = [data["params"].values for data in groups if "params" in data]
            ground = landscape(self.built.potential, self.built.params, paths)
            self.store.write("landscape", ground)
        for row in summary.rows(load(self.path, params=False)):
            self.store.update(row.label, summary.attributes(row))
        return ending(
            [f"{track.label} {track.message}" for track in self.lockstep.tracks if track.message]
        )

    def restore(self) -> Store | None:
        """Go back to the last checkpoint; None, to begin again, if there is none."""
        found = checkpoint.read(self.path, self.config, warn, self._is_boundary)
        if found is None:
            return None
        store = Store.open(self.path / RESULTS)
        states = found.states(self.lockstep.states_like(found.record))
        self.lockstep.restore(found.record, states)
        if is_complete(store) and (self.lockstep.stopped or not self._left):
            return store
        store.reopen(self._rows)
        store.update("", {"status": RUNNING, "message": ""})
        for track in self.lockstep.tracks:
            rows = int(found.record["rows"][track.label])
            if store.rows(track.label) < rows:
                raise DirectoryError(
                    f"{self.path}: the store lost rows of {track.label} that its checkpoint "
                    f"counts on ({store.rows(track.label)} of {rows}); run again with --overwrite"
                )
            store.truncate(track.label, rows)
        return store

    @property
    def _rows(self) -> int:
        return self.config.steps // self.config.save_every + 1

    def _next_segment(self) -> int:
        """Steps up to the next checkpoint, or fewer if they would not fit into memory."""
        every = self.config.checkpoint.every
        return min(every - self.done % every, self._left, self._longest_segment)

    @property
    def _longest_segment(self) -> int:
        """Steps whose rows fit into memory."""
        itemsize = max(leaf.dtype.itemsize for leaf in jax.tree.leaves(self.built.params))
        # A discrete row holds the iterate and its two neighbours.
        vectors = 3 + sum(table.vectors for table in self.config.flows)
        row = self.built.size * itemsize * vectors
        return max(1, _SEGMENT_BYTES // row) * self.config.save_every

    def _is_boundary(self, step: int) -> bool:
        """Whether a segment ends there, be the run as long as it is or longer."""
        within = step % self.config.checkpoint.every
        return step == self.config.steps or within % self._longest_segment == 0

    @property
    def _left(self) -> int:
        return self.config.steps - self.lockstep.steps_done

    def _checkpoint_is_due(self) -> bool:
        done = self.lockstep.steps_done
        return done % self.config.checkpoint.every == 0 or self._left == 0 or self.lockstep.stopped

    def _append(self, rows: dict[str, xr.Dataset]) -> None:
        for track in self.lockstep.tracks:
            if track.label in rows:
                self.store.append(track.label, rows[track.label], self._rows)
                self.store.update(track.label, track.attributes_so_far)

    def _checkpoint(self) -> None:
        rows = {track.label: self.store.rows(track.label) for track in self.lockstep.tracks}
        record = {**self.lockstep.record(), "rows": rows}
        # The rows first: a checkpoint counts on them.
        self.store.synchronise()
        checkpoint.write(self.path, self.config, record, self.lockstep.states())


def _say_that_it_finishes() -> None:
    warn("interrupted; the steps up to the next checkpoint are finished (Ctrl-C again: at once)")
