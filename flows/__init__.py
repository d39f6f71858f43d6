"""Optimizers, the continuous-time flows that model them, and the tools to run and compare them.

An optimizer is a map z -> z + F(z) of its parameters (and momenta), F = -eta g for gradient descent
on a loss L with gradient g and Hessian H. With large steps it works at the edge of stability: the
sharpest curvature stays at the optimizer's threshold (2/eta for gradient descent), and the
iterates oscillate, w_t = c(t) + delta_t, around a path c that moves slowly. A flow is an ordinary
differential equation for that path, and three choices make it:

- the **slow field**: how F is averaged over the oscillation, which gives dc/dt;
- the **oscillation**: what the state knows of delta;
- the **closure**: the equation that determines it.

`GradientFlow(optimizer)`
    Slow field: F at the centre, the limit of small steps; with `correction`, F - DF.F/2, which is
    -eta g - (eta^2/2) H g for gradient descent. Oscillation: none. Closure: none, so that it leaves
    the optimizer's path at the edge of stability. arXiv 2103.00065; correction 2009.11162.
`StableFlow(optimizer)`
    The same for an adaptive method, with nu, the average of squared gradients that it divides by,
    in the state: dnu/dt = (1 - b2)/b2 (g^2 - nu). arXiv 2410.24206.
`SharpnessAwareFlow(optimizer)`
    The same for `SAM`, F = -eta g(w + rho g/|g|), smoothed where g vanishes: it rests at a minimum,
    around which SAM oscillates. arXiv 2010.01412.
`CentralFlow(optimizer)`
    Slow field: the average to second order, -eta (g + grad <H, Sigma>/2). Oscillation: its
    covariance Sigma = U X U^T on the critical eigenvectors U of H. Closure: a constraint; X is the
    smallest oscillation that keeps every eigenvalue at or below the threshold, the solution of a
    complementarity problem 0 <= X, A + B[X] >= 0, <X, A + B[X]> = 0. Of RMSProp it is one in the
    metric of its preconditioner, with the equation of nu beside it. arXiv 2410.24206.
`RodFlow(optimizer)`
    Slow field: the average over the two ends c + d and c - d of a rod, (F(c+d) + F(c-d))/2, with a
    backward-error term; several rods add up. Oscillation: the covariance Sigma of the
    half-difference of two consecutive iterates, whose leading eigenpairs are the rods. Closure: its
    own equation, dSigma/dt = (F(c+d) F(c+d)^T + F(c-d) F(c-d)^T)/4 - 2 Sigma, from the exact map.
    Gradient descent arXiv 2602.01480; momentum and adaptive methods, whose nu is followed beside
    the rods, 2605.06821; several rods are this project's own.
`ParityFlow(optimizer)`
    Slow field and oscillation at once: c and the half-difference d, w_t = c_t + (-1)^t d_t, which
    the optimizer moves exactly by its doubled map Phi on (c, d). Closure: none is needed; the flow
    is log(Phi) as a series of forward differences, to order p. This project's own.
`EdgeFlow(optimizer)`
    Slow field: the average over the ends c + a v and c - a v of one oscillation, as for a rod.
    Oscillation: its direction v and its length a. Closure: their own equations; v turns towards the
    top eigenvector of H, and a grows where the curvature along v is above the threshold. A
    reconstruction from the abstract of arXiv 2606.18080.
`BallCentreFlow(optimizer)`
    For a `RollingBall`. Slow field: gradient flow on the ironed landscape, on which the ball's
    centre moves. Oscillation: none. Closure: in a crease, where the ball touches in several points,
    the shortest vector in the hull of the slopes there. arXiv 2505.19527.
`BallContactFlow(optimizer)`
    The same motion, written for the contact; without a closure it ends where the ball touches a
    second point. arXiv 2505.19527.
`AliceFlow(optimizer)`
    Slow field: the map of `Alice` itself, whose steps follow a model of the loss with the jumps of
    its gradient. Oscillation: none. Closure: its momentum, in the state. Optimizer arXiv
    2411.16914; the flow is this project's own.
`RiemannianFlow(optimizer)`
    For descent on a manifold w' = R_w(eta V(w)): gradient descent, SAM, fine-grained SGD. Slow
    field: eta V; with `correction` minus half its covariant derivative along itself, which is
    -eta grad L - (eta^2/2) Hess L[grad L]. Oscillation and closure: none. The state is kept on the
    manifold. arXiv 1905.09054 for fine-grained SGD.
`DissipativeFlow(gravity, friction)`
    Models no optimizer: a particle on the graph of the loss, in a time of its own.
    arXiv 2605.15459.

A learning rate may be a `Schedule`, eta(t): a flow reads it at its own time, between two steps too.
The centre models a midpoint of the iterates, `flow.midpoint`, and one unit of time is one step:
`tracking_error` compares a run of a flow with one of its optimizer.

Rooms, each of which imports only from those below it:

    runs            simulate, iterate: compiled segments, saves, failures, progress
    measurements    what is measured along a run, and how well a flow tracks an optimizer
    gradient  central  rod  oscillation  edge  ball  glass  manifolds  mechanics
                    one family of flows each
    curvature       products with the Hessian, its eigenpairs, third derivatives
    optimizers  solvers  linear_algebra             maps; diffrax; small dense problems
    core            flow, optimizer, potential, trajectory, cost, validation

Example:
    >>> import jax.numpy as jnp
    >>> from flows import GradientDescent, GradientFlow, iterate, simulate, tracking_error
    >>> from potentials import Quadratic
    >>> optimizer, start = GradientDescent(0.1), jnp.asarray([1.0, 2.0])
    >>> bowl = Quadratic(jnp.asarray([1.0, 4.0]))
    >>> discrete = iterate(optimizer, bowl, start, steps=10)
    >>> flow = simulate(GradientFlow(optimizer), bowl, start, steps=10)
    >>> round(float(tracking_error(flow, discrete)), 3)
    0.048
"""

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
    AbstractDoubtedFlow,
    AbstractEquationFlow,
    AbstractFlow,
    AbstractFollowedFlow,
    AbstractPreconditionedFlow,
    AbstractProjectedFlow,
    AbstractResizableFlow,
    Integrator,
    Midpoint,
)
from .core.goal import Goal
from .core.optimizer import (
    AbstractAdaptiveMethod,
    AbstractCheckedOptimizer,
    AbstractDescent,
    AbstractGradientMethod,
    AbstractIncrementalOptimizer,
    AbstractLocalThreshold,
    AbstractOptimizer,
)
from .core.potential import Potential
from .core.results import RESULTS
from .core.schedules import Schedule, fixed_at
from .core.trajectory import Neighbours, SimulationError, Trajectory, concatenate
from .core.variables import STEPS, TIME, Variable
from .curvature.derivatives import hvp, linearise_gradient, third_derivative, third_derivatives
from .curvature.eigenpairs import Eigenpairs, follow_modes, top_eigenpairs
from .curvature.spectrum import Spectrum, hessian_spectrum
from .edge.flow import EdgeFlow
from .edge.state import EdgeState
from .glass.alice import Alice
from .glass.density import GlassEstimate, glass_density, glass_loss_change
from .glass.flow import AliceFlow
from .glass.state import AliceState
from .gradient.flow import GradientFlow
from .gradient.sharpness_aware import SharpnessAwareFlow
from .gradient.stable import StableFlow
from .linear_algebra.complementarity import Complementarity, gram_operator, solve_complementarity
from .manifolds.descent import RiemannianGradientDescent
from .manifolds.euclidean import Euclidean
from .manifolds.fine_grained import FineGrainedSGD, Rescaled
from .manifolds.flow import RiemannianFlow
from .manifolds.hyperboloid import Hyperboloid
from .manifolds.manifold import AbstractManifold
from .manifolds.method import RiemannianState
from .manifolds.product import Product
from .manifolds.sharpness_aware import FisherSAM, RiemannianSAM
from .manifolds.spheres import Oblique, Sphere
from .manifolds.stiefel import Stiefel
from .measurements.along_path import measure
from .measurements.base import AbstractMeasurement, AbstractMetricMeasurement
from .measurements.curvature import Curvature
from .measurements.cycles import Cycle, cycle
from .measurements.directional import CriticalLearningRate, DirectionalCurvature
from .measurements.effective_rate import EffectiveLearningRate
from .measurements.example_groups import ClassLosses, OnExamples
from .measurements.gauss_newton import GaussNewton
from .measurements.glass import GlassDensity
from .measurements.held_out import HeldOut
from .measurements.loss import LossAndGradient, ScalarMeasurement
from .measurements.overlap import EigenvectorOverlap
from .measurements.parameter_groups import GroupSharpness
from .measurements.preconditioned import PreconditionedCurvature
from .measurements.riemannian import ConstraintDrift, RiemannianCurvature
from .measurements.spectrum import SpectralDensity
from .measurements.threshold import Threshold
from .measurements.tracking import distance, iterate_error, tracking_error
from .mechanics.flow import DissipativeFlow, DissipativeState
from .mechanics.friction import AbstractFriction, Coulomb, Quadratic, TotalFriction, Viscous
from .mechanics.geodesics import exponential_map
from .mechanics.sampling import sample_minima
from .mechanics.settling import MinimaSamples, random_velocities
from .optimizers.adam import Adam, AdamW, NAdam
from .optimizers.gradient_descent import GradientDescent
from .optimizers.momentum import HeavyBall, Nesterov
from .optimizers.optax_optimizer import OptaxOptimizer
from .optimizers.rmsprop import RMSProp, ScalarRMSProp
from .optimizers.sam import SAM
from .optimizers.stability import critical_sharpness
from .oscillation.flow import ParityFlow
from .oscillation.solver import ParitySolver, PartwiseController
from .oscillation.state import ParityState, PolarParityState
from .rod.flow import RodFlow
from .rod.solver import RodSolver
from .rod.state import DenseRodState, LowRankRodState
from .runs.iterate import iterate
from .runs.segments import kept_rows
from .runs.simulate import simulate
from .runs.solver_error import SolverError, solver_error
from .solvers.chebyshev import RungeKuttaChebyshev

