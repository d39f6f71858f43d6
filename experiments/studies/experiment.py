"""What a config with a table `[study]` holds, and which kinds of study there are."""

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, Union, get_args

import pydantic

from ..tables.base import Name, Table, refuse
from ..tables.figures import FigureNames
from .study import AbstractStudy


def _studies() -> dict[str, type[AbstractStudy]]:
    """Every study that a module of this package defines, by its kind."""
    found = {}
    for entry in pkgutil.iter_modules([str(Path(__file__).parent)]):
        module = importlib.import_module(f"{__package__}.{entry.name}")
        for study in vars(module).values():
            if not inspect.isclass(study) or study.__module__ != module.__name__:
                continue
            if issubclass(study, AbstractStudy) and not inspect.isabstract(study):
                (kind,) = get_args(study.model_fields["kind"].annotation)
                found[kind] = study
    return found


STUDIES = _studies()
"""Every kind of study, by its name in a config."""

if TYPE_CHECKING:
    _StudyTable: TypeAlias = AbstractStudy
else:
    _StudyTable = Annotated[
        Union[tuple(STUDIES.values())],  # noqa: UP007 (the members are only known now)
        pydantic.Field(discriminator="kind"),
    ]


class StudyExperiment(Table):
    """A validated config with a table `[study]`, in place of a potential, an optimizer and flows.

    There is no key `seed` at the top: the table of a study that draws something has its own.

    Attributes:
        name: Names the run directory, if nothing else does.
        description: One line, the title of figures.
        precision: JAX's for the time of the run.
        figures: Names of the figures to draw, of those of the study.
        study: The study.
    """

    name: Name
    description: str = ""
    precision: Literal["float32", "float64"] = "float64"
    figures: FigureNames = ()
    study: _StudyTable

    @pydantic.model_validator(mode="after")
    def _figures_are_those_of_the_study(self) -> "StudyExperiment":
        for name in self.figures:
            if name not in self.study.figures:
                allowed = ", ".join(self.study.figures)
                raise refuse("figures", f"given {name!r}; a study of this kind has {allowed}")
        return self
