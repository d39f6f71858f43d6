"""The task of an experiment: optimizer and flows, in segments that are stored as they go."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from flows.runs.iterate import IterationState
from flows.runs.progress import ProgressBar

from ..compare.landscape import landscape
from ..config.build import Built, build
from ..report import summary
from ..run_directory import checkpoint
from ..run_directory.directory import CHECKPOINT, differences
from ..store.status import RUNNING, ending, is_complete
from ..store.store import RESULTS_FOLDER, Store, load
from ..system.errors import ConfigError, DamagedError, DirectoryError, Problem
from ..system.interrupts import deferred_interrupts
from ..system.warning import warn
from ..tables import Experiment
from ..tables.optimizers import critical_formula, is_scheduled
from ..tables.schedules import written
from . import branching
from .task import AbstractTask
from .tracks import DISCRETE, State, Tracks

# What a segment may hold in memory, all trajectories together, in bytes.
_SEGMENT_BYTES = 2**29


class ExperimentTask(AbstractTask):
    """The steps of an experiment that are not stored yet, and its summary.

    Args:
        path: the run directory, prepared.
        config: the config.
        built: the objects that it describes.
    """

    unit = "steps"

    def __init__(self, path: Path, config: Experiment, built: Built):
        self._path, self._config, self._built = path, config, built
        self._tracks = Tracks(config, built)
        self._start_rows: dict[str, xr.Dataset] = {}
        if config.origin is not None and not (path / CHECKPOINT).exists():
            # What does not fit is found before the directory is touched; a resumed run has its
            # own states.
            self._check_origin()

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate, and the optimizer's critical sharpness with its formula.

        The latter is nan if there is none, or it is a curve: with a schedule, or for SAM. Of a
        branch also its origin, and what was changed.
        """
        return {
            **self._provenance,
            "learning_rate": written(self._config.optimizer.learning_rate),
            "critical_sharpness": self._critical_sharpness,
            "critical_label": critical_formula(self._config.optimizer),
            "critical_variable": self._config.optimizer.critical_variable,
            "time_label": "step",
        }

    @property
    def length(self) -> int:
        """The optimizer's steps."""
        return self._config.steps

    def done(self, store: Store) -> int:
        """The step at which all trajectories are."""
        del store
        return self._tracks.steps_done

    def place(self, store: Store) -> str:
        """The step at which all trajectories are, in words."""
        return f"at step {self.done(store)}"

    def compute(self, store: Store, bar: ProgressBar) -> None:
        """Advance to the end of the run, storing each segment."""
        if self._config.origin is not None and not self._tracks.steps_done:
            self._branch_off(bar)
        while self._left and not self._tracks.stopped:
            with deferred_interrupts(_say_that_it_finishes):
                self._advance(store, bar)

    def _advance(self, store: Store, bar: ProgressBar) -> None:
        """Compute the next segment and store it."""
        segment = self._tracks.advance(self._next_segment(), bar.working_on)
        for track in self._tracks.tracks:
            if track.label in segment.warnings and not track.warning:
                warn(f"{track.label}: {segment.warnings[track.label]}")
        with deferred_interrupts():
            self._tracks.accept(segment)
            self._append(store, segment.rows)
            if self._checkpoint_is_due():
                self._checkpoint(store)
        bar.reached(self._tracks.steps_done)

    def keep(self, store: Store) -> None:
        """Write a checkpoint of the last segment."""
        if store.rows(DISCRETE) and not self._checkpoint_is_due():
            self._checkpoint(store)

    def conclude(self, store: Store) -> tuple[str, str]:
        """Write the landscape around two parameters, and the numbers that sum the run up."""
        if self._config.save_params and self._built.size == 2:
            groups = [node.dataset for node in load(self._path).children.values()]
            paths = [data["params"].values for data in groups if "params" in data]
            store.write("landscape", landscape(self._built.potential, self._built.params, paths))
        for row in summary.rows(load(self._path, params=False)):
            store.update(row.label, summary.attributes(row))
        tracks = self._tracks.tracks
        status, message = ending([f"{one.label} {one.message}" for one in tracks if one.message])
        goals = [f"{one.label} {one.goal}" for one in tracks if one.goal]
        return status, "; ".join(filter(None, [message, *goals]))

    def restore(self) -> Store | None:
        """Go back to the last checkpoint; None if there is none, so that the run begins again."""
        found = checkpoint.read(self._path, self._config, warn, self._can_go_on_from)
        if found is None:
            checkpoint.forget(self._path, -1)
            return None
        store = Store.open(self._path / RESULTS_FOLDER)
        self._tracks.restore(found.record, found.states(self._tracks.states_like))
        if is_complete(store) and (self._tracks.stopped or not self._left):
            return store
        counts = found.record["rows"]
        rows = {track.label: int(counts[track.label]) for track in self._tracks.tracks}
        for label, count in rows.items():
            if store.rows(label) < count:
                raise DamagedError(
                    f"{self._path}: the store lost rows of {label} that its checkpoint "
                    f"counts on (it has {store.rows(label)} of {count}); run again with --overwrite"
                )
        store.check()
        checkpoint.forget(self._path, self._tracks.steps_done)
        store.reopen(self._rows)
        store.update("", {"status": RUNNING, "message": ""})
        for label, count in rows.items():
            store.truncate(label, count)
        return store

    @property
    def _rows(self) -> int:
        return self._config.steps // self._config.save_every + 1

    def _next_segment(self) -> int:
        """Steps up to the next checkpoint, or fewer if they would not fit into memory.

        The first segment goes on until all flows have begun.
        """
        done = self._tracks.steps_done
        end = self._boundary_after(done)
        while done == 0 and end <= self._tracks.first_step:
            end = self._boundary_after(end)
        return end - done

    def _boundary_after(self, step: int) -> int:
        every = self._config.checkpoint.every
        return min(step + min(every - step % every, self._longest_segment), self._config.steps)

    @property
    def _longest_segment(self) -> int:
        """Steps whose rows fit into memory."""
        itemsize = max(leaf.dtype.itemsize for leaf in jax.tree.leaves(self._built.params))
        # A discrete row holds the iterate and its two neighbours.
        vectors = 3 + sum(table.vectors for table in self._config.flows)
        row = self._built.size * itemsize * vectors
        return max(1, _SEGMENT_BYTES // row) * self._config.save_every

    def _can_go_on_from(self, step: int) -> bool:
        """True if a segment of this run ends at the step."""
        return step == self._config.steps or self._is_boundary(step)

    def _is_boundary(self, step: int) -> bool:
        """True if a segment ends at the step in a longer run too."""
        return step % self._config.checkpoint.every % self._longest_segment == 0

    @property
    def _left(self) -> int:
        return self._config.steps - self._tracks.steps_done

    def _checkpoint_is_due(self) -> bool:
        if self._left == 0 or self._tracks.stopped:
            return True
        return self._tracks.steps_done % self._config.checkpoint.every == 0

    @property
    def _critical_sharpness(self) -> float:
        if is_scheduled(self._config.optimizer):
            return math.nan
        try:
            return float(np.asarray(self._built.optimizer.critical_sharpness))
        except ValueError:
            return math.nan

    @functools.cached_property
    def _origin(self) -> "ExperimentTask":
        """The task of the run that this one branches off."""
        assert self._config.origin is not None
        path = Path(self._config.origin.directory)
        config = branching.origin_of(self._config)
        return ExperimentTask(path, config, build(config, str(path)))

    def _check_origin(self) -> None:
        origin = self._origin
        branching.check_states_fit(
            self._config, self._tracks, self._built.params, origin._tracks, origin._built
        )

    @property
    def _provenance(self) -> dict[str, Any]:
        if self._config.origin is None:
            return {}
        changes = differences(self._origin._config, self._config)
        own = ("name ", "origin.", "description ", "figures")
        return {
            "origin": self._config.origin.directory,
            "origin_step": self._config.origin.step,
            "origin_fingerprint": checkpoint.fingerprint(self._origin._config),
            "origin_changes": [one for one in changes if not one.startswith(own)],
        }

    def _branch_off(self, bar: ProgressBar) -> None:
        """Compute the states of the origin at the step, and go on from them."""
        assert self._config.origin is not None
        step, origin = self._config.origin.step, self._origin
        labels = [track.label for track in self._tracks.tracks]
        state, taken, rows = origin._come_to(step, labels, bar)
        before = origin._built.optimizer, origin._built.potential
        after = self._built.optimizer, self._built.potential
        states = {track.label: track.state for track in origin._tracks.tracks}
        if (self._config.optimizer, self._config.potential) != (
            origin._config.optimizer,
            origin._config.potential,
        ):
            stands = states[DISCRETE]
            assert isinstance(stands, IterationState)
            states[DISCRETE] = branching.changed_optimizer(stands, state, taken, before, after)
        self._tracks.branch_off(origin._tracks, states)
        self._start_rows = {label: rows[label] for label in labels}
        bar.reached(step)

    def _come_to(
        self, step: int, labels: Sequence[str], bar: ProgressBar
    ) -> tuple[State, int, dict[str, xr.Dataset]]:
        """Compute the run up to a step, storing nothing, in the segments that it has.

        It starts from the run's last checkpoint before the step, if there is one.

        Args:
            step: the step.
            labels: the trajectories that have to be there.
            bar: shows how far it is.

        Returns:
            The state of the optimizer itself where the last segment began, how many steps before
            `step` that was, and the last segment's rows.

        Raises:
            ConfigError: if a trajectory stopped before.
        """
        tracks = self._tracks
        self._start_before(step)
        if self._config.origin is not None and not tracks.steps_done:
            self._branch_off(bar)
        before, begin, rows = None, 0, {}
        while tracks.steps_done < step and not tracks.stopped:
            discrete = tracks.tracks[0].state
            if discrete is None:
                before, begin = self._built.optimizer.init(self._built.params), 0
            else:
                before, begin = discrete.optimizer, tracks.steps_done + 1
            length = min(self._next_segment(), step - tracks.steps_done)
            segment = tracks.advance(length, lambda label: bar.working_on(f"origin: {label}"))
            tracks.accept(segment)
            rows = segment.rows
            bar.reached(tracks.steps_done)
        for track in tracks.tracks:
            last = rows[track.label]["step"].values[-1:] if track.label in rows else []
            if track.label in labels and (len(last) == 0 or last[0] != step):
                message = (
                    f"{track.label} {track.message or track.goal}: branch off before that step"
                )
                raise ConfigError(str(self._path), [Problem("origin.step", message)])
        return before, step - begin, rows

    def _start_before(self, step: int) -> None:
        """Go back to the last checkpoint of the run before a step, if one can be read."""

        def usable(at: int) -> bool:
            return at < step and self._can_go_on_from(at)

        try:
            found = checkpoint.read(self._path, self._config, lambda text: None, usable)
            if found is not None:
                self._tracks.restore(found.record, found.states(self._tracks.states_like))
        except DirectoryError:
            return  # Of another version of the program: the run is computed from its start.

    def _append(self, store: Store, rows: dict[str, xr.Dataset]) -> None:
        for track in self._tracks.tracks:
            if track.label in rows:
                if track.label in self._start_rows:
                    start = self._start_rows.pop(track.label)
                    rows = {**rows, track.label: branching.joined(start, rows[track.label])}
                store.append(track.label, rows[track.label], self._rows)
                store.update(track.label, track.attributes_so_far)

    def _checkpoint(self, store: Store) -> None:
        rows = {track.label: store.rows(track.label) for track in self._tracks.tracks}
        record = {**self._tracks.record(), "rows": rows}
        # The rows first, for the checkpoint counts on them.
        store.synchronise()
        states = self._tracks.states()
        checkpoint.write(self._path, self._config, record, states, self._is_boundary)


def _say_that_it_finishes() -> None:
    warn("interrupted; the steps up to the next checkpoint are finished (Ctrl-C again: at once)")
