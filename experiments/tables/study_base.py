"""What the `[study]` tables share."""

import abc
from typing import Any, ClassVar

import pydantic

from .base import Table


class AbstractStudyTable(Table, abc.ABC):
    """A table that builds a study of `experiments.studies`."""

    figures: ClassVar[tuple[str, ...]]
    """The names of the figures that draw this kind of study."""

    @abc.abstractmethod
    def build(self) -> Any:
        """Build the study, in the precision that JAX is set to.

        Returns:
            An `experiments.studies.AbstractStudy`.

        Raises:
            ValueError: if the values do not make a study.
        """


def _differ(values: tuple[int | float, ...]) -> tuple[int | float, ...]:
    if len({f"{value:g}" for value in values}) < len(values):
        raise ValueError("must differ in their first six digits, which name the parts")
    return values


Distinct = pydantic.AfterValidator(_differ)
