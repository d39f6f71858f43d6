"""Eigenpairs and third derivatives against dense linear algebra and finite differences."""

import equinox as eqx
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.flatten_util import ravel_pytree

from flows import (
    follow_modes,
    hvp,
    linearise_gradient,
    third_derivative,
    third_derivatives,
    top_eigenpairs,
)
from flows.curvature.eigenpairs import Eigenpairs
from flows.curvature.metric import DiagonalMetric, IdentityMetric
from flows.linear_algebra.eigensolver import Demand, block_eigenpairs
from tests.helpers import assert_trees_close, finite_difference_jvp


class Network(eqx.Module):
    """Mean squared error of a small tanh network on random data."""

    static: eqx.nn.MLP = eqx.field(static=True)
    inputs: jax.Array
    targets: jax.Array

    def __call__(self, params):
        outputs = jax.vmap(eqx.combine(params, self.static))(self.inputs)
        return 0.5 * jnp.mean(jnp.sum((outputs - self.targets) ** 2, axis=1))


def network(width: int) -> tuple[Network, eqx.nn.MLP]:
    """A network with 8 inputs, two hidden layers and 3 outputs, and its parameters."""
    keys = jax.random.split(jax.random.key(3), 3)
    model = eqx.nn.MLP(8, 3, width, 2, jnp.tanh, key=keys[0])
    params, static = eqx.partition(model, eqx.is_inexact_array)
    inputs = jax.random.normal(keys[1], (40, 8))
    return Network(static, inputs, jax.random.normal(keys[2], (40, 3))), params


def dense_hessian(potential, params) -> jax.Array:
    """The whole Hessian, as independent evidence."""
    flat, unravel = ravel_pytree(params)
    return jax.jit(jax.hessian(lambda w: potential(unravel(w))))(flat)


@pytest.mark.slow
def test_eigenpairs_of_a_network_agree_with_the_dense_ones():
    """Without the Hessian, at P about 1000: values and vectors to 1e-5 relative."""
    potential, params = network(26)
    hessian = dense_hessian(potential, params)
    assert hessian.shape[0] == 1017
    values, vectors = jnp.linalg.eigh(hessian)
    found = top_eigenpairs(potential, params, 5, tolerance=1e-7)
    assert bool(jnp.all(found.converged))
    assert_trees_close(found.values, values[::-1][:5], rtol=1e-5, atol=0.0)
    overlaps = jnp.abs(jnp.sum(found.vectors * vectors[:, ::-1][:, :5].T, axis=1))
    # An angle of 1e-5 leaves an overlap of 1 - 5e-11.
    assert_trees_close(overlaps, jnp.ones(5), rtol=0.0, atol=1e-10)
    assert_trees_close(found.vectors @ found.vectors.T, jnp.eye(5), rtol=0.0, atol=1e-12)


def test_residuals_bound_the_errors_also_when_the_iteration_is_cut_short():
    """An unconverged pair says so, and an eigenvalue lies within its residual of the value."""
    potential, params = network(26)
    exact = jnp.linalg.eigvalsh(dense_hessian(potential, params))
    found = top_eigenpairs(potential, params, 3, max_products=15)
    assert not bool(jnp.all(found.converged))
    nearest = jnp.min(jnp.abs(found.values[:, None] - exact[None, :]), axis=1)
    assert bool(jnp.all(nearest <= found.residuals + 1e-12))
    assert bool(jnp.any(found.residuals > 1e-4))


def test_a_good_start_makes_the_eigenpairs_cheap():
    """Started from the eigenvectors themselves, one product per pair is enough."""
    potential, params = network(26)
    cold = top_eigenpairs(potential, params, 3)
    warm = top_eigenpairs(potential, params, 3, start=cold.vectors)
    assert int(warm.hvps) == 3
    assert int(cold.hvps) > 20
    assert_trees_close(warm.values, cold.values, rtol=1e-10, atol=0.0)


def test_dense_and_iterative_eigenpairs_agree():
    """The two independent computations of the same pairs, up to sign conventions that agree too."""
    potential, params = network(12)
    dense = top_eigenpairs(potential, params, 4)
    iterative = top_eigenpairs(potential, params, 4, dense_limit=0, tolerance=1e-10)
    assert_trees_close(iterative.values, dense.values, rtol=1e-12, atol=0.0)
    assert_trees_close(iterative.vectors, dense.vectors, rtol=0.0, atol=1e-7)


