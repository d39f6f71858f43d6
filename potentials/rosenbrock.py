"""The curved valley of Rosenbrock (The Computer Journal 3, 1960)."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from potentials.checks import finite, parameters, positive
from potentials.potential import AbstractPotential


class Rosenbrock(AbstractPotential):
    """The function (a - x)^2 + b (y - x^2)^2 of parameters (x, y).

    The one critical point is the minimum (a, a^2), of loss 0. Its Hessian is
    [[2 + 8 a^2 b, -4 a b], [-4 a b, 2 b]] with trace T = 2 + 2 b + 8 a^2 b and determinant 4 b, so
    the sharpness there is (T + sqrt(T^2 - 16 b))/2: 1001.6006 for a = 1, b = 100.

    Args:
        a: the x of the minimum.
        b: steepness of the valley's walls, positive.

    Raises:
        ValueError: if `a` is not finite or `b` is not positive.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from potentials import Rosenbrock
        >>> valley = Rosenbrock()
        >>> float(valley(jnp.asarray([-1.0, 1.0])))
        4.0
        >>> round(float(jnp.linalg.eigvalsh(jax.hessian(valley)(jnp.ones(2)))[-1]), 4)
        1001.6006
    """

    a: Float[Array, ""] = eqx.field(default=1.0, converter=partial(finite, "a"))
    b: Float[Array, ""] = eqx.field(default=100.0, converter=partial(positive, "b"))

    def __call__(self, params: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """(a - x)^2 + b (y - x^2)^2 for `params` (x, y) of shape (2,)."""
        x, y = parameters("Rosenbrock", params, (2,))
        return (self.a.astype(x.dtype) - x) ** 2 + self.b.astype(x.dtype) * (y - x**2) ** 2

    def init(self, key: PRNGKeyArray) -> Float[Array, " 2"]:
        """Draw the customary start (-1.2, 1) with normal noise of deviation 0.1, shape (2,)."""
        return jnp.array([-1.2, 1.0]) + 0.1 * jax.random.normal(key, (2,))
