"""The discrete run and its flows, advanced side by side in segments, so that memory is bounded."""

import dataclasses
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PyTree

import flows
from flows.core.schedules import fixed_at
from flows.optimizers.stability import has_one_threshold

from ..compare.comparison import planned
from ..compare.distances import HALF_DIFFERENCE, Params, Start, predicts_iterates
from ..config.build import Built, BuiltFlow
from ..tables import Experiment

DISCRETE = "discrete"
"""The label of the optimizer's trajectory, which no flow may have."""

FIRST_STEP = "first_step"
"""The attribute of a group: the step at which its trajectory begins, if that is not 0."""

State = PyTree[Array] | None

# What of a track goes into a checkpoint beside its state.
_RECORDED = ("message", "goal", "warning", "stats", "wall_time")


@dataclasses.dataclass
class Track:
    """One trajectory of a run: what advances it, and where it stands.

    Attributes:
        label: its group in the store.
        attributes: what is constant about it: kind, time unit, first step.
        advance: `advance(params, state, steps)` gives the next piece; one of the first two is None.
        state: where to go on from; None before the first piece.
        message: why it failed; empty while it has not.
        goal: which goal it stopped at; empty while it has reached none.
        warning: what is doubtful about it; empty if nothing is.
        stats: evaluation counts so far.
        wall_time: seconds spent on it so far, compilation included.
    """

    label: str
    attributes: dict[str, Any]
    advance: Callable[[Params | None, State, int], flows.Trajectory]
    state: State = None
    message: str = ""
    goal: str = ""
    warning: str = ""
    stats: dict[str, float] = dataclasses.field(default_factory=dict)
    wall_time: float = 0.0

    @property
    def first_step(self) -> int:
        """The optimizer's step at which it begins."""
        return self.attributes.get(FIRST_STEP, 0)

    @property
    def stopped(self) -> bool:
        """True if it failed, or reached a goal."""
        return bool(self.message or self.goal)

    @property
    def record(self) -> dict[str, Any]:
        """What besides the state has to be known to go on, as JSON can hold it."""
        # A flow may watch more directions as it goes.
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(self.state)]
        return {"shapes": shapes, **{name: getattr(self, name) for name in _RECORDED}}

    @property
    def attributes_so_far(self) -> dict[str, Any]:
        """What is known about it by now, as attributes of its group."""
        known = {"wall_time": self.wall_time, "message": self.message}
        said = {"goal": self.goal, "warning": self.warning}
        return {**self.stats, **known, **{name: text for name, text in said.items() if text}}

    def accept(self, piece: flows.Trajectory, seconds: float, warning: str) -> None:
        """Move on to the end of a piece, which took so long and about which this is doubtful."""
        self.state = piece.state
        reached = bool(piece.reached_goal)
        self.message, self.goal = ("", piece.message) if reached else (piece.message, "")
        self.warning = warning or self.warning
        self.wall_time += seconds
        for name, value in piece.stats.items():
            self.stats[name] = self.stats.get(name, 0) + np.asarray(value).item()

    def restore(self, record: dict[str, Any], state: State) -> None:
        """Go back to where `record` and the state were taken."""
        self.state = state
        for name in _RECORDED:
            # Runs from before there were goals have none.
            setattr(self, name, record.get(name, "") if name == "goal" else record[name])


class Segment(NamedTuple):
    """What `Tracks.advance` computed: `steps` more of every trajectory that still ran, by label.

    Attributes:
        steps: by how many optimizer steps.
        pieces: the next piece of each trajectory.
        rows: what is stored of it.
        seconds: how long it took.
        warnings: what is doubtful about it, if anything is.
        midpoints: where the measurement along the midpoints stands.
    """

    steps: int
    pieces: dict[str, flows.Trajectory]
    rows: dict[str, xr.Dataset]
    seconds: dict[str, float]
    warnings: dict[str, str]
    midpoints: State


