"""Central Flow's table (arXiv 2410.24206)."""

from typing import Any

from .base import BuildError
from .flows import FLOWS, flow_table

# As many as `flows.CentralFlow` can watch.
_MOST_MODES = 16


def _vectors(table: Any) -> int:
    """The centre, and the directions of the variances."""
    return 1 + (table.rank if isinstance(table.rank, int) else _MOST_MODES)


def _supplied(table: Any, optimizer: Any, start: Any) -> dict[str, Any]:
    """The flow gives its directions, to measure variances along."""
    from jax.flatten_util import ravel_pytree

    del optimizer
    size = ravel_pytree(start)[0].size
    if isinstance(table.rank, int) and table.rank > size:
        message = f"given {table.rank}; must be at most the number of parameters, {size}"
        raise BuildError("rank", message)
    return {"directions": True}


FLOWS.add(
    flow_table(
        "central",
        "flows.CentralFlow",
        models=("gradient_descent", "scalar_rmsprop", "rmsprop"),
        vectors=_vectors,
        defaults={"rank": "auto"},
        most={"rank": _MOST_MODES},
        supplied=_supplied,
        without=("directions",),
    )
)
