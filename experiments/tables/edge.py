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
        keys={"start": (Literal["top", "fit"], "top")},
        most={"half_width": 1000, "degree": 100},
        without=("difference",),
    )
)
