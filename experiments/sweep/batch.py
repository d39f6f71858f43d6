"""Toy runs of equal shapes, in one vmapped program."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

import flows
from flows.optimizers.stability import has_one_threshold

from ..compare.comparison import planned
from ..config.build import Built, BuiltFlow, build, precision
from ..runs.tracks import DISCRETE
from ..store.status import DIVERGED, FINISHED
from ..system.warning import warn
from ..tables import Experiment
from .cells import LONGEST_PERIOD, gather_tracks, has_cycle, per_run
from .grid import Point

# What the results of one program may take, in bytes.
_MOST_BYTES = 2**28


class Batch(NamedTuple):
    """Runs that go through one program together.

    Attributes:
        name: its group in the store.
        points: the runs.
        compute: runs them all and gives their cells.
    """

    name: str
    points: tuple[Point, ...]
    compute: Callable[[], xr.Dataset]


class _Track(NamedTuple):
    """What is kept of one trajectory, and which of its rows count."""

    trajectory: flows.Trajectory
    kept: Bool[Array, " T"]


class _Ran(NamedTuple):
    """The results of one run, or of all runs of a batch with a leading axis."""

    tracks: dict[str, _Track]
    critical_sharpness: Float[Array, ""]
    cycle: flows.Cycle | None


class _Family(NamedTuple):
    """Runs of one program: what they share, and the arrays of each.

    Attributes:
        plan: what they share besides what is built.
        structure: of the pytree of arrays.
        static: all that is built and no array.
        members: the runs, each with the leaves of its arrays.
        length: how many runs go through the program, of which the first are the members.
    """

    plan: "_Plan"
    structure: Any
    static: Built
    members: list[tuple[Point, list[Any]]]
    length: int = 0

    def built(self, leaves: list[Any]) -> Built:
        """Combine the arrays of a run with what is shared."""
        return eqx.combine(self.structure.unflatten(leaves), self.static)


class _Plan(NamedTuple):
    """What the runs of a batch share besides what is built; `segment` is counted in saves."""

    precision: str
    steps: int
    save_every: int
    segment: int
    cycle: bool


def batches(points: Sequence[Point], series: bool) -> tuple[list[Batch], list[Point]]:
    """Put runs together whose programs are the same.

    Those are runs of toy potentials whose configs differ only in numbers. Runs with a Central Flow
    or the flow of a ball are not among them: a Central Flow is reviewed between the segments of a
    run, outside of compiled code, and a batch of balls takes as long as its slowest. Nor are runs
    that stop at a goal, or branch off another.

    Args:
        points: the runs.
        series: whether to keep what was measured along each run.

    Returns:
        The batches, and the runs that are in none, which are to be run by themselves.
    """
    families: dict[Any, _Family] = {}
    alone: list[Point] = []
    caches: dict[str, dict[Any, Any]] = {}
    for point in points:
        built = _built(point, caches)
        if built is None:
            alone.append(point)
            continue
        arrays, static = eqx.partition(built, eqx.is_array)
        leaves, structure = jax.tree.flatten(arrays)
        config = point.config
        assert isinstance(config, Experiment)
        plan = _plan(config)
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        others, outline = jax.tree.flatten(static)
        key = (plan, structure, shapes, outline, *others)
        family = families.setdefault(key, _Family(plan, structure, static, []))
        family.members.append((point, leaves))
    made: list[Batch] = []
    for family in families.values():
        if len(family.members) == 1:
            alone.append(family.members[0][0])
            continue
        try:
            parts = _parts(family)
        except Exception as error:
            # Each run may still succeed, or fail, by itself.
            why = f"{type(error).__name__}: {error}".partition("\n")[0]
            many = f"{len(family.members)} runs make no program together"
            warn(f"{many} ({why}); each is run by itself")
            alone += [point for point, _ in family.members]
            continue
        for part in parts:
            made.append(_batch(f"batch-{len(made):05d}", part, series))
    return made, sorted(alone, key=lambda point: point.number)


def _plan(config: Experiment) -> _Plan:
    segment = config.checkpoint.every // config.save_every
    return _Plan(config.precision, config.steps, config.save_every, segment, has_cycle(config))


def _built(point: Point, caches: dict[str, dict[Any, Any]]) -> Built | None:
    """Build a run; None if it is to be run by itself."""
    config = point.config
    if not isinstance(config, Experiment) or config.measurements:
        return None
    if config.stop is not None or config.origin is not None:
        return None
    if not all(table.batched for table in (config.potential, config.optimizer, *config.flows)):
        return None
    with precision(config.precision):
        try:
            return build(config, config.name, caches.setdefault(config.precision, {}))
        except Exception:
            return None  # Run by itself it fails, and is recorded with the reason.


def _parts(family: _Family) -> list[_Family]:
    """Cut a family into parts of equal length, so of one program, that fit into memory."""
    members = family.members
    count = min(len(members), math.ceil(len(members) * _bytes(family) / _MOST_BYTES))
    length = math.ceil(len(members) / count)
    return [
        family._replace(members=members[start : start + length], length=length)
        for start in range(0, len(members), length)
    ]


def _bytes(family: _Family) -> int:
    """The size of the results of one run in bytes, with what they are computed from."""
    plan = family.plan
    with precision(plan.precision):
        built = family.built(family.members[0][1])
        out = eqx.filter_eval_shape(_run, built, plan)
    arrays = [leaf for leaf in jax.tree.leaves(out) if hasattr(leaf, "dtype")]
    size = sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)
    # Within the program there are also the iterate of each save and its neighbours.
    saves = plan.steps // plan.save_every + 1
    return size + 8 * built.size * saves * (4 + len(built.flows))


def _batch(name: str, family: _Family, series: bool) -> Batch:
    points = tuple(point for point, _ in family.members)

    def compute() -> xr.Dataset:
        every = [leaves for _, leaves in family.members]
        # Another length would be another program to compile: the last run is repeated.
        every += [every[-1]] * (family.length - len(every))
        with precision(family.plan.precision):
            stacked = (np.stack(leaves) for leaves in zip(*every, strict=True))
            arrays = family.structure.unflatten(map(jnp.asarray, stacked))
            ran = jax.tree.map(
                lambda x: np.asarray(x)[: len(points)] if eqx.is_array(x) else x,
                _run_all(arrays, family.static, family.plan),
            )
        return _cells(points, ran, family.plan.steps, series)

    return Batch(name, points, compute)


@eqx.filter_jit
def _run_all(arrays: Any, static: Built, plan: _Plan) -> _Ran:
    return eqx.filter_vmap(lambda one: _run(eqx.combine(one, static), plan))(arrays)


def _run(built: Built, plan: _Plan) -> _Ran:
    """Run the optimizer and its flows, and keep what is measured along the way."""
    options: dict[str, Any] = {
        "save_every": plan.save_every,
        "measurements": built.measurements,
        "throw": False,
    }
    start = built.potential, built.params, plan.steps
    discrete = flows.iterate(built.optimizer, *start, **options)
    models = [one.flow for one in built.flows]
    comparison = planned(built.optimizer, models, built.measurements)
    firsts = comparison.first_points(discrete)
    tracks = {DISCRETE: _track(comparison.optimizer(discrete, built.potential)[0])}
    last_begun = max((flow.first_step for flow in models), default=0)
    for one in built.flows:
        piece = _simulated(one, built, plan, last_begun, options)
        compared = comparison.flow(piece, discrete, firsts, one.flow.first_step)
        tracks[one.label] = _track(compared)
    cycle = None
    if plan.cycle:
        path = jax.vmap(lambda params: ravel_pytree(params)[0])(discrete.params)
        cycle = flows.cycle(path, longest=LONGEST_PERIOD)
    # One number, which the marker of a sweep is: none with a schedule, or one that moves itself.
    constant = has_one_threshold(built.optimizer)
    critical = built.optimizer.critical_sharpness if constant else jnp.nan
    return _Ran(tracks, jnp.asarray(critical), cycle)


def _simulated(
    one: BuiltFlow, built: Built, plan: _Plan, last_begun: int, options: dict[str, Any]
) -> flows.Trajectory:
    """Run a flow as a run by itself does.

    That stops the flow's solver, and counts its steps, at each checkpoint after all flows have
    begun.

    Args:
        one: the flow.
        built: what it runs with.
        plan: of the batch.
        last_begun: the last step at which a flow of the run begins.
        options: arguments of `flows.simulate` besides the flow's own.
    """
    options = {**options, **one.solver}
    saves, begun = plan.steps // plan.save_every, last_begun // plan.save_every
    first = min(saves, plan.segment * (begun // plan.segment + 1))
    length = first - one.flow.first_step // plan.save_every
    if length == plan.segment or first == saves:
        return flows.simulate(
            one.flow, built.potential, built.params, plan.steps, segment=length, **options
        )
    begin = flows.simulate(
        one.flow,
        built.potential,
        built.params,
        first * plan.save_every,
        segment=length,
        **options,
    )
    rest = flows.simulate(
        one.flow,
        built.potential,
        None,
        plan.steps - first * plan.save_every,
        state=begin.state,
        segment=plan.segment,
        **options,
    )
    return flows.concatenate([begin, rest])


def _track(trajectory: flows.Trajectory) -> _Track:
    """Keep what is stored of a trajectory: vectors of parameters are not."""
    described = dict(trajectory.variables)
    series = {
        name: values
        for name, values in trajectory.observables.items()
        if "parameter" not in described[name].dims
    }
    bare = dataclasses.replace(
        trajectory, params=(), observables=series, neighbour_source=None, state=None
    )
    return _Track(bare, flows.kept_rows(trajectory))


def _cells(points: Sequence[Point], ran: _Ran, steps: int, series: bool) -> xr.Dataset:
    """Make the cells of a batch from its results."""
    tracks = {label: _dataset(points, track) for label, track in ran.tracks.items()}
    ended = {label: _messages(track.trajectory) for label, track in ran.tracks.items()}
    messages = [
        "; ".join(f"{label} {one[row]}" for label, one in ended.items() if one[row])
        for row in range(len(points))
    ]
    stopped = np.array([bool(one) for one in ended[DISCRETE]])
    words = {
        "status": np.array([DIVERGED if one else FINISHED for one in messages], object),
        "message": np.array(messages, object),
    }
    numbers = per_run(stopped, np.asarray(ran.critical_sharpness, float), ran.cycle)
    return gather_tracks(tracks, {**words, **numbers}, steps, series)


def _dataset(points: Sequence[Point], track: _Track) -> xr.Dataset:
    """The series of one trajectory, along `point` and `step`."""
    described = dict(track.trajectory.variables)
    data: dict[str, Any] = {}
    modes: dict[str, np.ndarray] = {}
    for name, values in track.trajectory.observables.items():
        units, description, dims = described[name]
        kept = track.kept.reshape(*track.kept.shape, *(1,) * (values.ndim - 2))
        masked = np.where(
            kept, values if values.dtype.kind == "f" else values.astype(float), np.nan
        )
        attributes = {"units": units, "long_name": description}
        data[name] = (("point", "step", *dims), masked, attributes)
        modes.update({d: np.arange(n) for d, n in zip(dims, values.shape[2:], strict=True)})
    unit = {"units": track.trajectory.time_unit, "long_name": "time of the save"}
    steps = ("step", track.trajectory.steps[0], unit)
    numbers = ("point", np.array([point.number for point in points]))
    return xr.Dataset(data, {"step": steps, "point": numbers, **modes})


def _messages(batch: flows.Trajectory) -> list[str]:
    """How each run of a batch ended, as `Trajectory.message` says it; empty if at its end."""
    # Thousands of runs end in a few ways: each sentence is made once.
    ended = (batch.stopped_at, batch.failure, batch.detail, *jax.tree.leaves(batch.result))
    ways = zip(*(np.asarray(one).tolist() for one in ended), strict=True)
    known: dict[str, str] = {}
    found = []
    # By their text, in which one nan equals another.
    for row, way in enumerate(map(repr, ways)):
        if way not in known:
            known[way] = jax.tree.map(lambda x, row=row: x[row], batch).message
        found.append(known[way])
    return found
