"""A circle of minima: the simplest connected set of minima that is larger than a point."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from potentials.checks import parameters, positive
from potentials.potential import AbstractPotential


class Ring(AbstractPotential):
    """The ring 0.25 (x^2 + y^2 - r^2)^2 of parameters (x, y), minimal on a circle.

    Critical points:
    - every point w = (x, y) of the circle x^2 + y^2 = r^2, of loss 0, with Hessian 2 w w^T:
      curvature 2 r^2 across the circle and 0 along it;
    - the maximum at the centre, of loss r^4 / 4, with Hessian -r^2 I.

    Args:
        radius: r, positive.

    Raises:
        ValueError: if `radius` is not finite and positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import Ring
        >>> ring = Ring(radius=2.0)
        >>> float(ring(jnp.asarray([0.0, 2.0]))), float(ring(jnp.zeros(2)))
        (0.0, 4.0)
    """

    radius: Float[Array, ""] = eqx.field(default=1.0, converter=partial(positive, "radius"))

    def __call__(self, params: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """The loss at `params` (x, y) of shape (2,)."""
        w = parameters("Ring", params, (2,))
        return 0.25 * (jnp.sum(w**2) - self.radius.astype(w.dtype) ** 2) ** 2

    def init(self, key: PRNGKeyArray) -> Float[Array, " 2"]:
        """Draw both coordinates normal of standard deviation r; shape (2,)."""
        return self.radius * jax.random.normal(key, (2,))
