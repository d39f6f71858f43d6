"""The `[optimizer]` table: the discrete map that is run and modelled."""

import abc
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from .base import Key, Table
from .constructors import Constructor
from .derived import NONE, Recipe, RecipeOptions, table_of
from .kinds import Registry
from .schedules import AbstractScheduleTable, LearningRate

if TYPE_CHECKING:
    import flows
    from flows.core.trees import Params


class AbstractOptimizerTable(Table, abc.ABC):
    """A table that builds an optimizer of `flows`."""

    critical_label: ClassVar[str]
    """How the optimizer's critical sharpness follows from its hyperparameters."""

    decayed_label: ClassVar[str]
    """The same with a key `weight_decay` above 0."""

    critical_variable: ClassVar[str]
    """Which variable the critical sharpness is one of; "" if it is none that is measured."""

    batched: ClassVar[bool]
    """True if many runs may go through one vmapped program, none much slower than the others."""

    kind: str
    learning_rate: LearningRate

    @abc.abstractmethod
    def build(self) -> "flows.AbstractOptimizer":
        """Build the optimizer."""

    @abc.abstractmethod
    def start(
        self,
        optimizer: "flows.AbstractOptimizer",
        potential: "flows.Potential",
        params: "Params",
    ) -> "Params":
        """Return where the optimizer starts, given where the potential does.

        Args:
            optimizer: the built optimizer.
            potential: the built potential.
            params: its start.

        Raises:
            ValueError: if it cannot start there.
        """


OPTIMIZERS: Registry[type[AbstractOptimizerTable]] = Registry("optimizer")


def critical_formula(table: AbstractOptimizerTable) -> str:
    """How the critical sharpness of the optimizer of a table follows from its hyperparameters."""
    return table.decayed_label if getattr(table, "weight_decay", 0) else table.critical_label


def is_scheduled(table: AbstractOptimizerTable) -> bool:
    """True if the learning rate changes with time."""
    return isinstance(table.learning_rate, AbstractScheduleTable)


def optimizer_table(
    kind: str,
    constructor: Constructor,
    *,
    critical_label: str,
    decayed_label: str = "",
    critical_variable: str = "sharpness",
    batched: bool = True,
    extra: Mapping[str, Key] = NONE,
    start: Callable[..., Any] | None = None,
    **options: Unpack[RecipeOptions],
) -> type[AbstractOptimizerTable]:
    """Derive the table of an optimizer.

    Args:
        kind: its name in a config.
        constructor: what makes the optimizer, or an optax transformation.
        critical_label: as `AbstractOptimizerTable` has it.
        decayed_label: as `AbstractOptimizerTable` has it; by default `critical_label`.
        critical_variable: as `AbstractOptimizerTable` has it.
        batched: as `AbstractOptimizerTable` has it.
        extra: keys that are not passed to the constructor.
        start: `start(table, optimizer, potential, params)` gives where it starts; by default there.
        **options: of `Recipe`.

    Returns:
        The table.

    Raises:
        TypeError: if the constructor has no argument `learning_rate`.
    """
    recipe = Recipe(constructor, **options)
    if "learning_rate" not in recipe.fields:
        message = "the results of an optimizer name its learning rate; give its constructor an"
        raise TypeError(f"{recipe.name}: {message} argument learning_rate.")

    def build(self: AbstractOptimizerTable) -> "flows.AbstractOptimizer":
        from flows.optimizers.optax_optimizer import as_optimizer

        return as_optimizer(recipe.construct(self))

    def here(self: Any, optimizer: Any, potential: Any, params: Any) -> Any:
        return params if start is None else start(self, optimizer, potential, params)

    members = {"critical_label": critical_label, "critical_variable": critical_variable}
    members |= {"decayed_label": decayed_label or critical_label}
    members |= {"batched": batched, "build": build, "start": here}
    return table_of(AbstractOptimizerTable, kind, recipe, extra, **members)


for _table in (
    optimizer_table(
        "gradient_descent",
        "flows.GradientDescent",
        critical_label="2/eta",
        decayed_label="(2 - eta lambda)/eta",
    ),
    optimizer_table("heavy_ball", "flows.HeavyBall", critical_label="2(1 + beta)/eta"),
    optimizer_table("nesterov", "flows.Nesterov", critical_label="2(1 + beta)/((1 + 2 beta) eta)"),
):
    OPTIMIZERS.add(_table)
