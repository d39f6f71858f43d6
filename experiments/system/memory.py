"""Runs that do not fit into memory."""

import contextlib
from collections.abc import Iterator

import jax

from .errors import ConfigError, Problem


@contextlib.contextmanager
def enough_memory(source: str, blamed: str) -> Iterator[None]:
    """Turn running out of memory in a block of code into an error of the config.

    Args:
        source: what to call the config in the error.
        blamed: the keys that may ask for too much.

    Raises:
        ConfigError: in place of what Python or JAX raises.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        what = str(error).partition("\n")[0]
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in what:
            raise
        problem = Problem(blamed, f"more memory than there is would be needed ({what})")
        raise ConfigError(source, [problem]) from error
