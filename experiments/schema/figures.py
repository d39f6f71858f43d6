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
)
"""Those that draw a study, each the study of the kind that it is named after."""
