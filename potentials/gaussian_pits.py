"""A bowl with many narrow pits, into which small balls fall and over which large ones roll."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from potentials.checks import NonNegative, Positive, PositiveInteger, Seed, checked, parameters
from potentials.potential import AbstractPotential


class GaussianPits(AbstractPotential):
    """The bowl (k/2) |w|^2 minus pits d_i exp(-|w - c_i|^2 / (2 s^2)), parameters w of shape (n,).

    Centres c_i are uniform in the box |w_j| <= spread, depths d_i uniform between half of `depth`
    and `depth`; both are drawn from `seed`. The curvature at the bottom of a pit far from the
    others is about k + d_i / s^2, so that a ball of radius rho reaches it only if
    rho (k + d_i / s^2) <= 1 or so. Without pits (depth 0) it is a quadratic.

    Args:
        pits: how many, at least 1.
        depth: the largest depth, not negative.
        width: s, positive.
        curvature: k of the bowl, not negative.
        spread: half the side of the box that holds the centres, positive.
        dimension: n, at least 1.
        seed: of the centres and the depths, in 0..2^32-1.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import GaussianPits
        >>> pits = GaussianPits(pits=3, depth=0.2)
        >>> pits.centres.shape
        (3, 2)
        >>> bool(pits(pits.centres[0]) < 0.5 * jnp.sum(pits.centres[0] ** 2) - 0.1)
        True
    """

    centres: Float[Array, "pit n"]
    shares: Float[Array, " pit"]
    depth: Float[Array, ""]
    width: Float[Array, ""]
    curvature: Float[Array, ""]
    spread: Float[Array, ""]

    @checked
    def __init__(
        self,
        pits: PositiveInteger = 40,
        depth: NonNegative = 0.1,
        width: Positive = 0.1,
        curvature: NonNegative = 1.0,
        spread: Positive = 1.0,
        dimension: PositiveInteger = 2,
        seed: Seed = 0,
    ):
        places, depths = jax.random.split(jax.random.key(seed))
        self.depth, self.width = jnp.asarray(depth), jnp.asarray(width)
        self.curvature, self.spread = jnp.asarray(curvature), jnp.asarray(spread)
        unit = jax.random.uniform(places, (pits, dimension), minval=-1.0, maxval=1.0)
        self.centres = self.spread * unit
        self.shares = jax.random.uniform(depths, (pits,), minval=0.5, maxval=1.0)

    def __call__(self, params: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """The bowl minus the pits at `params` w of shape (n,)."""
        w = parameters("GaussianPits", params, self.centres.shape[1:])
        scaled = (w[None, :] - self.centres.astype(w.dtype)) / self.width.astype(w.dtype)
        depths = self.depth.astype(w.dtype) * self.shares.astype(w.dtype)
        pits = jnp.sum(depths * jnp.exp(-0.5 * jnp.sum(scaled**2, axis=1)))
        return 0.5 * self.curvature.astype(w.dtype) * jnp.sum(w**2) - pits

    def init(self, key: PRNGKeyArray) -> Float[Array, " n"]:
        """Draw w uniform in the box of the centres, shape (n,)."""
        shape = self.centres.shape[1:]
        return self.spread * jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
