"""The semidefinite complementarity problem that the central flow meets at every evaluation.

Given a symmetric matrix A and a positive semidefinite operator B on symmetric matrices, find

    X >= 0,   S = A + B[X] >= 0,   <X, S> = 0,

the optimality conditions of: minimise (1/2) <X, B[X]> + <A, X> over positive semidefinite X.

Two methods, in this order; the second runs only where the first did not succeed.

1. Semismooth Newton on the normal map G(Z) = A + B[Z+] - Z-, where Z+ and Z- are the positive and
   negative parts of Z. A root gives X = Z+ and S = Z-, positive and complementary by construction,
   so that |G| bounds the residual. It ends in 3 to 6 factorisations on a well-scaled problem, in
   one or two fewer from a good start, but may stall on badly scaled or degenerate ones.
2. A primal-dual interior-point method, Nesterov-Todd direction with Mehrotra's corrector (Todd, Toh
   and Tutuncu 1998). Its linear systems are I + (positive semidefinite) at any scaling, so that it
   does not depend on the conditioning of B; it cannot use a start.

Symmetric matrices are vectors here, of length n = k (k + 1) / 2, with the off-diagonal entries
times sqrt(2), so that inner products agree.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .validation import positive_integer

Matrix = Float[Array, "mode mode"]
Operator = Float[Array, "mode mode mode mode"]
Vector = Float[Array, " pair"]
Square = Float[Array, "pair pair"]
Scalar = Float[Array, ""]

# A Newton step is halved at most this often before the interior-point method takes over.
_HALVINGS = 4
_NEWTON_ITERATIONS = 15


class Complementarity(eqx.Module):
    """Solution of a semidefinite complementarity problem.

    Attributes:
        solution: X. It is not unique where B is singular; B[X] and S are.
        slack: S = A + B[X], computed from X: unit of A.
        residual: The largest of -min eig(X) / x, -min eig(S) / |A| and |<X, S>| / (x |A|), and 0.
            Here |.| is the Frobenius norm and x = max(|X|, |A| / |B|) gives the unit of X, so that
            the residual does not change when A or B is rescaled.
        iterations: Factorisations made, by both methods together; 0 where A >= 0.
        converged: Whether the residual is at most the tolerance.
    """

    solution: Matrix
    slack: Matrix
    residual: Scalar
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]


def default_tolerance(dtype: Any) -> float:
    """Residual at which a problem counts as solved: 1e-9, and 1e-5 in single precision."""
    return 1e-9 if jnp.finfo(dtype).bits > 32 else 1e-5


def gram_operator(
    derivatives: Float[Array, "mode mode parameter"], scale: Float[Array, ""] | float
) -> Operator:
    """Return B_ijkl = scale <D_ij, D_kl>, a positive semidefinite operator.

    Args:
        derivatives: D, (k, k, P), symmetric in its first two axes.
        scale: At least 0; eta / 2 for the central flow.
    """
    scale = jnp.asarray(scale, derivatives.dtype)
    return scale * jnp.einsum("ijp,klp->ijkl", derivatives, derivatives, precision="highest")


def _pairs(modes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows, columns and weights of the entries that make up a vector."""
    rows, columns = np.triu_indices(modes)
    return rows, columns, np.where(rows == columns, 1.0, np.sqrt(2.0))


def _pack(matrix: Matrix) -> Vector:
    rows, columns, weights = _pairs(matrix.shape[0])
    return 0.5 * (matrix + matrix.T)[rows, columns] * jnp.asarray(weights, matrix.dtype)


def _unpack(vector: Vector, modes: int) -> Matrix:
    rows, columns, weights = _pairs(modes)
    position = np.zeros((modes, modes), int)
    position[rows, columns] = position[columns, rows] = np.arange(rows.size)
    return (vector / jnp.asarray(weights, vector.dtype))[position]


def _pack_operator(operator: Operator) -> Square:
    rows, columns, weights = _pairs(operator.shape[0])
    operator = operator + operator.transpose(1, 0, 2, 3)
    operator = operator + operator.transpose(0, 1, 3, 2)
    packed = operator[rows[:, None], columns[:, None], rows[None, :], columns[None, :]]
    packed = packed * jnp.asarray(weights[:, None] * weights[None, :], operator.dtype)
    return 0.125 * (packed + packed.T)


def _congruence(factor: Matrix) -> Square:
    """Return K with K pack(X) = pack(F X F^T) and K^T pack(Y) = pack(F^T Y F)."""
    rows, columns, weights = _pairs(factor.shape[0])
    upper, lower = factor[rows], factor[columns]
    product = upper[:, rows] * lower[:, columns] + lower[:, rows] * upper[:, columns]
    return 0.5 * jnp.asarray(weights[:, None] * weights[None, :], factor.dtype) * product


