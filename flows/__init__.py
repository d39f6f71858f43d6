"""Optimizers, the continuous-time flows that model them, and the tools to run and compare them."""

from .ball.contact_flow import BallContactFlow
from .ball.flow import BallCentreFlow
from .ball.ironed import Ironed, ironed
from .ball.rolling_ball import RollingBall, RollingBallState, drop, principal_curvature
from .ball.solver import BallSolver
from .ball.state import BallCentreState
from .central.flow import CentralFlow
from .central.solver import CentralSolver
from .core.cost import Cost
from .core.flow import (
    AbstractEquationFlow,
    AbstractFlow,
    AbstractFollowedFlow,
    AbstractProjectedFlow,
    AbstractResizableFlow,
    Integrator,
    Midpoint,
)
from .core.optimizer import (
    AbstractCheckedOptimizer,
    AbstractDescent,
    AbstractGradientMethod,
    AbstractIncrementalOptimizer,
    AbstractOptimizer,
)
from .core.potential import Potential
from .core.results import RESULTS
from .core.trajectory import Neighbours, SimulationError, Trajectory, concatenate
from .core.variables import STEPS, TIME, Variable
from .curvature.derivatives import hvp, linearise_gradient, third_derivative, third_derivatives
from .curvature.eigenpairs import Eigenpairs, follow_modes, top_eigenpairs
from .gradient.flow import GradientFlow
from .linear_algebra.complementarity import Complementarity, gram_operator, solve_complementarity
from .measurements.along_path import measure
from .measurements.base import AbstractMeasurement
from .measurements.curvature import Curvature
from .measurements.cycles import Cycle, cycle
from .measurements.loss import LossAndGradient, ScalarMeasurement
from .measurements.tracking import distance, tracking_error
from .mechanics.flow import DissipativeFlow, DissipativeState
from .mechanics.friction import AbstractFriction, Coulomb, Quadratic, TotalFriction, Viscous
from .mechanics.geodesics import exponential_map
from .mechanics.sampling import sample_minima
from .mechanics.settling import MinimaSamples, random_velocities
from .optimizers.gradient_descent import GradientDescent
from .optimizers.momentum import HeavyBall, Nesterov
from .optimizers.optax_optimizer import OptaxOptimizer
from .optimizers.stability import critical_sharpness
from .rod.flow import RodFlow
from .rod.solver import RodSolver
from .rod.state import DenseRodState, LowRankRodState
from .runs.iterate import iterate
from .runs.segments import kept_rows
from .runs.simulate import simulate
from .solvers.chebyshev import RungeKuttaChebyshev

__all__ = [
    "RESULTS",
    "STEPS",
    "TIME",
    "AbstractCheckedOptimizer",
    "AbstractDescent",
    "AbstractEquationFlow",
    "AbstractFlow",
    "AbstractFollowedFlow",
    "AbstractFriction",
    "AbstractGradientMethod",
    "AbstractIncrementalOptimizer",
    "AbstractMeasurement",
    "AbstractOptimizer",
    "AbstractProjectedFlow",
    "AbstractResizableFlow",
    "BallCentreFlow",
    "BallCentreState",
    "BallContactFlow",
    "BallSolver",
    "CentralFlow",
    "CentralSolver",
    "Complementarity",
    "Cost",
    "Coulomb",
    "Curvature",
    "Cycle",
    "DenseRodState",
    "DissipativeFlow",
    "DissipativeState",
    "Eigenpairs",
    "GradientDescent",
    "GradientFlow",
    "HeavyBall",
    "Integrator",
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
    "critical_sharpness",
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
