"""The `[study]` table, in place of a potential, an optimizer and flows: one class per kind.

A study is several small runs and what follows from them together: how an error scales, where a
bifurcation is. A new kind is one class here, its name in `StudyTable`, and one class in
`experiments/studies/`.
"""

import abc
from typing import Annotated, Any, ClassVar, Literal

import pydantic

from .base import Name, PositiveFloat, Seed, Table, refuse
from .figures import FigureName

_MAX_STEPS = 10**7


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


def _differ(values: tuple[float, ...]) -> tuple[float, ...]:
    if len({f"{value:g}" for value in values}) < len(values):
        raise ValueError("must differ in their first six digits, which name the parts")
    return values


_Distinct = pydantic.AfterValidator(_differ)


class CentralScalingTable(AbstractStudyTable):
    """`kind = "central_scaling"`: how Central Flow's error scales on the sharp valley, and why.

    For each of `epsilons` gradient descent runs beside its Central Flow; for each of `zetas` it
    runs alone on the valley of `energy_epsilon`, where the oscillation's energy is measured. Each
    run takes `horizon` / epsilon steps.
    """

    kind: Literal["central_scaling"]
    learning_rate: PositiveFloat = 0.3
    horizon: PositiveFloat = 3.0
    relaxation: PositiveFloat = 0.25
    epsilons: Annotated[
        tuple[PositiveFloat, ...], pydantic.Field(strict=False, min_length=2), _Distinct
    ] = (1e-2, 1e-3, 1e-4)
    zetas: Annotated[tuple[float, ...], pydantic.Field(strict=False), _Distinct] = (
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
            relaxation=self.relaxation,
            epsilons=self.epsilons,
            zetas=self.zetas,
            energy_epsilon=self.energy_epsilon,
        )


# With a second kind this becomes a union discriminated by `kind`, as in schema/flows.py.
StudyTable = CentralScalingTable


class StudyExperiment(Table):
    """A validated config with a table `[study]`."""

    name: Name
    description: str = ""
    seed: Seed = 0
    precision: Literal["float32", "float64"] = "float64"
    figures: Annotated[tuple[FigureName, ...], pydantic.Field(strict=False)] = ()
    study: StudyTable

    @pydantic.model_validator(mode="after")
    def _figures_are_those_of_the_study(self) -> "StudyExperiment":
        for name in self.figures:
            if name not in self.study.figures:
                allowed = ", ".join(self.study.figures)
                raise refuse("figures", f"given {name!r}; a study of this kind has {allowed}")
        return self
