"""Optimizers, the continuous-time flows that model them, and the tools to run and compare them."""

from .ball import BallCentreFlow, BallCentreState
from .ball_contact import BallContactFlow
from .ball_solver import BallSolver
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
from .cycles import Cycle, cycle
from .dims import DissipativeFlow, DissipativeState
from .edge import EdgeSolver
from .flow import AbstractFlow, AbstractFollowedFlow, Midpoint
from .friction import AbstractFriction, Coulomb, Quadratic, TotalFriction, Viscous
from .geodesics import exponential_map
from .gradient import GradientFlow
from .ironed import Ironed, ironed
from .iterate import iterate
from .measure import measure
from .measurements import AbstractMeasurement, Curvature, LossAndGradient, ScalarMeasurement
from .momentum import HeavyBall, Nesterov
from .optax_optimizer import OptaxOptimizer
from .optimizers import (
    AbstractCheckedOptimizer,
    AbstractIncrementalOptimizer,
    AbstractOptimizer,
    GradientDescent,
)
from .potential import Potential
from .projection import AbstractProjectedFlow
from .rest import MinimaSamples, random_velocities
from .results import RESULTS, SimulationError
from .rod import RodFlow
from .rod_solver import RodSolver
from .rod_state import DenseRodState, LowRankRodState
from .rolling_ball import RollingBall, RollingBallState, drop, principal_curvature
from .sampling import sample_minima
from .segments import kept_rows
from .simulate import simulate
from .tracking import distance, tracking_error
from .trajectory import Neighbours, Trajectory, concatenate
from .variables import STEPS, TIME, Variable

__all__ = [
    "RESULTS",
    "STEPS",
    "TIME",
    "AbstractCheckedOptimizer",
    "AbstractFlow",
    "AbstractFollowedFlow",
    "AbstractFriction",
    "AbstractIncrementalOptimizer",
    "AbstractMeasurement",
    "AbstractOptimizer",
    "AbstractProjectedFlow",
    "BallCentreFlow",
    "BallCentreState",
    "BallContactFlow",
    "BallSolver",
    "CentralFlow",
    "Complementarity",
    "Cost",
    "Coulomb",
    "Curvature",
    "Cycle",
    "DenseRodState",
    "DissipativeFlow",
    "DissipativeState",
    "EdgeSolver",
    "Eigenpairs",
    "GradientDescent",
    "GradientFlow",
    "HeavyBall",
    "Ironed",
    "LossAndGradient",
    "LowRankRodState",
    "Midpoint",
    "MinimaSamples",
    "Neighbours",
    "Nesterov",
    "OptaxOptimizer",
    "Potential",
    "Quadratic",
    "RodFlow",
    "RodSolver",
    "RollingBall",
    "RollingBallState",
    "RungeKuttaChebyshev",
    "ScalarMeasurement",
    "SimulationError",
    "TotalFriction",
    "Trajectory",
    "Variable",
    "Viscous",
    "concatenate",
    "cycle",
    "distance",
    "drop",
    "exponential_map",
    "follow_modes",
    "gram_operator",
    "hvp",
    "ironed",
    "iterate",
    "kept_rows",
    "linearise_gradient",
    "measure",
    "principal_curvature",
    "random_velocities",
    "sample_minima",
    "simulate",
    "solve_complementarity",
    "third_derivative",
    "third_derivatives",
    "top_eigenpairs",
    "tracking_error",
]
