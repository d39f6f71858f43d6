"""Studies: several small runs, and what follows from them together; one module per kind.

A study is a class of its own, the validated table `[study]` of a config. Every module of this
package is looked through for them: a new kind is a new module.
"""

# Its package needs the kinds of study, which need its tables: whoever comes first, they load first.
from .. import tables as _tables  # noqa: F401
from .experiment import STUDY_KINDS, StudyExperiment
from .study import AbstractStudy, Conclusion

__all__ = ["STUDY_KINDS", "AbstractStudy", "Conclusion", "StudyExperiment"]
