"""The config's schema: one validated model per table, chosen by `kind`, each able to build."""

from .base import BuildError, Table, building, check_numbers
from .experiment import CheckpointTable, CurvatureTable, Experiment
from .potentials import AbstractToyTable, BuiltPotential
from .solvers import SolverTable
from .sweep import AxisTable, SweepExperiment, SweepTable

__all__ = [
    "AbstractToyTable",
    "AxisTable",
    "BuildError",
    "BuiltPotential",
    "CheckpointTable",
    "CurvatureTable",
    "Experiment",
    "SolverTable",
    "SweepExperiment",
    "SweepTable",
    "Table",
    "building",
    "check_numbers",
]
