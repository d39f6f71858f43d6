"""What the discrete run says about the oscillation that a Central Flow predicts.

A Central Flow predicts a centre, which the midpoints of the iterates follow, and variances around
it. Both are measured here: the midpoints' own loss and curvature, and the iterates' squared
displacement from the flow's centre along the flow's own directions.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

import flows

from ..config.build import Built
from ..tables import Experiment

# Of the flow's observables: too large to be stored, and needed to measure variances along.
DIRECTIONS = "directions"
_CENTRAL = "central"
ROD = "rod"


def _loss(potential: Any, params: Any) -> Float[Array, ""]:
    return potential(params)


class Midpoints:
    """Loss and curvature at the three-point midpoints of the iterates, if a flow predicts them.

    Args:
        config: the config; nothing is measured without a Central Flow in it.
        built: what it stands for.

    Attributes:
        state: where the measurements stand; None before the first.
    """

    def __init__(self, config: Experiment, built: Built):
        self._potential = built.potential
        self._measurements: tuple[Any, ...] = ()
        self.state: Any = None
        if any(flow.kind == _CENTRAL for flow in config.flows):
            loss = flows.ScalarMeasurement("loss", _loss, "loss at the parameters", "loss")
            curvature = (m for m in built.measurements if isinstance(m, flows.Curvature))
            self._measurements = (loss, *curvature)

    def measure(self, discrete: flows.Trajectory | None) -> tuple[dict[str, xr.Variable], Any]:
        """Measure along the next piece of the discrete run.

        Args:
            discrete: the piece; None if the run has stopped.

        Returns:
            The variables along `step`, and the state to go on from.
        """
        if not self._measurements or discrete is None or discrete.steps.shape[0] == 0:
            return {}, self.state
        points = discrete.midpoints("three_point")
        observed, state = flows.measure(self._measurements, self._potential, points, self.state)
        described = {
            name: variable
            for measurement in self._measurements
            for name, variable in measurement.variables.items()
        }
        kept = (name for name in observed if name != "eigenvalue_residuals")
        return {
            f"midpoint_{name}": _variable(observed[name], described[name]) for name in kept
        }, state

    def state_like(self, params: Any) -> Any:
        """The structure of `state` after a first piece.

        Args:
            params: the parameters, or their shapes.
        """
        if not self._measurements:
            return None

        def first(params: Any) -> Any:
            points = jax.tree.map(lambda x: x[None], params)
            return flows.measure(self._measurements, self._potential, points, None)[1]

        return eqx.filter_eval_shape(first, params)


def half_difference(discrete: flows.Trajectory) -> dict[str, xr.Variable]:
    """Measure |w_{t+1} - w_t| / 2, the length that a rod flow's covariance stands for.

    Args:
        discrete: the next piece of the discrete run.

    Returns:
        The variable along `step`; the mean of its square is trace(Sigma) of a rod flow without
        momentum.
    """
    return {"half_difference": xr.Variable("step", np.asarray(half_lengths(discrete)), HALF)}


HALF = {"units": "parameter", "long_name": "half the distance to the next iterate"}
"""Attributes of `half_difference`."""


@eqx.filter_jit
def half_lengths(discrete: flows.Trajectory) -> Float[Array, " T"]:
    """Return |w_{t+1} - w_t| / 2 (T,), in the units of the parameters."""
    half = jax.tree.map(jnp.subtract, discrete.midpoints("two_point"), discrete.params)
    return jnp.sqrt(
        sum(jnp.sum(jnp.square(x), axis=range(1, x.ndim)) for x in jax.tree.leaves(half))
    )


def measured_variances(
    flow: flows.Trajectory, discrete: flows.Trajectory | None
) -> tuple[dict[str, xr.Variable], flows.Trajectory]:
    """Measure the variances that a flow predicts, one sample per saved step.

    Args:
        flow: the next piece of a flow.
        discrete: that of the discrete run, saved at the same steps; None if it has stopped.

    Returns:
        The squared displacement of the iterates from the flow's centre along each of its
        directions, nan where the discrete run has stopped, and the piece without its directions;
        nothing, and the piece, if the flow has no directions.
    """
    if DIRECTIONS not in flow.observables:
        return {}, flow
    observables = dict(flow.observables)
    directions = observables.pop(DIRECTIONS)
    described = dict(flow.variables)
    values = np.full(directions.shape[:2], np.nan, directions.dtype)
    if discrete is not None:
        count = min(discrete.steps.shape[0], flow.steps.shape[0])
        pairs = jax.tree.map(lambda x: x[:count], (discrete.params, flow.params, directions))
        values[:count] = np.asarray(_squared_displacements(*pairs))
    attributes = {
        "units": described["variances"].units,
        "long_name": "squared displacement of the iterate from the centre along each direction",
    }
    dims = ("step", *described["variances"].dims)
    variables = {"measured_variances": xr.Variable(dims, values, attributes)}
    return variables, dataclasses.replace(flow, observables=observables)


@eqx.filter_jit
def _squared_displacements(
    iterates: Any, centres: Any, directions: Float[Array, "step mode parameter"]
) -> Float[Array, "step mode"]:
    def one(iterate: Any, centre: Any, along: Array) -> Array:
        displacement, _ = ravel_pytree(jax.tree.map(jnp.subtract, iterate, centre))
        return jnp.square(along @ displacement)

    return jax.vmap(one)(iterates, centres, directions)


def _variable(values: Any, described: flows.Variable) -> xr.Variable:
    description = described.description.replace("at the parameters", "at the iterates' midpoint")
    if "midpoint" not in description:
        description = f"{description}, at the iterates' midpoint"
    attributes = {"units": described.units, "long_name": description}
    return xr.Variable(("step", *described.dims), np.asarray(values), attributes)
