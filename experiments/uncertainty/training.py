"""Train an over-parametrised network until it meets its targets."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, Float, PyTree

import potentials

# Where the squares of residuals of order 1 have no more digits in float64.
_TOLERANCE = 1e-12
_MAX_STEPS = 400


def network(
    data: potentials.Dataset, hidden: int, smoothing: float | None = None
) -> potentials.SupervisedPotential:
    """Return the training loss of a network of one hidden layer.

    Args:
        data: The training examples.
        hidden: Units of the layer.
        smoothing: Share of the uniform distribution in the targets of classes, whose criterion is
            the divergence; None for a regression, whose criterion is the squared error.
    """
    widths = (data.inputs.shape[1], hidden, data.targets.shape[1])
    targets = data.targets
    if smoothing is not None:
        targets = jnp.asarray(potentials.smoothed(np.asarray(targets), smoothing))
    return potentials.SupervisedPotential(
        potentials.MLP(widths, key=jax.random.key(0)),
        data.inputs,
        targets,
        potentials.mse if smoothing is None else potentials.kl_divergence,
    )


def residuals(
    potential: potentials.SupervisedPotential, params: PyTree[Array]
) -> Float[Array, "examples outputs"]:
    """Return what vanishes where a network meets its targets exactly.

    Args:
        potential: With the criterion `mse` or `kl_divergence`.
        params: The weights.

    Returns:
        Predictions less targets; for classes logarithms of probabilities. For the squared error
        the loss is half their squared norm over the examples; for the divergence both have the same
        zeros.

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
def interpolate(
    potential: potentials.SupervisedPotential, params: PyTree[Array]
) -> tuple[PyTree[Array], Float[Array, ""]]:
    """Train by the method of Levenberg and Marquardt, which forms a matrix of P columns.

    Args:
        potential: With the criterion `mse` or `kl_divergence`.
        params: Where to start.

    Returns:
        The weights, and the loss there: about 0 where there are more parameters than targets and
        the start was a good one. Nothing is raised where it is not: check the loss.
    """
    solver = optimistix.LevenbergMarquardt(rtol=_TOLERANCE, atol=_TOLERANCE)
    found = optimistix.least_squares(
        lambda w, _: residuals(potential, w), solver, params, max_steps=_MAX_STEPS, throw=False
    )
    return found.value, potential(found.value)
