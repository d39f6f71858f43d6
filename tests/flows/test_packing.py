"""Packed symmetric matrices behave as the matrices themselves."""

import jax
import jax.numpy as jnp
import pytest

from flows import solve_complementarity, third_derivatives
from flows.curvature.derivatives import third_derivative_pairs
from flows.linear_algebra.complementarity import gram_operator, solve_packed_complementarity
from flows.linear_algebra.packed_symmetric import congruence, modes_of, pack, pack_operator, unpack
from tests.helpers import assert_trees_close

K = 3


def symmetric(seed: int) -> jax.Array:
    """A random symmetric matrix."""
    matrix = jax.random.normal(jax.random.key(seed), (K, K))
    return matrix + matrix.T


def derivatives() -> jax.Array:
    """Random D_ij, symmetric in i and j."""
    found = jax.random.normal(jax.random.key(7), (K, K, 8))
    return found + found.swapaxes(0, 1)


def test_packing_keeps_inner_products_and_is_undone_by_unpacking():
    """And the number of modes follows from the length."""
    x, y = symmetric(0), symmetric(1)
    assert_trees_close(pack(x) @ pack(y), jnp.sum(x * y), rtol=1e-14, atol=0.0)
    assert_trees_close(unpack(pack(x), K), x, rtol=0.0, atol=1e-15)
    assert [modes_of(k * (k + 1) // 2) for k in range(1, 17)] == list(range(1, 17))


def test_operators_and_congruences_act_as_on_matrices():
    """B[X] and F X F^T."""
    x, factor = symmetric(0), jax.random.normal(jax.random.key(3), (K, K))
    operator = gram_operator(derivatives(), 0.3)
    expected = jnp.einsum("ijkl,kl->ij", operator, x)
    assert_trees_close(pack_operator(operator) @ pack(x), pack(expected), rtol=1e-13, atol=1e-13)
    turned = pack(factor @ x @ factor.T)
    assert_trees_close(congruence(factor) @ pack(x), turned, rtol=1e-13, atol=1e-13)


@pytest.mark.slow
def test_the_packed_problem_has_the_solution_of_the_other():
    """From the Gram matrix of packed rows, as Central Flow builds it."""
    linear, full = symmetric(2) - 3 * jnp.eye(K), derivatives()
    packed = jax.vmap(pack, in_axes=2, out_axes=1)(full)
    assert packed.shape == (K * (K + 1) // 2, 8)
    found = solve_packed_complementarity(pack(linear), 0.3 * packed @ packed.T)
    expected = solve_complementarity(linear, gram_operator(full, 0.3))
    assert bool(found.converged)
    assert_trees_close(unpack(found.solution, K), expected.solution, rtol=0.0, atol=1e-7)


def test_third_derivatives_are_packed_by_the_same_weights():
    """Of a function whose third derivatives differ from pair to pair."""

    def function(w):
        return jnp.sum(jnp.sin(w) * jnp.cumsum(w) ** 2)

    point, vectors = jnp.linspace(0.1, 0.5, 4), jnp.eye(4)[:K]
    full = third_derivatives(function, point, vectors)
    expected = jax.vmap(pack, in_axes=2, out_axes=1)(full)
    found = third_derivative_pairs(function, point, vectors, packed=True)
    assert_trees_close(found, expected, rtol=1e-13, atol=1e-13)


def test_pairs_of_vectors_that_do_not_matter_are_left_out():
    """They are zero, and the others what they are without that."""
    point, vectors = jnp.asarray([0.3, -0.2, 0.5]), jnp.eye(3)

    def function(w):
        return w[0] ** 3 * w[1] + w[1] ** 2 * w[2] ** 2

    every = third_derivative_pairs(function, point, vectors)
    found = third_derivative_pairs(
        function, point, vectors, wanted=jnp.asarray([True, True, False])
    )
    kept = jnp.asarray([True, True, False, True, False, False])[:, None]
    assert_trees_close(found, jnp.where(kept, every, 0), rtol=1e-15, atol=0.0)
