"""The tables of sharpness-aware minimisation and its flow (arXiv 2010.01412)."""

from typing import Annotated, Any

import pydantic

from .base import BuildError, NonNegativeFloat
from .flows import FLOWS, flow_table
from .optimizers import OPTIMIZERS, optimizer_table
from .schedules import LearningRate


def sam(
    learning_rate: Any,
    radius: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    smoothing: float = 0.0,
    normalised: bool = True,
) -> Any:
    """Make SAM of gradient descent, or with a momentum of the heavy ball.

    Raises:
        BuildError: if there is a weight decay and momentum.
    """
    import flows

    if momentum:
        if weight_decay:
            message = f"given {weight_decay:g}; must be 0 with momentum, that of the heavy ball"
            raise BuildError("weight_decay", message)
        base = flows.HeavyBall(learning_rate, momentum)
    else:
        base = flows.GradientDescent(learning_rate, weight_decay)
    return flows.SAM(base, radius, smoothing, normalised=normalised)


OPTIMIZERS.add(
    optimizer_table(
        "sam",
        sam,
        critical_label="lambda*(|g|)",
        keys={
            "learning_rate": LearningRate,
            "radius": NonNegativeFloat,
            "momentum": (Annotated[float, pydantic.Field(ge=0, lt=1)], 0.0),
            "weight_decay": (NonNegativeFloat, 0.0),
            "smoothing": (NonNegativeFloat, 0.0),
        },
    )
)

FLOWS.add(
    flow_table(
        "sharpness_aware",
        "flows.SharpnessAwareFlow",
        models=("sam",),
        batched=True,
    )
)
