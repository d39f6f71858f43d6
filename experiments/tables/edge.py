"""Edge Flow's table (a reconstruction of arXiv 2606.18080)."""

from .flows import FLOWS, flow_table

FLOWS.add(
    flow_table(
        "edge",
        "flows.EdgeFlow",
        models=("gradient_descent",),
        batched=True,
        # The centre and the half-difference.
        vectors=2,
        # The tracks of a run begin together, at step 0; a config cannot give a half-difference.
        without=("start", "burn", "half_width", "degree", "difference"),
    )
)
