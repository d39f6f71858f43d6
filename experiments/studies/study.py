"""The abstraction of a study: parts that are computed one by one, and what they show together."""

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

import xarray as xr


class Conclusion(NamedTuple):
    """A number that a study measured, beside what theory says; None where it says nothing.

    `standard_error` is that of `measured`, where it is a mean over seeds.
    """

    quantity: str
    measured: float
    predicted: float | None = None
    standard_error: float | None = None


class AbstractStudy(abc.ABC):
    """Several small runs, and what follows from them together.

    Each part becomes a group of the results store as soon as it is computed, so that an
    interrupted study goes on with the first part that is not there. To add a study, write a final
    subclass, and its table in `schema/studies.py`.
    """

    @property
    @abc.abstractmethod
    def attributes(self) -> dict[str, Any]:
        """Attributes of the results' root: what all parts have in common."""

    @property
    @abc.abstractmethod
    def parts(self) -> tuple[str, ...]:
        """The parts' names, which name groups of the store, in the order they are computed."""

    @abc.abstractmethod
    def compute(self, part: str) -> xr.Dataset:
        """Compute a part, from nothing but the study's own values.

        Args:
            part: one of `parts`.

        Returns:
            The part; every variable with `units` and `long_name`.

        Raises:
            flows.SimulationError: if a run in it stops early; the other parts are computed.
        """

    @abc.abstractmethod
    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """Draw the conclusions.

        Args:
            parts: those of the parts that could be computed.
        """
