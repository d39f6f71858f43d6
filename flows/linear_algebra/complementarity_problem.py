"""A semidefinite complementarity problem in units of its own."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from .packed_symmetric import (
    Square,
    Vector,
    diagonal,
    entries,
    modes_of,
    pack,
    pairs,
    product,
    unpack,
)

Scalar = Float[Array, ""]


def norm(x: Array) -> Scalar:
    """Frobenius norm that neither overflows nor underflows, and 0 of zeros."""
    largest = jnp.max(jnp.abs(x))
    safe = jnp.where(largest > 0, largest, 1)
    return safe * jnp.sqrt(jnp.sum((x / safe) ** 2))


def plain_norm(x: Vector) -> Scalar:
    """Frobenius norm of what is of order one: fewer operations to compile than `norm`."""
    return jnp.sqrt(jnp.sum(x**2))


class ComplementarityProblem(eqx.Module):
    """A problem in units and a basis in which what has to be compensated, and X, are of order one.

    The basis is scaled by a diagonal matrix E: A is E A E here, X is E^-1 X E^-1, S is E S E.

    Attributes:
        linear: A, packed.
        operator: B, packed.
        linear_unit: Unit of A and S.
        operator_unit: Unit of B.
        balance: e_i e_j for E = diag(e), packed without weights: powers of two, at least 1, so that
            the scaling is exact.
        modes: k.
    """

    linear: Vector
    operator: Square
    linear_unit: Scalar
    operator_unit: Scalar
    balance: Vector
    modes: int = eqx.field(static=True)

    def slack(self, solution: Vector) -> Vector:
        """Return S = A + B[X]."""
        return self.linear + product(self.operator, solution)

    def scaled(self, solution: Vector) -> Vector:
        """Return an X of the original problem as one of this problem."""
        return solution / self.balance * (self.operator_unit / self.linear_unit)

    def original(self, solution: Vector) -> Vector:
        """Return an X of this problem as one of the original problem."""
        return solution * self.balance * (self.linear_unit / self.operator_unit)

    def rounding(self, solution: Vector) -> Scalar:
        """Return a lower bound on the error with which the slack of a solution is computed."""
        terms = jnp.abs(self.linear) + product(jnp.abs(self.operator), jnp.abs(solution))
        return 0.01 * jnp.finfo(self.linear.dtype).eps * plain_norm(terms)

    def representable(self, solution: Vector) -> Bool[Array, ""]:
        """Return True if A still matters in A + B[X]: X grows where there is no solution."""
        return plain_norm(solution) < 1 / jnp.finfo(solution.dtype).eps


# Rows of B below this share of the largest are not scaled further.
_LEAST_ROW = 1e-16


def _balance(linear: Vector, operator: Square, modes: int) -> Vector:
    """Return e_i e_j for the diagonal scaling that makes the rows of B alike, packed.

    The size of row i is that of B on the entries X_ij, B_iiii + 2 sum_j B_ijij; e_i is its root of
    order four. In the direction of a small row X is large where A is negative: in the units of the
    others single precision has no digits for both. Where A is positive X may be zero, and a scaled
    entry of A would dominate all others for nothing: e_i^2 A_ii stays about |A| at most.
    """
    rows, columns, _ = pairs(modes)
    mode = np.arange(modes)[:, None]
    # Packed, the entry of X_ij off the diagonal counts B_ijij and B_jiji.
    members = jnp.asarray((rows == mode) | (columns == mode), operator.dtype)
    sizes = product(members, diagonal(operator))
    largest, length = jnp.max(sizes), norm(linear)
    sizes = sizes / jnp.where(largest > 0, largest, 1)
    room = diagonal(unpack(linear, modes)) / jnp.where(length > 0, length, 1)
    sizes = jnp.maximum(jnp.maximum(sizes, jnp.maximum(room, 0) ** 2), _LEAST_ROW)
    exponents = jnp.round(-0.25 * jnp.log2(sizes)).astype(jnp.int32)
    scales = jnp.ldexp(jnp.ones_like(sizes), exponents)
    return entries(scales, rows) * entries(scales, columns)


def nondimensional(linear: Vector, operator: Square) -> ComplementarityProblem:
    """Choose the basis, and then the units: |A-| for A, and for B its Rayleigh quotient at A-.

    Where A is nearly positive, |A| would be too large a unit for the small X that results. The
    Rayleigh quotient is the exact unit when X is a multiple of A-, and within 1e-3 |B| of it.
    """
    modes = modes_of(linear.size)
    balance = _balance(linear, operator, modes)
    linear, operator = balance * linear, balance[:, None] * operator * balance[None, :]
    basis, values = lax.linalg.eigh(unpack(linear, modes), symmetrize_input=False)
    negative = pack(product(basis * jnp.maximum(-values, 0)[None, :], basis.T))
    size, operator_size = norm(negative), norm(operator)
    linear_unit = jnp.maximum(size, jnp.finfo(linear.dtype).eps * norm(linear))
    linear_unit = jnp.where(linear_unit > 0, linear_unit, 1)
    safe = jnp.where(operator_size > 0, operator_size, 1)
    direction = negative / jnp.where(size > 0, size, 1)
    quotient = jnp.sum(direction * product(operator / safe, direction))
    operator_unit = safe * jnp.maximum(quotient, 1e-3)
    return ComplementarityProblem(
        linear=linear / linear_unit,
        operator=operator / operator_unit,
        linear_unit=linear_unit,
        operator_unit=operator_unit,
        balance=balance,
        modes=modes,
    )
