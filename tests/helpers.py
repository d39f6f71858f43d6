"""The one way to compare numbers in tests, and finite differences to compare derivatives with."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import jaxtyping
import numpy as np


@contextlib.contextmanager
def as_users_run() -> Iterator[None]:
    """Switch the tests' type checks off, which would see a wrong argument before its owner does.

    What a user meets who passes an argument of the wrong type is the sentence of the function or
    class itself; within this block a test does too.
    """
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def _tolerance(dtype: np.dtype) -> float:
    """Half of the digits that a floating dtype carries; exact for integers and booleans."""
    return float(np.sqrt(jnp.finfo(dtype).eps)) if jnp.issubdtype(dtype, jnp.inexact) else 0.0


def _leaf(leaf: Any) -> np.ndarray:
    """A leaf as a numpy array; PRNG keys by their data."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _compare(x: Any, y: Any, rtol: float | None, atol: float | None) -> str | None:
    """Why `x` and `y` differ, as a sentence, or None where they agree."""
    xs, x_structure = jax.tree_util.tree_flatten_with_path(x)
    ys, y_structure = jax.tree_util.tree_flatten_with_path(y)
    if x_structure != y_structure:
        return f"structures differ: {x_structure} and {y_structure}"
    for (path, x_leaf), (_, y_leaf) in zip(xs, ys, strict=True):
        name = jax.tree_util.keystr(path) or "the value"
        a, b = _leaf(x_leaf), _leaf(y_leaf)
        if a.shape != b.shape:
            return f"{name}: shapes differ: {a.shape} and {b.shape}"
        if a.dtype != b.dtype:
            return f"{name}: dtypes differ: {a.dtype} and {b.dtype}"
        if not jnp.issubdtype(a.dtype, jnp.number) and a.dtype != np.bool_:
            if not np.array_equal(a, b):
                return f"{name}: {a!r} is not {b!r}"
            continue
        default = _tolerance(a.dtype)
        relative = default if rtol is None else rtol
        absolute = default if atol is None else atol
        close = np.isclose(a, b, rtol=relative, atol=absolute, equal_nan=True)
        if not close.all():
            worst = np.unravel_index(np.argmin(close), close.shape)
            return (
                f"{name}: {close.size - close.sum()} of {close.size} entries differ by more than "
                f"rtol={relative:.3g}, atol={absolute:.3g}; the first at {tuple(map(int, worst))}: "
                f"{a[worst]!r} and {b[worst]!r}"
            )
    return None


def tree_allclose(x: Any, y: Any, rtol: float | None = None, atol: float | None = None) -> bool:
    """Whether two pytrees agree in structure, shapes, dtypes and values.

    A Python number counts as an array of NumPy's default dtype (float64, int64), so compare an
    array with an array of its own dtype. `nan` equals `nan`. `rtol` is relative to `y`.

    Args:
        x: any pytree of arrays and numbers.
        y: the pytree to compare with.
        rtol: relative tolerance; by default the square root of the dtype's machine epsilon
            (1.5e-8 in float64, 3.5e-4 in float32), zero for integers and booleans.
        atol: absolute tolerance; the same default.
    """
    return _compare(x, y, rtol, atol) is None


def assert_trees_close(
    x: Any, y: Any, rtol: float | None = None, atol: float | None = None
) -> None:
    """Assert `tree_allclose(x, y, rtol, atol)`, and say which leaf differs and by how much."""
    reason = _compare(x, y, rtol, atol)
    if reason is not None:
        raise AssertionError(reason)


def finite_difference_jvp(
    function: Callable[[Any], Any], x: Any, direction: Any, step: float = 1e-4
) -> Any:
    """The directional derivative of `function` at `x`, by fourth-order central differences.

    In float64 the error is about `step**4` times the fifth derivative plus `1e-16 / step`.

    Args:
        function: from a pytree of float arrays to a pytree of float arrays.
        x: where to differentiate.
        direction: a pytree like `x`.
        step: multiplies `direction`.
    """

    def at(multiple: float) -> Any:
        return function(jax.tree.map(lambda a, d: a + multiple * step * d, x, direction))

    return jax.tree.map(
        lambda f2, f1, b1, b2: (8.0 * (f1 - b1) - (f2 - b2)) / (12.0 * step),
        *(at(2.0), at(1.0), at(-1.0), at(-2.0)),
    )


def finite_difference_gradient(function: Callable[[Any], Any], x: Any, step: float = 1e-4) -> Any:
    """The gradient of a scalar `function` at `x`, one central difference per entry.

    Args:
        function: from a pytree of float arrays to a scalar; it is mapped over by `jax.vmap`.
        x: where to differentiate; a pytree of float arrays.
        step: spacing of the differences.

    Returns:
        A pytree like `x`.
    """
    flat, unravel = jax.flatten_util.ravel_pytree(x)
    basis = jnp.eye(flat.size, dtype=flat.dtype)
    along = jax.vmap(lambda e: finite_difference_jvp(lambda p: function(unravel(p)), flat, e, step))
    return unravel(along(basis))
