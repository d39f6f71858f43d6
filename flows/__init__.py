"""Optimizers, the continuous-time flows that model them, and the tools to run and compare them."""

from .central import CentralFlow
from .chebyshev import RungeKuttaChebyshev
from .complementarity import Complementarity, gram_operator, solve_complementarity
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
from .edge import EdgeSolver
from .flow import AbstractFlow, AbstractFollowedFlow, Midpoint
from .gradient import GradientFlow
from .iterate import iterate
from .measure import measure
from .measurements import AbstractMeasurement, Curvature, LossAndGradient, ScalarMeasurement
from .momentum import HeavyBall, Nesterov
from .optax_optimizer import OptaxOptimizer
from .optimizers import AbstractIncrementalOptimizer, AbstractOptimizer, GradientDescent
from .potential import Potential
from .projection import AbstractProjectedFlow
from .results import RESULTS, SimulationError
from .rod import RodFlow
from .rod_solver import RodSolver
from .rod_state import DenseRodState, LowRankRodState
from .simulate import simulate
from .tracking import distance, tracking_error
from .trajectory import Neighbours, Trajectory, concatenate
from .variables import Variable

__all__ = [
    "RESULTS",
    "AbstractFlow",
    "AbstractFollowedFlow",
    "AbstractIncrementalOptimizer",
    "AbstractMeasurement",
    "AbstractOptimizer",
    "AbstractProjectedFlow",
    "CentralFlow",
    "Complementarity",
    "Cost",
    "Curvature",
    "DenseRodState",
    "EdgeSolver",
    "Eigenpairs",
    "GradientDescent",
    "GradientFlow",
    "HeavyBall",
    "LossAndGradient",
    "LowRankRodState",
    "Midpoint",
    "Neighbours",
    "Nesterov",
    "OptaxOptimizer",
    "Potential",
    "RodFlow",
    "RodSolver",
    "RungeKuttaChebyshev",
    "ScalarMeasurement",
    "SimulationError",
    "Trajectory",
    "Variable",
    "concatenate",
    "distance",
    "follow_modes",
    "gram_operator",
    "hvp",
    "iterate",
    "linearise_gradient",
    "measure",
    "simulate",
    "solve_complementarity",
    "third_derivative",
    "third_derivatives",
    "top_eigenpairs",
    "tracking_error",
]
