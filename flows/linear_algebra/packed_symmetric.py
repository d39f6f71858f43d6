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


def pairs(modes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the row, column and weight of each entry of the vector of a k x k matrix."""
    rows, columns = np.triu_indices(modes)
    return rows, columns, np.where(rows == columns, 1.0, np.sqrt(2.0))


def modes_of(size: int) -> int:
    """Return k of a vector of length n = k (k + 1) / 2."""
    return (math.isqrt(8 * size + 1) - 1) // 2


def pack(matrix: Matrix) -> Vector:
    """Return the vector of a matrix's symmetric part."""
    rows, columns, weights = pairs(matrix.shape[0])
    return 0.5 * (matrix + matrix.T)[rows, columns] * jnp.asarray(weights, matrix.dtype)


def unpack(vector: Vector, modes: int) -> Matrix:
    """Return the matrix of a vector."""
    rows, columns, weights = pairs(modes)
    position = np.zeros((modes, modes), int)
    position[rows, columns] = position[columns, rows] = np.arange(rows.size)
    return (vector / jnp.asarray(weights, vector.dtype))[position]


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
    rows, columns, weights = pairs(factor.shape[0])
    upper, lower = factor[rows], factor[columns]
    product = upper[:, rows] * lower[:, columns] + lower[:, rows] * upper[:, columns]
    return 0.5 * jnp.asarray(weights[:, None] * weights[None, :], factor.dtype) * product
