"""Sums of symmetric matrices of low rank, sum_k w_k A_k^T A_k, without forming them.

The A_k are blocks of a few long rows. All that is computed is the small Gram matrix of the rows,
block by block, so that nothing but the result is as long as the rows. Weights may be negative.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from .symmetric import eigenpairs, square_root

Rows = Float[Array, "row phase"]
Weight = Float[Array, ""]

# Eigenvalues below this many rounding errors of the largest are noise.
_NOISE = 4


def _gram(blocks: Sequence[Rows]) -> Float[Array, "row row"]:
    return jnp.block([[jnp.matmul(a, b.T, precision="highest") for b in blocks] for a in blocks])


def _signs(blocks: Sequence[Rows], weights: Sequence[Weight]) -> Float[Array, " row"]:
    return jnp.concatenate(
        [jnp.broadcast_to(w, a.shape[:1]) for a, w in zip(blocks, weights, strict=True)]
    )


def _apply(coefficients: Float[Array, "new row"], blocks: Sequence[Rows]) -> Rows:
    """Return the combinations of the rows of all blocks."""
    total, start = jnp.zeros((coefficients.shape[0], blocks[0].shape[1]), blocks[0].dtype), 0
    for block in blocks:
        part = coefficients[:, start : start + block.shape[0]]
        total, start = total + jnp.matmul(part, block, precision="highest"), start + len(block)
    return total


def truncated(blocks: Sequence[Rows], weights: Sequence[Weight], count: int) -> Rows:
    """Return the factor Z of the best positive approximation Z^T Z of rank `count`.

    Args:
        blocks: A_k, each (rows, n).
        weights: w_k.
        count: At most the number of rows of all blocks.

    Returns:
        Orthogonal rows in the order of descending length, (count, n). Their squared lengths are
        the leading eigenvalues of the sum; zero in place of negative ones and of those that are
        rounding error, below 4 eps times the largest.
    """
    # With A = G^(1/2) Q, Q of orthonormal rows: the sum is Q^T (G^(1/2) W G^(1/2)) Q.
    signs = _signs(blocks, weights)
    root = square_root(_gram(blocks))
    values, vectors = eigenpairs((root * signs[None, :]) @ root)
    values, vectors = values[:count], vectors[:count]
    noise = _NOISE * jnp.finfo(values.dtype).eps * jnp.abs(values[0])
    kept = values > noise
    lengths = jnp.sqrt(jnp.where(kept, values, 1))
    coefficients = (vectors @ root) * signs[None, :] / lengths[:, None]
    return _apply(jnp.where(kept[:, None], coefficients, 0), blocks)


def rotated(rows: Rows) -> Rows:
    """Return orthogonal rows Z in descending order with the same Z^T Z."""
    _, vectors = eigenpairs(_gram([rows]))
    return jnp.matmul(vectors, rows, precision="highest")


def size_along(blocks: Sequence[Rows], weights: Sequence[Weight], along: Rows) -> Weight:
    """Return the Frobenius norm of the sum, multiplied by the projection on some directions.

    Args:
        blocks: A_k, each (rows, n).
        weights: w_k.
        along: Orthogonal rows; those of length zero do not count.
    """
    lengths = jnp.sum(along**2, axis=1)
    inverse = jnp.where(lengths > 0, 1 / jnp.sqrt(jnp.where(lengths > 0, lengths, 1)), 0)
    overlaps = [jnp.matmul(along, a.T, precision="highest") for a in blocks]
    coefficients = inverse[:, None] * jnp.concatenate(overlaps, axis=1)
    product = _apply(coefficients * _signs(blocks, weights)[None, :], blocks)
    return jnp.sqrt(jnp.sum(product**2))
