"""The tables of the rolling ball and of its centre's flow (arXiv 2505.19527)."""

from typing import Annotated, Any

import pydantic

from .base import MOST_WORK, BuildError
from .flows import FLOWS, flow_table
from .optimizers import OPTIMIZERS, optimizer_table

# Grid points per parameter of the search for a ball's contacts: a million in all.
_MOST_IN_THE_PLANE = 1000


def _start(table: Any, optimizer: Any, potential: Any, params: Any) -> Any:
    """The contact at the start, or with `drop` that of a ball dropped from above, centred there."""
    from jax.flatten_util import ravel_pytree

    import flows

    if ravel_pytree(params)[0].size == 2 and (table.candidates or 0) > _MOST_IN_THE_PLANE:
        message = f"given {table.candidates}; must be at most {_MOST_IN_THE_PLANE} per parameter"
        raise BuildError("candidates", f"{message} with two parameters")
    return flows.drop(optimizer, potential, params) if table.drop else params


RollingBallTable = OPTIMIZERS.add(
    optimizer_table(
        "rolling_ball",
        "flows.RollingBall",
        critical_label="2/(eta + 2 a rho)",
        batched=False,
        keys={"candidates": (Annotated[int, pydantic.Field(ge=8, le=100_000)], None)},
        most={"iterations": MOST_WORK},
        extra={"drop": (bool, False)},
        start=_start,
    )
)


def _supplied(table: Any, optimizer: Any, start: Any) -> dict[str, Any]:
    """Adds radius times the largest principal curvature at the contact to the observables."""
    del optimizer, start
    return {"curvature": table.principal_curvature}


FLOWS.add(
    flow_table(
        "ball_centre",
        "flows.BallCentreFlow",
        models=("rolling_ball",),
        vectors=2,  # The centre, and the contact.
        extra={"principal_curvature": (bool, True)},
        supplied=_supplied,
        without=("curvature",),
    )
)
