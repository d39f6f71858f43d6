"""The `[[measurements]]` tables: what a user's own classes measure along every trajectory."""

import abc
from typing import TYPE_CHECKING

from .base import Table
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
