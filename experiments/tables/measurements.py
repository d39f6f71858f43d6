"""The `[[measurements]]` tables: what is measured along every trajectory, besides the usual."""

import abc
from typing import TYPE_CHECKING

from .base import Table
from .kinds import Registry

if TYPE_CHECKING:
    import flows


class AbstractMeasurementTable(Table, abc.ABC):
    """A table that builds a measurement beside loss and gradient, which are always measured."""

    kind: str

    @abc.abstractmethod
    def build(self) -> "flows.AbstractMeasurement":
        """Build the measurement."""


MEASUREMENTS: Registry[type[AbstractMeasurementTable]] = Registry("measurement")
