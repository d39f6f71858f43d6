"""A primal-dual interior-point method for the semidefinite complementarity problem.

Nesterov-Todd direction with Mehrotra's corrector (Todd, Toh and Tutuncu 1998). Its linear systems
are I + (positive semidefinite) at any scaling, so that it does not depend on the conditioning of
the operator; it cannot use a start.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .complementarity_problem import ComplementarityProblem, Scalar, norm
from .packed_symmetric import Matrix, Vector, congruence, pack, product, unpack


class InteriorPoint(eqx.Module):
    """A pair X = F diag(values) F^T, S = F^-T diag(values) F^-1, and the best X so far."""

    factor: Matrix
    values: Float[Array, " mode"]
    best: Vector
    error: Scalar
    iteration: Int[Array, ""]
    failed: Bool[Array, ""]


def _factorise(factor: Matrix, solution: Matrix, slack: Matrix) -> tuple[Matrix, Array]:
    """Return the Nesterov-Todd factor of a pair that is given in the frame of another factor."""
    lower = lax.linalg.cholesky(solution, symmetrize_input=False)
    square = product(product(lower.T, slack), lower)
    basis, squares = lax.linalg.eigh(square, symmetrize_input=False)
    values = jnp.sqrt(squares)
    return product(product(factor, lower), basis / jnp.sqrt(values)[None, :]), values


def _error(problem: ComplementarityProblem, solution: Vector) -> Scalar:
    """Return the residual of X in the problem's own units."""
    slack = problem.slack(solution)
    violation = -jnp.linalg.eigvalsh(unpack(slack, problem.modes))[0]
    return jnp.maximum(
        violation, jnp.abs(jnp.sum(solution * slack)) / jnp.maximum(1, norm(solution))
    )


def _interior_step(problem: ComplementarityProblem, state: InteriorPoint) -> InteriorPoint:
    frame = congruence(state.factor)
    operator = product(product(frame.T, problem.operator), frame)
    values, modes = state.values, problem.modes
    center = pack(jnp.diag(values))
    defect = product(frame.T, problem.linear) + product(operator, center) - center
    shifted = operator + jnp.eye(center.size, dtype=center.dtype)
    cholesky = lax.linalg.cholesky(shifted, symmetrize_input=False)
    roots = jnp.sqrt(values)

    def attempt(
        carry: tuple[Vector, Matrix, Matrix, Scalar], _: None
    ) -> tuple[tuple[Vector, Matrix, Matrix, Scalar], None]:
        """Solve dX + dS = target, dS = B[dX] + defect, and correct the target by what results."""
        target = carry[0]
        change = jax.scipy.linalg.cho_solve((cholesky, True), target - defect)
        changes = unpack(change, modes), unpack(target - change, modes)
        scaled = jnp.stack(changes) / (roots[:, None] * roots[None, :])[None]
        lowest = jnp.min(jnp.linalg.eigvalsh(scaled))
        longest = 1 / jnp.maximum(-lowest, jnp.finfo(lowest.dtype).tiny)
        centring = (1 - jnp.minimum(1, longest)) ** 3
        both = product(*changes)
        correction = (both + both.T) / (values[:, None] + values[None, :])
        target = jnp.diag(centring * jnp.mean(values**2) / values - values) - correction
        return (pack(target), *changes, longest), None

    # Twice, predictor and corrector, in a loop: one copy to compile.
    nothing = jnp.zeros((modes, modes), values.dtype)
    (_, *changes, longest), _ = lax.scan(attempt, (-center, nothing, nothing, values[0]), length=2)
    length = jnp.minimum(1, 0.99 * longest)
    solution, slack = (jnp.diag(values) + length * change for change in changes)
    factor, values = _factorise(state.factor, solution, slack)

    point = product(congruence(factor), pack(jnp.diag(values)))
    error = _error(problem, point)
    failed = ~(jnp.isfinite(error) & problem.representable(point))
    better = ~failed & (error < state.error)
    return InteriorPoint(
        factor=jnp.where(failed, state.factor, factor),
        values=jnp.where(failed, state.values, values),
        best=jnp.where(better, point, state.best),
        error=jnp.where(better, error, state.error),
        iteration=state.iteration + 1,
        failed=failed,
    )


def interior_point(
    problem: ComplementarityProblem,
    best: Vector,
    error: Scalar,
    solved: Bool[Array, ""],
    goal: Scalar,
    iterations: int,
) -> InteriorPoint:
    """Iterate until the error is at most `goal`; return `best` if nothing better was found."""
    # X = I and S = c I, of the size of A + B[I]: the start need not satisfy S = A + B[X].
    identity = jnp.eye(problem.modes, dtype=best.dtype)
    size = jnp.maximum(1, norm(problem.slack(pack(identity))))
    factor, values = identity / size**0.25, jnp.full(problem.modes, jnp.sqrt(size))

    def unfinished(state: InteriorPoint) -> Bool[Array, ""]:
        enough = jnp.maximum(goal, problem.rounding(state.best))
        going = (state.iteration < iterations) & ~state.failed & (state.error > enough)
        return going & ~solved

    first = InteriorPoint(
        factor=factor,
        values=values,
        best=best,
        error=error,
        iteration=jnp.zeros((), jnp.int32),
        failed=jnp.zeros((), bool),
    )
    return lax.while_loop(unfinished, lambda state: _interior_step(problem, state), first)
