"""A two-layer linear network on whitened data."""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from potentials.checks import matrix, parameters, positive_integer
from potentials.potential import AbstractPotential


class Factors(NamedTuple):
    """Parameters of `MatrixFactorization`: the product is left @ right.T.

    Attributes:
        left: U, shape (rows, rank).
        right: V, shape (columns, rank).

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import Factors, MatrixFactorization
        >>> factors = Factors(left=jnp.ones((2, 1)), right=jnp.ones((3, 1)))
        >>> float(MatrixFactorization(jnp.zeros((2, 3)), rank=1)(factors))
        3.0
    """

    left: Float[Array, "rows rank"]
    right: Float[Array, "columns rank"]


class MatrixFactorization(AbstractPotential):
    """The squared error 0.5 |U V^T - T|_F^2 of parameters `Factors(left=U, right=V)`.

    T has shape (rows, columns) and singular values s_1 >= s_2 >= ...; |.| is the spectral norm.
    Critical points (every local minimum is global, Baldi and Hornik, Neural Networks 2, 1989):
    - minima: U V^T is the best approximation of T of the given rank, of loss
      0.5 sum over i > rank of s_i^2. Where that loss is zero the Hessian's non-zero eigenvalues
      are the sums of an eigenvalue of U U^T and one of V V^T, so the sharpness is |U|^2 + |V|^2,
      and the flattest minima are balanced, U^T U = V^T V, of sharpness 2 s_1;
    - saddles, among them the origin, of loss 0.5 |T|_F^2 and with the Hessian's eigenvalues +-s_i,
      each `rank` times, so of sharpness s_1.

    Gradient flow conserves U^T U - V^T V (see `balance`).

    Args:
        target: T, shape (rows, columns).
        rank: number of columns of U and of V, at least 1.

    Raises:
        ValueError: if `target` is no finite matrix, or `rank` is not a whole number >= 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import Factors, MatrixFactorization
        >>> loss = MatrixFactorization([[2.0, 0.0], [0.0, 1.0]], rank=2)
        >>> root = jnp.sqrt(loss.target)
        >>> float(loss(Factors(jnp.zeros((2, 2)), root)))
        2.5
        >>> loss.balance(Factors(root, root)).tolist()
        [[0.0, 0.0], [0.0, 0.0]]
    """

    target: Float[Array, "rows columns"] = eqx.field(converter=partial(matrix, "target"))
    rank: int = eqx.field(static=True, converter=partial(positive_integer, "rank"))

    def __call__(self, params: Factors) -> Float[Array, ""]:
        """0.5 |U V^T - T|_F^2 for U of shape (rows, rank) and V of shape (columns, rank)."""
        left, right = self._factors(params)
        return 0.5 * jnp.sum((left @ right.T - self.target.astype(left.dtype)) ** 2)

    def init(self, key: PRNGKeyArray) -> Factors:
        """Draw normal entries of variance 1/rank, so that those of U V^T have variance 1/rank."""
        left_key, right_key = jax.random.split(key)
        rows, columns = self.target.shape
        scale = self.rank**-0.5
        return Factors(
            left=scale * jax.random.normal(left_key, (rows, self.rank)),
            right=scale * jax.random.normal(right_key, (columns, self.rank)),
        )

    def balance(self, params: Factors) -> Float[Array, "rank rank"]:
        """U^T U - V^T V, which gradient flow conserves; shape (rank, rank)."""
        left, right = self._factors(params)
        return left.T @ left - right.T @ right

    def _factors(self, params: Factors) -> tuple[Array, Array]:
        if not isinstance(params, Factors):
            raise ValueError(
                f"MatrixFactorization takes params as Factors(left, right), "
                f"got {type(params).__name__}."
            )
        rows, columns = self.target.shape
        left = parameters("MatrixFactorization", params.left, (rows, self.rank), "left")
        right = parameters("MatrixFactorization", params.right, (columns, self.rank), "right")
        return left, right
