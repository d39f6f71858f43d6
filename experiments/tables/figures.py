"""The names of the figures that a config may ask for, so that no plotting library is imported."""

from typing import Annotated, Literal

import pydantic

FigureName = Literal[
    "overview",
    "loss",
    "sharpness",
    "distance",
    "paths",
    "central",
    "rod",
    "central_scaling",
    "rod_quartic",
    "ball_ironing",
    "ball_minima",
    "ball_pits",
    "ball_unreachable",
    "ball_limit",
    "ball_network",
    "dims_ring",
    "dims_energy",
    "dims_limit",
    "dims_valley",
    "dims_regression",
    "dims_banana",
    "dims_uncertainty",
]


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("must name each figure once")
    return names


FigureNames = Annotated[
    tuple[FigureName, ...], pydantic.Field(strict=False), pydantic.AfterValidator(_once)
]

SweepFigureName = Literal["sweep", "phase_diagram"]
"""Those that draw a sweep."""
