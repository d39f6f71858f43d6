"""Compilation of what runs once: the same numbers, in every transformation, with any compiler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flows.core import compilation
from flows.core.compilation import compiled_once, traced_once
from tests.helpers import assert_trees_close

X = jnp.linspace(0.1, 2.0, 16)


def loss(x, name: str = ""):
    """A number, with a static argument as `eqx.filter_jit` takes."""
    assert name in {"", "other"}
    return jnp.sum(jnp.sin(x) * jnp.exp(-(x**2)))


def expected() -> float:
    """The number by numpy."""
    x = np.linspace(0.1, 2.0, 16)
    return float(np.sum(np.sin(x) * np.exp(-(x**2))))


def test_it_gives_the_functions_numbers() -> None:
    """Sixteen terms of order one: a few units of rounding."""
    assert_trees_close(compiled_once(loss)(X, "other"), expected(), rtol=1e-14)


def test_it_goes_through_other_transformations() -> None:
    """Where an option of the compiler would be refused."""
    quick = compiled_once(loss)
    rows = jnp.stack([X, X])
    assert_trees_close(jax.vmap(quick)(rows), np.full(2, expected()), rtol=1e-14)
    assert_trees_close(jax.jit(quick)(X), expected(), rtol=1e-14)
    slope = np.cos(X) * np.exp(-(X**2)) - 2 * X * np.sin(X) * np.exp(-(X**2))
    assert_trees_close(jax.grad(quick)(X), slope, rtol=1e-13, atol=1e-15)


def test_a_compiler_without_the_options_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """The options belong to a version of XLA."""
    known = compilation._quick_options("cpu")
    assert known, "the pinned version has the options"
    assert compilation._quick_options("gpu") == {}
    monkeypatch.setattr(compilation, "_QUICK", {"xla_no_such_option": 1})
    compilation._quick_options.cache_clear()
    try:
        assert compilation._quick_options("cpu") == {}
        assert_trees_close(compiled_once(loss)(X), expected(), rtol=1e-14)
    finally:
        compilation._quick_options.cache_clear()


def test_what_is_traced_once_is_the_plain_function() -> None:
    """However often it is called, and whatever the values; the caller has its operations."""
    traces = []

    @traced_once
    def squared(x):
        traces.append(None)
        return jnp.sum(x**2)

    def thrice(x):
        return squared(x) + squared(2 * x) + squared(3 * x)

    assert_trees_close(jax.jit(thrice)(X), 14 * jnp.sum(X**2), rtol=1e-14)
    assert len(traces) == 1
    assert "pjit" not in str(jax.make_jaxpr(thrice)(X))
    assert_trees_close(jax.grad(thrice)(X), 28 * X, rtol=1e-14)
