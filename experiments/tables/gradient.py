"""The tables of gradient flow, and of the stable flow of adaptive methods."""

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
            "sam",
            "optax",
        ),
        batched=True,
        solver="tsit5",
    )
)

FLOWS.add(
    flow_table(
        "stable",
        "flows.StableFlow",
        models=("scalar_rmsprop", "rmsprop", "adam", "adamw", "nadam"),
        batched=True,
        solver="tsit5",
    )
)
