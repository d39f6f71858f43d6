"""The `[optimizer]` table: the discrete map that is run and modelled, one class per kind.

A new kind is one class here and its name in `OptimizerTable`.
"""

import abc
from typing import Annotated, Any, ClassVar, Literal

import pydantic

from .base import Fraction, PositiveFloat, Table


class AbstractOptimizerTable(Table, abc.ABC):
    """A table that builds an optimizer of `flows`."""

    critical_label: ClassVar[str]
    """How the optimizer's critical sharpness follows from its hyperparameters."""

    learning_rate: PositiveFloat

    @abc.abstractmethod
    def build(self) -> Any:
        """Build the optimizer.

        Returns:
            An optimizer of `flows`.
        """


class GradientDescentTable(AbstractOptimizerTable):
    """`kind = "gradient_descent"`: w' = w - learning_rate * grad L(w)."""

    kind: Literal["gradient_descent"]

    critical_label: ClassVar[str] = "2/eta"

    def build(self) -> Any:
        """Build a `flows.GradientDescent`."""
        import flows

        return flows.GradientDescent(self.learning_rate)


class HeavyBallTable(AbstractOptimizerTable):
    """`kind = "heavy_ball"`: m' = momentum * m + grad L(w), w' = w - learning_rate * m'."""

    kind: Literal["heavy_ball"]
    momentum: Fraction

    critical_label: ClassVar[str] = "2(1 + beta)/eta"

    def build(self) -> Any:
        """Build a `flows.HeavyBall`."""
        import flows

        return flows.HeavyBall(self.learning_rate, self.momentum)


class NesterovTable(AbstractOptimizerTable):
    """`kind = "nesterov"`: as the heavy ball, w' = w - learning_rate * (grad L + momentum * m')."""

    kind: Literal["nesterov"]
    momentum: Fraction

    critical_label: ClassVar[str] = "2(1 + beta)/((1 + 2 beta) eta)"

    def build(self) -> Any:
        """Build a `flows.Nesterov`."""
        import flows

        return flows.Nesterov(self.learning_rate, self.momentum)


OptimizerTable = Annotated[
    GradientDescentTable | HeavyBallTable | NesterovTable, pydantic.Field(discriminator="kind")
]
