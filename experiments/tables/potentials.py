"""The `[potential]` table: the loss to descend, one class per kind.

A new kind is one class (here for toy potentials) and its name in `PotentialTable` of
`schema/experiment.py`.
"""

import abc
from typing import Annotated, Any, Literal, NamedTuple

import pydantic

from .base import (
    NonNegativeFloat,
    PositiveFloat,
    Seed,
    Size,
    SmallSize,
    Table,
    Vector,
    check_numbers,
)


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
    depth: Annotated[int, pydantic.Field(ge=1, le=1000)] = 2

    def build(self) -> BuiltPotential:
        """Build a `potentials.ScalarProduct`."""
        import potentials

        return BuiltPotential(potentials.ScalarProduct(self.depth))


Matrix = Annotated[tuple[Vector, ...], pydantic.Field(strict=False, min_length=1)]


class MatrixFactorizationTable(AbstractToyTable):
    """`kind = "matrix_factorization"`: a product of two factors of `rank` against `target`."""

    kind: Literal["matrix_factorization"]
    target: Matrix
    rank: SmallSize

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
        factors = self.rank * (len(target) + len(target[0]))
        check_numbers("rank", self.rank, factors, "two factors")
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
    width: Size

    def build(self) -> BuiltPotential:
        """Build a `potentials.Catapult`."""
        import potentials

        return BuiltPotential(potentials.Catapult(self.width))


class WeierstrassSineTable(AbstractToyTable):
    """`kind = "weierstrass_sine"`: the sum of sin(k^2 t) / k^2 over k = 1..terms."""

    kind: Literal["weierstrass_sine"]
    terms: SmallSize = 100

    def build(self) -> BuiltPotential:
        """Build a `potentials.WeierstrassSine`."""
        import potentials

        return BuiltPotential(potentials.WeierstrassSine(self.terms))


class WeierstrassTable(AbstractToyTable):
    """`kind = "weierstrass"`: the sum of a^k cos(b^k pi t) over k = 0..terms-1."""

    kind: Literal["weierstrass"]
    a: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.5
    b: Annotated[float, pydantic.Field(gt=1)] = 3.0
    terms: SmallSize = 8

    def build(self) -> BuiltPotential:
        """Build a `potentials.Weierstrass`."""
        import potentials

        return BuiltPotential(potentials.Weierstrass(self.a, self.b, self.terms))


class GaussianPitsTable(AbstractToyTable):
    """`kind = "gaussian_pits"`: a bowl with pits whose places and depths are drawn from `seed`."""

    kind: Literal["gaussian_pits"]
    pits: SmallSize = 40
    depth: NonNegativeFloat = 0.1
    width: PositiveFloat = 0.1
    curvature: NonNegativeFloat = 1.0
    spread: PositiveFloat = 1.0
    dimension: SmallSize = 2
    seed: Seed = 0

    def build(self) -> BuiltPotential:
        """Build a `potentials.GaussianPits`."""
        import potentials

        values = self.model_dump(exclude={"kind", "start"})
        return BuiltPotential(potentials.GaussianPits(**values))


class WhitleyTable(AbstractToyTable):
    """`kind = "whitley"`: Whitley's function of `dimension` parameters."""

    kind: Literal["whitley"]
    dimension: Annotated[int, pydantic.Field(ge=1, le=1000)] = 2

    def build(self) -> BuiltPotential:
        """Build a `potentials.Whitley`."""
        import potentials

        return BuiltPotential(potentials.Whitley(self.dimension))


class SineRegressionTable(AbstractToyTable):
    """`kind = "sine_regression"`: fit sin(w x + b) to a sine of given frequency and phase."""

    kind: Literal["sine_regression"]
    frequency: float = 12.0
    phase: float = 0.5
    # Of two parameters: the loss is evaluated on a whole grid of them.
    examples: Annotated[int, pydantic.Field(ge=2, le=10**4)] = 64

    def build(self) -> BuiltPotential:
        """Build a `potentials.SineRegression`."""
        import potentials

        return BuiltPotential(potentials.SineRegression(self.frequency, self.phase, self.examples))
