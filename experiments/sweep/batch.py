"""Toy runs of equal shapes, in one vmapped program."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

import flows

from ..compare.oscillation import HALF, half_lengths
from ..config.build import Built, build, precision
from ..runs.tracks import DISCRETE, DISPLACEMENT, DISTANCE, displacements, has_rods
from ..store.status import DIVERGED, FINISHED
from ..system.progress import warn
from ..tables import Experiment
from .cells import LONGEST_PERIOD, gather_tracks, tells_cycle
from .grid import Point

# What the results of one program may take, in bytes.
_MOST_BYTES = 2**28


class Batch(NamedTuple):
    """Runs that go through one program together.

    Attributes:
        name: tells it from the sweep's other batches.
        points: the runs.
        compute: runs them all and gives their cells.
    """

    name: str
    points: tuple[Point, ...]
    compute: Callable[[], xr.Dataset]


class _Track(NamedTuple):
    """What is kept of one trajectory: rows that do not count are nan."""

    trajectory: flows.Trajectory
    series: dict[str, Float[Array, " T"]]
    kept: Bool[Array, " T"]


class _Ran(NamedTuple):
    tracks: dict[str, _Track]
    critical_sharpness: Float[Array, ""]
    cycle: flows.Cycle | None


class _Family(NamedTuple):
    """Runs of one program: what they share, and the arrays of each.

    `length` runs go through the program, of which the first are the members.
    """

    plan: "_Plan"
    structure: Any
    static: Built
    members: list[tuple[Point, list[Any]]]
    length: int = 0

    def built(self, leaves: list[Any]) -> Built:
        """Put what is shared and arrays together again."""
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

    Those are runs of toy potentials whose configs differ in numbers alone. A Central Flow and the
    flows of a ball are not among them: between the segments of such a run it is looked at how it
    goes on, and a batch of balls would go at the pace of its slowest.

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
            # Run by itself, each fails by itself, or does not.
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
    return _Plan(config.precision, config.steps, config.save_every, segment, tells_cycle(config))


def _built(point: Point, caches: dict[str, dict[Any, Any]]) -> Built | None:
    """What a run is made of; None if it is to be run by itself."""
    config = point.config
    if not isinstance(config, Experiment) or config.measurements:
        return None
    if not all(table.batched for table in (config.potential, config.optimizer, *config.flows)):
        return None
    with precision(config.precision):
        try:
            return build(config, config.name, caches.setdefault(config.precision, {}))
        except Exception:
            return None  # Run by itself, it fails by itself and is recorded with the reason.


def _parts(family: _Family) -> list[_Family]:
    """Cut a family into parts of one length, so of one program, whose results fit into memory."""
    members = family.members
    count = min(len(members), math.ceil(len(members) * _bytes(family) / _MOST_BYTES))
    length = math.ceil(len(members) / count)
    return [
        family._replace(members=members[start : start + length], length=length)
        for start in range(0, len(members), length)
    ]


def _bytes(family: _Family) -> int:
    """What the results of one run take, in bytes, with what they are computed from."""
    plan = family.plan
    with precision(plan.precision):
        built = family.built(family.members[0][1])
        out = eqx.filter_eval_shape(_run, built, plan)
    arrays = [leaf for leaf in jax.tree.leaves(out) if hasattr(leaf, "dtype")]
    size = sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)
    # Within the program there are also the parameters of each save, and those next to them.
    saves = plan.steps // plan.save_every + 1
    return size + 8 * built.size * saves * (4 + len(built.flows))


def _batch(name: str, family: _Family, series: bool) -> Batch:
    points = tuple(point for point, _ in family.members)

    def compute() -> xr.Dataset:
        every = [leaves for _, leaves in family.members]
        # Another length would be another program to compile: the last run fills a part up.
        every += [every[-1]] * (family.length - len(every))
        with precision(family.plan.precision):
            stacked = [
                np.stack([np.asarray(leaf) for leaf in leaves])
                for leaves in zip(*every, strict=True)
            ]
            arrays = family.structure.unflatten([jnp.asarray(leaf) for leaf in stacked])
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
    # As a run by itself, which stops a flow's solver, and counts its steps, at each checkpoint.
    options["segment"] = plan.segment
    rods = {"half_difference": half_lengths(discrete)} if has_rods(built) else {}
    tracks = {DISCRETE: _track(discrete, rods)}
    for one in built.flows:
        piece = flows.simulate(one.flow, *start, **options, **one.solver)
        tracks[one.label] = _track(piece, _distances(piece, discrete))
    cycle = None
    if plan.cycle:
        path = jax.vmap(lambda params: ravel_pytree(params)[0])(discrete.params)
        cycle = flows.cycle(path, longest=LONGEST_PERIOD)
    return _Ran(tracks, jnp.asarray(built.optimizer.critical_sharpness), cycle)


def _track(trajectory: flows.Trajectory, more: dict[str, Float[Array, " T"]]) -> _Track:
    kept = flows.kept_rows(trajectory)
    bare = dataclasses.replace(
        trajectory, params=(), observables={}, neighbour_source=None, state=None
    )
    return _Track(bare, {**trajectory.observables, **more}, kept)


def _distances(
    piece: flows.Trajectory, discrete: flows.Trajectory
) -> dict[str, Float[Array, " T"]]:
    """Distance to the midpoints and theirs from their start; nan where the optimizer stopped."""
    if piece.midpoint is None:
        return {}
    midpoints = discrete.midpoints(piece.midpoint)
    origin = jax.tree.map(lambda x: x[0], midpoints)
    there = flows.kept_rows(discrete)
    found = flows.distance(piece, discrete), displacements(origin, midpoints)
    near, far = (jnp.where(there, values, jnp.nan) for values in found)
    return {"distance": near, "displacement": far}


def _cells(points: Sequence[Point], ran: _Ran, steps: int, series: bool) -> xr.Dataset:
    """The cells of runs whose results have a leading axis."""
    tracks = {label: _dataset(points, track) for label, track in ran.tracks.items()}
    ended = {label: _messages(track.trajectory) for label, track in ran.tracks.items()}
    messages = [
        "; ".join(f"{label} {one[row]}" for label, one in ended.items() if one[row])
        for row in range(len(points))
    ]
    critical = np.asarray(ran.critical_sharpness, float)
    per_run = {
        "status": _status(messages),
        "message": np.array(messages, object),
        "discrete_status": _status(ended[DISCRETE]),
        "critical_sharpness": np.where(np.isfinite(critical), critical, np.nan),
    }
    if ran.cycle is not None:
        alive = per_run["discrete_status"] == FINISHED
        per_run["period"] = np.where(alive, ran.cycle.period, 0)
        per_run["amplitude"] = np.where(alive, ran.cycle.amplitude, np.nan)
    return gather_tracks(tracks, per_run, steps, series)


def _status(messages: Sequence[str]) -> np.ndarray:
    return np.array([DIVERGED if one else FINISHED for one in messages], object)


def _dataset(points: Sequence[Point], track: _Track) -> xr.Dataset:
    """The series of one trajectory, along `point` and `step`."""
    described = dict(track.trajectory.variables)
    extra = {"half_difference": HALF, "distance": DISTANCE, "displacement": DISPLACEMENT}
    data: dict[str, Any] = {}
    modes: dict[str, np.ndarray] = {}
    for name, values in track.series.items():
        variable = described.get(name)
        dims = variable.dims if variable is not None else ()
        if "parameter" in dims:
            continue
        attributes = extra.get(name) or (
            {"units": variable.units, "long_name": variable.description} if variable else {}
        )
        kept = track.kept.reshape(*track.kept.shape, *(1,) * (values.ndim - 2))
        masked = np.where(
            kept, values if values.dtype.kind == "f" else values.astype(float), np.nan
        )
        data[name] = (("point", "step", *dims), masked, attributes)
        modes.update({d: np.arange(n) for d, n in zip(dims, values.shape[2:], strict=True)})
    unit = {"units": track.trajectory.time_unit, "long_name": "time of the save"}
    steps = ("step", track.trajectory.steps[0], unit)
    numbers = ("point", np.array([point.number for point in points]))
    return xr.Dataset(data, {"step": steps, "point": numbers, **modes})


def _messages(batch: flows.Trajectory) -> list[str]:
    """How each run of a batch ended, as `Trajectory.message` says it; empty if at its end."""
    succeeded = np.asarray(batch.succeeded)
    known: dict[Any, str] = {}
    found = []
    for row in range(len(succeeded)):
        if succeeded[row]:
            found.append("")
            continue
        key = (float(batch.stopped_at[row]), int(batch.failure[row]), _code(batch, row))
        if key not in known:
            known[key] = jax.tree.map(lambda x, row=row: x[row], batch).message
        found.append(known[key])
    return found


def _code(batch: flows.Trajectory, row: int) -> tuple[Any, ...]:
    parts: Iterable[Any] = jax.tree.leaves(batch.result)
    return (*(int(part[row]) for part in parts), repr(float(batch.detail[row])))
