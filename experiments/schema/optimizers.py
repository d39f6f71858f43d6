"""The `[optimizer]` table: the discrete map that is run and modelled, one class per kind."""

import abc
from typing import Any, Literal

from .base import PositiveFloat, Table


class AbstractOptimizerTable(Table, abc.ABC):
    """A table that builds an optimizer of `flows`."""

    @abc.abstractmethod
    def build(self) -> Any:
        """Build the optimizer.

        Returns:
            An optimizer of `flows`.
        """


class GradientDescentTable(AbstractOptimizerTable):
    """`kind = "gradient_descent"`: w' = w - learning_rate * grad L(w)."""

    kind: Literal["gradient_descent"]
    learning_rate: PositiveFloat

    def build(self) -> Any:
        """Build a `flows.GradientDescent`."""
        import flows

        return flows.GradientDescent(self.learning_rate)


# With a second kind this becomes a union discriminated by `kind`, as in schema/potentials.py.
OptimizerTable = GradientDescentTable
