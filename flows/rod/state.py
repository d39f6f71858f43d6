"""The two forms of Rod Flow's state, and the rods that each of them describes."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..linear_algebra.low_rank_sums import rotated
from ..linear_algebra.symmetric import leading_eigenpairs
from ..optimizers.phase_space import Point
from ..optimizers.second_moment import Average

Rods = Float[Array, "rod phase"]


class DenseRodState(eqx.Module):
    """State of Rod Flow that holds the covariance itself.

    Attributes:
        centre: c(t), a state of the optimizer, whose n numbers are a point of phase space.
        covariance: Sigma(t), symmetric and positive semidefinite, (n, n), in the order of
            `jax.flatten_util.ravel_pytree`.
        second_moment: nu(t), for an adaptive method, whose centre does not hold it; otherwise None.
        time: t, in steps, for an optimizer that changes with time; otherwise None.

    Example:
        Heavy ball has a momentum beside each parameter, so that n = 2 for one parameter:

        >>> import jax.numpy as jnp
        >>> from flows import HeavyBall, RodFlow
        >>> flow = RodFlow(HeavyBall(0.1, 0.9))
        >>> state = flow.init(lambda w: 0.5 * jnp.sum(w**2), jnp.ones(1))
        >>> state.covariance.shape
        (2, 2)
        >>> print(state.centre.params, state.centre.momentum)
        [0.95] [0.5]
    """

    centre: PyTree[Array]
    covariance: Float[Array, "phase phase"]
    second_moment: Average | None = None
    time: Float[Array, ""] | None = None

    def spectrum(
        self, count: int, *, ordered: bool = False
    ) -> tuple[Float[Array, " rod"], Float[Array, ""], Rods]:
        """Return the `count` largest eigenvalues s_i of Sigma, its trace, and the rods.

        Args:
            count: How many eigenpairs to return.
            ordered: Has no effect on this form.

        Returns:
            Eigenvalues in descending order, with zero in place of negative ones; the trace; the
            rods d_i = sqrt(s_i) u_i as rows, u_i the unit eigenvectors.
        """
        del ordered
        values, vectors = leading_eigenpairs(self.covariance, count)
        positive = values > 0
        lengths = jnp.where(positive, jnp.sqrt(jnp.where(positive, values, 1)), 0)
        rods = lengths[:, None] * vectors
        return jnp.maximum(values, 0), jnp.maximum(jnp.trace(self.covariance), 0), rods


class LowRankRodState(eqx.Module):
    """State of Rod Flow that holds a factor of the covariance, for large phase spaces.

    Attributes:
        centre: c(t), a state of the optimizer, whose n numbers are a point of phase space.
        factor: Z(t), a few rows of length n, (row, n), with Sigma = Z^T Z.
        second_moment: As in `DenseRodState`.
        time: As in `DenseRodState`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, RodFlow
        >>> flow = RodFlow(GradientDescent(0.1), dense_limit=0)
        >>> state = flow.init(lambda w: 0.5 * jnp.sum(w**2), jnp.ones(100))
        >>> state.factor.shape
        (5, 100)
    """

    centre: PyTree[Array]
    factor: Float[Array, "row phase"]
    second_moment: Average | None = None
    time: Float[Array, ""] | None = None

    def spectrum(
        self, count: int, *, ordered: bool = False
    ) -> tuple[Float[Array, " rod"], Float[Array, ""], Rods]:
        """Return the same as `DenseRodState.spectrum`.

        Args:
            count: How many eigenpairs to return.
            ordered: True if the rows of the factor are known to be orthogonal, longest first,
                which saves a rotation.
        """
        rows = self.factor if ordered else rotated(self.factor)
        values = jnp.sum(rows**2, axis=1)
        return values[:count], jnp.sum(values), rows[:count]


RodState = DenseRodState | LowRankRodState


def flat_centre(state: RodState) -> tuple[Point, Callable[[Point], PyTree[Array]]]:
    """Return the centre as a vector (n,), and the function that restores its structure."""
    return ravel_pytree(state.centre)


def flat_place(
    state: RodState,
) -> tuple[Point, Callable[[Point], tuple[PyTree[Array], Average | None, Float[Array, ""] | None]]]:
    """Return all of a state but its covariance as a vector, the centre first, and the way back."""
    return ravel_pytree((state.centre, state.second_moment, state.time))


def low_rank_state(
    place: tuple[PyTree[Array], Average | None, Float[Array, ""] | None],
    factor: Float[Array, "row phase"],
) -> LowRankRodState:
    """Return a state from the parts that `flat_place` restores, and a factor."""
    centre, second_moment, time = place
    return LowRankRodState(centre, factor, second_moment, time)
