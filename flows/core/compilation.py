"""How functions are compiled: quickly if they run once, traced once if many places call them."""

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

    Its operations become those of its caller, as if it were called plainly. diffrax traces a
    solver's step several times, and a vector field once for each stage.
    """
    return eqx.filter_jit(function, inline=True)  # pyright: ignore[reportCallIssue]


def compiled_once(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Compile a function that is called once, so that compiling it takes longer than running it.

    On a CPU it is compiled without most optimisations, in a fraction of the time; the code may
    take twice as long to run, and rounds differently from that of `eqx.filter_jit`. On other
    devices, and inside other transformations, it is `eqx.filter_jit` itself.
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
    """Return the options for a backend; no options where the compiler does not know all of them."""
    if backend != "cpu":
        return {}
    try:
        jax.jit(jnp.negative, compiler_options=_QUICK).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        # The options are XLA's own, and a later version may drop one (known: jaxlib 0.10).
        return {}
    return _QUICK
