"""Friction laws as inline tables, `friction = { kind = "viscous", coefficient = 1.0 }`."""

import abc
from typing import Annotated, Any, Literal

import pydantic

from .base import NonNegativeFloat, PositiveFloat, Table


class AbstractFrictionTable(Table, abc.ABC):
    """A table that builds a friction law of `flows`."""

    coefficient: NonNegativeFloat

    @abc.abstractmethod
    def build(self) -> Any:
        """Build a `flows.AbstractFriction`."""


class ViscousTable(AbstractFrictionTable):
    """`kind = "viscous"`: -gamma v."""

    kind: Literal["viscous"]

    def build(self) -> Any:
        """Build a `flows.Viscous`."""
        import flows

        return flows.Viscous(self.coefficient)


class QuadraticDragTable(AbstractFrictionTable):
    """`kind = "quadratic"`: -c |v| v."""

    kind: Literal["quadratic"]

    def build(self) -> Any:
        """Build a `flows.Quadratic`."""
        import flows

        return flows.Quadratic(self.coefficient)


class CoulombTable(AbstractFrictionTable):
    """`kind = "coulomb"`: -mu v / |v|, regularised at speeds below `width`."""

    kind: Literal["coulomb"]
    width: PositiveFloat = 1e-3

    def build(self) -> Any:
        """Build a `flows.Coulomb`."""
        import flows

        return flows.Coulomb(self.coefficient, self.width)


FrictionTable = Annotated[
    ViscousTable | QuadraticDragTable | CoulombTable, pydantic.Field(discriminator="kind")
]
