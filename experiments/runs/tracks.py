"""The discrete run and its flows, advanced side by side in segments, so that memory is bounded."""

import dataclasses
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import flows

from ..compare.oscillation import ROD, Midpoints, half_difference, measured_variances
from ..config.build import Built, BuiltFlow
from ..tables import Experiment

DISCRETE = "discrete"
DISTANCE = {
    "units": "parameter",
    "long_name": "distance to the discrete midpoint at the same time",
}
DISPLACEMENT = {"units": "parameter", "long_name": "distance of that midpoint from its start"}


@dataclasses.dataclass
class Track:
    """One trajectory of a run: what advances it, and where it stands.

    Attributes:
        label: its group in the store.
        attributes: what is constant about it: kind, time unit.
        advance: `advance(params, state, steps)` gives the next piece; one of the two is None.
        state: where to go on from; None before the first piece.
        message: why it stopped early; empty while it has not.
        warning: what is doubtful about it; empty if nothing is.
        stats: evaluation counts so far.
        wall_time: seconds spent on it so far, compilation included.
    """

    label: str
    attributes: dict[str, Any]
    advance: Callable[[Any, Any, int], flows.Trajectory]
    state: Any = None
    message: str = ""
    warning: str = ""
    stats: dict[str, float] = dataclasses.field(default_factory=dict)
    wall_time: float = 0.0

    @property
    def record(self) -> dict[str, Any]:
        """What besides the state has to be known to go on, as JSON can hold it."""
        return {
            "message": self.message,
            "warning": self.warning,
            "stats": self.stats,
            "wall_time": self.wall_time,
            # A flow may watch more directions as it goes.
            "shapes": [jnp.shape(leaf) for leaf in jax.tree.leaves(self.state)],
        }

    @property
    def attributes_so_far(self) -> dict[str, Any]:
        """What is known about it by now, as attributes of its group."""
        known = {"wall_time": self.wall_time, "message": self.message}
        return {**self.stats, **known, **({"warning": self.warning} if self.warning else {})}


class Segment(NamedTuple):
    """What `Tracks.advance` computed: `steps` more of every trajectory, by label.

    `midpoints` is where the measurement of the midpoints stands.
    """

    steps: int
    pieces: dict[str, flows.Trajectory]
    rows: dict[str, xr.Dataset]
    seconds: dict[str, float]
    warnings: dict[str, str]
    midpoints: Any


