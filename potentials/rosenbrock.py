"""The curved valley of Rosenbrock (The Computer Journal 3, 1960)."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray
from jaxtyping import ArrayLike as ShapedArrayLike

from potentials import checks
from potentials.potential import AbstractPotential


class Rosenbrock(AbstractPotential):
    """The function (a - x)^2 + b (y - x^2)^2 of parameters (x, y).

    The one critical point is the minimum (a, a^2), of loss 0. Its Hessian is
    [[2 + 8 a^2 b, -4 a b], [-4 a b, 2 b]] with trace T = 2 + 2 b + 8 a^2 b and determinant 4 b, so
    the sharpness there is (T + sqrt(T^2 - 16 b))/2: 1001.6006 for a = 1, b = 100.

    Args:
        a: where the minimum is.
        b: steepness of the valley's walls, positive.

    Raises:
        ValueError: if `a` is not finite or `b` is not positive.
    """

    a: Float[Array, ""]
    b: Float[Array, ""]

    def __init__(self, a: ArrayLike = 1.0, b: ArrayLike = 100.0):
        self.a = checks.number("a", a)
        self.b = checks.number("b", b, above=0.0)

    def __call__(self, params: Float[ShapedArrayLike, "..."]) -> Float[Array, ""]:
        """(a - x)^2 + b (y - x^2)^2 for `params` (x, y) of shape (2,)."""
        x, y = checks.parameters("Rosenbrock", params, (2,))
        return (self.a.astype(x.dtype) - x) ** 2 + self.b.astype(x.dtype) * (y - x**2) ** 2

    def init(self, key: PRNGKeyArray) -> Float[Array, " 2"]:
        """The customary start (-1.2, 1) with normal noise of standard deviation 0.1, shape (2,)."""
        return jnp.array([-1.2, 1.0]) + 0.1 * jax.random.normal(key, (2,))
