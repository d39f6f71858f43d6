"""A circle of minima: the simplest set of minima that is no point."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray
from jaxtyping import ArrayLike as ShapedArrayLike

from potentials import checks
from potentials.potential import AbstractPotential


class Ring(AbstractPotential):
    """The ring 0.25 (x^2 + y^2 - r^2)^2 of parameters (x, y), minimal on a circle.

    Critical points:
    - every point of the circle x^2 + y^2 = r^2, of loss 0, with Hessian 2 w w^T: curvature 2 r^2
      across the circle and 0 along it;
    - the maximum at the centre, of loss r^4 / 4, with Hessian -r^2 I.

    Args:
        radius: r, positive.

    Raises:
        ValueError: if `radius` is not finite and positive.
    """

    radius: Float[Array, ""]

    def __init__(self, radius: ArrayLike = 1.0):
        self.radius = checks.number("radius", radius, above=0.0)

    def __call__(self, params: Float[ShapedArrayLike, "..."]) -> Float[Array, ""]:
        """The loss at `params` (x, y) of shape (2,)."""
        w = checks.parameters("Ring", params, (2,))
        return 0.25 * (jnp.sum(w**2) - self.radius.astype(w.dtype) ** 2) ** 2

    def init(self, key: PRNGKeyArray) -> Float[Array, " 2"]:
        """Draw both coordinates normal of standard deviation r; shape (2,)."""
        return self.radius * jax.random.normal(key, (2,))
