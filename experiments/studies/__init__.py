"""Studies: several small runs, and what follows from them together; one class per kind."""

from .central_scaling import CentralScaling
from .rod_quartic import RodQuartic
from .study import AbstractStudy, Conclusion

__all__ = ["AbstractStudy", "CentralScaling", "Conclusion", "RodQuartic"]
