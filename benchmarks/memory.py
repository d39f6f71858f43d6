"""Peak memory of compiled programs as the compiler plans it: exact, and without running them."""

from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import PyTree


def planned_bytes(function: Callable[..., PyTree], *args: PyTree) -> int:
    """Return the bytes that a compiled call needs beyond its arguments: temporaries and results.

    Args:
        function: A function of pytrees, traceable by JAX.
        args: Its arguments. Arrays may be `jax.ShapeDtypeStruct`s; all other leaves are static.

    Raises:
        RuntimeError: If JAX's backend has no memory analysis.
    """
    is_array = lambda x: eqx.is_array(x) or isinstance(x, jax.ShapeDtypeStruct)  # noqa: E731
    arrays, static = eqx.partition(args, is_array)
    traced = jax.jit(
        lambda arrays: eqx.filter(function(*eqx.combine(arrays, static)), eqx.is_array)
    )
    analysis = traced.lower(arrays).compile().memory_analysis()
    if analysis is None:
        raise RuntimeError(f"backend {jax.default_backend()!r} gives no memory analysis.")
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes
