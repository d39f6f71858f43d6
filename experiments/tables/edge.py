"""Edge Flow's table (a reconstruction of arXiv 2606.18080)."""

from typing import Literal

from .flows import FLOWS, flow_table

FLOWS.add(
    flow_table(
        "edge",
        "flows.EdgeFlow",
        models=("gradient_descent",),
        batched=True,
        # The centre and the half-difference.
        vectors=2,
        # A config has no way to give the half-difference itself.
        keys={"start": (Literal["top", "fit"], "top")},
        without=("difference",),
    )
)
