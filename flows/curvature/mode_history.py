"""Predict the eigenvectors at a point from those at earlier points of a path."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..core.arrays import Modes, Vector

# How many earlier points are combined with the last. Three see through an oscillation of period
# two that drifts, which is what gradient descent does at the edge of stability.
HISTORY = 3

# Directions of the path shorter than this, relative to the longest, are not extrapolated along.
_SHORTEST = 1e-2


class ModeHistory(eqx.Module):
    """The last points of a path and the eigenvectors there, newest first.

    Attributes:
        points: Parameters, flat.
        modes: Eigenvectors as rows.
        size: How many of them are known.
    """

    points: Float[Array, "point parameter"]
    modes: Float[Array, "point mode parameter"]
    size: Int[Array, ""]

    @property
    def started(self) -> Bool[Array, ""]:
        """True once there is a point."""
        return self.size > 0

    def append(self, point: Vector, modes: Modes) -> "ModeHistory":
        """Return the history with a new point in place of the oldest."""
        return ModeHistory(
            points=jnp.concatenate([point[None], self.points[:-1]]),
            modes=jnp.concatenate([modes[None], self.modes[:-1]]),
            size=jnp.minimum(self.size + 1, self.points.shape[0]),
        )

    def predict(self, point: Vector) -> Modes:
        """Return a guess of the eigenvectors at `point`, rows neither of length 1 nor orthogonal.

        The eigenspace is a smooth function of the parameters. Where the new point is an affine
        combination of the earlier ones, the same combination of the eigenvectors is right to
        first order; the combination here is the nearest one in the least-squares sense.
        """
        last, modes = self.points[0], self.modes[0]
        known = jnp.arange(1, self.points.shape[0], dtype=jnp.int32) < self.size
        displacements = jnp.where(known[:, None], self.points[1:] - last[None], 0)
        weights = _least_squares(displacements, point - last)
        guess = modes
        for weight, earlier in zip(weights, self.modes[1:], strict=True):
            # Within the earlier eigenspace, what comes nearest to the last modes: eigenvectors of
            # eigenvalues close to each other turn freely.
            nearest = (modes @ earlier.T) @ earlier
            guess = guess + weight * (nearest - modes)
        return guess


def _least_squares(rows: Array, target: Array) -> Array:
    """Return the coefficients of the combination of rows nearest to the target."""
    longest = jnp.max(jnp.abs(rows)) + jnp.finfo(rows.dtype).tiny
    rows = rows / longest
    values, vectors = jnp.linalg.eigh(rows @ rows.T)
    keep = values > _SHORTEST**2 * values[-1]
    inverse = jnp.where(keep, 1 / jnp.where(keep, values, 1), 0)
    return vectors @ (inverse * (vectors.T @ (rows @ target))) / longest
