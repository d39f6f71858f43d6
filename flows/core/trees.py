"""Arithmetic on parameter pytrees, in the parameters' own dtype.

Hyperparameters are arrays of the default float type while parameters may be float32; casting the
scalar, never the parameters, keeps a float32 run in float32.
"""

from typing import TypeVar

import jax
import jax.core
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

Tree = TypeVar("Tree")

Params = PyTree[Float[Array, "..."]]
"""Parameters: any pytree of float arrays of one dtype, P numbers in all."""


def scaled(factor: ArrayLike, tree: Params) -> Params:
    """Return `factor * tree`, leaf by leaf, in each leaf's dtype."""
    return jax.tree.map(lambda x: jnp.asarray(factor, x.dtype) * x, tree)


def add_scaled(x: Params, factor: ArrayLike, y: Params) -> Params:
    """Return `x + factor * y`, leaf by leaf, in each leaf's dtype."""
    return jax.tree.map(lambda a, b: a + jnp.asarray(factor, a.dtype) * b, x, y)


def squared_norm(tree: Params) -> Float[Array, ""]:
    """Return the sum of the squares of all entries."""
    squares = [jnp.sum(jnp.square(x)) for x in jax.tree.leaves(tree)]
    dtype = jnp.result_type(*(x.dtype for x in squares))
    return jnp.sum(jnp.stack([x.astype(dtype) for x in squares]))


def norm(tree: Params) -> Float[Array, ""]:
    """Return the Euclidean norm of all entries together."""
    return jnp.sqrt(squared_norm(tree))


def dot(x: Params, y: Params) -> Float[Array, ""]:
    """Return the Euclidean inner product of two pytrees of one dtype."""
    products = [jnp.sum(a * b) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)]
    return jnp.sum(jnp.stack(products))


def root(square: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Return the square root, with derivative 0 at 0 instead of infinity; 0 below, nan of nan."""
    above = ~(square <= 0)
    return jnp.where(above, jnp.sqrt(jnp.where(above, square, 1)), 0)


def all_finite(tree: PyTree[Array]) -> Bool[Array, ""]:
    """Return True if every entry of every float leaf is finite."""
    finite = [
        jnp.all(jnp.isfinite(x))
        for x in jax.tree.leaves(tree)
        if jnp.issubdtype(x.dtype, jnp.inexact)
    ]
    return jnp.all(jnp.stack(finite)) if finite else jnp.asarray(True)


def is_traced(tree: PyTree) -> bool:
    """Return True if a leaf is a tracer: JAX is transforming the code that runs."""
    return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree))


def strongly_typed(tree: Tree) -> Tree:
    """Return a tree whose arrays keep their dtypes wherever they are used.

    An array that was made of a Python number is weakly typed: it takes the dtype of what it meets.
    A compiled function takes it for another type, and is compiled once more.
    """
    return jax.tree.map(
        lambda x: lax.convert_element_type(x, x.dtype) if getattr(x, "weak_type", False) else x,
        tree,
    )
