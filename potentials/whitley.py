"""Whitley's function: Rosenbrock's valley under Griewank's ripples."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from potentials.checks import parameters, positive_integer
from potentials.potential import AbstractPotential


class Whitley(AbstractPotential):
    """sum_i sum_j y_ij^2 / 4000 - cos y_ij + 1 with y_ij = 100 (w_i^2 - w_j)^2 + (1 - w_j)^2.

    Parameters w of shape (n,). The global minimum is w = (1, ..., 1), of loss 0 (Whitley et al.,
    Artificial Intelligence 85, 1996). All y_ij and their slopes vanish there, so that its Hessian
    is zero: the loss grows with the fourth power of the distance.

    Args:
        dimension: n, at least 1.

    Raises:
        ValueError: if `dimension` is no whole number of at least 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import Whitley
        >>> rippled = Whitley(dimension=2)
        >>> float(rippled(jnp.ones(2))), round(float(rippled(jnp.zeros(2))), 3)
        (0.0, 1.84)
    """

    dimension: int = eqx.field(
        static=True, default=2, converter=partial(positive_integer, "dimension")
    )

    def __call__(self, params: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """The double sum for `params` w of shape (n,)."""
        w = parameters("Whitley", params, (self.dimension,))
        y = 100.0 * (w[:, None] ** 2 - w[None, :]) ** 2 + (1.0 - w[None, :]) ** 2
        # 1 - cos y as 2 sin(y/2)^2: no digits are lost near the minimum.
        return jnp.sum(y**2 / 4000.0 + 2.0 * jnp.sin(0.5 * y) ** 2)

    def init(self, key: PRNGKeyArray) -> Float[Array, " n"]:
        """Draw w uniform in the box |w_i| < 2, shape (n,)."""
        return jax.random.uniform(key, (self.dimension,), minval=-2.0, maxval=2.0)
