"""Compilation of what runs once, and tracing once of what runs in many places."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .trees import is_traced

_Result = TypeVar("_Result")

# XLA on a CPU: no optimisation by LLVM, and the older way to emit fused loops.
_QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def traced_once(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Trace a function once for all calls with arrays of the same shapes.

    Its operations become those of its caller, as if it were called plainly: diffrax traces a step
    several times, and a vector field for each of its stages.
    """
    return eqx.filter_jit(function, inline=True)  # pyright: ignore[reportCallIssue]


def compiled_once(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Compile a function whose compilation takes longer than the one call that it is made for.

    On a CPU it is compiled in a fraction of the time, for code that may take twice as long; numbers
    differ in their rounding from those of `eqx.filter_jit`, which it is elsewhere, and inside other
    transformations.
    """
    usual = eqx.filter_jit(function)

    @functools.cache
    def quick(backend: str) -> Callable[..., _Result]:
        options = _quick_options(backend)
        return eqx.filter_jit(function, compiler_options=options)  # pyright: ignore[reportCallIssue]

    @functools.wraps(function)
    def call(*arguments: Any) -> _Result:
        chosen = usual if is_traced(arguments) else quick(jax.default_backend())
        return chosen(*arguments)

    return call


@functools.cache
def _quick_options(backend: str) -> dict[str, Any]:
    """Return the options, or none where the compiler has not all of them."""
    if backend != "cpu":
        return {}
    try:
        jax.jit(jnp.negative, compiler_options=_QUICK).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        # They are XLA's own, and may go with a version of it.
        return {}
    return _QUICK
