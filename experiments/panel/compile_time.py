"""How long JAX takes to compile something."""

import contextlib
import time
from collections.abc import Iterator

import jax

_COMPILING = "/jax/core/compile/"


class CompileTime:
    """The time that JAX spends on tracing, lowering and compiling, in seconds.

    Each of the three is reported when it ends, with its length; a function that is compiled within
    another one's trace is in both reports, so that what counts is the union of the intervals.
    """

    def __init__(self) -> None:
        self._intervals: list[tuple[float, float]] = []

    def note(self, event: str, duration_secs: float, **details: str | int) -> None:
        """Take a report of `jax.monitoring`."""
        del details
        if event.startswith(_COMPILING):
            end = time.monotonic()
            self._intervals.append((end - duration_secs, end))

    @property
    def seconds(self) -> float:
        """The sum so far."""
        total, reached = 0.0, float("-inf")
        for start, end in sorted(self._intervals):
            total += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return total


@contextlib.contextmanager
def compile_time() -> Iterator[CompileTime]:
    """Measure what a block of code compiles; nothing for programs that were compiled before."""
    measured = CompileTime()
    jax.monitoring.register_event_duration_secs_listener(measured.note)
    try:
        yield measured
    finally:
        jax.monitoring.unregister_event_duration_listener(measured.note)
