"""Map a function over many inputs, as many at a time as fit into memory."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

_Output = TypeVar("_Output")


def in_batches(function: Callable[..., _Output], inputs: PyTree[Array], size: int) -> _Output:
    """Return `jax.vmap(function)(inputs)`, computed in batches of at most `size`.

    `jax.lax.map` with a `batch_size` compiles the remainder as a program of its own. Here all
    batches have the same size: the last one is filled up with repetitions, which are dropped.

    Args:
        function: A function of one input.
        inputs: A pytree of arrays with a leading axis N, at least 1.
        size: The largest batch, at least 1.
    """
    count = jax.tree.leaves(inputs)[0].shape[0]
    batches = -(-count // size)
    mapped = jax.vmap(function)
    if batches == 1:
        return mapped(inputs)
    each = -(-count // batches)
    index = jnp.minimum(jnp.arange(batches * each), count - 1).reshape(batches, each)
    outputs = lax.map(mapped, jax.tree.map(lambda x: x[index], inputs))
    return jax.tree.map(lambda x: x.reshape(batches * each, *x.shape[2:])[:count], outputs)
