"""Make measurements along saved steps, or along any path of parameters."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from ..core.captured import captured, captured_function
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.schedules import captured_schedules
from ..core.trajectory import Trajectory
from ..core.trees import Params
from ..curvature.metric import AbstractMetric
from .base import AbstractMeasurement, AbstractMetricMeasurement
from .example_groups import OnExamples
from .held_out import HeldOut
from .loss import LossAndGradient, ScalarMeasurement

Measurable: TypeAlias = AbstractMeasurement | Iterable[AbstractMeasurement] | None
"""What to measure: one measurement, several of them, or None for `(LossAndGradient(),)`."""


def check_measurements(measurements: Measurable) -> tuple[AbstractMeasurement, ...]:
    """Return the measurements as a tuple, `(LossAndGradient(),)` for None.

    Raises:
        ValueError: If one is not a measurement.
    """
    if measurements is None:
        return (LossAndGradient(),)
    if isinstance(measurements, AbstractMeasurement):
        return (measurements,)
    listed = isinstance(measurements, Iterable) and not isinstance(measurements, str)
    given: tuple[Any, ...] = tuple(measurements) if listed else (measurements,)
    for one in given:
        if not isinstance(one, AbstractMeasurement):
            kind = f"the class {one.__name__}: call it" if isinstance(one, type) else repr(one)
            raise ValueError(
                "measurements must be a sequence of measurements such as LossAndGradient() or "
                f"Curvature(); got {kind}."
            )
    return given


def labels(measurements: tuple[AbstractMeasurement, ...]) -> str:
    """Return what must be the same for a run to go on with these measurements."""

    def label(one: AbstractMeasurement) -> str:
        given = [getattr(one, name) for name in one.structural_fields]
        arguments = ", ".join(repr(value) for value in given if value is not None)
        return type(one).__name__ + (f"({arguments})" if given else "")

    return f"({', '.join(map(label, measurements))})"


def need_metric(measurements: tuple[AbstractMeasurement, ...]) -> bool:
    """Return True if one looks at the parameters in the metric of what runs."""
    return any(isinstance(one, AbstractMetricMeasurement) for one in measurements)


def losses(
    measurements: tuple[AbstractMeasurement, ...], observables: dict[str, Array]
) -> Float[Array, "..."] | None:
    """Return the loss along the saved steps; None if it was not measured."""
    measured = any(isinstance(one, LossAndGradient) for one in measurements)
    return observables["loss"] if measured else None


def measure_all(
    measurements: tuple[AbstractMeasurement, ...],
    potential: Potential,
    params: Params,
    states: tuple[PyTree[Array], ...],
    index: Int[Array, ""],
    metric: Callable[[], AbstractMetric | None] | None = None,
) -> tuple[dict[str, Array], tuple[PyTree[Array], ...], Cost]:
    """Make all measurements at one saved step.

    Args:
        measurements: What is measured.
        potential: The loss.
        params: The parameters that are saved.
        states: The state of each measurement.
        index: How many saves were made before.
        metric: Gives the metric of the run there, for measurements that need it; None along a bare
            path, which has none.

    Returns:
        The quantities by name, the next states, and what all of them cost.
    """
    values: dict[str, Array] = {}
    next_states = []
    cost = Cost()
    for measurement, state in zip(measurements, states, strict=True):
        if metric is not None and isinstance(measurement, AbstractMetricMeasurement):
            found, state, spent = measurement.measure_in(metric(), potential, params, state, index)
        else:
            found, state, spent = measurement.measure(potential, params, state, index)
        values.update(found)
        next_states.append(state)
        cost = cost + spent
    return values, tuple(next_states), cost


class PathState(eqx.Module):
    """Where `measure` stands on a path.

    Attributes:
        measurements: The state of each measurement.
        index: How many points were measured before.
    """

    measurements: tuple[PyTree[Array], ...]
    index: Int[Array, ""]


def measure(
    measurements: Measurable, potential: Potential, params: PyTree, state: PathState | None = None
) -> tuple[dict[str, Array], PathState]:
    """Measure along any path of parameters, such as the midpoints of an optimizer.

    Args:
        measurements: What to measure; `(LossAndGradient(),)` if None.
        potential: The loss.
        params: The points, a pytree of arrays with leading axis T.
        state: What an earlier call on the path up to here returned; None at its start.

    Returns:
        The observables by name, leading axis T, and the state to go on with.

    Raises:
        ValueError: If the measurements are none, or do not fit the parameters, or need the state of
            an optimizer, or `params` are not arrays with a common leading axis.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Curvature, measure
        >>> path = jnp.asarray([[0.0], [0.5], [1.0]])
        >>> values, _ = measure(Curvature(1), lambda w: jnp.sum(w**2 - 0.25 * w**4), path)
        >>> [round(float(x), 3) for x in values["sharpness"]]
        [2.0, 1.25, -1.0]
    """
    checked = check_measurements(measurements)
    path = _check_path(params)
    point = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], jnp.result_type(x)), path)
    potential = captured(potential, point)
    return _measure(captured_measurements(checked, potential, point), potential, path, state)


def captured_measurements(
    measurements: tuple[AbstractMeasurement, ...], potential: Potential, params: PyTree
) -> tuple[AbstractMeasurement, ...]:
    """Return measurements whose own functions are traced at each call, as a run's loss is.

    Args:
        measurements: What is measured.
        potential: The run's loss, traced already.
        params: Parameters, or their shapes.
    """

    def fresh(measurement: AbstractMeasurement, potential: Potential) -> AbstractMeasurement:
        if isinstance(measurement, HeldOut):
            own = captured(measurement.potential, params)
            return dataclasses.replace(measurement, potential=own)
        if isinstance(measurement, ScalarMeasurement):
            function = captured_function(measurement.function, potential, params)
            return dataclasses.replace(measurement, function=function)
        if isinstance(measurement, OnExamples) and _captures(measurement):
            inner = fresh(measurement.measurement, measurement.part(potential))
            return dataclasses.replace(measurement, measurement=inner)
        return captured_schedules(measurement)

    return tuple(fresh(measurement, potential) for measurement in measurements)


def _captures(measurement: AbstractMeasurement) -> bool:
    """Return True if a function of the user's is in a measurement, or in the one within it."""
    if isinstance(measurement, OnExamples):
        return _captures(measurement.measurement)
    return isinstance(measurement, HeldOut | ScalarMeasurement)


