"""Rod Flow's table (arXiv 2602.01480, 2605.06821)."""

import dataclasses
from typing import TYPE_CHECKING, Any

import pydantic

from .base import BuildError, check_numbers, refuse
from .flows import FLOWS, flow_table

if TYPE_CHECKING:
    from flows.core.trees import Params

# What `flows.RodFlow` takes for the share of rank = "auto", as the resolved config says it.
_SHARE = 0.99


def _fill_share(cls: type, data: Any) -> Any:
    del cls
    if isinstance(data, dict) and data.get("rank") == "auto":
        return {"share": _SHARE, **data}
    return data


def _auto_alone_has_a_share(self: Any) -> Any:
    if self.share is not None and self.rank != "auto":
        message = f"given {self.share}; goes with rank = 'auto' alone, not {self.rank}"
        raise refuse("share", message)
    return self


def _supplied(table: Any, optimizer: Any, start: Any) -> dict[str, Any]:
    """Nothing: rods and their matrix are of a size that fits into memory."""
    import jax
    from jax.flatten_util import ravel_pytree

    from flows.optimizers.adaptive import AdaptiveState
    from flows.optimizers.phase_space import moving

    flat = ravel_pytree(start)[0]

    def carried(params: "Params") -> Any:
        state = moving(optimizer.init(params))
        if not isinstance(state, AdaptiveState):
            return state
        # The flow follows its second moment beside the rods.
        return dataclasses.replace(state, second_moment=None)

    state = jax.eval_shape(carried, start)
    phase = sum(leaf.size for leaf in jax.tree.leaves(state))
    if isinstance(table.rank, int) and table.rank > phase:
        message = f"given {table.rank}; must be at most {phase}, the numbers in the state of the"
        raise BuildError("rank", f"{message} optimizer, which has {flat.size} parameters")
    if isinstance(table.rank, int):
        check_numbers("rank", table.rank, table.rank * phase, "rods")
    if phase <= table.dense_limit:
        check_numbers("dense_limit", table.dense_limit, phase**2, "a matrix Sigma")
    return {}


FLOWS.add(
    flow_table(
        "rod",
        "flows.RodFlow",
        models=(
            "gradient_descent",
            "heavy_ball",
            "nesterov",
            "scalar_rmsprop",
            "rmsprop",
            "adam",
            "adamw",
            "nadam",
            "sam",
        ),
        batched=True,
        defaults={"share": None},
        supplied=_supplied,
        fill_share=pydantic.model_validator(mode="before")(_fill_share),
        auto_alone_has_a_share=pydantic.model_validator(mode="after")(_auto_alone_has_a_share),
    )
)
