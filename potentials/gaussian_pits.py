"""A bowl with many narrow pits, into which small balls fall and over which large ones roll."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray
from jaxtyping import ArrayLike as ShapedArrayLike

from potentials import checks
from potentials.potential import AbstractPotential


class GaussianPits(AbstractPotential):
    """The bowl (k/2) |w|^2 minus pits d_i exp(-|w - c_i|^2 / (2 s^2)), parameters w of shape (n,).

    Centres c_i are uniform in the box |w_j| <= spread, depths d_i uniform between a half and one
    time `depth`, both drawn from `seed`. The curvature at the bottom of a pit far from the others
    is about k + d_i / s^2, so that a ball of radius rho reaches it only if
    rho (k + d_i / s^2) <= 1 or so. Without pits (depth 0) it is a quadratic.

    Args:
        pits: how many, at least 1.
        depth: the largest depth, not negative.
        width: s, positive.
        curvature: k of the bowl, not negative.
        spread: half the side of the box that holds the centres, positive.
        dimension: n, at least 1.
        seed: of the centres and the depths.

    Raises:
        ValueError: if an argument is out of its range.
    """

    centres: Float[Array, "pit n"]
    shares: Float[Array, " pit"]
    depth: Float[Array, ""]
    width: Float[Array, ""]
    curvature: Float[Array, ""]
    spread: Float[Array, ""]

    def __init__(
        self,
        pits: int = 40,
        depth: ArrayLike = 0.1,
        width: ArrayLike = 0.1,
        curvature: ArrayLike = 1.0,
        spread: ArrayLike = 1.0,
        dimension: int = 2,
        seed: int = 0,
    ):
        count = checks.count("pits", pits)
        size = checks.count("dimension", dimension)
        places, depths = jax.random.split(jax.random.key(checks.count("seed", seed, least=0)))
        self.depth = checks.number("depth", depth, least=0.0)
        self.width = checks.number("width", width, above=0.0)
        self.curvature = checks.number("curvature", curvature, least=0.0)
        self.spread = checks.number("spread", spread, above=0.0)
        unit = jax.random.uniform(places, (count, size), minval=-1.0, maxval=1.0)
        self.centres = self.spread * unit
        self.shares = jax.random.uniform(depths, (count,), minval=0.5, maxval=1.0)

    def __call__(self, params: Float[ShapedArrayLike, "..."]) -> Float[Array, ""]:
        """The bowl minus the pits at `params` w of shape (n,)."""
        w = checks.parameters("GaussianPits", params, self.centres.shape[1:])
        scaled = (w[None, :] - self.centres.astype(w.dtype)) / self.width.astype(w.dtype)
        depths = self.depth.astype(w.dtype) * self.shares.astype(w.dtype)
        pits = jnp.sum(depths * jnp.exp(-0.5 * jnp.sum(scaled**2, axis=1)))
        return 0.5 * self.curvature.astype(w.dtype) * jnp.sum(w**2) - pits

    def init(self, key: PRNGKeyArray) -> Float[Array, " n"]:
        """Uniform in the box of the centres, shape (n,)."""
        shape = self.centres.shape[1:]
        return self.spread * jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
