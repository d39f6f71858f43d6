"""The names of the figures that a config may ask for, so that no plotting library is imported."""

from typing import Annotated

import pydantic

from figures.registry import Draw, Needs, figure, forget, known

from .kinds import AnyOf, Registry

# Those of users; `figures` has our own.
FIGURES: Registry[Needs] = Registry("figure", forget=forget)


def register(name: str, draw: Draw, wanted: Needs) -> None:
    """Add a figure of a user's.

    Raises:
        ValueError: if there is a figure of this name.
    """
    if name in known() and name not in FIGURES.own:
        raise ValueError(f"the figure {name!r} is built in; choose another name for yours.")
    FIGURES.register(name, wanted)
    forget(name)
    figure(name, needs=wanted)(draw)


def _of_runs() -> tuple[str, ...]:
    return tuple(name for name, one in known().items() if not one.sweep)


def _of_sweeps() -> tuple[str, ...]:
    return tuple(name for name, one in known().items() if one.sweep)


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
