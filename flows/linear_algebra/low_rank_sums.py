"""Sums of symmetric matrices of low rank, sum_k w_k A_k^T A_k, without forming them.

The A_k are blocks of a few long rows. Everything is found from the small Gram matrix of the rows,
which is computed block by block where they are long, so that nothing but the result is as long as
the rows. Weights may be negative.
"""

import functools
import operator
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .symmetric import eigenpairs, square_root

# Blocks of a sum differ in how many rows they have.
Rows = Float[Array, "_ phase"]
Weight = Float[Array, ""]

# Rows up to this length are put together, since one large product is faster than many small ones.
_JOINED_LENGTH = 100_000

# Eigenvalues below this many rounding errors of the largest are noise.
_NOISE = 4


def _joined(blocks: Sequence[Rows]) -> Sequence[Rows]:
    """Return the same rows in fewer blocks."""
    return blocks if blocks[0].shape[1] > _JOINED_LENGTH else [jnp.concatenate(blocks)]


def inner_products(a: Rows, b: Rows) -> Float[Array, "row other"]:
    """Return a b^T without a copy of either, which XLA would make for a product with `b.T`."""
    if len(a) == 1:
        return jnp.sum(a * b, axis=1)[None, :]
    if len(b) == 1:
        return jnp.sum(a * b, axis=1)[:, None]
    return lax.dot_general(a, b, (((1,), (1,)), ((), ())), precision="highest")


def _gram(blocks: Sequence[Rows]) -> Float[Array, "entry entry"]:
    return jnp.block([[inner_products(a, b) for b in blocks] for a in blocks])


def _signs(blocks: Sequence[Rows], weights: Sequence[Weight]) -> Float[Array, " entry"]:
    return jnp.concatenate(
        [jnp.broadcast_to(w, a.shape[:1]) for a, w in zip(blocks, weights, strict=True)]
    )


def _apply(coefficients: Float[Array, "new entry"], blocks: Sequence[Rows]) -> Rows:
    """Return the combinations of the rows of all blocks."""
    if len(blocks) == 1:
        return jnp.matmul(coefficients, blocks[0], precision="highest")
    # Row by row, which XLA does in one loop; a product for each block would be held in memory.
    rows = [row for block in blocks for row in block]

    def combination(weights: Float[Array, " entry"]) -> Float[Array, " phase"]:
        terms = (weight * row for weight, row in zip(weights, rows, strict=True))
        return functools.reduce(operator.add, terms)

    return jnp.stack([combination(weights) for weights in coefficients])


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
    signs, blocks = _signs(blocks, weights), _joined(blocks)
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
    signs, blocks = _signs(blocks, weights), _joined(blocks)
    overlaps = [inner_products(along, a) for a in blocks]
    coefficients = inverse[:, None] * jnp.concatenate(overlaps, axis=1)
    product = _apply(coefficients * signs[None, :], blocks)
    return jnp.sqrt(jnp.sum(product**2))
