"""Change the float dtype of a pytree."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

_Tree = TypeVar("_Tree")


def cast(tree: _Tree, dtype: DTypeLike) -> _Tree:
    """A copy of any pytree with its float arrays in `dtype`; other leaves stay as they are.

    Works on parameters, models, potentials and data sets alike, for example
    `cast(potential, "float32")`.

    Args:
        tree: any pytree.
        dtype: a float dtype; "float64" needs JAX's x64 mode.

    Raises:
        ValueError: if `dtype` is no real float dtype, or is float64 while x64 is off.
    """
    target = np.dtype(dtype)
    if not jnp.issubdtype(target, jnp.floating):
        raise ValueError(f"dtype must be a float dtype, got {target}.")
    if jax.dtypes.canonicalize_dtype(target) != target:
        raise ValueError(
            f"dtype {target} needs JAX's x64 mode: jax.config.update('jax_enable_x64', True)."
        )

    def convert(leaf: Any) -> Any:
        is_float = isinstance(leaf, (jax.Array, np.ndarray)) and jnp.issubdtype(
            leaf.dtype, jnp.floating
        )
        return jnp.asarray(leaf, dtype=target) if is_float else leaf

    return jax.tree.map(convert, tree)
