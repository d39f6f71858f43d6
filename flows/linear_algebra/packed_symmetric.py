"""Symmetric matrices as vectors.

A symmetric k x k matrix is packed into its n = k (k + 1) / 2 entries on and above the diagonal, row
by row, with those off the diagonal times sqrt(2), so that inner products agree.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Matrix = Float[Array, "mode mode"]
Operator = Float[Array, "mode mode mode mode"]
Vector = Float[Array, " pair"]
Square = Float[Array, "pair pair"]

# Sums of products that are made part of what surrounds them.
_SMALL = 4096


def pairs(modes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the row, column and weight of each entry of the vector of a k x k matrix."""
    rows, columns = np.triu_indices(modes)
    return rows, columns, np.where(rows == columns, 1.0, np.sqrt(2.0))


def modes_of(size: int) -> int:
    """Return k of a vector of length n = k (k + 1) / 2."""
    return (math.isqrt(8 * size + 1) - 1) // 2


def product(left: Array, right: Array) -> Array:
    """Return the product of a small matrix with a matrix or a vector, in full precision.

    As a sum of products XLA makes it part of what surrounds it; a product of its own, as `@` is,
    takes as long to compile as dozens of sums. Beyond a few thousand of them it is `@` after all.
    """
    columns = right.shape[1] if right.ndim > 1 else 1
    if left.size * columns > _SMALL:
        return jnp.matmul(left, right, precision="highest")
    if right.ndim == 1:
        return jnp.sum(left * right[None], axis=1)
    return jnp.sum(left[:, :, None] * right[None], axis=1)


def entries(array: Array, index: np.ndarray) -> Array:
    """Return entries of an array by their places in its flat form, which are known to be valid.

    A call is one operation to compile; indices that are checked are several, repeated in loops.
    """
    places = index.astype(np.int32)
    return array.reshape(-1).at[places].get(mode="promise_in_bounds", wrap_negative_indices=False)


def diagonal(matrix: Matrix) -> Float[Array, " mode"]:
    """Return the diagonal of a matrix."""
    modes = matrix.shape[0]
    return entries(matrix, np.arange(modes) * (modes + 1))


def pack(matrix: Matrix) -> Vector:
    """Return the vector of a matrix's symmetric part."""
    modes = matrix.shape[0]
    rows, columns, weights = pairs(modes)
    above, below = entries(matrix, np.stack([rows * modes + columns, columns * modes + rows]))
    return (above + below) * jnp.asarray(0.5 * weights, matrix.dtype)


def unpack(vector: Vector, modes: int) -> Matrix:
    """Return the matrix of a vector."""
    rows, columns, weights = pairs(modes)
    position = np.zeros((modes, modes), int)
    position[rows, columns] = position[columns, rows] = np.arange(rows.size)
    return entries(vector, position) * jnp.asarray((1 / weights)[position], vector.dtype)


def pack_operator(operator: Operator) -> Square:
    """Return what an operator's symmetric part does to vectors."""
    rows, columns, weights = pairs(operator.shape[0])
    operator = operator + operator.transpose(1, 0, 2, 3)
    operator = operator + operator.transpose(0, 1, 3, 2)
    packed = operator[rows[:, None], columns[:, None], rows[None, :], columns[None, :]]
    packed = packed * jnp.asarray(weights[:, None] * weights[None, :], operator.dtype)
    return 0.125 * (packed + packed.T)


def congruence(factor: Matrix) -> Square:
    """Return K with K pack(X) = pack(F X F^T) and K^T pack(Y) = pack(F^T Y F)."""
    modes = factor.shape[0]
    rows, columns, weights = pairs(modes)
    ends = ((rows, rows), (columns, columns), (columns, rows), (rows, columns))
    places = np.stack([i[:, None] * modes + j[None, :] for i, j in ends])
    first, second, third, fourth = entries(factor, places)
    scale = jnp.asarray(0.5 * weights[:, None] * weights[None, :], factor.dtype)
    return scale * (first * second + third * fourth)
