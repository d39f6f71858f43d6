"""Optimizers, the continuous-time flows that model them, and the tools to run and compare them."""

from .cost import Cost
from .curvature import (
    Eigenpairs,
    follow_modes,
    hvp,
    linearise_gradient,
    third_derivative,
    third_derivatives,
    top_eigenpairs,
)
from .flow import AbstractFlow, Midpoint
from .gradient import GradientFlow
from .iterate import iterate
from .measurements import AbstractMeasurement, Curvature, LossAndGradient, ScalarMeasurement
from .optimizers import AbstractOptimizer, GradientDescent
from .potential import Potential
from .results import RESULTS, SimulationError
from .simulate import simulate
from .tracking import distance, tracking_error
from .trajectory import Neighbours, Trajectory, concatenate
from .variables import Variable

__all__ = [
    "RESULTS",
    "AbstractFlow",
    "AbstractMeasurement",
    "AbstractOptimizer",
    "Cost",
    "Curvature",
    "Eigenpairs",
    "GradientDescent",
    "GradientFlow",
    "LossAndGradient",
    "Midpoint",
    "Neighbours",
    "Potential",
    "ScalarMeasurement",
    "SimulationError",
    "Trajectory",
    "Variable",
    "concatenate",
    "distance",
    "follow_modes",
    "hvp",
    "iterate",
    "linearise_gradient",
    "simulate",
    "third_derivative",
    "third_derivatives",
    "top_eigenpairs",
    "tracking_error",
]
