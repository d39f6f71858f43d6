"""The `[study]` tables of the rolling ball, one class per kind."""

from typing import Annotated, Any, ClassVar, Literal

import pydantic

from .base import (
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Seed,
    Size,
    SmallSize,
    building,
    refuse,
)
from .study_base import AbstractStudyTable, Distinct
from .supervised import SupervisedTable

_GridPoints = Annotated[int, pydantic.Field(ge=101, le=10_000_000)]
_Saves = Annotated[int, pydantic.Field(ge=2, le=100_000)]
_Candidates = Annotated[int, pydantic.Field(ge=8, le=512)]
_Pair = Annotated[tuple[float, ...], pydantic.Field(strict=False, min_length=2, max_length=2)]
_Radii = Annotated[
    tuple[NonNegativeFloat, ...], pydantic.Field(strict=False, min_length=1), Distinct
]
_PositiveRadii = Annotated[
    tuple[PositiveFloat, ...], pydantic.Field(strict=False, min_length=1), Distinct
]
_ThreeRadii = Annotated[
    tuple[PositiveFloat, ...], pydantic.Field(strict=False, min_length=3), Distinct
]
_ThreeSteps = Annotated[tuple[Size, ...], pydantic.Field(strict=False, min_length=3), Distinct]


def _check_grid(points: int, radius: float, length: float) -> None:
    """Refuse a grid that is too large with a border of the radius on both sides."""
    most = 20_000_000
    if points * (1 + 2 * radius / length) > most:
        message = f"given {radius:g}; with points = {points} a line of length {length:g} and a"
        raise refuse("radii", f"{message} border of the radius have more than {most} points")


class BallIroningTable(AbstractStudyTable):
    """`kind = "ball_ironing"`: the sum of sines, ironed with several radii, and balls on it.

    The landscape is that of `potentials.WeierstrassSine(terms)` on [lower, upper], ironed on a
    grid of `points`; each ball is dropped with its centre over `start` and rolls for `horizon`
    units of time (learning rate times steps), of which `saves` points are kept.
    """

    kind: Literal["ball_ironing"]
    terms: Annotated[int, pydantic.Field(ge=1, le=1000)] = 100
    lower: float = 0.0
    upper: float = 2.1
    points: _GridPoints = 1_050_001
    radii: _Radii = (0.0, 0.01, 0.03, 0.1, 0.3)
    start: float = 1.0
    horizon: PositiveFloat = 1.0
    saves: _Saves = 100

    figures: ClassVar[tuple[str, ...]] = ("ball_ironing",)

    @pydantic.model_validator(mode="after")
    def _the_ends_are_in_order(self) -> "BallIroningTable":
        if self.upper <= self.lower:
            message = f"given {self.upper:g}; must be greater than lower = {self.lower:g}"
            raise refuse("upper", message)
        _check_grid(self.points, max(self.radii), self.upper - self.lower)
        return self

    def build(self) -> Any:
        """Build a `studies.BallIroning`."""
        from ..studies.ball_ironing import BallIroning

        return BallIroning(**self.model_dump(exclude={"kind"}))


class BallMinimaTable(AbstractStudyTable):
    """`kind = "ball_minima"`: local minima of ironed landscapes against the radius.

    Of the sum of sines with `terms` on [0, 2.1] and of Weierstrass's function with
    `weierstrass_terms` on [-1, 1], each on a grid of `points`.
    """

    kind: Literal["ball_minima"]
    radii: _PositiveRadii = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    terms: Annotated[int, pydantic.Field(ge=1, le=1000)] = 100
    points: _GridPoints = 1_050_001
    weierstrass_terms: Annotated[int, pydantic.Field(ge=1, le=12)] = 7

    figures: ClassVar[tuple[str, ...]] = ("ball_minima",)

    @pydantic.model_validator(mode="after")
    def _the_grids_are_not_too_large(self) -> "BallMinimaTable":
        # The shorter of the two lines has the finer grid.
        _check_grid(self.points, max(self.radii), 2.0)
        return self

    def build(self) -> Any:
        """Build a `studies.BallMinima`."""
        from ..studies.ball_minima import BallMinima

        return BallMinima(**self.model_dump(exclude={"kind"}))


