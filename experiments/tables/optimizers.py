"""The `[optimizer]` table: the discrete map that is run and modelled, one class per kind.

A new kind is one class here and its name in `OptimizerTable`.
"""

import abc
from typing import Annotated, Any, ClassVar, Literal

import pydantic

from .base import BuildError, Fraction, NonNegativeFloat, PositiveFloat, SmallSize, Table

# Grid points per parameter of the search for a ball's contacts: a million in all.
_MOST_IN_THE_PLANE = 1000


class AbstractOptimizerTable(Table, abc.ABC):
    """A table that builds an optimizer of `flows`."""

    critical_label: ClassVar[str]
    """How the optimizer's critical sharpness follows from its hyperparameters."""

    batched: ClassVar[bool]
    """Whether many runs may go through one vmapped program, none much slower than the others."""

    learning_rate: PositiveFloat

    @abc.abstractmethod
    def build(self) -> Any:
        """Build the optimizer.

        Returns:
            An optimizer of `flows`.
        """

    def start(self, optimizer: Any, potential: Any, params: Any) -> Any:
        """Return where the optimizer starts, given where the potential does.

        Args:
            optimizer: the built optimizer.
            potential: the built potential.
            params: its start.

        Raises:
            ValueError: if it cannot start there.
        """
        del optimizer, potential
        return params


class GradientDescentTable(AbstractOptimizerTable):
    """`kind = "gradient_descent"`: w' = w - learning_rate * grad L(w)."""

    kind: Literal["gradient_descent"]

    critical_label: ClassVar[str] = "2/eta"
    batched: ClassVar[bool] = True

    def build(self) -> Any:
        """Build a `flows.GradientDescent`."""
        import flows

        return flows.GradientDescent(self.learning_rate)


class HeavyBallTable(AbstractOptimizerTable):
    """`kind = "heavy_ball"`: m' = momentum * m + grad L(w), w' = w - learning_rate * m'."""

    kind: Literal["heavy_ball"]
    momentum: Fraction

    critical_label: ClassVar[str] = "2(1 + beta)/eta"
    batched: ClassVar[bool] = True

    def build(self) -> Any:
        """Build a `flows.HeavyBall`."""
        import flows

        return flows.HeavyBall(self.learning_rate, self.momentum)


class NesterovTable(AbstractOptimizerTable):
    """`kind = "nesterov"`: as the heavy ball, w' = w - learning_rate * (grad L + momentum * m')."""

    kind: Literal["nesterov"]
    momentum: Fraction

    critical_label: ClassVar[str] = "2(1 + beta)/((1 + 2 beta) eta)"
    batched: ClassVar[bool] = True

    def build(self) -> Any:
        """Build a `flows.Nesterov`."""
        import flows

        return flows.Nesterov(self.learning_rate, self.momentum)


class RollingBallTable(AbstractOptimizerTable):
    """`kind = "rolling_ball"`: a ball of `radius` that rolls on height_scale * L (2505.19527).

    The run starts with the contact at the start, or with `drop` at the contact of a ball dropped
    from above with its centre there. `candidates` is how fine the global search for contacts is
    with one or two parameters, `tolerance` how precise a contact has to be, `iterations` how many
    Newton steps may be spent on it; by default what `flows.RollingBall` takes.
    """

    kind: Literal["rolling_ball"]
    radius: NonNegativeFloat
    height_scale: PositiveFloat = 1.0
    drop: bool = False
    candidates: Annotated[int, pydantic.Field(ge=8, le=100_000)] | None = None
    tolerance: PositiveFloat | None = None
    iterations: SmallSize | None = None

    critical_label: ClassVar[str] = "2/(eta + 2 a rho)"
    batched: ClassVar[bool] = False

    def build(self) -> Any:
        """Build a `flows.RollingBall`."""
        import flows

        chosen = {
            "candidates": self.candidates,
            "tolerance": self.tolerance,
            "iterations": self.iterations,
        }
        given: dict[str, Any] = {key: value for key, value in chosen.items() if value is not None}
        return flows.RollingBall(self.learning_rate, self.radius, self.height_scale, **given)

    def start(self, optimizer: Any, potential: Any, params: Any) -> Any:
        """Return where the contact is at the start."""
        from jax.flatten_util import ravel_pytree

        import flows

        if ravel_pytree(params)[0].size == 2 and (self.candidates or 0) > _MOST_IN_THE_PLANE:
            message = f"given {self.candidates}; must be at most {_MOST_IN_THE_PLANE} per parameter"
            raise BuildError("candidates", f"{message} with two parameters")
        return flows.drop(optimizer, potential, params) if self.drop else params


OptimizerTable = Annotated[
    GradientDescentTable | HeavyBallTable | NesterovTable | RollingBallTable,
    pydantic.Field(discriminator="kind"),
]
