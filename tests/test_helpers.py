import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import (
    assert_trees_close,
    finite_difference_gradient,
    finite_difference_jvp,
    tree_allclose,
)


def test_equal_trees_are_close():
    """Structure, shape, dtype and values all agree, nan and PRNG keys included."""
    tree = {"a": jnp.array([1.0, jnp.nan]), "b": (jnp.arange(3), jax.random.key(1), True)}
    assert tree_allclose(tree, jax.tree.map(lambda leaf: leaf, tree))


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ({"a": jnp.ones(2)}, {"b": jnp.ones(2)}, "structures differ"),
        ((jnp.ones(2),), [jnp.ones(2)], "structures differ"),
        (jnp.ones(2), jnp.ones((1, 2)), "shapes differ"),
        (jnp.ones(()), jnp.ones(1), "shapes differ"),
        (jnp.ones(2), jnp.ones(2, dtype=jnp.float32), "dtypes differ"),
        (jnp.ones(2), jnp.array([1.0, 1.0 + 1e-6]), "1 of 2 entries differ"),
        (jnp.ones(2), jnp.array([1.0, jnp.nan]), "1 of 2 entries differ"),
        (jnp.array(jnp.inf), jnp.array(-jnp.inf), "1 of 1 entries differ"),
        (jnp.arange(2), jnp.arange(2) + 1, "2 of 2 entries differ"),
        (jax.random.key(0), jax.random.key(1), "entries differ"),
        ({"deep": [jnp.zeros(1), jnp.ones(1)]}, {"deep": [jnp.zeros(1), jnp.zeros(1)]}, "deep"),
    ],
)
def test_each_kind_of_difference_is_seen_and_named(x, y, reason):
    """A helper that lets a difference through would make every other test worthless."""
    assert not tree_allclose(x, y)
    with pytest.raises(AssertionError, match=reason):
        assert_trees_close(x, y)


def test_the_tolerances_given_are_the_ones_used():
    """Each of rtol and atol loosens the comparison by themselves, and zero makes it exact."""
    x, y = jnp.array([1.0]), jnp.array([1.01])
    assert not tree_allclose(x, y)
    assert tree_allclose(x, y, rtol=0.02, atol=0.0)
    assert tree_allclose(x, y, rtol=0.0, atol=0.02)
    assert not tree_allclose(x, y, rtol=0.005, atol=0.0)
    assert not tree_allclose(x, y, rtol=0.0, atol=0.005)
    assert not tree_allclose(y, jnp.nextafter(y, x), rtol=0.0, atol=0.0)


def test_the_default_tolerance_follows_the_dtype():
    """A relative error of 1e-5 is noise in float32 and a fault in float64."""
    x = np.array([100.0, 200.0])
    y = x * (1 + 1e-5)
    assert not tree_allclose(x, y)
    assert tree_allclose(x.astype(np.float32), y.astype(np.float32))


def test_finite_differences_give_the_derivatives_of_a_known_function():
    """On sum(sin(a)) + b^4 the central differences match the closed form to 1e-10."""
    x = {"a": jnp.array([[0.3, -1.2]]), "b": jnp.array(0.7)}
    exact = {"a": jnp.cos(x["a"]), "b": 4 * x["b"] ** 3}

    def function(p):
        return jnp.sum(jnp.sin(p["a"])) + p["b"] ** 4

    assert_trees_close(finite_difference_gradient(function, x), exact, rtol=1e-10, atol=1e-10)
    along = finite_difference_jvp(function, x, {"a": jnp.array([[1.0, 2.0]]), "b": jnp.array(-1.0)})
    expected = exact["a"][0, 0] + 2 * exact["a"][0, 1] - exact["b"]
    assert_trees_close(along, expected, rtol=1e-10, atol=1e-10)


def test_the_float32_fixture_switches_precision(float32):
    """Inside the fixture new arrays are single precision."""
    assert jnp.ones(1).dtype == jnp.float32


def test_precision_is_double_outside_the_fixture():
    """The fixture of the test above was undone."""
    assert jnp.ones(1).dtype == jnp.float64


def test_keys_are_seeded_and_all_different(getkey):
    """The same sequence in every test, and no key twice."""
    first, second = getkey(), getkey()
    assert_trees_close(first, jax.random.key(0))
    assert not tree_allclose(first, second)