def _norm(x: Array) -> Scalar:
    """Frobenius norm that neither overflows nor underflows, and 0 of zeros."""
    largest = jnp.max(jnp.abs(x))
    safe = jnp.where(largest > 0, largest, 1)
    return safe * jnp.sqrt(jnp.sum((x / safe) ** 2))


class _Problem(eqx.Module):
    """A problem in units in which the linear term to be compensated and X are of order one."""

    linear: Vector
    operator: Square
    linear_unit: Scalar
    operator_unit: Scalar
    modes: int = eqx.field(static=True)

    def slack(self, solution: Vector) -> Vector:
        return self.linear + self.operator @ solution

    def rounding(self, solution: Vector) -> Scalar:
        """A lower bound on the error with which the slack of a solution is computed."""
        terms = jnp.abs(self.linear) + jnp.abs(self.operator) @ jnp.abs(solution)
        return 0.01 * jnp.finfo(self.linear.dtype).eps * _norm(terms)

    def representable(self, solution: Vector) -> Bool[Array, ""]:
        """Whether X is small enough for A to matter in A + B[X]; it grows if there is none."""
        return _norm(solution) < 1 / jnp.finfo(solution.dtype).eps


def _nondimensional(linear: Vector, operator: Square, modes: int) -> _Problem:
    """Choose the units: |A-| for A, and for B its Rayleigh quotient at A-.

    Where A is nearly positive, |A| would be too large a unit for the small X that results. The
    Rayleigh quotient is the exact unit when X is a multiple of A-, and within 1e-3 |B| of it.
    """
    values, basis = jnp.linalg.eigh(_unpack(linear, modes))
    negative = _pack((basis * jnp.maximum(-values, 0)[None, :]) @ basis.T)
    size, operator_size = _norm(negative), _norm(operator)
    linear_unit = jnp.maximum(size, jnp.finfo(linear.dtype).eps * _norm(linear))
    linear_unit = jnp.where(linear_unit > 0, linear_unit, 1)
    safe = jnp.where(operator_size > 0, operator_size, 1)
    direction = negative / jnp.where(size > 0, size, 1)
    quotient = direction @ (operator / safe) @ direction
    operator_unit = safe * jnp.maximum(quotient, 1e-3)
    return _Problem(
        linear / linear_unit, operator / operator_unit, linear_unit, operator_unit, modes
    )


class _Point(eqx.Module):
    """Z with its eigenpairs, X = Z+, and the normal map G with its norm."""

    variable: Vector
    values: Float[Array, " mode"]
    basis: Matrix
    solution: Vector
    defect: Vector
    merit: Scalar


class _Newton(eqx.Module):
    point: _Point
    iteration: Int[Array, ""]
    stalled: Bool[Array, ""]


def _evaluate(problem: _Problem, variable: Vector) -> _Point:
    values, basis = jnp.linalg.eigh(_unpack(variable, problem.modes))
    positive = _pack((basis * jnp.maximum(values, 0)[None, :]) @ basis.T)
    defect = problem.slack(positive) - (positive - variable)
    merit = jnp.where(problem.representable(positive), _norm(defect), jnp.inf)
    return _Point(variable, values, basis, positive, defect, merit)


def _shares(values: Float[Array, " mode"]) -> tuple[Vector, Vector]:
    """Return D and I - D, the derivative of Z+ in Z's eigenbasis, from Z's eigenvalues.

    Where Z+ has no derivative, for a pair of zero eigenvalues, D is 1/2: within Clarke's.
    """
    rows, columns, _ = _pairs(values.shape[0])
    positive, negative = jnp.maximum(values, 0), jnp.maximum(-values, 0)
    up, down = positive[rows] + positive[columns], negative[rows] + negative[columns]
    known = up + down > 0
    total = jnp.where(known, up + down, 1)
    return jnp.where(known, up / total, 0.5), jnp.where(known, down / total, 0.5)


