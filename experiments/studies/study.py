"""The abstraction of a study: parts that are computed one by one, and what they show together."""

import abc
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

from ..tables.base import Table

if TYPE_CHECKING:
    from xarray import Dataset
else:
    Dataset = Any  # To import xarray takes a second, and a config is read without it.

Parts: TypeAlias = Mapping[str, Dataset]
"""The parts of a study that could be computed, by name."""


class Conclusion(NamedTuple):
    """A number that a study measured, beside what theory says of it.

    Attributes:
        quantity: What was measured, with its unit where it has one.
        measured: The value.
        predicted: What theory says; None where it says nothing.
        standard_error: That of `measured`, where it is a mean over seeds.
    """

    quantity: str
    measured: float
    predicted: float | None = None
    standard_error: float | None = None


def no_tables(study: "AbstractStudy", parts: Parts) -> Mapping[str, Dataset]:
    """Put nothing together, as most studies do."""
    del study, parts
    return {}


class AbstractStudy(Table, abc.ABC):
    """Several small runs, and what follows from them together; the table `[study]` of a config.

    Each part becomes a group of the results store as soon as it is computed, so that an
    interrupted study goes on with the first part that is not there.

    A new study is a final subclass in a module of this package, which need not be named anywhere
    else. Its fields are the keys of its table. Modules are imported to validate a config, so that
    jax, xarray and flows are imported inside of methods.

    Attributes:
        kind: A `Literal` of the one name that chooses this study in a config.
        figures: Names of the figures that draw it.
        tables: `tables(parts)` puts what the parts hold together in further groups of the store, by
            name; by default none.
    """

    kind: str
    figures: ClassVar[tuple[str, ...]]
    tables: ClassVar[Callable[..., Mapping[str, Dataset]]] = no_tables

    @property
    @abc.abstractmethod
    def attributes(self) -> dict[str, Any]:
        """Attributes of the results' root: what all parts have in common."""

    @property
    @abc.abstractmethod
    def parts(self) -> tuple[str, ...]:
        """The parts' names, which name groups of the store, in the order they are computed."""

    @abc.abstractmethod
    def check(self) -> None:
        """Build what the parts are computed with, in the precision that JAX is set to.

        It is called before anything is computed, so that values that each field allows and that
        make no study together are blamed on the config.

        Raises:
            BuildError: if a key is to blame.
            ValueError: if values do not make a study.
        """

    @abc.abstractmethod
    def compute(self, part: str) -> Dataset:
        """Compute a part, from nothing but the study's own fields.

        Args:
            part: One of `parts`.

        Returns:
            An `xarray.Dataset`, every variable with `units` and `long_name`.

        Raises:
            flows.SimulationError: if a run in it stops early; the other parts are computed.
        """

    @abc.abstractmethod
    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Draw the conclusions.

        Args:
            parts: Those of the parts that could be computed.
        """
