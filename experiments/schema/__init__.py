"""The config's schema: one validated model per table, chosen by `kind`, each able to build."""

from .base import BuildError, Table, building
from .experiment import CheckpointTable, CurvatureTable, Experiment
from .potentials import AbstractToyTable, BuiltPotential
from .solvers import SolverTable

__all__ = [
    "AbstractToyTable",
    "BuildError",
    "BuiltPotential",
    "CheckpointTable",
    "CurvatureTable",
    "Experiment",
    "SolverTable",
    "Table",
    "building",
]