def _newton_step(problem: _Problem, point: _Point) -> Vector:
    """Return dZ of (B D + I - D) dZ = -G, solved in its symmetric form for D^(1/2) dZ."""
    frame = _congruence(point.basis)
    operator = frame.T @ problem.operator @ frame
    kept, lost = _shares(point.values)
    root = jnp.sqrt(kept)
    matrix = root[:, None] * operator * root[None, :]
    # Proximal term: vanishes with the defect, so as not to spoil the quadratic convergence.
    floor = 4 * jnp.finfo(matrix.dtype).eps * (1 + jnp.trace(matrix))
    shift = jnp.maximum(1e-2 * jnp.minimum(point.merit, 1), floor)
    right = -(frame.T @ point.defect)
    cholesky = jnp.linalg.cholesky(matrix + jnp.diag(lost + shift))
    change = root * jax.scipy.linalg.cho_solve((cholesky, True), root * right)
    return frame @ (right + change - operator @ change)


def _newton(problem: _Problem, start: Vector, goal: Scalar, iterations: int) -> _Newton:
    """Iterate until |G| is at most `goal` or rounding error, or no step decreases it."""

    def unfinished(state: _Newton) -> Bool[Array, ""]:
        point = state.point
        enough = jnp.maximum(goal, problem.rounding(point.solution))
        return (state.iteration < iterations) & ~state.stalled & (point.merit > enough)

    def step(state: _Newton) -> _Newton:
        old = state.point
        direction = _newton_step(problem, old)

        def rejected(trial: tuple[_Point, Scalar]) -> Bool[Array, ""]:
            point, length = trial
            return ~(point.merit <= (1 - 1e-4 * length) * old.merit) & (length > 0.5**_HALVINGS)

        def halve(trial: tuple[_Point, Scalar]) -> tuple[_Point, Scalar]:
            length = 0.5 * trial[1]
            return _evaluate(problem, old.variable + length * direction), length

        # Starting from twice the step and the old point, which is no decrease: one copy to compile.
        point, _ = lax.while_loop(rejected, halve, (old, jnp.full_like(old.merit, 2)))
        better = point.merit < old.merit
        point = jax.tree.map(lambda new, before: jnp.where(better, new, before), point, old)
        return _Newton(point, state.iteration + 1, ~better)

    first = _Newton(_evaluate(problem, start), jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    return lax.while_loop(unfinished, step, first)


class _Interior(eqx.Module):
    """A pair X = F diag(values) F^T, S = F^-T diag(values) F^-1, and the best X so far."""

    factor: Matrix
    values: Float[Array, " mode"]
    best: Vector
    error: Scalar
    iteration: Int[Array, ""]
    failed: Bool[Array, ""]


def _factorise(factor: Matrix, solution: Matrix, slack: Matrix) -> tuple[Matrix, Array]:
    """Return the Nesterov-Todd factor of a pair that is given in the frame of another factor."""
    lower = jnp.linalg.cholesky(solution)
    squares, basis = jnp.linalg.eigh(lower.T @ slack @ lower)
    values = jnp.sqrt(squares)
    return factor @ lower @ (basis / jnp.sqrt(values)[None, :]), values


def _error(problem: _Problem, solution: Vector) -> Scalar:
    """Return the residual of X in the problem's own units."""
    slack = problem.slack(solution)
    violation = -jnp.linalg.eigvalsh(_unpack(slack, problem.modes))[0]
    return jnp.maximum(violation, jnp.abs(solution @ slack) / jnp.maximum(1, _norm(solution)))


def _interior_step(problem: _Problem, state: _Interior) -> _Interior:
    frame = _congruence(state.factor)
    operator = frame.T @ problem.operator @ frame
    values, modes = state.values, problem.modes
    center = _pack(jnp.diag(values))
    defect = frame.T @ problem.linear + operator @ center - center
    cholesky = jnp.linalg.cholesky(operator + jnp.eye(center.size, dtype=center.dtype))
    roots = jnp.sqrt(values)

    def direction(target: Vector) -> tuple[Matrix, Matrix]:
        """Solve dX + dS = target, dS = B[dX] + defect."""
        change = jax.scipy.linalg.cho_solve((cholesky, True), target - defect)
        return _unpack(change, modes), _unpack(target - change, modes)

    def longest(changes: tuple[Matrix, Matrix]) -> Scalar:
        scaled = jnp.stack(changes) / (roots[:, None] * roots[None, :])[None]
        lowest = jnp.min(jnp.linalg.eigvalsh(scaled))
        return 1 / jnp.maximum(-lowest, jnp.finfo(lowest.dtype).tiny)

    predictor = direction(-center)
    centring = (1 - jnp.minimum(1, longest(predictor))) ** 3
    product = predictor[0] @ predictor[1]
    correction = (product + product.T) / (values[:, None] + values[None, :])
    target = jnp.diag(centring * jnp.mean(values**2) / values - values) - correction
    corrected = direction(_pack(target))
    length = jnp.minimum(1, 0.99 * longest(corrected))
    solution, slack = (jnp.diag(values) + length * change for change in corrected)
    factor, values = _factorise(state.factor, solution, slack)

    point = _congruence(factor) @ _pack(jnp.diag(values))
    error = _error(problem, point)
    failed = ~(jnp.isfinite(error) & problem.representable(point))
    better = ~failed & (error < state.error)
    return _Interior(
        factor=jnp.where(failed, state.factor, factor),
        values=jnp.where(failed, state.values, values),
        best=jnp.where(better, point, state.best),
        error=jnp.where(better, error, state.error),
        iteration=state.iteration + 1,
        failed=failed,
    )


def _interior_point(
    problem: _Problem, best: Vector, solved: Bool[Array, ""], goal: Scalar, iterations: int
) -> _Interior:
    """Iterate until the error is at most `goal`; return `best` if nothing better was found."""
    # X = I and S = c I, of the size of A + B[I]: the start need not satisfy S = A + B[X].
    identity = jnp.eye(problem.modes, dtype=best.dtype)
    size = jnp.maximum(1, _norm(problem.slack(_pack(identity))))
    factor, values = identity / size**0.25, jnp.full(problem.modes, jnp.sqrt(size))

    def unfinished(state: _Interior) -> Bool[Array, ""]:
        enough = jnp.maximum(goal, problem.rounding(state.best))
        going = (state.iteration < iterations) & ~state.failed & (state.error > enough)
        return going & ~solved

    first = _Interior(
        factor=factor,
        values=values,
        best=best,
        error=_error(problem, best),
        iteration=jnp.zeros((), jnp.int32),
        failed=jnp.zeros((), bool),
    )
    return lax.while_loop(unfinished, lambda state: _interior_step(problem, state), first)


def _solve(
    linear: Vector, operator: Square, start: Vector | None, tolerance: Scalar, limit: int
) -> tuple[Vector, Int[Array, ""]]:
    modes = round((np.sqrt(8 * linear.size + 1) - 1) / 2)
    problem = _nondimensional(linear, operator, modes)
    if start is None:
        variable = -problem.linear
    else:
        scaled = start * (problem.operator_unit / problem.linear_unit)
        variable = scaled - problem.slack(scaled)
    # The tolerance is relative to |A|; here the unit is |A-|. Newton's last step is nearly free
    # accuracy, so that it aims further.
    allowed = tolerance * _norm(problem.linear)
    found = _newton(problem, variable, 1e-3 * tolerance, min(limit, _NEWTON_ITERATIONS))
    solved = found.point.merit <= allowed
    inner = _interior_point(problem, found.point.solution, solved, 1e-3 * tolerance, limit)
    solution = inner.best * (problem.linear_unit / problem.operator_unit)
    return solution, found.iteration + inner.iteration


def _residual(linear: Vector, operator: Square, solution: Vector, modes: int) -> Scalar:
    slack = linear + operator @ solution
    size = _norm(linear)
    size = jnp.where(size > 0, size, 1)
    largest = _norm(solution)
    # 1 / x of the documentation, without a division by zero.
    per_unit = jnp.minimum(
        _norm(operator) / size, 1 / jnp.where(largest > 0, largest, jnp.finfo(size.dtype).tiny)
    )
    solution, slack = solution * per_unit, slack / size
    both = jnp.stack([_unpack(solution, modes), _unpack(slack, modes)])
    violation = -jnp.min(jnp.linalg.eigvalsh(both))
    return jnp.maximum(jnp.maximum(violation, jnp.abs(solution @ slack)), 0)


@jax.custom_jvp
def _attach(linear: Vector, operator: Square, solution: Vector) -> Vector:
    """Return `solution`, with the derivatives of the solution of the problem."""
    del linear, operator
    return solution


@_attach.defjvp
def _attach_jvp(primals: Any, tangents: Any) -> tuple[Vector, Vector]:
    """Differentiate G(Z) = 0: dX = -D^(1/2) M^-1 D^(1/2) (dA + dB[X]), symmetric in Z's eigenbasis.

    M = D^(1/2) B D^(1/2) + I - D is inverted by three steps of the proximal-point iteration, exact
    to (shift / eigenvalue)^3: it gives the solution of least change where M is singular.
    """
    linear, operator, solution = primals
    modes = round((np.sqrt(8 * linear.size + 1) - 1) / 2)
    problem = _nondimensional(linear, operator, modes)
    scaled = solution * (problem.operator_unit / problem.linear_unit)
    values, basis = jnp.linalg.eigh(_unpack(scaled - problem.slack(scaled), modes))
    frame = _congruence(basis)
    kept, lost = _shares(values)
    root = jnp.sqrt(kept)
    matrix = root[:, None] * (frame.T @ problem.operator @ frame) * root[None, :]
    matrix = matrix + jnp.diag(lost)
    shift = jnp.sqrt(jnp.finfo(linear.dtype).eps) * (1 + jnp.max(jnp.diagonal(matrix)))
    cholesky = jnp.linalg.cholesky(matrix + shift * jnp.eye(root.size, dtype=root.dtype))
    right = root * (frame.T @ (tangents[0] + tangents[1] @ solution)) / problem.operator_unit
    change = jnp.zeros_like(right)
    for _ in range(3):
        change = jax.scipy.linalg.cho_solve((cholesky, True), right + shift * change)
    return solution, -(frame @ (root * change))


def _scalar_problem(linear: Vector, operator: Square) -> Vector:
    """Return X = max(0, -A / B), and 0 where B = 0."""
    size = operator[0]
    quotient = -linear / jnp.where(size > 0, size, 1)
    usable = (size > 0) & (quotient > 0) & jnp.isfinite(quotient)
    return jnp.where(usable, quotient, 0)


def solve_complementarity(
    linear: Float[Array, "..."],
    operator: Float[Array, "..."],
    *,
    start: Float[Array, "..."] | None = None,
    tolerance: Float[Array, ""] | float | None = None,
    max_iterations: int = 50,
) -> Complementarity:
    """Find X >= 0 with S = A + B[X] >= 0 and <X, S> = 0 (>= 0: positive semidefinite).

    Works under `jit`, `vmap` (each lane stops by itself) and in either precision, at any scale of
    A and B. Where there is no solution (A is negative in a direction that B cannot push) the best X
    found is returned, with `converged` false: check it.

    The solution and the slack have derivatives of first order, forward and reverse, with respect to
    A and B, by the implicit function theorem: exact where X + S is positive definite (strict
    complementarity) and B is regular on X's face. Where they do not exist, this is one element of
    the generalised derivative. The residual counts as constant.

    Args:
        linear: A, (k, k), symmetric; its symmetric part is used.
        operator: B, (k, k, k, k), positive semidefinite with B[X]_ij = sum_kl B_ijkl X_kl; see
            `gram_operator`.
        start: A guess of X, such as the solution of a nearby problem, (k, k). It saves one or two
            factorisations of four to six (which pays from k = 6 or so), and moves a unique
            solution by no more than the tolerance does.
        tolerance: Bound on the residual for `converged`; 1e-9, or 1e-5 in float32, if not given.
        max_iterations: Bound on the factorisations of either method. k = 1 needs none.

    Raises:
        ValueError: If shapes or dtypes do not fit, or `max_iterations` is not a positive integer.
    """
    max_iterations = positive_integer("max_iterations", max_iterations)
    modes = linear.shape[0] if linear.ndim else 1
    for name, array, shape in (
        ("linear", linear, (modes,) * 2),
        ("operator", operator, (modes,) * 4),
        ("start", linear if start is None else start, (modes,) * 2),
    ):
        if array.shape != shape or array.dtype != linear.dtype:
            raise ValueError(
                f"{name} must have shape {shape} and dtype {linear.dtype}; got shape "
                f"{tuple(array.shape)} and dtype {array.dtype}."
            )
    limit = default_tolerance(linear.dtype) if tolerance is None else tolerance
    # On accelerators the default precision of a float32 product is not that of float32.
    with jax.default_matmul_precision("highest"):
        return _solve_complementarity(
            linear, operator, start, jnp.asarray(limit, linear.dtype), max_iterations
        )


def _solve_complementarity(
    linear: Matrix, operator: Operator, start: Matrix | None, tolerance: Scalar, limit: int
) -> Complementarity:
    modes = linear.shape[0]
    vector, square = _pack(linear), _pack_operator(operator)
    if modes == 1:
        solution, iterations = _scalar_problem(vector, square), jnp.zeros((), jnp.int32)
    else:
        fixed = lax.stop_gradient((vector, square, None if start is None else _pack(start)))
        found, iterations = _solve(*fixed, tolerance, limit)
        solution = _attach(vector, square, lax.stop_gradient(found))
    residual = _residual(*lax.stop_gradient((vector, square, solution)), modes)
    return Complementarity(
        solution=_unpack(solution, modes),
        slack=_unpack(vector + square @ solution, modes),
        residual=residual,
        iterations=iterations,
        converged=residual <= tolerance,
    )
