"""The `[potential]` table: the loss to descend, one class per kind.

A new kind is one class (here for toy potentials) and its name in `PotentialTable` of
`schema/experiment.py`.
"""

import abc
from typing import Annotated, Any, Literal, NamedTuple

import pydantic

from .base import NonNegativeFloat, PositiveFloat, PositiveInt, Table, Vector


class BuiltPotential(NamedTuple):
    """A potential and what besides its loss is worth measuring along a trajectory."""

    potential: Any
    measurements: tuple[Any, ...] = ()


class AbstractPotentialTable(Table, abc.ABC):
    """A table that builds a potential."""

    @abc.abstractmethod
    def build(self) -> BuiltPotential:
        """Build the potential, in the precision that JAX is set to.

        Returns:
            The potential with its measurements.

        Raises:
            ValueError: if the values do not make a potential (no such file, too many classes).
        """


class AbstractToyTable(AbstractPotentialTable):
    """A toy potential's table; `start` (flattened parameters) replaces the seeded start."""

    start: Vector | None = None


class QuadraticTable(AbstractToyTable):
    """`kind = "quadratic"`: sum_i spectrum_i w_i^2 / 2."""

    kind: Literal["quadratic"]
    spectrum: Vector

    def build(self) -> BuiltPotential:
        """Build a `potentials.Quadratic`."""
        import potentials

        return BuiltPotential(potentials.Quadratic(list(self.spectrum)))


class QuarticTable(AbstractToyTable):
    """`kind = "quartic"`: S w^2 / 2 - Q w^4 / 4, with S the curvature at 0."""

    kind: Literal["quartic"]
    curvature: PositiveFloat
    quartic: PositiveFloat = 1.0

    def build(self) -> BuiltPotential:
        """Build a `potentials.Quartic`."""
        import potentials

        return BuiltPotential(potentials.Quartic(self.curvature, self.quartic))


class RingTable(AbstractToyTable):
    """`kind = "ring"`: (x^2 + y^2 - r^2)^2 / 4, minimal on a circle."""

    kind: Literal["ring"]
    radius: PositiveFloat = 1.0

    def build(self) -> BuiltPotential:
        """Build a `potentials.Ring`."""
        import potentials

        return BuiltPotential(potentials.Ring(self.radius))


class DoubleWellTable(AbstractToyTable):
    """`kind = "double_well"`: h ((x/c)^2 - 1)^2 + sum_i k_i y_i^2 / 2."""

    kind: Literal["double_well"]
    height: PositiveFloat = 1.0
    half_width: PositiveFloat = 1.0
    transverse: Annotated[tuple[PositiveFloat, ...], pydantic.Field(strict=False)] = ()

    def build(self) -> BuiltPotential:
        """Build a `potentials.DoubleWell`."""
        import potentials

        return BuiltPotential(
            potentials.DoubleWell(self.height, self.half_width, list(self.transverse))
        )


class SharpValleyTable(AbstractToyTable):
    """`kind = "sharp_valley"`: (y + zeta x) x^2 / 2 - epsilon (x + y)."""

    kind: Literal["sharp_valley"]
    epsilon: NonNegativeFloat
    zeta: float = 1.0

    def build(self) -> BuiltPotential:
        """Build a `potentials.SharpValley`."""
        import potentials

        return BuiltPotential(potentials.SharpValley(self.epsilon, self.zeta))


class SharpValley2Table(AbstractToyTable):
    """`kind = "sharp_valley_2"`: the valley with two sharp directions, five parameters."""

    kind: Literal["sharp_valley_2"]
    epsilon: NonNegativeFloat

    def build(self) -> BuiltPotential:
        """Build a `potentials.SharpValley2`."""
        import potentials

        return BuiltPotential(potentials.SharpValley2(self.epsilon))


class ScalarProductTable(AbstractToyTable):
    """`kind = "scalar_product"`: (w_1 w_2 ... w_depth - 1)^2 / 2."""

    kind: Literal["scalar_product"]
    depth: PositiveInt = 2

    def build(self) -> BuiltPotential:
        """Build a `potentials.ScalarProduct`."""
        import potentials

        return BuiltPotential(potentials.ScalarProduct(self.depth))


Matrix = Annotated[tuple[Vector, ...], pydantic.Field(strict=False, min_length=1)]


class MatrixFactorizationTable(AbstractToyTable):
    """`kind = "matrix_factorization"`: a product of two factors of `rank` against `target`."""

    kind: Literal["matrix_factorization"]
    target: Matrix
    rank: PositiveInt

    @pydantic.field_validator("target")
    @classmethod
    def _rows_have_one_length(cls, target: tuple[Any, ...]) -> tuple[Any, ...]:
        lengths = sorted({len(row) for row in target})
        if len(lengths) > 1:
            raise ValueError(f"must be a matrix, every row of one length; got lengths {lengths}")
        return target

    def build(self) -> BuiltPotential:
        """Build a `potentials.MatrixFactorization`."""
        import potentials

        target = [list(row) for row in self.target]
        return BuiltPotential(potentials.MatrixFactorization(target, self.rank))


class RosenbrockTable(AbstractToyTable):
    """`kind = "rosenbrock"`: (a - x)^2 + b (y - x^2)^2."""

    kind: Literal["rosenbrock"]
    a: float = 1.0
    b: PositiveFloat = 100.0

    def build(self) -> BuiltPotential:
        """Build a `potentials.Rosenbrock`."""
        import potentials

        return BuiltPotential(potentials.Rosenbrock(self.a, self.b))


class CatapultTable(AbstractToyTable):
    """`kind = "catapult"`: f^2 / 2 with f = u.v / sqrt(width)."""

    kind: Literal["catapult"]
    width: PositiveInt

    def build(self) -> BuiltPotential:
        """Build a `potentials.Catapult`."""
        import potentials

        return BuiltPotential(potentials.Catapult(self.width))
