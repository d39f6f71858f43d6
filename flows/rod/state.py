"""What Rod Flow carries: its two forms of state, and the rods that they stand for."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..linear_algebra.low_rank_sums import rotated
from ..linear_algebra.symmetric import leading_eigenpairs
from ..optimizers.phase_space import Point

Rods = Float[Array, "rod phase"]


class DenseRodState(eqx.Module):
    """State of Rod Flow with the covariance itself.

    Attributes:
        centre: c(t), a state of the optimizer.
        covariance: Sigma(t), symmetric and positive semidefinite, (n, n) for n numbers in the
            optimizer's state, in the order of `ravel_pytree`.
    """

    centre: PyTree[Array]
    covariance: Float[Array, "phase phase"]

    def spectrum(
        self, count: int, *, ordered: bool = False
    ) -> tuple[Float[Array, " rod"], Float[Array, ""], Rods]:
        """Return the leading eigenvalues of Sigma, its trace, and rods sqrt(s_i) u_i as rows."""
        del ordered
        values, vectors = leading_eigenpairs(self.covariance, count)
        positive = values > 0
        lengths = jnp.where(positive, jnp.sqrt(jnp.where(positive, values, 1)), 0)
        rods = lengths[:, None] * vectors
        return jnp.maximum(values, 0), jnp.maximum(jnp.trace(self.covariance), 0), rods


class LowRankRodState(eqx.Module):
    """State of Rod Flow with a factor of the covariance.

    Attributes:
        centre: c(t), a state of the optimizer.
        factor: Z(t), (rows, n), with Sigma = Z^T Z.
    """

    centre: PyTree[Array]
    factor: Float[Array, "row phase"]

    def spectrum(
        self, count: int, *, ordered: bool = False
    ) -> tuple[Float[Array, " rod"], Float[Array, ""], Rods]:
        """Return the same; `ordered` if the rows are known to be orthogonal, longest first."""
        rows = self.factor if ordered else rotated(self.factor)
        values = jnp.sum(rows**2, axis=1)
        return values[:count], jnp.sum(values), rows[:count]


RodState = DenseRodState | LowRankRodState


def flat_centre(state: RodState) -> tuple[Point, Any]:
    """Return the centre as a vector (n,), and the function that gives it its structure back."""
    return ravel_pytree(state.centre)
