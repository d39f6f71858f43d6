"""The optimizers that thresholds are known of, and their hyperparameters in the checks."""

from typing import TypeAlias

from flows import GradientDescent, HeavyBall, Nesterov, RodFlow

Optimizer: TypeAlias = GradientDescent | HeavyBall | Nesterov

LEARNING_RATE = 1.0
MOMENTUM = 0.9

NAMES = ("gradient descent", "heavy ball", "Nesterov")


def optimizer(name: str) -> Optimizer:
    """Return one of `NAMES`, in the precision that JAX is set to."""
    if name == "gradient descent":
        return GradientDescent(LEARNING_RATE)
    return {"heavy ball": HeavyBall, "Nesterov": Nesterov}[name](LEARNING_RATE, MOMENTUM)


def rod_flow(of: Optimizer) -> RodFlow:
    """Return the rod flow of an optimizer as the paper has it, with one rod."""
    return RodFlow(of, rank=1, alignment=False)
