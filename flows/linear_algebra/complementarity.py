"""The semidefinite complementarity problem that Central Flow solves at every evaluation.

Given a symmetric matrix A and a positive semidefinite operator B on symmetric matrices, find

    X >= 0,   S = A + B[X] >= 0,   <X, S> = 0,

the optimality conditions of: minimise (1/2) <X, B[X]> + <A, X> over positive semidefinite X.

Two methods, in this order; the second runs only where the first did not succeed.

1. Semismooth Newton on the normal map G(Z) = A + B[Z+] - Z-, where Z+ and Z- are the positive and
   negative parts of Z. A root gives X = Z+ and S = Z-, positive and complementary by construction,
   so that |G| bounds the residual. It ends in 3 to 6 factorisations on a well-scaled problem, in
   one or two fewer from a good start, but may stall on badly scaled or degenerate ones.
2. The interior-point method of `interior_point`, which does not depend on the conditioning of B.

Both see the problem in units and a scaled basis of its own, `complementarity_problem`. Symmetric
matrices are vectors here, as in `packed_symmetric`.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from ..core.compilation import traced_once
from ..core.validation import positive_integer
from .complementarity_problem import (
    ComplementarityProblem,
    Scalar,
    nondimensional,
    norm,
    plain_norm,
)
from .interior_point import interior_point
from .packed_symmetric import (
    Matrix,
    Operator,
    Square,
    Vector,
    congruence,
    entries,
    modes_of,
    pack,
    pack_operator,
    pairs,
    product,
    unpack,
)

# A Newton step is halved at most this often before the interior-point method takes over.
_HALVINGS = 4
_NEWTON_ITERATIONS = 15


class Complementarity(eqx.Module):
    """Solution of a semidefinite complementarity problem.

    Attributes:
        solution: X, (k, k), or packed as in `packed_symmetric`. It is not unique where B is
            singular; B[X] and S are.
        slack: S = A + B[X], computed from X: unit of A.
        residual: The largest of -min eig(X) / x, -min eig(S) / |A| and |<X, S>| / (x |A|), and 0.
            Here |.| is the Frobenius norm and x = max(|X|, |A| / |B|) gives the unit of X, so that
            the residual does not change when A or B is rescaled.
        iterations: Factorisations made, by both methods together; 0 where A >= 0.
        converged: True if the residual is at most the tolerance.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import solve_complementarity
        >>> identity = jnp.einsum("ik,jl->ijkl", jnp.eye(2), jnp.eye(2))
        >>> found = solve_complementarity(jnp.diag(jnp.asarray([-1.0, 2.0])), identity)
        >>> bool(found.converged), float(found.residual) < 1e-9
        (True, True)
    """

    solution: Float[Array, "..."]
    slack: Float[Array, "..."]
    residual: Scalar
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]


def complementarity_tolerance(dtype: DTypeLike) -> float:
    """Return the residual at which a problem counts as solved: 1e-9, and 1e-5 in float32."""
    return 1e-9 if jnp.finfo(dtype).bits > 32 else 1e-5


def gram_operator(
    derivatives: Float[Array, "mode mode parameter"], scale: Float[Array, ""] | float
) -> Operator:
    """Return B_ijkl = scale <D_ij, D_kl>, a positive semidefinite operator on matrices.

    Args:
        derivatives: D, (k, k, P), symmetric in its first two axes.
        scale: At least 0; eta / 2 for Central Flow, with D = dH.

    Returns:
        B, (k, k, k, k), with B[X]_ij = sum_kl B_ijkl X_kl.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import gram_operator
        >>> gram_operator(jnp.asarray([[[3.0, 4.0]]]), 0.5)
        Array([[[[12.5]]]], dtype=float64)
    """
    scale = jnp.asarray(scale, derivatives.dtype)
    return scale * jnp.einsum("ijp,klp->ijkl", derivatives, derivatives, precision="highest")


class _Point(eqx.Module):
    """Z with its eigenpairs, X = Z+, and the normal map G with its norm."""

    variable: Vector
    values: Float[Array, " mode"]
    basis: Matrix
    solution: Vector
    defect: Vector
    merit: Scalar


class _Newton(eqx.Module):
    """Where the iteration is, and the best X and |G| so far: of the point before if it stalled."""

    point: _Point
    solution: Vector
    merit: Scalar
    iteration: Int[Array, ""]
    stalled: Bool[Array, ""]


def _evaluate(problem: ComplementarityProblem, variable: Vector) -> _Point:
    basis, values = lax.linalg.eigh(unpack(variable, problem.modes), symmetrize_input=False)
    positive = pack(product(basis * jnp.maximum(values, 0)[None, :], basis.T))
    defect = problem.slack(positive) - (positive - variable)
    merit = jnp.where(problem.representable(positive), plain_norm(defect), jnp.inf)
    return _Point(variable, values, basis, positive, defect, merit)


def _shares(values: Float[Array, " mode"]) -> tuple[Vector, Vector]:
    """Return D and I - D, the derivative of Z+ in Z's eigenbasis, from Z's eigenvalues.

    Where Z+ has no derivative, for a pair of zero eigenvalues, D is 1/2: within Clarke's.
    """
    rows, columns, _ = pairs(values.shape[0])
    both = jnp.stack([jnp.maximum(values, 0), jnp.maximum(-values, 0)])
    modes = values.shape[0]
    places = np.stack([rows, columns, modes + rows, modes + columns])
    first, second, third, fourth = entries(both, places)
    up, down = first + second, third + fourth
    known = up + down > 0
    total = jnp.where(known, up + down, 1)
    return jnp.where(known, up / total, 0.5), jnp.where(known, down / total, 0.5)


def _newton_step(problem: ComplementarityProblem, point: _Point) -> Vector:
    """Return dZ of (B D + I - D) dZ = -G, solved in its symmetric form for D^(1/2) dZ."""
    frame = congruence(point.basis)
    operator = product(product(frame.T, problem.operator), frame)
    kept, lost = _shares(point.values)
    root = jnp.sqrt(kept)
    matrix = root[:, None] * operator * root[None, :]
    # Proximal term: vanishes with the defect, so as not to spoil the quadratic convergence.
    floor = 4 * jnp.finfo(matrix.dtype).eps * (1 + jnp.trace(matrix))
    shift = jnp.maximum(1e-2 * jnp.minimum(point.merit, 1), floor)
    right = -product(frame.T, point.defect)
    cholesky = lax.linalg.cholesky(matrix + jnp.diag(lost + shift), symmetrize_input=False)
    change = root * jax.scipy.linalg.cho_solve((cholesky, True), root * right)
    return product(frame, right + change - product(operator, change))


def _newton(
    problem: ComplementarityProblem, start: Vector, goal: Scalar, iterations: int
) -> _Newton:
    """Iterate until |G| is at most `goal` or rounding error, or no step decreases it."""

    def unfinished(state: _Newton) -> Bool[Array, ""]:
        enough = jnp.maximum(goal, problem.rounding(state.solution))
        return (state.iteration < iterations) & ~state.stalled & (state.merit > enough)

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
        solution = jnp.where(better, point.solution, old.solution)
        merit = jnp.minimum(point.merit, old.merit)
        return _Newton(point, solution, merit, state.iteration + 1, ~better)

    # A point without defect, whose Newton step is zero, leads to the start: again one copy.
    modes, nothing = problem.modes, jnp.zeros_like(start)
    before = _Point(
        variable=start,
        values=jnp.zeros(modes, start.dtype),
        basis=jnp.eye(modes, dtype=start.dtype),
        solution=nothing,
        defect=nothing,
        merit=jnp.asarray(jnp.finfo(start.dtype).max),
    )
    first = _Newton(
        point=before,
        solution=before.solution,
        merit=before.merit,
        iteration=jnp.asarray(-1, jnp.int32),
        stalled=jnp.zeros((), bool),
    )
    return lax.while_loop(unfinished, step, first)


def _solve(
    linear: Vector, operator: Square, start: Vector | None, tolerance: Scalar, limit: int
) -> tuple[Vector, Int[Array, ""]]:
    problem = nondimensional(linear, operator)
    if start is None:
        variable = -problem.linear
    else:
        scaled = problem.scaled(start)
        variable = scaled - problem.slack(scaled)
    # The tolerance is relative to |A| of the original problem, whose slack has no larger an error
    # than the scaled one. Newton's last step is nearly free accuracy, so that it aims further.
    allowed = tolerance * norm(linear) / problem.linear_unit
    found = _newton(problem, variable, 1e-3 * tolerance, min(limit, _NEWTON_ITERATIONS))
    solved = found.merit <= allowed
    inner = interior_point(problem, found.solution, found.merit, solved, 1e-3 * tolerance, limit)
    # Newton's method does not begin where the problem is not finite.
    iterations = jnp.maximum(found.iteration, 0) + inner.iteration
    return problem.original(inner.best), iterations


def _residual(linear: Vector, operator: Square, solution: Vector) -> Scalar:
    modes = modes_of(linear.size)
    slack = linear + product(operator, solution)
    size = norm(linear)
    size = jnp.where(size > 0, size, 1)
    largest = norm(solution)
    # 1 / x of the documentation, without a division by zero.
    per_unit = jnp.minimum(
        norm(operator) / size, 1 / jnp.where(largest > 0, largest, jnp.finfo(size.dtype).tiny)
    )
    solution, slack = solution * per_unit, slack / size
    both = jnp.stack([unpack(solution, modes), unpack(slack, modes)])
    violation = -jnp.min(jnp.linalg.eigvalsh(both))
    return jnp.maximum(jnp.maximum(violation, jnp.abs(jnp.sum(solution * slack))), 0)


@jax.custom_jvp
def _attach(linear: Vector, operator: Square, solution: Vector) -> Vector:
    """Return `solution`, with the derivatives of the solution of the problem."""
    del linear, operator
    return solution


@_attach.defjvp
def _attach_jvp(
    primals: tuple[Vector, Square, Vector], tangents: tuple[Vector, Square, Vector]
) -> tuple[Vector, Vector]:
    """Differentiate G(Z) = 0: dX = -D^(1/2) M^-1 D^(1/2) (dA + dB[X]), symmetric in Z's eigenbasis.

    M = D^(1/2) B D^(1/2) + I - D is inverted by three steps of the proximal-point iteration, exact
    to (shift / eigenvalue)^3: it gives the solution of least change where M is singular.
    """
    linear, operator, solution = primals
    problem = nondimensional(linear, operator)
    scaled = problem.scaled(solution)
    values, basis = jnp.linalg.eigh(unpack(scaled - problem.slack(scaled), problem.modes))
    frame = congruence(basis)
    kept, lost = _shares(values)
    root = jnp.sqrt(kept)
    matrix = root[:, None] * product(product(frame.T, problem.operator), frame) * root[None, :]
    matrix = matrix + jnp.diag(lost)
    shift = jnp.sqrt(jnp.finfo(linear.dtype).eps) * (1 + jnp.max(jnp.diagonal(matrix)))
    cholesky = jnp.linalg.cholesky(matrix + shift * jnp.eye(root.size, dtype=root.dtype))
    tangent = (
        problem.balance * (tangents[0] + product(tangents[1], solution)) / problem.operator_unit
    )
    right = root * product(frame.T, tangent)
    change = jnp.zeros_like(right)
    for _ in range(3):
        change = jax.scipy.linalg.cho_solve((cholesky, True), right + shift * change)
    return solution, -problem.balance * product(frame, root * change)


def _scalar_problem(linear: Vector, operator: Square) -> Vector:
    """Return X = max(0, -A / B), and 0 where B = 0."""
    size = operator[0]
    quotient = -linear / jnp.where(size > 0, size, 1)
    usable = (size > 0) & (quotient > 0) & jnp.isfinite(quotient)
    return jnp.where(usable, quotient, 0)


def solve_complementarity(
    linear: Float[Array | np.ndarray, "..."],
    operator: Float[Array | np.ndarray, "..."],
    *,
    start: Float[Array | np.ndarray, "..."] | None = None,
    tolerance: Float[Array, ""] | float | None = None,
    max_iterations: int = 50,
) -> Complementarity:
    """Find X >= 0 with S = A + B[X] >= 0 and <X, S> = 0 (>= 0: positive semidefinite).

    These are the conditions for the least (1/2) <X, B[X]> + <A, X> over X >= 0. It works under
    `jit`, `vmap` (each lane stops by itself) and in either precision, at any scale of A and B.
    Where there is no solution (A is negative in a direction that B cannot push) the best X found
    is returned, with `converged` false: check it.

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

    Example:
        Of A = diag(-1, 2) only the negative entry needs X:

        >>> import jax.numpy as jnp
        >>> from flows import solve_complementarity
        >>> identity = jnp.einsum("ik,jl->ijkl", jnp.eye(2), jnp.eye(2))
        >>> found = solve_complementarity(jnp.diag(jnp.asarray([-1.0, 2.0])), identity)
        >>> jnp.round(found.solution, 9), jnp.round(found.slack, 9)
        (Array([[1., 0.],
                [0., 0.]], dtype=float64), Array([[0., 0.],
                [0., 2.]], dtype=float64))
    """
    max_iterations = positive_integer("max_iterations", max_iterations)
    linear, operator = jnp.asarray(linear), jnp.asarray(operator)
    start = None if start is None else jnp.asarray(start)
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
    allowed = complementarity_tolerance(linear.dtype) if tolerance is None else tolerance
    given = pack(linear), pack_operator(operator), None if start is None else pack(start)
    # On accelerators the default precision of a float32 product is not that of float32.
    with jax.default_matmul_precision("highest"):
        found = _solve_packed(*given, jnp.asarray(allowed, linear.dtype), max_iterations)
    solution, slack = unpack(found.solution, modes), unpack(found.slack, modes)
    return dataclasses.replace(found, solution=solution, slack=slack)


def solve_packed_complementarity(
    linear: Vector, operator: Square, *, max_iterations: int = 50
) -> Complementarity:
    """Solve a problem of packed matrices, as in `packed_symmetric`; see `solve_complementarity`.

    The matrices of the solution are packed, too.

    Args:
        linear: A, (n,), n = k (k + 1) / 2.
        operator: B, (n, n), symmetric and positive semidefinite.
        max_iterations: Bound on the factorisations of either method.
    """
    limit = jnp.asarray(complementarity_tolerance(linear.dtype), linear.dtype)
    with jax.default_matmul_precision("highest"):
        return _solve_packed(linear, operator, None, limit, max_iterations)


@traced_once
def _solve_packed(
    linear: Vector, operator: Square, start: Vector | None, tolerance: Scalar, limit: int
) -> Complementarity:
    if linear.size == 1:
        solution, iterations = _scalar_problem(linear, operator), jnp.zeros((), jnp.int32)
    else:
        fixed = lax.stop_gradient((linear, operator, start))
        found, iterations = _solve(*fixed, tolerance, limit)
        solution = _attach(linear, operator, lax.stop_gradient(found))
    residual = _residual(*lax.stop_gradient((linear, operator, solution)))
    return Complementarity(
        solution=solution,
        slack=linear + product(operator, solution),
        residual=residual,
        iterations=iterations,
        converged=residual <= tolerance,
    )
