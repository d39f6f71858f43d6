"""The names of the figures that a config may ask for, so that no plotting library is imported."""

from typing import Literal

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

STUDY_FIGURES = (
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
)
"""Those that draw a study; a study's table names its own."""

SweepFigureName = Literal["sweep", "phase_diagram"]
"""Those that draw a sweep."""
