"""Map a function over many inputs, as many at a time as fit into memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def in_batches(function: Callable[[Any], Any], inputs: Any, size: int) -> Any:
    """Return `jax.vmap(function)(inputs)`, computed in batches of at most `size`.

    Unlike `jax.lax.map`'s `batch_size`, which compiles the remainder as a program of its own, it
    makes batches of equal size and fills the last one up with repetitions, which it drops.

    Args:
        function: Of one input.
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
