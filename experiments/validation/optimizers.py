"""The optimizers that thresholds are known of, and their hyperparameters in the checks."""

import flows
from flows import AbstractOptimizer, GradientDescent, HeavyBall, Nesterov

LEARNING_RATE = 1.0
MOMENTUM = 0.9

NAMES = ("gradient descent", "heavy ball", "Nesterov")


def optimizer(name: str) -> AbstractOptimizer:
    """Return one of `NAMES`, in the precision that JAX is set to."""
    if name == "gradient descent":
        return GradientDescent(LEARNING_RATE)
    return {"heavy ball": HeavyBall, "Nesterov": Nesterov}[name](LEARNING_RATE, MOMENTUM)


def rod_flow(of: AbstractOptimizer) -> flows.RodFlow:
    """Return the paper's rod flow of an optimizer, with one rod."""
    return flows.RodFlow(of, rank=1, alignment=False)