def _check_path(params: PyTree) -> Params:
    allowed = "params must be arrays with a common leading axis T of at least 1, a row per point"
    if isinstance(params, Trajectory):
        raise ValueError(f"{allowed}; got a Trajectory: pass trajectory.params.")
    leaves = jax.tree.leaves(params)
    for leaf in leaves:
        if not eqx.is_array(leaf) and not isinstance(leaf, np.ndarray):
            raise ValueError(f"{allowed}; got {leaf!r}.")
    shapes = sorted({leaf.shape for leaf in leaves})
    lengths = {shape[:1] for shape in shapes}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        given = f"shapes {', '.join(map(str, shapes))}" if shapes else "none"
        raise ValueError(
            f"{allowed}; got {given}. For a single point: jax.tree.map(lambda x: x[None], params)."
        )
    return params


@eqx.filter_jit
def _measure(
    measurements: tuple[AbstractMeasurement, ...],
    potential: Potential,
    params: Params,
    state: PathState | None,
) -> tuple[dict[str, Array], PathState]:
    if state is None:
        first = jax.tree.map(lambda x: x[0], params)
        states = tuple(m.init(potential, first) for m in measurements)
        state = PathState(states, jnp.zeros((), jnp.int32))

    def one(state: PathState, point: Params) -> tuple[PathState, dict[str, Array]]:
        values, states, _ = measure_all(
            measurements, potential, point, state.measurements, state.index
        )
        return PathState(states, state.index + 1), values

    state, observables = lax.scan(one, state, params)
    return observables, state