@jax.jit
def _block_eigenpairs(matrix, start):
    return block_eigenpairs(
        lambda row: row @ matrix,
        start,
        wanted=start.shape[0],
        demand=Demand(jnp.asarray(1e-9)),
        max_products=600,
    )


@hypothesis.given(
    count=st.sampled_from([1, 3]),
    rank=st.integers(0, 12),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    seed=st.integers(0, 1000),
)
def test_block_iteration_finds_the_top_of_any_spectrum(count, rank, scale, seed):
    """Low rank, repeated and negative eigenvalues, any scale: residuals vanish, vectors are
    orthonormal, and the values are the largest.
    """
    rng = np.random.default_rng(seed)
    size = 30
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    spectrum = np.zeros(size)
    spectrum[:rank] = np.round(rng.normal(size=rank) * 2)
    matrix = jnp.asarray(scale * (basis * spectrum) @ basis.T)
    start = jnp.asarray(rng.normal(size=(count, size)))
    found = _block_eigenpairs(matrix, start)
    top = np.sort(scale * spectrum)[::-1][:count]
    assert_trees_close(found.values, jnp.asarray(top), rtol=1e-9, atol=1e-7 * scale)
    assert_trees_close(found.vectors @ found.vectors.T, jnp.eye(count), rtol=0.0, atol=1e-10)


