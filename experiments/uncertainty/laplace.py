"""The Laplace approximation, with laplax's generalised Gauss-Newton matrix and its posterior."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

import potentials

# The posterior's matrix is dense.
MOST_PARAMETERS = 5000


class Laplace(eqx.Module):
    """A normal approximation of a network's posterior around trained weights.

    Its precision is the generalised Gauss-Newton matrix of the negative log likelihood, the sum
    over examples, plus 1 / deviation^2 of a normal prior. The likelihood is normal of the noise's
    variance for the criterion `mse`, categorical for `kl_divergence`.

    Args:
        potential: the loss.
        params: the trained weights, the mean.
        noise: standard deviation of a regression's targets; unused for classes.

    Raises:
        ValueError: if there are too many parameters for a dense matrix.
        ImportError: if laplax is not installed, which has no release for this Python.
    """

    params: Any
    curvature: Float[Array, "P P"]

    def __init__(self, potential: potentials.SupervisedPotential, params: Any, noise: float = 1.0):
        # Here, so that all else runs where laplax is not installed.
        from laplax.curv.cov import estimate_curvature
        from laplax.curv.ggn import create_ggn_mv

        size = ravel_pytree(params)[0].size
        if size > MOST_PARAMETERS:
            raise ValueError(f"params must be at most {MOST_PARAMETERS} numbers; got {size}.")
        regression = potential.criterion is potentials.mse

        def hessian(vector: Array, pred: Array, **others: Any) -> Array:
            del others
            if regression:
                return vector / jnp.asarray(noise**2, vector.dtype)
            share = jax.nn.softmax(pred)
            return share * vector - share * jnp.sum(share * vector)

        product = create_ggn_mv(
            lambda input, params: potential.model(params)(input),
            params,
            {"input": potential.inputs, "target": potential.targets},
            loss_hessian_mv=hessian,
        )
        self.params = params
        self.curvature = estimate_curvature("full", product, params)

    def sample(self, key: PRNGKeyArray, count: int, deviation: float) -> Any:
        """Draw weights.

        Args:
            key: PRNG key.
            count: how many.
            deviation: of the prior.

        Returns:
            A pytree like the weights, with a leading axis of `count`.
        """
        from laplax.curv.cov import set_posterior_fn

        posterior = set_posterior_fn("full", self.curvature, layout=self.params)(
            {"prior_prec": jnp.asarray(deviation**-2, self.curvature.dtype)}
        )
        flat, unravel = ravel_pytree(self.params)
        normal = jax.random.normal(key, (count, flat.size), flat.dtype)
        return jax.vmap(unravel)(flat[None] + normal @ posterior.state["scale"].T)
