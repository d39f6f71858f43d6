"""The config's schema: one validated model per table, chosen by `kind`, each able to build."""

from typing import TypeAlias

from ..studies.experiment import StudyExperiment
from .base import BuildError, Table, building, check_numbers
from .experiment import CheckpointTable, CurvatureTable, Experiment
from .potentials import AbstractToyTable, BuiltPotential
from .solvers import SolverTable
from .sweep import AxisTable, SweepExperiment, SweepTable

RunConfig: TypeAlias = Experiment | StudyExperiment
"""What can be run: an experiment, or with a table `[study]` a study."""

Config: TypeAlias = RunConfig | SweepExperiment
"""What a config file may hold: what can be run, or with a table `[sweep]` a grid of runs."""

__all__ = [
    "AbstractToyTable",
    "AxisTable",
    "BuildError",
    "BuiltPotential",
    "CheckpointTable",
    "Config",
    "CurvatureTable",
    "Experiment",
    "RunConfig",
    "SolverTable",
    "StudyExperiment",
    "SweepExperiment",
    "SweepTable",
    "Table",
    "building",
    "check_numbers",
]
