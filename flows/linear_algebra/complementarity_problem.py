"""A semidefinite complementarity problem in units of its own."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .packed_symmetric import Square, Vector, pack, unpack

Scalar = Float[Array, ""]


def norm(x: Array) -> Scalar:
    """Frobenius norm that neither overflows nor underflows, and 0 of zeros."""
    largest = jnp.max(jnp.abs(x))
    safe = jnp.where(largest > 0, largest, 1)
    return safe * jnp.sqrt(jnp.sum((x / safe) ** 2))


def plain_norm(x: Vector) -> Scalar:
    """Frobenius norm of what is of order one: fewer operations to compile than `norm`."""
    return jnp.sqrt(x @ x)


class ComplementarityProblem(eqx.Module):
    """A problem in units in which the linear term to be compensated and X are of order one."""

    linear: Vector
    operator: Square
    linear_unit: Scalar
    operator_unit: Scalar
    modes: int = eqx.field(static=True)

    def slack(self, solution: Vector) -> Vector:
        """S = A + B[X]."""
        return self.linear + self.operator @ solution

    def rounding(self, solution: Vector) -> Scalar:
        """A lower bound on the error with which the slack of a solution is computed."""
        terms = jnp.abs(self.linear) + jnp.abs(self.operator) @ jnp.abs(solution)
        return 0.01 * jnp.finfo(self.linear.dtype).eps * plain_norm(terms)

    def representable(self, solution: Vector) -> Bool[Array, ""]:
        """Whether X is small enough for A to matter in A + B[X]; it grows if there is none."""
        return plain_norm(solution) < 1 / jnp.finfo(solution.dtype).eps


def nondimensional(linear: Vector, operator: Square, modes: int) -> ComplementarityProblem:
    """Choose the units: |A-| for A, and for B its Rayleigh quotient at A-.

    Where A is nearly positive, |A| would be too large a unit for the small X that results. The
    Rayleigh quotient is the exact unit when X is a multiple of A-, and within 1e-3 |B| of it.
    """
    values, basis = jnp.linalg.eigh(unpack(linear, modes))
    negative = pack((basis * jnp.maximum(-values, 0)[None, :]) @ basis.T)
    size, operator_size = norm(negative), norm(operator)
    linear_unit = jnp.maximum(size, jnp.finfo(linear.dtype).eps * norm(linear))
    linear_unit = jnp.where(linear_unit > 0, linear_unit, 1)
    safe = jnp.where(operator_size > 0, operator_size, 1)
    direction = negative / jnp.where(size > 0, size, 1)
    quotient = direction @ (operator / safe) @ direction
    operator_unit = safe * jnp.maximum(quotient, 1e-3)
    return ComplementarityProblem(
        linear / linear_unit, operator / operator_unit, linear_unit, operator_unit, modes
    )