class BallPitsTable(AbstractStudyTable):
    """`kind = "ball_pits"`: two balls from close starts in a bowl with pits, for several radii.

    The pits are those of `potentials.GaussianPits`; the balls are dropped with their centres over
    `start` and `start` + `offset`, and roll for `horizon` units of time.
    """

    kind: Literal["ball_pits"]
    pits: SmallSize = 40
    depth: NonNegativeFloat = 0.1
    width: PositiveFloat = 0.1
    seed: Seed = 0
    radii: _PositiveRadii = (0.02, 0.1, 0.3, 1.0)
    start: _Pair = (-0.9, 0.8)
    offset: _Pair = (0.08, 0.06)
    horizon: PositiveFloat = 8.0
    saves: _Saves = 80
    candidates: _Candidates = 25

    figures: ClassVar[tuple[str, ...]] = ("ball_pits",)

    def build(self) -> Any:
        """Build a `studies.BallPits`."""
        from ..studies.ball_pits import BallPits

        return BallPits(**self.model_dump(exclude={"kind"}))


class BallUnreachableTable(AbstractStudyTable):
    """`kind = "ball_unreachable"`: which wells a ball can touch, against radius times curvature.

    The products take `points` values from `lowest` to `highest`. Each ball is dropped `start`
    radii beside the bottom and rolls for `horizon` units of time.
    """

    kind: Literal["ball_unreachable"]
    radius: PositiveFloat = 0.5
    lowest: PositiveFloat = 0.25
    highest: PositiveFloat = 2.55
    points: Annotated[int, pydantic.Field(ge=2, le=1000)] = 24
    start: PositiveFloat = 0.8
    horizon: PositiveFloat = 6.0

    figures: ClassVar[tuple[str, ...]] = ("ball_unreachable",)

    @pydantic.model_validator(mode="after")
    def _the_products_make_a_range(self) -> "BallUnreachableTable":
        if self.highest <= self.lowest:
            message = f"given {self.highest:g}; must be greater than lowest = {self.lowest:g}"
            raise refuse("highest", message)
        return self

    def build(self) -> Any:
        """Build a `studies.BallUnreachable`."""
        import numpy as np

        from ..studies.ball_unreachable import BallUnreachable

        products = np.linspace(self.lowest, self.highest, self.points)
        return BallUnreachable(
            radius=self.radius,
            products=tuple(products.tolist()),
            start=self.start,
            horizon=self.horizon,
        )


class BallLimitTable(AbstractStudyTable):
    """`kind = "ball_limit"`: radius to 0 and learning rate to 0 on a double well.

    All balls touch at `start` and roll for `horizon` units of time, `steps` of the optimizer.
    """

    kind: Literal["ball_limit"]
    horizon: PositiveFloat = 1.0
    start: _Pair = (0.4, 1.0)
    radii: _ThreeRadii = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
    radius: PositiveFloat = 0.05
    steps: _ThreeSteps = (25, 50, 100, 200, 400, 800)

    figures: ClassVar[tuple[str, ...]] = ("ball_limit",)

    def build(self) -> Any:
        """Build a `studies.BallLimit`."""
        from ..studies.ball_limit import BallLimit

        return BallLimit(**self.model_dump(exclude={"kind"}))


class BallNetworkTable(AbstractStudyTable):
    """`kind = "ball_network"`: a network trained by balls of several radii and gradient descent.

    `[study.potential]` is the network and its data, as in an experiment, `init_seed` draws its
    start. With `flows` the balls' flows run beside them.
    """

    kind: Literal["ball_network"]
    potential: SupervisedTable
    init_seed: Seed = 0
    learning_rate: PositiveFloat
    radii: _PositiveRadii
    height_scale: PositiveFloat = 1.0
    steps: Annotated[int, pydantic.Field(ge=1, le=1_000_000)]
    save_every: PositiveInt = 1
    flows: bool = True

    figures: ClassVar[tuple[str, ...]] = ("ball_network",)

    @pydantic.model_validator(mode="after")
    def _saves_divide_the_steps(self) -> "BallNetworkTable":
        if self.steps % self.save_every:
            message = f"given {self.save_every}; must divide steps = {self.steps}"
            raise refuse("save_every", message)
        return self

    def build(self) -> Any:
        """Build a `studies.BallNetwork`."""
        import jax

        from ..studies.ball_network import BallNetwork

        with building("potential"):
            potential = self.potential.build().potential
        return BallNetwork(
            potential=potential,
            params=potential.init(jax.random.key(self.init_seed)),
            learning_rate=self.learning_rate,
            radii=self.radii,
            height_scale=self.height_scale,
            steps=self.steps,
            save_every=self.save_every,
            flows_too=self.flows,
        )
