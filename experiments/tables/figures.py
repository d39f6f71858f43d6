"""The names of the figures that a config may ask for, so that no plotting library is imported."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import pydantic

from .kinds import AnyOf, Registry

Draw = Callable[[Any], Any]
"""From an `xarray.DataTree` of results to a matplotlib `Figure`; neither is imported here."""


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a config must ask for so that a figure has its data.

    Attributes:
        flow: the kind of flow that must be among the flows; empty if any will do.
        study: the kind of study that it draws; empty if it draws an experiment or a sweep.
        sweep: True if it draws a sweep as a whole.
        curvature: True if the eigenvalues of the Hessian must be measured.
        params: True if the parameters must be saved.
        size: the number of parameters that it draws; 0 if any will do.
    """

    flow: str = ""
    study: str = ""
    sweep: bool = False
    curvature: bool = False
    params: bool = False
    size: int = 0


def _forget(name: str) -> None:
    import figures

    del figures.FIGURES[name]


# Those of users; `figures` has our own.
FIGURES: Registry[Needs] = Registry("figure", forget=_forget)

_OWN = {
    **dict.fromkeys(("overview", "loss", "distance"), Needs()),
    "sharpness": Needs(curvature=True),
    "paths": Needs(params=True, size=2),
    "central": Needs(flow="central"),
    "rod": Needs(flow="rod"),
    **dict.fromkeys(("sweep", "phase_diagram"), Needs(sweep=True)),
}
_OF_STUDIES = {
    "central_scaling": "central_scaling",
    "rod_quartic": "rod_quartic",
    "ball_ironing": "ball_ironing",
    "ball_minima": "ball_minima",
    "ball_pits": "ball_pits",
    "ball_unreachable": "ball_unreachable",
    "ball_limit": "ball_limit",
    "ball_network": "ball_network",
    "dims_ring": "dims_ring",
    "dims_energy": "dims_paths",
    "dims_limit": "dims_limit",
    "dims_valley": "dims_paths",
    "dims_regression": "dims_regression",
    "dims_banana": "dims_banana",
    "dims_uncertainty": "dims_uncertainty",
}


def needs() -> dict[str, Needs]:
    """What each figure needs, by name, without importing the module that draws it."""
    studies = {name: Needs(study=study) for name, study in _OF_STUDIES.items()}
    return {**_OWN, **studies, **FIGURES.entries}


def register(name: str, draw: Draw, wanted: Needs) -> None:
    """Add a figure of a user's.

    Raises:
        ValueError: if there is a figure of this name.
    """
    import figures

    if name in _OWN or name in _OF_STUDIES:
        raise ValueError(f"the figure {name!r} is built in; choose another name for yours.")
    FIGURES.register(name, wanted)
    figures.FIGURES[name] = draw


def _of_runs() -> tuple[str, ...]:
    return tuple(name for name, one in needs().items() if not one.sweep)


def _of_sweeps() -> tuple[str, ...]:
    return tuple(name for name, one in needs().items() if one.sweep)


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("must name each figure once")
    return names


FigureNames = Annotated[
    tuple[Annotated[str, AnyOf(_of_runs)], ...],
    pydantic.Field(strict=False),
    pydantic.AfterValidator(_once),
]
SweepFigureNames = Annotated[
    tuple[Annotated[str, AnyOf(_of_sweeps)], ...], pydantic.Field(strict=False)
]
