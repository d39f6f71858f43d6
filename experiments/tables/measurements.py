"""The `[[measurements]]` tables: what a user's own classes measure along every trajectory."""

import abc
from typing import TYPE_CHECKING

from .base import Table
from .constructors import Constructor
from .derived import Recipe, table_of
from .kinds import Registry

if TYPE_CHECKING:
    import flows


class AbstractMeasurementTable(Table, abc.ABC):
    """A table that builds a measurement. None is built in: loss, gradient and `[curvature]` are."""

    kind: str

    @abc.abstractmethod
    def build(self) -> "flows.AbstractMeasurement":
        """Build the measurement."""


MEASUREMENTS: Registry[type[AbstractMeasurementTable]] = Registry("measurement")


def measurement_table(kind: str, constructor: Constructor) -> type[AbstractMeasurementTable]:
    """Derive the table of a measurement.

    Args:
        kind: its name in a config.
        constructor: what makes the measurement.

    Returns:
        The table.
    """
    recipe = Recipe(constructor)

    def build(self: AbstractMeasurementTable) -> "flows.AbstractMeasurement":
        return recipe.construct(self)

    return table_of(AbstractMeasurementTable, kind, recipe, build=build)
