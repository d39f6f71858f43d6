"""Studies: several small runs, and what follows from them together; one class per kind."""

from .ball_ironing import BallIroning
from .ball_limit import BallLimit
from .ball_minima import BallMinima
from .ball_network import BallNetwork
from .ball_pits import BallPits
from .ball_unreachable import BallUnreachable
from .central_scaling import CentralScaling
from .dims_banana import DimsBanana
from .dims_limit import DimsLimit
from .dims_paths import DimsPaths
from .dims_regression import DimsRegression
from .dims_ring import DimsRing
from .dims_uncertainty import DimsUncertainty
from .rod_quartic import RodQuartic
from .study import AbstractStudy, Conclusion

__all__ = [
    "AbstractStudy",
    "BallIroning",
    "BallLimit",
    "BallMinima",
    "BallNetwork",
    "BallPits",
    "BallUnreachable",
    "CentralScaling",
    "Conclusion",
    "DimsBanana",
    "DimsLimit",
    "DimsPaths",
    "DimsRegression",
    "DimsRing",
    "DimsUncertainty",
    "RodQuartic",
]
