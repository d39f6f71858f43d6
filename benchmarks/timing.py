"""Wall times that can be divided by each other on a machine that does other things as well."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


def interleaved(
    functions: Mapping[str, Callable[[], Any]], *, repeats: int = 7
) -> dict[str, float]:
    """Time functions in turn, A B A B ..., and return the shortest time of each in seconds.

    Noise of other processes only adds, so the minimum is the estimate that suffers least; taking
    turns lets a slow spell of the machine hit all of them. One call of each, which compiles, is
    not counted.

    Args:
        functions: By name; each returns a pytree of arrays, whose computation is waited for.
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
