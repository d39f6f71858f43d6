"""The Laplace approximation, with laplax's generalised Gauss-Newton matrix and its posterior."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from potentials import SupervisedPotential, mse

MOST_PARAMETERS = 5000
"""How many weights a network may have: the posterior's matrix is dense."""


class Laplace(eqx.Module):
    """A normal approximation of a network's posterior around trained weights.

    Its precision is the generalised Gauss-Newton matrix of the negative log likelihood, the sum
    over examples, plus 1 / deviation^2 of a normal prior. The likelihood is normal of the noise's
    variance for the criterion `mse`, categorical for `kl_divergence`.

    Args:
        potential: The mean loss.
        params: The trained weights, the mean.
        noise: Standard deviation of a regression's targets; unused for classes.

    Attributes:
        params: The mean.
        curvature: The generalised Gauss-Newton matrix.

    Raises:
        ValueError: if there are too many parameters for a dense matrix.
        ImportError: if laplax is not installed, which has no release for some versions of Python.
    """

    params: PyTree[Array]
    curvature: Float[Array, "P P"]

    def __init__(self, potential: SupervisedPotential, params: PyTree[Array], noise: float = 1.0):
        # Here, so that all else runs where laplax is not installed.
        from laplax.curv.cov import estimate_curvature
        from laplax.curv.ggn import create_ggn_mv

        size = ravel_pytree(params)[0].size
        if size > MOST_PARAMETERS:
            raise ValueError(f"params must be at most {MOST_PARAMETERS} numbers; got {size}.")
        regression = potential.criterion is mse

        def hessian(vector: Array, pred: Array, **others: Array) -> Array:
            """Multiply by the Hessian of one example's criterion in its prediction."""
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

    def sample(self, key: PRNGKeyArray, count: int, deviation: float) -> PyTree[Array]:
        """Draw weights.

        Args:
            key: PRNG key.
            count: How many.
            deviation: Standard deviation of the prior.

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
