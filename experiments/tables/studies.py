"""The `[study]` table, in place of a potential, an optimizer and flows: one class per kind.

A study is several small runs and what follows from them together: how an error scales, where a
bifurcation is. A new kind is one class here, its name in `StudyTable`, and one class in
`experiments/studies/`.
"""

from typing import Annotated, Any, ClassVar, Literal, get_args

import pydantic

from .ball_studies import (
    BallIroningTable,
    BallLimitTable,
    BallMinimaTable,
    BallNetworkTable,
    BallPitsTable,
    BallUnreachableTable,
)
from .base import Name, PositiveFloat, Table, refuse
from .dims import (
    DimsBananaTable,
    DimsLimitTable,
    DimsPathsTable,
    DimsRegressionTable,
    DimsRingTable,
    DimsUncertaintyTable,
)
from .figures import FigureNames
from .study_base import AbstractStudyTable, Distinct

_MAX_STEPS = 10**7
# learning_rate * S up to which gradient descent on the quartic stays bounded.
_BOUNDED = 4.0


class CentralScalingTable(AbstractStudyTable):
    """`kind = "central_scaling"`: how Central Flow's error scales on the sharp valley, and why.

    For each of `epsilons` gradient descent runs beside its Central Flow; for each of `zetas` it
    runs alone on the valley of `energy_epsilon`, where the oscillation's energy is measured. Each
    run takes `horizon` / epsilon steps.
    """

    kind: Literal["central_scaling"]
    learning_rate: PositiveFloat = 0.3
    horizon: PositiveFloat = 3.0
    relaxation_time: PositiveFloat = 0.25
    epsilons: Annotated[
        tuple[PositiveFloat, ...], pydantic.Field(strict=False, min_length=2), Distinct
    ] = (1e-2, 1e-3, 1e-4)
    zetas: Annotated[tuple[float, ...], pydantic.Field(strict=False), Distinct] = (
        0.0,
        0.25,
        0.5,
        1.0,
    )
    energy_epsilon: PositiveFloat = 1e-5

    figures: ClassVar[tuple[str, ...]] = ("central_scaling",)

    @pydantic.model_validator(mode="after")
    def _runs_are_of_a_length_that_ends(self) -> "CentralScalingTable":
        smallest = min((*self.epsilons, self.energy_epsilon))
        key = "energy_epsilon" if smallest == self.energy_epsilon else "epsilons"
        if self.horizon / smallest > _MAX_STEPS:
            message = f"given {smallest:g}; horizon / epsilon must be at most {_MAX_STEPS} steps"
            raise refuse(key, message)
        largest = max((*self.epsilons, self.energy_epsilon))
        if self.horizon / largest < 2:
            raise refuse("horizon", f"given {self.horizon:g}; must be at least {2 * largest:g}")
        return self

    def build(self) -> Any:
        """Build a `studies.CentralScaling`."""
        from ..studies.central_scaling import CentralScaling

        return CentralScaling(
            learning_rate=self.learning_rate,
            horizon=self.horizon,
            relaxation_time=self.relaxation_time,
            epsilons=self.epsilons,
            zetas=self.zetas,
            energy_epsilon=self.energy_epsilon,
        )


class RodQuarticTable(AbstractStudyTable):
    """`kind = "rod_quartic"`: where gradient descent and its flows end on the quartic, against S.

    S takes `points` values from `lowest` to `highest`; beyond 4 / `learning_rate` gradient descent
    diverges. Each of them runs `steps` steps from `start`.
    """

    kind: Literal["rod_quartic"]
    learning_rate: PositiveFloat = 1.0
    quartic: PositiveFloat = 1.0
    start: PositiveFloat = 0.05
    steps: Annotated[int, pydantic.Field(ge=100, le=100_000)] = 2000
    lowest: PositiveFloat = 1.8
    highest: PositiveFloat = 3.2
    points: Annotated[int, pydantic.Field(ge=2, le=10_000)] = 141

    figures: ClassVar[tuple[str, ...]] = ("rod_quartic",)

    @pydantic.model_validator(mode="after")
    def _curvatures_make_a_range_that_stays_bounded(self) -> "RodQuarticTable":
        if self.highest <= self.lowest:
            message = f"given {self.highest:g}; must be greater than lowest = {self.lowest:g}"
            raise refuse("highest", message)
        if self.highest * self.learning_rate > _BOUNDED:
            most = _BOUNDED / self.learning_rate
            message = f"given {self.highest:g}; must be at most {_BOUNDED:g} / learning_rate ="
            raise refuse("highest", f"{message} {most:g}, beyond which gradient descent diverges")
        return self

    def build(self) -> Any:
        """Build a `studies.RodQuartic`."""
        import numpy as np

        from ..studies.rod_quartic import RodQuartic

        return RodQuartic(
            learning_rate=self.learning_rate,
            quartic=self.quartic,
            start=self.start,
            steps=self.steps,
            curvatures=tuple(np.linspace(self.lowest, self.highest, self.points).tolist()),
        )


StudyTable = Annotated[
    CentralScalingTable
    | RodQuarticTable
    | BallIroningTable
    | BallMinimaTable
    | BallPitsTable
    | BallUnreachableTable
    | BallLimitTable
    | BallNetworkTable
    | DimsRingTable
    | DimsPathsTable
    | DimsLimitTable
    | DimsRegressionTable
    | DimsBananaTable
    | DimsUncertaintyTable,
    pydantic.Field(discriminator="kind"),
]


STUDY_KINDS: dict[str, str] = {
    figure: get_args(table.model_fields["kind"].annotation)[0]
    for table in get_args(get_args(StudyTable)[0])
    for figure in table.figures
}
"""By the name of each figure that draws a study, the study's kind."""


class StudyExperiment(Table):
    """A validated config with a table `[study]`.

    There is no key `seed` at the top: the table of a study that draws something has its own.
    """

    name: Name
    description: str = ""
    precision: Literal["float32", "float64"] = "float64"
    figures: FigureNames = ()
    study: StudyTable

    @pydantic.model_validator(mode="after")
    def _figures_are_those_of_the_study(self) -> "StudyExperiment":
        for name in self.figures:
            if name not in self.study.figures:
                allowed = ", ".join(self.study.figures)
                raise refuse("figures", f"given {name!r}; a study of this kind has {allowed}")
        return self
