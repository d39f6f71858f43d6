"""The config's schema: one validated model per table, chosen by `kind`, each able to build."""

from typing import TypeAlias

from .base import BuildError, Table, building, check_numbers
from .experiment import CheckpointTable, CurvatureTable, Experiment
from .potentials import AbstractToyTable, BuiltPotential
from .solvers import SolverTable
from .studies import StudyExperiment
from .study_base import AbstractStudyTable

Config: TypeAlias = Experiment | StudyExperiment
"""What a config file may hold: an experiment, or with a table `[study]` a study."""

__all__ = [
    "AbstractStudyTable",
    "AbstractToyTable",
    "BuildError",
    "BuiltPotential",
    "CheckpointTable",
    "Config",
    "CurvatureTable",
    "Experiment",
    "SolverTable",
    "StudyExperiment",
    "Table",
    "building",
    "check_numbers",
]
