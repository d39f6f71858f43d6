"""The parity flow's table."""

from typing import Any, Literal

from .flows import FLOWS, flow_table


def _supplied(table: Any, optimizer: Any, start: Any) -> dict[str, Any]:
    """Nothing, but refuses an optimizer whose map the flow cannot follow before anything is run."""
    from flows.core.trees import squared_norm
    from flows.optimizers.phase_space import check_phase_space

    noisy = table.noise is not None
    check_phase_space(optimizer, squared_norm, start, counters=True, derivative=noisy)
    return {}


FLOWS.add(
    flow_table(
        "parity",
        "flows.ParityFlow",
        batched=True,
        vectors=lambda table: 2 + table.alignment,  # The centre, and the half-difference.
        keys={"start": (Literal["fit", "split"], "fit")},
        most={"order": 4, "half_width": 1000, "degree": 100, "modes": 100},
        supplied=_supplied,
        without=("difference",),
    )
)
