"""Sweeps: a grid of runs over some keys of a config, gathered into one dataset."""

from .grid import Point, load_sweep, points
from .runner import run_sweep

__all__ = ["Point", "load_sweep", "points", "run_sweep"]