class Tracks:
    """All trajectories of a run at one step, and how they get to the next.

    Args:
        config: the config.
        built: the objects that it describes.
    """

    def __init__(self, config: Experiment, built: Built):
        self.steps_done = 0
        self.tracks = [_discrete(config, built)]
        self.tracks += [_flow(config, built, flow) for flow in built.flows]
        self._built = built
        self._save_params, self._save_every = config.save_params, config.save_every
        models = [flow.flow for flow in built.flows]
        self._comparison = planned(built.optimizer, models, built.measurements)
        # Where each path starts that a flow models (m_b of its tracking error), and where the
        # measurement along the midpoints stands.
        self._first_points: dict[Start, Params] = {}
        self._midpoints: State = None

    @property
    def stopped(self) -> bool:
        """True if every trajectory has stopped early, so that there is nothing left to do."""
        return all(track.stopped for track in self.tracks)

    @property
    def first_step(self) -> int:
        """The last of the steps at which trajectories begin: the first piece must go beyond it."""
        return max(track.first_step for track in self.tracks)

    @property
    def least_steps(self) -> int:
        """The shortest first piece: up to the first save after all trajectories have begun."""
        return self._save_every * (self.first_step // self._save_every + 1)

    def advance(self, steps: int, on_track: Callable[[str], None] = lambda label: None) -> Segment:
        """Compute the next piece of every trajectory that still runs; `accept` makes it count.

        An interrupt before `accept` thus leaves every trajectory at the same step.

        Args:
            steps: by how many optimizer steps; a whole number of saves, and for the first pieces
                more than `first_step`.
            on_track: called with each trajectory's label before it is advanced.

        Returns:
            The pieces; the first ones have the start as well.
        """
        pieces: dict[str, flows.Trajectory] = {}
        seconds: dict[str, float] = {}
        doubts: dict[str, str] = {}
        for track in self.tracks:
            if track.stopped:
                continue
            on_track(track.label)
            begin = time.perf_counter()
            params = self._built.params if track.state is None else None
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                piece = jax.block_until_ready(track.advance(params, track.state, steps))
            seconds[track.label] = time.perf_counter() - begin
            pieces[track.label] = piece
            for one in caught:
                if one.category is UserWarning:
                    doubts[track.label] = str(one.message)
        rows, midpoints = self._rows(pieces)
        return Segment(steps, pieces, rows, seconds, doubts, midpoints)

    def accept(self, segment: Segment) -> None:
        """Move on to the end of a segment."""
        for track in self.tracks:
            if track.label in segment.pieces:
                label = track.label
                doubt = segment.warnings.get(label, "")
                track.accept(segment.pieces[label], segment.seconds[label], doubt)
        self._midpoints = segment.midpoints
        self.steps_done += segment.steps

    def states(self) -> dict[str, Any]:
        """All arrays that a checkpoint has to hold."""
        return {
            "states": {track.label: track.state for track in self.tracks},
            "first_points": self._first_points,
            "midpoints": self._midpoints,
        }

    def states_like(self, record: dict[str, Any]) -> dict[str, Any]:
        """The structure of `states()` after a first piece, without computing one.

        Args:
            record: the bookkeeping of the checkpoint.

        Returns:
            A pytree of `jax.ShapeDtypeStruct`s.
        """

        def first(params: Params) -> dict[str, Any]:
            pieces = {t.label: t.advance(params, None, self.least_steps) for t in self.tracks}
            discrete = pieces[DISCRETE]
            return {
                "states": {label: piece.state for label, piece in pieces.items()},
                "first_points": self._comparison.first_points(discrete),
                "midpoints": self._comparison.optimizer(discrete, self._built.potential)[1],
            }

        like = eqx.filter_eval_shape(first, self._built.params)
        for label, state in like["states"].items():
            leaves, structure = jax.tree.flatten(state)
            shapes = record["tracks"][label]["shapes"]
            like["states"][label] = structure.unflatten(
                jax.ShapeDtypeStruct(shape, leaf.dtype)
                for shape, leaf in zip(shapes, leaves, strict=True)
            )
        return like

    def restore(self, record: dict[str, Any], states: dict[str, Any]) -> None:
        """Go back to where a checkpoint was written.

        Args:
            record: the bookkeeping of the checkpoint.
            states: what `states` was then.
        """
        self.steps_done = record["step"]
        self._first_points = states["first_points"]
        self._midpoints = states["midpoints"]
        for track in self.tracks:
            track.restore(record["tracks"][track.label], states["states"][track.label])

    def branch_off(self, origin: "Tracks", states: dict[str, State]) -> None:
        """Stand, for the first time, where the trajectories of another run stand.

        Args:
            origin: the other run's, among which are all that this run has.
            states: their states.
        """
        self.steps_done = origin.steps_done
        self._first_points = {
            start: point
            for start, point in origin._first_points.items()
            if start in self._comparison.starts
        }
        self._midpoints = origin._midpoints if self._comparison.midpoint_measurements else None
        for track in self.tracks:
            track.state = states[track.label]

    def record(self) -> dict[str, Any]:
        """The bookkeeping that goes with `states` into a checkpoint."""
        tracks = {track.label: track.record for track in self.tracks}
        return {"step": self.steps_done, "tracks": tracks}

    def _rows(self, pieces: dict[str, flows.Trajectory]) -> tuple[dict[str, xr.Dataset], State]:
        """What is stored of each piece, with all that is measured across pieces."""
        discrete, midpoints = pieces.get(DISCRETE), self._midpoints
        compared = dict(pieces)
        if discrete is not None:
            if not self._first_points:
                self._first_points = self._comparison.first_points(discrete)
            compared[DISCRETE], midpoints = self._comparison.optimizer(
                discrete, self._built.potential, midpoints
            )
        for track in self.tracks:
            if track.label in pieces and track.label != DISCRETE:
                compared[track.label] = self._comparison.flow(
                    pieces[track.label], discrete, self._first_points, track.first_step
                )
        rows = {
            track.label: self._stored(compared[track.label]).assign_attrs(track.attributes)
            for track in self.tracks
            if track.label in compared
        }
        return rows, midpoints

    def _stored(self, piece: flows.Trajectory) -> xr.Dataset:
        """What is stored: what is as large as the parameters, only with `save_params`."""
        if not self._save_params and predicts_iterates(dict(piece.variables)):
            kept = {k: v for k, v in piece.observables.items() if k != HALF_DIFFERENCE}
            piece = dataclasses.replace(piece, observables=kept)
        return piece.to_dataset(params=self._save_params)


def _discrete(config: Experiment, built: Built) -> Track:
    attributes: dict[str, Any] = {"kind": "optimizer", "optimizer_kind": config.optimizer.kind}
    if not has_one_threshold(built.optimizer) and _has_a_threshold(built):
        threshold = flows.Threshold(built.optimizer, config.save_every)
        built = built._replace(measurements=(*built.measurements, threshold))
    advance = _advance(config, built, flows.iterate, built.optimizer)
    attributes |= {"time_unit": "steps", **_named_groups(built)}
    return Track(DISCRETE, {"label": DISCRETE, **attributes}, advance)


def _named_groups(built: Built) -> dict[str, Any]:
    """The names of the groups of parameters, where the sharpness of each is measured."""
    for one in built.measurements:
        if isinstance(one, flows.GroupSharpness):
            return {"groups": list(one.names(built.params))}
    return {}


def _has_a_threshold(built: Built) -> bool:
    """False if no curvature decides about the optimizer's stability, where it starts either."""
    optimizer = fixed_at(built.optimizer, 0)
    try:
        if isinstance(optimizer, flows.AbstractLocalThreshold):
            # `SAM` of a method with a preconditioner has none; traced, no gradient is computed.
            of = partial(optimizer.critical_sharpness_at, potential=built.potential)
            jax.eval_shape(of, built.params)
        else:
            _ = optimizer.critical_sharpness
    except ValueError:
        return False
    return True


def _flow(config: Experiment, built: Built, flow: BuiltFlow) -> Track:
    unit = "time" if flow.flow.time_unit == "time" else "steps"
    attributes: dict[str, Any] = {"label": flow.label, **_named_groups(built)}
    attributes |= {"kind": "flow", "flow_kind": flow.kind, "time_unit": unit}
    if flow.flow.first_step:
        attributes[FIRST_STEP] = flow.flow.first_step
    advance = _advance(config, built, flows.simulate, flow.flow, **flow.solver)
    return Track(flow.label, attributes, advance)


def _advance(
    config: Experiment,
    built: Built,
    run: Callable[..., flows.Trajectory],
    model: flows.AbstractOptimizer | flows.AbstractFlow,
    **options: Any,
) -> Callable[[Params | None, State, int], flows.Trajectory]:
    def advance(params: Params | None, state: State, steps: int) -> flows.Trajectory:
        return run(
            model,
            built.potential,
            params,
            steps,
            state=state,
            save_every=config.save_every,
            measurements=built.measurements,
            stop=built.goals,
            segment=steps // config.save_every,
            throw=False,
            **options,
        )

    return advance