def test_modes_are_followed_through_a_crossing_of_eigenvalues():
    """Where two eigenvalues cross, each mode keeps its eigenvector, its sign and its line."""
    angle = 0.3
    rotation = jnp.asarray([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    modes = None
    values = []
    for t in np.linspace(0.0, 1.0, 11):
        hessian = rotation @ jnp.diag(jnp.asarray([1.0 + t, 1.55 - t])) @ rotation.T
        pairs = top_eigenpairs(lambda w, h=hessian: 0.5 * w @ h @ w, jnp.zeros(2), 2)
        if modes is None:
            pairs = Eigenpairs(
                pairs.values, -pairs.vectors, pairs.residuals, pairs.hvps, pairs.converged
            )
        else:
            pairs = follow_modes(pairs, modes)
        modes = pairs.vectors
        values.append(pairs.values)
    line = np.linspace(0.0, 1.0, 11)
    expected = jnp.asarray(np.stack([1.55 - line, 1.0 + line], axis=1))
    assert_trees_close(jnp.stack(values), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_products_and_the_gradient_share_one_linearisation():
    """The linearised gradient gives the gradient and H v, as the pytree version does."""
    potential, params = network(6)
    flat, unravel = ravel_pytree(params)
    vector = jax.random.normal(jax.random.key(5), flat.shape)
    gradient, product = linearise_gradient(potential, params)
    assert_trees_close(gradient, ravel_pytree(jax.grad(potential)(params))[0])
    by_tree = ravel_pytree(hvp(potential, params, unravel(vector)))[0]
    assert_trees_close(product(vector), by_tree, rtol=1e-10, atol=1e-12)
    assert_trees_close(product(vector), dense_hessian(potential, params) @ vector, rtol=1e-9)


@pytest.mark.slow
def test_third_derivatives_agree_with_finite_differences():
    """grad_w (u^T H v), along a random direction, and symmetric in u and v."""
    potential, params = network(6)
    flat, unravel = ravel_pytree(params)
    u, v, w = jax.random.normal(jax.random.key(7), (3, flat.size))
    third = third_derivative(potential, params, unravel(u), unravel(v))

    def curvature(x):
        return u @ ravel_pytree(hvp(potential, unravel(x), unravel(v)))[0]

    by_difference = finite_difference_jvp(curvature, flat, w, step=1e-3)
    # Fourth-order differences at step 1e-3 leave about 1e-8 of the value here.
    assert_trees_close(ravel_pytree(third)[0] @ w, by_difference, rtol=1e-6, atol=1e-6)
    mirrored = third_derivative(potential, params, unravel(v), unravel(u))
    assert_trees_close(third, mirrored, rtol=1e-10, atol=1e-10)
    block = third_derivatives(potential, params, jnp.stack([u, v]))
    assert block.shape == (2, 2, flat.size)
    assert_trees_close(block[0, 1], ravel_pytree(third)[0], rtol=1e-10, atol=1e-10)
    assert_trees_close(block, jnp.swapaxes(block, 0, 1), rtol=0.0, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("width", [pytest.param(12, marks=pytest.mark.slow), 26])
def test_eigenpairs_in_a_metric_are_those_of_the_generalised_problem(width):
    """H u = lambda P u with U P U^T = 1, from the whole Hessian and beyond the dense limit."""
    potential, params = network(width)
    hessian = dense_hessian(potential, params)
    diagonal = np.exp(np.random.default_rng(0).uniform(-1, 1, len(hessian)))
    metric = DiagonalMetric(jnp.asarray(diagonal))
    found = top_eigenpairs(potential, params, 3, metric=metric, tolerance=1e-7)
    values, vectors = scipy.linalg.eigh(np.asarray(hessian), np.diag(diagonal))
    assert bool(jnp.all(found.converged))
    assert_trees_close(found.values, jnp.asarray(values[::-1][:3]), rtol=1e-10, atol=0.0)
    overlaps = jnp.abs(jnp.sum(metric.apply(found.vectors) * vectors[:, ::-1][:, :3].T, axis=1))
    assert_trees_close(overlaps, jnp.ones(3), rtol=0.0, atol=1e-9)
    gram = metric.apply(found.vectors) @ found.vectors.T
    assert_trees_close(gram, jnp.eye(3), rtol=0.0, atol=1e-12)
    residuals = found.vectors @ hessian - found.values[:, None] * metric.apply(found.vectors)
    norms = jnp.linalg.norm(metric.inverse_sqrt(residuals), axis=1)
    # Those of the dense computation are rounding errors.
    assert_trees_close(found.residuals, norms, rtol=1e-4, atol=1e-12)
    # A start is one of the eigenvectors themselves, in the metric too.
    warm = top_eigenpairs(
        potential, params, 3, metric=metric, start=found.vectors, tolerance=1e-6, dense_limit=0
    )
    assert int(warm.hvps) == 3


def test_a_metric_has_roots_and_inverses():
    """Of single vectors and of rows; the identity returns what it is given."""
    metric, rows = DiagonalMetric(jnp.asarray([4.0, 0.25, 1.0])), jnp.arange(6.0).reshape(2, 3)
    for vectors in (rows, rows[0]):
        assert_trees_close(metric.apply(vectors), vectors @ jnp.diag(metric.diagonal))
        assert_trees_close(metric.sqrt(metric.sqrt(vectors)), metric.apply(vectors))
        assert_trees_close(metric.inverse(metric.apply(vectors)), vectors)
        assert_trees_close(metric.inverse_sqrt(metric.sqrt(vectors)), vectors)
    identity = IdentityMetric()
    for same in (identity.apply, identity.inverse, identity.sqrt, identity.inverse_sqrt):
        assert same(rows) is rows


def test_the_identity_costs_nothing():
    """The program with it is that without a metric."""
    potential, params = network(4)

    def found(metric):
        return str(jax.make_jaxpr(lambda p: top_eigenpairs(potential, p, 2, metric=metric))(params))

    assert found(IdentityMetric()) == found(None)
    assert found(DiagonalMetric(jnp.ones(ravel_pytree(params)[0].size))) != found(None)


@pytest.mark.slow
@pytest.mark.parametrize("dense_limit", [512, 0])
def test_eigenpairs_in_a_metric_transform(dense_limit):
    """They jit, vmap over metrics, and differentiate: d lambda / d P_pp = -lambda u_p^2."""
    hessian = jnp.asarray([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]])
    diagonals = jnp.asarray([[1.0, 2.0, 0.5], [0.7, 1.1, 3.0]])

    def top(diagonal):
        metric = DiagonalMetric(diagonal)
        return top_eigenpairs(
            lambda w: 0.5 * w @ hessian @ w, jnp.zeros(3), metric=metric, tolerance=1e-9,
            dense_limit=dense_limit,
        )  # fmt: skip

    pairs = jax.jit(jax.vmap(top))(diagonals)
    for diagonal, value in zip(diagonals, pairs.values[:, 0], strict=True):
        expected = scipy.linalg.eigh(np.asarray(hessian), np.diag(diagonal))[0][-1]
        assert_trees_close(value, jnp.asarray(expected), rtol=1e-10, atol=0.0)
    # The iteration is a loop, which has derivatives forward only.
    slope = jax.jit(jax.jacfwd(lambda d: top(d).sharpness))(diagonals[0])
    expected = -pairs.values[0, 0] * pairs.vectors[0, 0] ** 2
    assert_trees_close(slope, expected, rtol=1e-6, atol=1e-8)
    if dense_limit:
        gradient = jax.jit(jax.grad(lambda d: top(d).sharpness))(diagonals[0])
        assert_trees_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_eigenpairs_transform():
    """They jit, vmap over points, and differentiate: d lambda = u^T dH u."""
    potential, params = network(4)
    flat, unravel = ravel_pytree(params)

    def sharpness(w):
        return top_eigenpairs(lambda x: potential(unravel(x)), w, 1).sharpness

    slope = jax.jit(jax.grad(sharpness))(flat)
    vector = top_eigenpairs(potential, params, 1).vectors[0]
    third = third_derivative(lambda x: potential(unravel(x)), flat, vector, vector)
    assert_trees_close(slope, third, rtol=1e-8, atol=1e-8)
    points = jnp.stack([flat, 1.1 * flat])
    mapped = jax.vmap(sharpness)(points)
    assert_trees_close(mapped, jnp.stack([sharpness(x) for x in points]), rtol=1e-10)


@pytest.mark.slow
def test_float32_eigenpairs_stay_in_float32(float32):
    """Single precision in, single precision out, accurate to its rounding."""
    del float32
    potential, params = network(26)
    found = top_eigenpairs(potential, params, 3)
    assert {x.dtype for x in (found.values, found.vectors, found.residuals)} == {
        jnp.dtype("float32")
    }
    exact = jnp.linalg.eigvalsh(dense_hessian(potential, params))[::-1][:3]
    assert_trees_close(found.values, exact, rtol=1e-4, atol=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count must be an integer of at least 1"),
        ({"count": 4}, "count must be at most the number of parameters, 3"),
        ({"count": 2, "start": jnp.zeros((1, 3))}, "start must have shape"),
        ({"params": [1, 2]}, r"params\[0\] must be a float array; got dtype int"),
        ({"tolerance": 0.0}, "tolerance must be a number between 0 and 1"),
        ({"max_products": 0}, "max_products must be an integer of at least 1"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    """The message names the argument and what is allowed."""
    with pytest.raises(ValueError, match=message):
        top_eigenpairs(lambda w: jnp.sum(w**2), **{"params": jnp.ones(3), **options})


def test_the_products_with_the_start_are_made_whatever_their_bound():
    """Rayleigh and Ritz on the start alone; of parameters in a list of numbers."""
    rates = np.arange(1.0, 9.0)
    start = np.asarray(jax.random.normal(jax.random.key(1), (3, 8)))
    found = top_eigenpairs(
        lambda w: 0.5 * sum(rate * x**2 for rate, x in zip(rates, w, strict=True)),
        [1.0] * 8,
        3,
        start=jnp.asarray(start),
        max_products=2,
        dense_limit=0,
    )
    rows = np.linalg.qr(start.T)[0]
    expected = np.linalg.eigvalsh(rows.T @ (rates[:, None] * rows))[::-1]
    assert_trees_close(found.values, jnp.asarray(expected), rtol=1e-12)
    assert int(found.hvps) == 3
    assert not bool(jnp.any(found.converged))
    assert bool(jnp.all(jnp.isfinite(found.residuals)))


@pytest.mark.slow
def test_remote_pairs_may_be_coarse():
    """They take fewer products; pairs that may be above the mark are as accurate as ever."""
    values = np.concatenate([[10.0], np.linspace(0, 4, 60)])
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((61, 61)))[0]
    matrix = jnp.asarray(basis @ np.diag(values) @ basis.T)
    start = jax.random.normal(jax.random.key(1), (3, 61))

    def find(remote):
        fine = jnp.asarray(1e-8)
        demand = Demand(fine, 1e4 * fine, remote)
        return block_eigenpairs(
            lambda row: row @ matrix, start, wanted=3, demand=demand, max_products=600
        )

    fine, coarse = find(None), find(jnp.asarray(6.0))
    assert int(coarse.products) < int(fine.products)
    assert float(fine.residuals.max()) <= 1e-7
    assert float(coarse.residuals[0]) <= 1e-7
    assert float(coarse.residuals.max()) <= 1e-3
    # The error of an eigenvalue is at most its residual.
    assert_trees_close(coarse.values, fine.values, rtol=0.0, atol=1e-3)
    assert_trees_close(coarse.values[0], jnp.asarray(10.0), rtol=1e-12, atol=0.0)
