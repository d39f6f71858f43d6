"""Wall times whose ratios are meaningful on a machine that does other things as well."""

import time
from collections.abc import Callable, Mapping

import jax
from jaxtyping import PyTree


def interleaved(
    functions: Mapping[str, Callable[[], PyTree]], *, repeats: int = 7
) -> dict[str, float]:
    """Time functions in turn, A B A B ..., and return the shortest time of each in seconds.

    Other processes only ever add time, so that the minimum is the best estimate; because the
    functions take turns, a slow spell of the machine affects all of them. The first call of each,
    which compiles, is not counted.

    Args:
        functions: The functions by name. Each returns a pytree of arrays; the clock stops once
            they are computed.
        repeats: How often to time each.
    """
    for function in functions.values():
        jax.block_until_ready(function())
    shortest = dict.fromkeys(functions, float("inf"))
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            shortest[name] = min(shortest[name], time.perf_counter() - start)
    return shortest


def compile_seconds(run: Callable[[], PyTree]) -> float:
    """Return the processor seconds of tracing and compiling, on all cores together.

    Args:
        run: What is run twice, with nothing compiled before; it returns a pytree of arrays.
    """
    jax.clear_caches()
    seconds = []
    for _ in range(2):
        start = time.process_time()
        jax.block_until_ready(run())
        seconds.append(time.process_time() - start)
    return seconds[0] - seconds[1]
