"""Functions of symmetric matrices whose derivatives stay finite where eigenvalues coincide.

JAX differentiates an eigen-decomposition by dividing by the gaps between eigenvalues. A covariance
of low rank has many eigenvalues at zero, and what is computed from its eigenvectors does not
depend on their choice there: such gaps are left out.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Matrix = Float[Array, "n n"]
Values = Float[Array, " _"]

_ROUNDING = 16

# Above this size what is asked of a matrix is found without its full decomposition if possible.
_SMALL = 64
_SPARE_VECTORS = 8
_ITERATIONS = 3


def _rounding(values: Values) -> Float[Array, ""]:
    return _ROUNDING * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values))


def _quotient(numerator: Any, denominator: Array, allowed: Array) -> Array:
    return jnp.where(allowed, numerator / jnp.where(allowed, denominator, 1), 0)


def _symmetrised(matrix: Matrix) -> Matrix:
    return 0.5 * (matrix + matrix.T)


@jax.custom_jvp
def eigenpairs(matrix: Matrix) -> tuple[Values, Matrix]:
    """Return the eigenvalues in descending order, and orthonormal eigenvectors as rows.

    The derivative leaves out how eigenvectors of the same eigenvalue turn into each other.
    """
    values, vectors = jnp.linalg.eigh(matrix)
    return values[::-1], vectors[:, ::-1].T


@eigenpairs.defjvp
def _eigenpairs_jvp(primals: Any, tangents: Any) -> Any:
    values, vectors = eigenpairs(primals[0])
    change = vectors @ _symmetrised(tangents[0]) @ vectors.T
    gaps = values[:, None] - values[None, :]
    turns = _quotient(change, gaps, jnp.abs(gaps) > _rounding(values))
    return (values, vectors), (jnp.diagonal(change), turns @ vectors)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def leading_eigenpairs(matrix: Matrix, count: int) -> tuple[Values, Float[Array, "count n"]]:
    """Return the leading eigenpairs of a positive matrix, as `eigenpairs` does.

    A covariance fed from few directions has eigenvalues that fall fast: a few subspace iterations
    find the leading ones to rounding. Where their residuals say that they have not, the matrix is
    decomposed.
    """
    size = matrix.shape[0]

    def decomposed() -> tuple[Array, Array]:
        values, vectors = eigenpairs(matrix)
        return values[:count], vectors[:count]

    if size <= _SMALL:
        return decomposed()
    block = jax.random.normal(jax.random.key(0), (size, count + _SPARE_VECTORS), matrix.dtype)
    for _ in range(_ITERATIONS):
        block = jnp.linalg.qr(jnp.matmul(matrix, block, precision="highest"))[0]
    images = jnp.matmul(matrix, block, precision="highest")
    values, rotation = eigenpairs(_symmetrised(block.T @ images))
    values, rotation = values[:count], rotation[:count]
    vectors = rotation @ block.T
    residuals = jnp.max(jnp.abs(rotation @ images.T - values[:, None] * vectors))
    found = residuals <= size**0.5 * _rounding(values)
    return lax.cond(found, lambda: (values, vectors), decomposed)


@leading_eigenpairs.defjvp
def _leading_eigenpairs_jvp(count: int, primals: Any, tangents: Any) -> Any:
    pairs, changes = jax.jvp(eigenpairs, primals, tangents)
    return jax.tree.map(lambda x: x[:count], (pairs, changes))


def _apply(values: Values, vectors: Matrix) -> Matrix:
    return (vectors.T * values[None, :]) @ vectors


@jax.custom_jvp
def square_root(matrix: Matrix) -> Matrix:
    """Return the symmetric square root of the positive part."""
    values, vectors = eigenpairs(matrix)
    return _apply(jnp.sqrt(jnp.maximum(values, 0)), vectors)


@square_root.defjvp
def _square_root_jvp(primals: Any, tangents: Any) -> Any:
    values, vectors = eigenpairs(primals[0])
    change = vectors @ _symmetrised(tangents[0]) @ vectors.T
    roots = jnp.sqrt(jnp.maximum(values, 0))
    sums = roots[:, None] + roots[None, :]
    tangent = _quotient(change, sums, sums > jnp.sqrt(_rounding(values)))
    return _apply(roots, vectors), vectors.T @ tangent @ vectors


@jax.custom_jvp
def positive_part(matrix: Matrix) -> Matrix:
    """Return the nearest symmetric matrix without negative eigenvalues, up to rounding."""
    matrix = _symmetrised(matrix)
    size = matrix.shape[0]

    def clipped() -> Matrix:
        values, vectors = eigenpairs(matrix)
        return _apply(jnp.maximum(values, 0), vectors)

    if size <= _SMALL:
        return clipped()
    # Cholesky's method fails where an eigenvalue is negative: a tenth of the work of finding it.
    shift = size * _rounding(jnp.diagonal(matrix)) + jnp.finfo(matrix.dtype).tiny
    factor = jnp.linalg.cholesky(matrix + shift * jnp.eye(size, dtype=matrix.dtype))
    return lax.cond(jnp.all(jnp.isfinite(factor)), lambda: matrix, clipped)


@positive_part.defjvp
def _positive_part_jvp(primals: Any, tangents: Any) -> Any:
    values, vectors = eigenpairs(_symmetrised(primals[0]))
    clipped = jnp.maximum(values, 0)
    change = vectors @ _symmetrised(tangents[0]) @ vectors.T
    # The slope of the clipping between two eigenvalues; 1 where both are positive, or both zero.
    gaps = values[:, None] - values[None, :]
    mixed = (jnp.sign(values)[:, None] * jnp.sign(values)[None, :]) < 0
    slopes = _quotient(clipped[:, None] - clipped[None, :], gaps, mixed)
    same = ((values[:, None] + values[None, :]) >= 0).astype(values.dtype)
    slopes = jnp.where(mixed, slopes, same)
    return _apply(clipped, vectors), vectors.T @ (slopes * change) @ vectors
