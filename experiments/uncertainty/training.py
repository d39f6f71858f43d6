"""Train an over-parametrised network until it meets its targets."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, Float

import potentials

# Where the squares of residuals of order 1 have no more digits in float64.
_TOLERANCE = 1e-12
_MAX_STEPS = 400


def residuals(potential: potentials.SupervisedPotential, params: Any) -> Float[Array, "..."]:
    """What vanishes where a network meets its targets exactly.

    Args:
        potential: with the criterion `mse` or `kl_divergence`.
        params: the weights.

    Returns:
        Predictions less targets; for classes logarithms of probabilities, of shape (examples,
        outputs). For the squared error the loss is half their squared norm over the examples; for
        the divergence both have the same zeros.

    Raises:
        ValueError: if the criterion is another one.
    """
    predictions = potential.predict(params)
    if potential.criterion is potentials.mse:
        return predictions - potential.targets
    if potential.criterion is potentials.kl_divergence:
        return jax.nn.log_softmax(predictions, axis=-1) - jnp.log(potential.targets)
    raise ValueError(
        "criterion must be mse or kl_divergence, whose minima are where residuals vanish; got "
        f"{potential.criterion!r}."
    )


@eqx.filter_jit
def interpolate(potential: potentials.SupervisedPotential, params: Any) -> tuple[Any, Array]:
    """Train by the method of Levenberg and Marquardt, which forms a matrix of P columns.

    Args:
        potential: with the criterion `mse` or `kl_divergence`.
        params: where to start.

    Returns:
        The weights, and the loss there: about 0 where there are more parameters than targets and
        the start was a good one. Nothing is raised where it is not: check the loss.
    """
    solver = optimistix.LevenbergMarquardt(rtol=_TOLERANCE, atol=_TOLERANCE)
    found = optimistix.least_squares(
        lambda w, _: residuals(potential, w), solver, params, max_steps=_MAX_STEPS, throw=False
    )
    return found.value, potential(found.value)
