"""Gradient flow's table."""

from .flows import FLOWS, flow_table

FLOWS.add(
    flow_table(
        "gradient",
        "flows.GradientFlow",
        models=(
            "gradient_descent",
            "heavy_ball",
            "nesterov",
            "scalar_rmsprop",
            "rmsprop",
            "adam",
            "adamw",
            "nadam",
            "optax",
        ),
        batched=True,
        solver="tsit5",
    )
)
