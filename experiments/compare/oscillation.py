"""What the discrete run says about the oscillation that a flow predicts.

A flow predicts a centre, which the midpoints of the iterates follow, and how far the iterates are
from it. Here both are measured: the midpoints' own loss and curvature, the iterates' squared
displacement from the centre along the flow's directions, their distance from the midpoints, and
half the length of a step.
"""

from collections.abc import Iterable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

import flows

from .distances import Observables, Params, places, row_norms

DIRECTIONS = "directions"
"""The observable that variances are measured along; too large to be stored."""
HALF_DIFFERENCE = {
    "half_difference": flows.Variable("parameter", "half the distance to the next iterate")
}
"""Metadata of what `half_differences` gives."""

HALF_DIFFERENCE_LENGTH = {
    "half_difference_length": flows.Variable(
        "parameter", "distance of the iterate from its three-point midpoint"
    )
}
"""Metadata of what `half_difference_lengths` gives."""

Measurements = tuple[flows.AbstractMeasurement, ...]


@eqx.filter_jit
def half_differences(discrete: flows.Trajectory) -> Observables:
    """Measure |w_{t+1} - w_t| / 2, which a rod flow's covariance Sigma models.

    The mean of its square is trace(Sigma) for an optimizer without momentum.

    Returns:
        `half_difference` (T,), in the units of the parameters.
    """
    half = jax.tree.map(jnp.subtract, discrete.midpoints("two_point"), discrete.params)
    return {"half_difference": row_norms(half)}


@eqx.filter_jit
def half_difference_lengths(discrete: flows.Trajectory) -> Observables:
    """Measure |w_{t-1} - 2 w_t + w_{t+1}| / 4, the |d| of w_t = c_t + (-1)^t d_t with slow c and d.

    Returns:
        `half_difference_length` (T,), in the units of the parameters; 0 at the optimizer's start.
    """
    half = jax.tree.map(jnp.subtract, discrete.params, discrete.midpoints("three_point"))
    return {"half_difference_length": row_norms(half)}


@eqx.filter_jit
def measured_variances(flow: flows.Trajectory, discrete: flows.Trajectory | None) -> Observables:
    """Measure (v_i . (w_t - c(t)))^2 of a flow's centre c and directions v_i: a sample per save.

    Args:
        flow: the trajectory of a flow with the observables `variances` and `directions`, T saves.
        discrete: the optimizer's trajectory over the same steps; None if it stopped earlier.

    Returns:
        `measured_variances` (T, directions), in the units of `variances`; nan at the saves that
        the optimizer did not reach.
    """
    directions = flow.observables[DIRECTIONS]
    if discrete is None or not discrete.steps.shape[0]:
        return {"measured_variances": jnp.full(directions.shape[:2], jnp.nan, directions.dtype)}

    def squared(iterate: Params, centre: Params, along: Float[Array, "mode parameter"]) -> Array:
        displacement, _ = ravel_pytree(jax.tree.map(jnp.subtract, iterate, centre))
        return jnp.square(along @ displacement)

    at, there = places(flow.steps, discrete)
    beside = jax.tree.map(lambda x: x[at], discrete.params)
    squares = jax.vmap(squared)(beside, flow.params, directions)
    return {"measured_variances": jnp.where(there[:, None], squares, jnp.nan)}


def variances_metadata(predicted: Mapping[str, flows.Variable]) -> dict[str, flows.Variable]:
    """Describe what `measured_variances` gives, as the flow describes its `variances`."""
    description = "squared displacement of the iterate from the centre along each direction"
    return {"measured_variances": predicted["variances"]._replace(description=description)}


def _loss(potential: flows.Potential, params: Params) -> Float[Array, ""]:
    return potential(params)


def midpoint_measurements(measurements: Iterable[flows.AbstractMeasurement]) -> Measurements:
    """Choose what is measured at the midpoints: the loss, and the curvature as in the run itself.

    Args:
        measurements: those of the run.
    """
    loss = flows.ScalarMeasurement("loss", _loss, "loss at the parameters", "loss")
    return (loss, *(one for one in measurements if isinstance(one, flows.Curvature)))


def measure_midpoints(
    measurements: Measurements,
    potential: flows.Potential,
    discrete: flows.Trajectory,
    state: PyTree[Array] | None,
) -> tuple[Observables, dict[str, flows.Variable], PyTree[Array]]:
    """Measure along the three-point midpoints of the optimizer's iterates.

    Args:
        measurements: from `midpoint_measurements`.
        potential: the loss.
        discrete: the optimizer's trajectory, or the next piece of it, of no save perhaps.
        state: what the call for the piece before returned; None at the start.

    Returns:
        The quantities, each named as in the run with `midpoint_` in front; their metadata; and the
        state to go on from.
    """
    points = discrete.midpoints("three_point")
    if discrete.steps.shape[0]:
        observed, state = flows.measure(measurements, potential, points, state)
    else:
        # The optimizer stopped right where the piece begins: the same quantities, without a row.
        first = jax.tree.map(lambda x: jnp.zeros((1, *x.shape[1:]), x.dtype), points)
        like, _ = eqx.filter_eval_shape(flows.measure, measurements, potential, first, state)
        observed = {name: jnp.zeros((0, *x.shape[1:]), x.dtype) for name, x in like.items()}
    observed.pop("eigenvalue_residuals", None)
    described = {name: v for one in measurements for name, v in one.variables.items()}
    return (
        {f"midpoint_{name}": values for name, values in observed.items()},
        {f"midpoint_{name}": _at_midpoints(described[name]) for name in observed},
        state,
    )


def _at_midpoints(variable: flows.Variable) -> flows.Variable:
    there = "at the iterates' midpoint"
    description = variable.description.replace("at the parameters", there)
    if there not in description:
        description = f"{description}, {there}"
    return variable._replace(description=description)
