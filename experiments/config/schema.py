"""What a config file may hold: an experiment, a study or a sweep."""

from typing import TypeAlias

from ..studies.experiment import StudyExperiment
from ..tables import Experiment, SweepExperiment

RunConfig: TypeAlias = Experiment | StudyExperiment
"""What can be run: an experiment, or with a table `[study]` a study."""

Config: TypeAlias = RunConfig | SweepExperiment
"""What a config file may hold: what can be run, or with a table `[sweep]` a grid of runs."""
