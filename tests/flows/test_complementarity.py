"""The complementarity solver: optimality, against a conic solver, degenerate cases, derivatives."""

import clarabel
import equinox as eqx
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from flows.linear_algebra.complementarity import (
    Complementarity,
    gram_operator,
    solve_complementarity,
)
from tests.helpers import assert_trees_close, finite_difference_jvp

solve = jax.jit(solve_complementarity)
SIZES = (1, 2, 3, 5, 16)


def symmetric(rng: np.random.Generator, k: int) -> np.ndarray:
    """A random symmetric matrix."""
    matrix = rng.standard_normal((k, k))
    return matrix + matrix.T


def operator_of_rank(rng: np.random.Generator, k: int, rank: int) -> np.ndarray:
    """A positive semidefinite operator of the given rank, scaled to norm one."""
    derivatives = np.stack([symmetric(rng, k) for _ in range(rank)], axis=-1)
    operator = np.tensordot(derivatives, derivatives, (2, 2))
    return operator / np.linalg.norm(operator)


def apply(operator, matrix):
    """B[X]."""
    return np.einsum("ijkl,kl->ij", operator, matrix)


def regular_problem(seed: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """A random problem with a positive definite B (one solution) and |B| = 1; X is not 0."""
    rng = np.random.default_rng(seed)
    return symmetric(rng, k) - 3 * np.eye(k), operator_of_rank(rng, k, k * (k + 1))


def planted_problem(seed: int, k: int, rank: int, gap: int, operator_rank: int):
    """A problem that X of the given rank solves; `gap` directions are null in both X and S."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((k, k)))
    x, s = rng.uniform(0.2, 2, k), rng.uniform(0.2, 2, k)
    x[rank:], s[: rank + gap] = 0, 0
    operator = operator_of_rank(rng, k, operator_rank)
    solution = basis @ np.diag(x) @ basis.T
    return basis @ np.diag(s) @ basis.T - apply(operator, solution), operator, solution


def optimality(linear, operator, found: Complementarity) -> float:
    """The residual by its definition, computed with numpy."""
    linear, operator, solution = (np.asarray(a, float) for a in (linear, operator, found.solution))
    slack, size = linear + apply(operator, solution), np.linalg.norm(linear)
    unit = max(np.linalg.norm(solution), size / max(np.linalg.norm(operator), 1e-300))
    return max(
        -np.linalg.eigvalsh(solution)[0] / unit,
        -np.linalg.eigvalsh(slack)[0] / size,
        abs(np.sum(solution * slack)) / (unit * size),
    )


def conic(linear: np.ndarray, operator: np.ndarray) -> np.ndarray:
    """The solution by clarabel, an independent interior-point solver."""
    k = linear.shape[0]
    columns, rows = np.tril_indices(k)  # its order: the upper triangle, column by column
    weights = np.where(rows == columns, 1, np.sqrt(2))
    quadratic = operator[rows[:, None], columns[:, None], rows[None], columns[None]]
    quadratic = quadratic * weights[:, None] * weights[None]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    # By default it runs into the boundary and stops at errors of up to 2e-5 in X.
    settings.max_step_fraction = 0.9
    answer = clarabel.DefaultSolver(
        scipy.sparse.csc_matrix(np.triu(quadratic)),
        linear[rows, columns] * weights,
        scipy.sparse.csc_matrix(-np.eye(rows.size)),
        np.zeros(rows.size),
        [clarabel.PSDTriangleConeT(k)],
        settings,
    ).solve()
    solution = np.zeros((k, k))
    solution[rows, columns] = solution[columns, rows] = np.array(answer.x) / weights
    return solution


@pytest.mark.slow
@hypothesis.given(data=st.data())
def test_solutions_of_every_rank_are_optimal_at_any_scale(data):
    """Residual at most 1e-9 for X and B of every rank, and A and B over 16 orders of magnitude."""
    k = data.draw(st.sampled_from(SIZES))
    rank = data.draw(st.integers(0, k))
    gap = data.draw(st.integers(0, min(1, k - rank)))
    operator_rank = data.draw(st.integers(1, k * (k + 1) // 2))
    linear, operator, _ = planted_problem(
        data.draw(st.integers(0, 10**6)), k, rank, gap, operator_rank
    )
    linear = linear * 10.0 ** data.draw(st.integers(-8, 8))
    operator = operator * 10.0 ** data.draw(st.integers(-8, 8))
    hypothesis.assume(np.linalg.norm(linear) > 0)
    found = solve(linear, operator)
    assert bool(found.converged)
    # The definition is evaluated here with other rounding errors than in the solver.
    assert optimality(linear, operator, found) < 2e-9


@pytest.mark.parametrize(
    "k", [pytest.param(k, marks=pytest.mark.slow if k in (3, 5) else ()) for k in SIZES]
)
def test_the_planted_solution_is_found(k):
    """Where B is positive definite the solution is unique: X to 1e-7 for every rank."""
    for rank in {0, 1, k // 2, k}:
        linear, operator, expected = planted_problem(rank, k, rank, 0, k * (k + 1))
        found = solve(linear, operator)
        assert_trees_close(np.asarray(found.solution), expected, rtol=0.0, atol=1e-7)


@pytest.mark.parametrize("k", SIZES)
def test_solutions_agree_with_a_conic_solver(k):
    """X to 1e-6 relative, on random problems with positive definite B."""
    for seed in range(3):
        linear, operator = regular_problem(seed, k)
        expected = conic(linear, operator)
        found = np.asarray(solve(linear, operator).solution)
        scale = np.linalg.norm(expected)
        assert scale > 0.1
        assert_trees_close(found, expected, rtol=0.0, atol=1e-6 * scale)


@pytest.mark.parametrize("k", SIZES)
def test_degenerate_operators_agree_with_a_conic_solver_where_unique(k):
    """For B of low rank the objective and B[X] agree to 1e-6, though X need not."""
    for seed in range(3):
        linear, operator, _ = planted_problem(seed, k, (k + 1) // 2, 0, max(1, k // 2))
        x, y = np.asarray(solve(linear, operator).solution), conic(linear, operator)
        scale = np.linalg.norm(linear)
        assert_trees_close(apply(operator, x), apply(operator, y), rtol=0.0, atol=1e-6 * scale)
        objectives = [np.sum(m * (apply(operator, m) / 2 + linear)) for m in (x, y)]
        assert_trees_close(*objectives, rtol=0.0, atol=1e-6 * scale**2)


@pytest.mark.parametrize("k", [2, 3, 5, 16])
def test_a_rotated_basis_gives_the_rotated_solution(k):
    """X of (Q A Q^T, Q B Q^T) is Q X Q^T to 1e-9."""
    linear, operator = regular_problem(7, k)
    q, _ = np.linalg.qr(np.random.default_rng(8).standard_normal((k, k)))
    rotated = np.einsum("ijkl,ai,bj,ck,dl->abcd", operator, q, q, q, q, optimize=True)
    found = solve(q @ linear @ q.T, rotated)
    expected = q @ np.asarray(solve(linear, operator).solution) @ q.T
    scale = np.linalg.norm(expected)
    assert_trees_close(np.asarray(found.solution), expected, rtol=0.0, atol=1e-9 * scale)


@pytest.mark.parametrize("k", SIZES)
def test_nothing_is_done_where_none_is_needed(k):
    """A >= 0 gives X = 0 exactly, in no iteration, whatever B, also for A = 0 and B = 0."""
    linear, operator = regular_problem(0, k)
    positive = linear @ linear
    for a, b in ((positive, operator), (positive, 0 * operator), (0 * linear, operator)):
        found = solve(a, b)
        assert bool(found.converged)
        assert int(found.iterations) == 0
        # eigh gives the zero eigenvalues of a singular A as rounding errors.
        assert float(jnp.linalg.norm(found.solution)) <= 1e-12


def test_one_mode_is_the_closed_form():
    """X = max(0, -A / B)."""
    for a, b, x in ((-3.0, 2.0, 1.5), (3.0, 2.0, 0.0), (-1e-8, 1e8, 1e-16), (1.0, 0.0, 0.0)):
        found = solve(jnp.full((1, 1), a), jnp.full((1,) * 4, b))
        assert_trees_close(found.solution, jnp.full((1, 1), x), rtol=1e-15, atol=0.0)
        assert bool(found.converged)


@pytest.mark.parametrize("k", SIZES)
def test_a_problem_without_solution_is_reported(k):
    """A < 0 where B does not push: not converged, and everything finite."""
    operator = 1e-12 * operator_of_rank(np.random.default_rng(0), k, 2)
    operator[0], operator[:, 0], operator[:, :, 0], operator[..., 0] = 0, 0, 0, 0
    for pushes in (0.0, 1.0):
        found = solve(-np.eye(k), pushes * operator)
        assert not bool(found.converged)
        assert float(found.residual) > 1e-2
        assert all(bool(jnp.all(jnp.isfinite(x))) for x in (found.solution, found.slack))


def test_nan_is_not_taken_for_a_solution():
    """A nan in A or B ends the iteration and is not converged."""
    linear, operator = regular_problem(0, 3)
    assert not bool(solve(linear * np.nan, operator).converged)
    assert not bool(solve(linear, operator * np.nan).converged)


@pytest.mark.parametrize("k", [1, 3])
def test_a_vmapped_solver_equals_a_loop(k):
    """Regular, degenerate, trivial, unsolvable and nan lanes do not disturb one another."""
    problems = [regular_problem(seed, k) for seed in range(3)]
    linear, operator = problems[0]
    problems += [planted_problem(1, k, 1, k - 1, 1)[:2], (linear @ linear, operator)]
    problems += [(-np.eye(k), 0 * operator), (linear * np.nan, operator)]
    batch = tuple(np.stack(arrays) for arrays in zip(*problems, strict=True))
    together = jax.jit(jax.vmap(solve_complementarity))(*batch)
    for lane, problem in enumerate(problems[:-2]):
        alone = solve(*problem)
        assert_trees_close(jax.tree.map(lambda x, i=lane: x[i], together), alone, atol=1e-9)
    assert together.converged.tolist() == [True] * (len(problems) - 2) + [False] * 2


@pytest.mark.parametrize(
    "k", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(16, marks=pytest.mark.slow)]
)
def test_single_precision_reaches_its_tolerance(float32, k):
    """Residual at most 1e-5 in float32, at extreme scales of A and B too."""
    for seed, (a, b) in enumerate([(1.0, 1.0), (1e-8, 1e8), (1e8, 1e-8), (1e-6, 1e-12)]):
        problems = [regular_problem(seed, k), planted_problem(seed, k, k // 2, 1, k)[:2]]
        for linear, operator in problems:
            linear, operator = (jnp.asarray(x, jnp.float32) for x in (a * linear, b * operator))
            found = solve(linear, operator)
            assert found.solution.dtype == jnp.float32
            assert bool(found.converged)
            assert optimality(linear, operator, found) < 2e-5


def graded_problem(seed: int, k: int, idle: int):
    """Directions whose effect falls over four decades; in the last `idle` of them A is positive."""
    rng = np.random.default_rng(seed)
    grades = np.logspace(0, -2, k)
    linear = symmetric(rng, k) - 3 * np.eye(k)
    linear[range(k - idle, k), range(k - idle, k)] = 5
    outer = np.outer(grades, grades)
    operator = operator_of_rank(rng, k, k * (k + 1))
    return linear, operator * outer[:, :, None, None] * outer[None, None]


@pytest.mark.slow
@pytest.mark.parametrize(("k", "idle"), [(4, 0), (4, 2), (8, 0), (8, 4)])
def test_directions_of_very_different_effect_are_solved_in_single_precision(float32, k, idle):
    """Of 200 problems of each kind 198, 200, 199 and 200 are solved to 2e-5.

    To the tolerance of 1e-5 it is 191, 200, 191 and 200. That is the limit of the precision: the
    solution in float64, rounded to float32, is one of 191, 200, 198 and 200 of these problems.
    """
    del float32
    problems = [graded_problem(seed, k, idle) for seed in range(200)]
    linear, operator = (
        jnp.asarray(x, jnp.float32) for x in map(np.stack, zip(*problems, strict=True))
    )
    found = jax.jit(jax.vmap(solve_complementarity))(linear, operator)
    solved = [
        optimality(a, b, jax.tree.map(lambda x, i=i: x[i], found)) < 2e-5
        for i, (a, b) in enumerate(zip(linear, operator, strict=True))
    ]
    assert sum(solved) >= 195
    assert int(jnp.sum(found.converged)) >= 185


def test_arrays_of_numpy_are_arrays():
    """Of the problem, and of the start."""
    linear, operator = regular_problem(0, 3)
    expected = solve(*map(jnp.asarray, (linear, operator)))
    found = solve_complementarity(linear, operator, start=np.eye(3))
    assert_trees_close(found.solution, expected.solution, rtol=0.0, atol=1e-8)


def test_a_problem_that_is_not_finite_takes_no_factorisation_of_newtons_method():
    """Nor does the other method begin; it is not solved."""
    _, operator = regular_problem(0, 2)
    found = solve(np.diag([np.nan, 1.0]), operator)
    assert int(found.iterations) == 0
    assert not bool(found.converged)


def test_a_small_negative_part_is_solved_to_relative_accuracy():
    """X of order 1e-7 |A| / |B| is right to 1e-6, though the residual is relative to |A|."""
    _, operator = regular_problem(0, 3)
    found = solve(np.diag([-1e-7, 1.0, 3.0]), operator)
    expected = np.zeros((3, 3))
    expected[0, 0] = 1e-7 / operator[0, 0, 0, 0]
    assert_trees_close(np.asarray(found.solution)[0, 0], expected[0, 0], rtol=1e-6, atol=0.0)


def test_the_last_resort_is_exercised():
    """A badly graded problem, beyond Newton's method, is solved to 1e-9 all the same."""
    rng = np.random.default_rng(3)
    grades = np.logspace(0, -4, 5)
    linear = symmetric(rng, 5) * np.sqrt(np.outer(grades, grades))
    outer = np.sqrt(np.outer(grades, grades))
    operator = operator_of_rank(rng, 5, 15) * outer[:, :, None, None] * outer[None, None]
    found = solve(linear, operator)
    assert int(found.iterations) > 15
    assert optimality(linear, operator, found) < 1e-9


def test_a_start_changes_the_work_and_not_the_answer():
    """From the solution of a problem 1% away: the same X to 1e-8, in fewer factorisations."""
    k = 16
    linear, operator = regular_problem(2, k)
    near = linear + 1e-2 * symmetric(np.random.default_rng(3), k)
    cold, start = solve(near, operator), solve(linear, operator).solution
    warm = jax.jit(lambda a, b, x: solve_complementarity(a, b, start=x))(near, operator, start)
    assert_trees_close(warm.solution, cold.solution, rtol=0.0, atol=1e-8)
    assert int(warm.iterations) < int(cold.iterations)


def weighted(problem, weights):
    """A scalar that depends on all of X and S."""
    found = solve_complementarity(*problem)
    return jnp.sum(weights[0] * found.solution) + jnp.sum(weights[1] * found.slack)


value = jax.jit(weighted)


@jax.jit
def derivatives(problem, direction, weights):
    """The derivative along `direction`, and the gradient."""
    forward = jax.jvp(lambda p: weighted(p, weights), (problem,), (direction,))[1]
    return forward, jax.grad(weighted)(problem, weights)


@pytest.mark.parametrize("k", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_derivatives_agree_with_finite_differences(k):
    """Both modes, with respect to A and B, for X of every rank, at strict complementarity."""
    rng = np.random.default_rng(k)
    for rank in range(k + 1):
        problem = planted_problem(10 + rank, k, rank, 0, k * (k + 1))[:2]
        change = operator_of_rank(rng, k, 2) - 2 * operator_of_rank(rng, k, 3)
        direction = (symmetric(rng, k), change)
        weights = (symmetric(rng, k), symmetric(rng, k))
        forward, gradient = derivatives(problem, direction, weights)
        expected = finite_difference_jvp(lambda p, w=weights: value(p, w), problem, direction)
        # The differences divide rounding errors of about 1e-13 by their step of 1e-4.
        assert_trees_close(forward, expected, rtol=1e-6, atol=1e-6)
        paired = sum(jnp.sum(g * d) for g, d in zip(gradient, direction, strict=True))
        assert_trees_close(paired, forward, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_derivatives_are_finite_where_they_are_not_unique():
    """Without strict complementarity, at A = 0, for B = 0, and without a solution."""
    linear, operator, _ = planted_problem(0, 3, 1, 1, 12)
    weights = (np.eye(3), np.zeros((3, 3)))
    for problem in (
        (linear, operator),
        (0 * linear, operator),
        (np.eye(3), 0 * operator),
        (-np.eye(3), 0 * operator),
    ):
        forward, gradient = derivatives(problem, (np.eye(3), operator), weights)
        assert all(bool(jnp.all(jnp.isfinite(x))) for x in (forward, *gradient))


def test_the_gram_operator_is_positive_and_symmetric():
    """B = scale <D_ij, D_kl>, and it solves a problem of the central flow's form."""
    rng = np.random.default_rng(0)
    derivatives = np.stack([symmetric(rng, 3) for _ in range(9)], axis=-1)
    operator = gram_operator(jnp.asarray(derivatives), 0.15)
    expected = 0.15 * np.einsum("ijp,klp->ijkl", derivatives, derivatives)
    assert_trees_close(np.asarray(operator), expected, rtol=1e-13, atol=1e-13)
    assert bool(solve(jnp.diag(jnp.array([-1.0, -0.5, 2.0])), operator).converged)


def test_wrong_shapes_and_counts_are_refused():
    """A ValueError names the argument."""
    linear, operator = jnp.eye(2), jnp.zeros((2,) * 4)
    with pytest.raises(ValueError, match="operator must have shape"):
        solve_complementarity(linear, jnp.zeros((3,) * 4))
    with pytest.raises(ValueError, match="start must have shape"):
        solve_complementarity(linear, operator, start=jnp.eye(3))
    with pytest.raises(ValueError, match="dtype float64"):
        solve_complementarity(linear, operator.astype(jnp.float32))
    with pytest.raises(ValueError, match="max_iterations"):
        solve_complementarity(linear, operator, max_iterations=0)


def test_too_few_iterations_are_reported():
    """A budget of one factorisation is not enough, and `converged` says so."""
    linear, operator = regular_problem(0, 3)
    found = eqx.filter_jit(solve_complementarity)(linear, operator, max_iterations=1)
    assert not bool(found.converged)
    assert float(found.residual) > 1e-9
