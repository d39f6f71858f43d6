"""A two-layer linear network on whitened data."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from potentials import checks
from potentials.potential import AbstractPotential


class Factors(NamedTuple):
    """Parameters of `MatrixFactorization`: the product is left @ right.T."""

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
    """

    target: Float[Array, "rows columns"]
    rank: int = eqx.field(static=True)

    def __init__(self, target: ArrayLike | list[list[float]], rank: int):
        self.target = checks.numbers("target", target, dimensions=2)
        self.rank = checks.count("rank", rank)

    def __call__(self, params: Factors) -> Float[Array, ""]:
        """0.5 |U V^T - T|_F^2 for U of shape (rows, rank) and V of shape (columns, rank)."""
        left, right = self._factors(params)
        return 0.5 * jnp.sum((left @ right.T - self.target.astype(left.dtype)) ** 2)

    def init(self, key: PRNGKeyArray) -> Factors:
        """Normal entries of variance 1/rank, so that U V^T has entries of variance 1/rank."""
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
        left = checks.parameters("MatrixFactorization", params.left, (rows, self.rank), "left")
        right = checks.parameters(
            "MatrixFactorization", params.right, (columns, self.rank), "right"
        )
        return left, right
