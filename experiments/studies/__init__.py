"""Studies: several small runs, and what follows from them together; one module per kind.

A study is a class that is at once the validated table `[study]` of a config and what computes it.
Studies are found in the modules of this package: a new kind is a new module.
"""

from .experiment import StudyExperiment
from .study import AbstractStudy, Conclusion

__all__ = ["AbstractStudy", "Conclusion", "StudyExperiment"]