__all__ = [
    "RESULTS",
    "SAM",
    "STEPS",
    "TIME",
    "AbstractAdaptiveMethod",
    "AbstractCheckedOptimizer",
    "AbstractDescent",
    "AbstractDoubtedFlow",
    "AbstractEquationFlow",
    "AbstractFlow",
    "AbstractFollowedFlow",
    "AbstractFriction",
    "AbstractGradientMethod",
    "AbstractIncrementalOptimizer",
    "AbstractLocalThreshold",
    "AbstractManifold",
    "AbstractMeasurement",
    "AbstractMetricMeasurement",
    "AbstractOptimizer",
    "AbstractPreconditionedFlow",
    "AbstractProjectedFlow",
    "AbstractResizableFlow",
    "Adam",
    "AdamW",
    "Alice",
    "AliceFlow",
    "AliceState",
    "BallCentreFlow",
    "BallCentreState",
    "BallContactFlow",
    "BallSolver",
    "CentralFlow",
    "CentralSolver",
    "ClassLosses",
    "Complementarity",
    "ConstraintDrift",
    "Cost",
    "Coulomb",
    "CriticalLearningRate",
    "Curvature",
    "Cycle",
    "DenseRodState",
    "DirectionalCurvature",
    "DissipativeFlow",
    "DissipativeState",
    "EdgeFlow",
    "EdgeState",
    "EffectiveLearningRate",
    "Eigenpairs",
    "EigenvectorOverlap",
    "Euclidean",
    "FineGrainedSGD",
    "FisherSAM",
    "GaussNewton",
    "GlassDensity",
    "GlassEstimate",
    "Goal",
    "GradientDescent",
    "GradientFlow",
    "GroupSharpness",
    "HeavyBall",
    "HeldOut",
    "Hyperboloid",
    "Integrator",
    "Ironed",
    "LossAndGradient",
    "LowRankRodState",
    "Midpoint",
    "MinimaSamples",
    "NAdam",
    "Neighbours",
    "Nesterov",
    "Oblique",
    "OnExamples",
    "OptaxOptimizer",
    "ParityFlow",
    "ParitySolver",
    "ParityState",
    "PartwiseController",
    "PolarParityState",
    "Potential",
    "PreconditionedCurvature",
    "Product",
    "Quadratic",
    "RMSProp",
    "Rescaled",
    "RiemannianCurvature",
    "RiemannianFlow",
    "RiemannianGradientDescent",
    "RiemannianSAM",
    "RiemannianState",
    "RodFlow",
    "RodSolver",
    "RollingBall",
    "RollingBallState",
    "RungeKuttaChebyshev",
    "ScalarMeasurement",
    "ScalarRMSProp",
    "Schedule",
    "SharpnessAwareFlow",
    "SimulationError",
    "SolverError",
    "SpectralDensity",
    "Spectrum",
    "Sphere",
    "StableFlow",
    "Stiefel",
    "Threshold",
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
    "fixed_at",
    "follow_modes",
    "glass_density",
    "glass_loss_change",
    "gram_operator",
    "hessian_spectrum",
    "hvp",
    "ironed",
    "iterate",
    "iterate_error",
    "kept_rows",
    "linearise_gradient",
    "measure",
    "principal_curvature",
    "random_velocities",
    "sample_minima",
    "simulate",
    "solve_complementarity",
    "solver_error",
    "third_derivative",
    "third_derivatives",
    "top_eigenpairs",
    "tracking_error",
]
