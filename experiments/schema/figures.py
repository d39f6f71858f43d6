"""The names of the figures that a config may ask for, so that no plotting library is imported."""

from typing import Literal

FigureName = Literal[
    "overview", "loss", "sharpness", "distance", "paths", "central", "central_scaling"
]
