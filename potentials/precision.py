"""Change the float dtype of a pytree."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

_Tree = TypeVar("_Tree")


def cast(tree: _Tree, dtype: DTypeLike) -> _Tree:
    """Copy a pytree with its float arrays in another dtype; other leaves stay as they are.

    Works on parameters, models, potentials and data sets alike.

    Args:
        tree: any pytree.
        dtype: a float dtype; "float64" needs JAX's x64 mode.

    Returns:
        A pytree of the same structure.

    Raises:
        ValueError: if `dtype` is no real float dtype, or is float64 while x64 is off.

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import Quadratic, cast
        >>> cast({"w": jnp.ones(2), "step": 3}, "float32")
        {'step': 3, 'w': Array([1., 1.], dtype=float32)}
        >>> cast(Quadratic([1.0]), "float32").spectrum.dtype
        dtype('float32')
    """
    target = np.dtype(dtype)
    if not jnp.issubdtype(target, jnp.floating):
        raise ValueError(f"dtype must be a float dtype, got {target}.")
    if jax.dtypes.canonicalize_dtype(target) != target:
        raise ValueError(
            f"dtype {target} needs JAX's x64 mode: jax.config.update('jax_enable_x64', True)."
        )

    def convert(leaf: object) -> object:
        is_array = isinstance(leaf, (jax.Array, np.ndarray))
        is_float = is_array and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(leaf, dtype=target) if is_float else leaf

    return jax.tree.map(convert, tree)