class Tracks:
    """All trajectories of a run at one step, and how they get to the next.

    Args:
        config: the config.
        built: what it stands for.
    """

    def __init__(self, config: Experiment, built: Built):
        self.params = built.params
        self.save_params = config.save_params
        self.save_every = config.save_every
        self.steps_done = 0
        self.tracks = [_discrete(config, built)]
        self.tracks += [_flow(config, built, flow) for flow in built.flows]
        # Where each kind of midpoint path starts: m_0 of the tracking error.
        self.first_midpoints: dict[str, Any] = {}
        self.midpoints = Midpoints(config, built)
        # With momentum a rod lies in a phase space that the iterates alone do not give.
        self.has_rods = has_rods(built)

    @property
    def stopped(self) -> bool:
        """Whether every trajectory has stopped early, so that there is nothing left to do."""
        return all(track.message for track in self.tracks)

    def advance(self, steps: int, on_track: Callable[[str], None] = lambda label: None) -> Segment:
        """Compute the next piece of every trajectory that still runs; `accept` makes it count.

        An interrupt before `accept` thus leaves every trajectory at the same step.

        Args:
            steps: by how many optimizer steps; a whole number of saves.
            on_track: called with each trajectory's label before it is advanced.

        Returns:
            The pieces; the first ones have the start as well.
        """
        pieces: dict[str, flows.Trajectory] = {}
        seconds: dict[str, float] = {}
        doubts: dict[str, str] = {}
        for track in self.tracks:
            if track.message:
                continue
            on_track(track.label)
            begin = time.perf_counter()
            params = self.params if track.state is None else None
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                piece = jax.block_until_ready(track.advance(params, track.state, steps))
            seconds[track.label] = time.perf_counter() - begin
            pieces[track.label] = piece
            for one in caught:
                if one.category is UserWarning:
                    doubts[track.label] = str(one.message)
        measured, midpoints = self.midpoints.measure(pieces.get(DISCRETE))
        rows = self._rows(pieces)
        if DISCRETE in rows:
            halves = half_difference(pieces[DISCRETE]) if self.has_rods else {}
            rows[DISCRETE] = rows[DISCRETE].assign({**measured, **halves})
        return Segment(steps, pieces, rows, seconds, doubts, midpoints)

    def accept(self, segment: Segment) -> None:
        """Move on to the end of a segment."""
        for track in self.tracks:
            if track.label in segment.pieces:
                piece = segment.pieces[track.label]
                track.state = piece.state
                track.message = piece.message
                track.warning = segment.warnings.get(track.label, track.warning)
                track.wall_time += segment.seconds[track.label]
                for name, value in piece.stats.items():
                    track.stats[name] = track.stats.get(name, 0) + np.asarray(value).item()
        self.midpoints.state = segment.midpoints
        self.steps_done += segment.steps

    def states(self) -> dict[str, Any]:
        """All that a checkpoint has to hold, as a pytree of arrays."""
        states = {track.label: track.state for track in self.tracks}
        return {"states": states, "first_midpoints": self.first_midpoints, "midpoints": self.midpoints.state}

    def states_like(self, record: dict[str, Any]) -> dict[str, Any]:
        """The structure of `states()` after a first piece, without computing one.

        Args:
            record: the bookkeeping of the checkpoint.

        Returns:
            A pytree of `jax.ShapeDtypeStruct`s.
        """
        like = {}
        for track in self.tracks:
            first = eqx.filter_eval_shape(
                lambda params, advance=track.advance: advance(params, None, self.save_every).state,
                self.params,
            )
            shapes = record["tracks"][track.label]["shapes"]
            leaves, structure = jax.tree.flatten(first)
            like[track.label] = structure.unflatten(
                jax.ShapeDtypeStruct(shape, leaf.dtype)
                for shape, leaf in zip(shapes, leaves, strict=True)
            )
        start = jax.eval_shape(lambda params: params, self.params)
        return {
            "states": like,
            "first_midpoints": {kind: start for kind in record["first_midpoints"]},
            "midpoints": self.midpoints.state_like(start),
        }

    def restore(self, record: dict[str, Any], states: dict[str, Any]) -> None:
        """Go back to where a checkpoint was written.

        Args:
            record: the bookkeeping of the checkpoint.
            states: what `states` was then.
        """
        self.steps_done = record["step"]
        self.first_midpoints = states["first_midpoints"]
        self.midpoints.state = states["midpoints"]
        for track in self.tracks:
            kept = record["tracks"][track.label]
            track.state = states["states"][track.label]
            track.message = kept["message"]
            track.warning = kept["warning"]
            track.stats = dict(kept["stats"])
            track.wall_time = kept["wall_time"]

    def record(self) -> dict[str, Any]:
        """The bookkeeping that goes with `states` into a checkpoint."""
        return {
            "step": self.steps_done,
            "first_midpoints": sorted(self.first_midpoints),
            "tracks": {track.label: track.record for track in self.tracks},
        }

    def _rows(self, pieces: dict[str, flows.Trajectory]) -> dict[str, xr.Dataset]:
        discrete = pieces.get(DISCRETE)
        rows = {}
        for track in self.tracks:
            if track.label not in pieces:
                continue
            piece = pieces[track.label]
            variances, piece = measured_variances(piece, discrete)
            dataset = piece.to_dataset(params=self.save_params).assign(variances)
            if piece.midpoint is not None:
                dataset = dataset.assign(self._distances(piece, discrete))
            rows[track.label] = dataset.assign_attrs(**track.attributes)
        return rows

    def _distances(
        self, piece: flows.Trajectory, discrete: flows.Trajectory | None
    ) -> dict[str, xr.Variable]:
        """Distance to the midpoints, and theirs from their start; nan where the optimizer stopped.

        Both are stored, so that the tracking error of any part of a run follows from the store.
        """
        count = piece.steps.shape[0]
        dtype = jax.tree.leaves(piece.params)[0].dtype
        distance = np.full(count, np.nan, dtype)
        displacement = np.full(count, np.nan, dtype)
        kind = piece.midpoint
        if discrete is not None and discrete.steps.shape[0] > 0 and kind is not None:
            midpoints = discrete.midpoints(kind)
            if kind not in self.first_midpoints:
                self.first_midpoints[kind] = jax.tree.map(lambda x: x[0], midpoints)
            near = np.asarray(flows.distance(piece, discrete))
            far = np.asarray(displacements(self.first_midpoints[kind], midpoints))[: len(near)]
            distance[: len(near)], displacement[: len(far)] = near, far
        return {
            "distance": xr.Variable("step", distance, DISTANCE),
            "displacement": xr.Variable("step", displacement, DISPLACEMENT),
        }


def has_rods(built: Built) -> bool:
    """Whether a rod's length is to be measured along the iterates alone."""
    return isinstance(built.optimizer, flows.GradientDescent) and any(
        flow.kind == ROD for flow in built.flows
    )


@eqx.filter_jit
def displacements(origin: Any, points: Any) -> jax.Array:
    """Return |m_t - m_0| (T,) of points m_t with leading axis T and an origin m_0."""
    squares = jax.tree.map(
        lambda o, x: jnp.sum(jnp.square(x - o[None]).reshape(x.shape[0], -1), axis=1),
        origin,
        points,
    )
    return jnp.sqrt(sum(jax.tree.leaves(squares)))


def _discrete(config: Experiment, built: Built) -> Track:
    attributes = {
        "kind": "optimizer",
        "optimizer_kind": config.optimizer.kind,
        "time_unit": "steps",
    }
    return _track(config, built, DISCRETE, attributes, flows.iterate, built.optimizer)


def _flow(config: Experiment, built: Built, flow: BuiltFlow) -> Track:
    unit = "time" if flow.flow.time_unit == "time" else "steps"
    attributes = {"kind": "flow", "flow_kind": flow.kind, "time_unit": unit}
    return _track(config, built, flow.label, attributes, flows.simulate, flow.flow, **flow.solver)


def _track(
    config: Experiment,
    built: Built,
    label: str,
    attributes: dict[str, Any],
    run: Callable[..., flows.Trajectory],
    model: Any,
    **options: Any,
) -> Track:
    def advance(params: Any, state: Any, steps: int) -> flows.Trajectory:
        return run(
            model,
            built.potential,
            params,
            steps,
            state=state,
            save_every=config.save_every,
            measurements=built.measurements,
            segment=steps // config.save_every,
            throw=False,
            **options,
        )

    return Track(label, {"label": label, **attributes}, advance)
