"""Studies: several small runs, and what follows from them together; one module per kind.

A study is a class that is at once the validated table `[study]` of a config and what computes it.
Studies are found in the modules of this package: a new kind is a new module.
"""

# `tables` needs the studies for the schema of a whole config, and they need its fields. It must be
# imported first, so that the import works from either side.
from .. import tables as _tables  # noqa: F401
from .experiment import STUDY_KINDS, StudyExperiment
from .study import AbstractStudy, Conclusion

__all__ = ["STUDY_KINDS", "AbstractStudy", "Conclusion", "StudyExperiment"]
