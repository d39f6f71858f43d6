"""The solver made for Rod Flow, for both forms of its state."""

import dataclasses
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from diffrax import AbstractTerm
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from ..core.arrays import BoolLike, ScalarLike
from ..core.compilation import traced_once
from ..core.cost import Cost
from ..core.optimizer import AbstractDescent
from ..core.potential import Potential
from ..core.results import RESULTS, choose
from ..core.trees import all_finite
from ..optimizers.adaptive import AbstractAdaptiveDescent
from ..optimizers.phase_space import Point
from ..solvers.projection import AbstractFlowSolver
from .equation import RodEquation, RodSlope
from .state import (
    DenseRodState,
    LowRankRodState,
    RodState,
    flat_centre,
    flat_place,
    low_rank_state,
)
from .stepper import RodInterpolation, RodPoint, bogacki_shampine, stabilised

# A longer step would gain nothing: the covariance forgets within a step of the optimizer.
LONGEST_STEP = 16.0
_MOST_STAGES = 12

# How steps adapt: at the edge of stability, where the rods swing, a proportional part and more
# caution than diffrax's own leave few of them rejected, which cost as much as the others.
PROPORTIONAL, INTEGRAL, SAFETY = 0.2, 0.4, 0.8

# The first step to try, in steps of the optimizer: the controller shortens it where rods swing.
_FIRST_STEP = 0.5

# The default absolute tolerance, relative to the relative one.
_ABSOLUTE = 1e-2

# Tolerances of a small covariance, relative and absolute, over the flow's own relative one.
_GROWING = 1e3
_VANISHING = 1e-8

# The failure of a step that needs more stages: next to those of the equation.
_TOO_LONG = len(RodEquation.failures) + 1


class RodSolverState(eqx.Module):
    """State of `RodSolver`.

    Attributes:
        inner: The dense solver's state, or the slope at the current point.
        cost: What accepted steps have spent so far; None where that is not known, in the dense
            form with a varying number of rods.
        drift: What the slope's `beyond_centre` changed by per unit of time in the last step, (n,),
            where steps make use of it; otherwise None.
        failure: Which of the flow's `failures` ended the run, from 1; 0 for none.
    """

    inner: PyTree[ArrayLike] | RodSlope
    cost: Cost | None
    failure: Int[Array, ""]
    drift: Point | None = None


class RodSolver(AbstractFlowSolver):
    """Steps of Rod Flow: by `dense` with the covariance itself, in factors of it beyond.

    With a factor, the flow of a descent such as gradient descent takes Runge-Kutta-Chebyshev steps
    of order two, since its rates are real: an evaluation then lasts about as long as a step of the
    optimizer. Stages between the ends of a step of a descent evaluate the derivative of the map at
    the centre alone; what the ends of the rods add to it changes as in the step before, which the
    estimate of the error holds against the change that is found; steps of a constant length above
    one, which nothing shortens, may be unstable by it. With momentum rates are complex, and the
    method of order 3(2) of Bogacki and Shampine takes the steps.

    Attributes:
        equation: The right-hand side, `flow.equation`; the vector field of the terms is not used.
        dense: An explicit Runge-Kutta method for the dense form.

    Example:
        It is what `simulate` uses for a Rod Flow, and keeps the slope and what it spent:

        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, RodFlow, RodSolver
        >>> flow = RodFlow(GradientDescent(1.0), dense_limit=0)
        >>> well = lambda w: jnp.sum(0.5 * 2.1 * w**2 - 0.25 * w**4)
        >>> state, own = RodSolver(flow.equation).start(flow.init(well, jnp.asarray([0.1])), well)
        >>> print(own.inner.velocity.shape, int(own.cost.gradients), int(own.failure))
        (1,) 2 0
    """

    equation: RodEquation
    dense: diffrax.Tsit5 = eqx.field(default_factory=diffrax.Tsit5)

    term_structure: ClassVar = AbstractTerm

    def interpolation_cls(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, **info: PyTree[Array]
    ) -> diffrax.AbstractLocalInterpolation:
        """Return the interpolation of a step of either form."""
        if "slopes" in info:
            return RodInterpolation(**info)
        return self.dense.interpolation_cls(**info)

    def order(self, terms: AbstractTerm) -> int:
        """Return 2, that of the stabilised method, the lowest."""
        del terms
        return 2

    def error_order(self, terms: AbstractTerm) -> int:
        """Return 3: what both methods for factors estimate is of this order in the step."""
        del terms
        return 3

    def prepared(self, equation: eqx.Module, smallest: Float[Array, ""]) -> "RodSolver":
        """Return the solver for a flow; a point without derivative ends it at any step size."""
        del smallest
        assert isinstance(equation, RodEquation)
        return RodSolver(equation, self.dense)

    @property
    def first_step(self) -> Float[Array, ""]:
        """Half a step of the optimizer."""
        return jnp.asarray(_FIRST_STEP)

    def start(self, y0: RodState, potential: Potential) -> tuple[RodState, RodSolverState]:
        """Put the state right, and evaluate the slope there."""
        if self._splits and isinstance(y0, LowRankRodState):
            # This evaluates a derivative at the centre, as a projection does, and a factor needs
            # no other one.
            slope = self.equation.slope(y0, potential, beyond_centre="ask")
            spent = self.equation.cost_of(slope.values, slope.derivatives)
            failure = (all_finite(y0) & ~slope.smooth).astype(jnp.int32)
            still = jax.tree.map(jnp.zeros_like, slope.beyond_centre)
            return y0, RodSolverState(slope, spent, failure, still)
        y0, failure = self.equation.project(y0, potential)
        if isinstance(y0, DenseRodState):
            zero = jnp.zeros((), y0.covariance.dtype)
            inner = self.dense.init(self._terms, zero, zero + _FIRST_STEP, y0, potential)
            return y0, RodSolverState(inner, self._projected(self.equation.cost), failure)
        slope = self.equation.slope(y0, potential)
        spent = self.equation.cost_of(slope.values, slope.derivatives)
        return y0, RodSolverState(slope, self._projected(spent), failure)

    @traced_once
    def step(
        self,
        terms: AbstractTerm,
        t0: ScalarLike,
        t1: ScalarLike,
        y0: RodState,
        args: Potential,
        solver_state: RodSolverState,
        made_jump: BoolLike,
    ) -> tuple[RodState, RodState, dict[str, PyTree[Array]], RodSolverState, RESULTS]:
        """Take one step; where it leads to a point without derivative, the run ends.

        The slope of a factor shows that by itself; in the dense form, the projection does.
        """
        del terms
        t0, t1 = jnp.asarray(t0), jnp.asarray(t1)
        if isinstance(y0, LowRankRodState):
            return self._factor_step(t1 - t0, y0, args, solver_state)
        inner: Any = solver_state.inner
        y1, error, info, inner, result = self.dense.step(
            self._terms, t0, t1, y0, args, inner, jnp.asarray(made_jump)
        )
        y1, failure = self.equation.project(y1, args)
        result = choose(failure > 0, RESULTS.nonlinear_divergence, result)
        spent, evaluation = solver_state.cost, self.equation.cost
        if spent is not None and evaluation is not None:
            spent = spent + evaluation * (self.dense.tableau.num_stages - 1)
        state = RodSolverState(inner, self._projected(spent), failure)
        error = relative_to_covariance(relative_to_second_moment(error, y0), y0)
        return y1, error, {**info, "y1": y1}, state, result

    def func(self, terms: AbstractTerm, t0: ScalarLike, y0: RodState, args: Potential) -> RodState:
        """Return the vector field, from which the first step is chosen.

        That of a factor is singular at the start, where the covariance has rank one: the
        optimizer's own move takes its place.
        """
        del terms
        if isinstance(y0, DenseRodState):
            return self.equation.vector_field(jnp.asarray(t0), y0, args)
        centre, unravel = flat_centre(y0)
        move = self.equation.increment(y0, args)(centre, y0.time)
        still = jax.tree.map(jnp.zeros_like, y0)
        return dataclasses.replace(still, centre=unravel(move))

    @property
    def _real(self) -> bool:
        """True if the rates of the flow are real."""
        return isinstance(self.equation.optimizer, AbstractDescent | AbstractAdaptiveDescent)

    @property
    def _splits(self) -> bool:
        """True if stages evaluate a derivative at the centre alone."""
        return isinstance(self.equation.optimizer, AbstractDescent)

    @property
    def _terms(self) -> diffrax.ODETerm:
        return diffrax.ODETerm(self.equation.vector_field)

    def _factor_step(
        self,
        length: Array,
        y0: LowRankRodState,
        potential: Potential,
        solver_state: RodSolverState,
    ) -> tuple[RodState, RodState, dict[str, PyTree[Array]], RodSolverState, RESULTS]:
        # The step itself, with the centre as a vector.
        centre, unravel = flat_place(y0)
        slope, spent = solver_state.inner, solver_state.cost
        assert isinstance(slope, RodSlope)
        assert spent is not None

        ask = "ask" if self._splits else None

        def field(point: RodPoint, beyond_centre: Point | None = None) -> RodSlope:
            state = low_rank_state(unravel(point.centre), point.factor)
            known = ask if beyond_centre is None else beyond_centre
            # Every stage is a truncated sum, whose rows are in order.
            return self.equation.slope(state, potential, ordered=True, beyond_centre=known)

        start, drift, last = RodPoint(centre, y0.factor), solver_state.drift, slope.beyond_centre
        if last is None or drift is None:
            done = (
                stabilised(field, length, start, slope, _MOST_STAGES)
                if self._real
                else bogacki_shampine(field, length, start, slope)
            )
        else:

            def supposed(passed: Array, last: Point = last, rate: Point = drift) -> Point:
                return last + passed * rate

            done = stabilised(field, length, start, slope, _MOST_STAGES, supposed)
            assert done.slope.beyond_centre is not None
            drift = (done.slope.beyond_centre - last) / length
        y1 = low_rank_state(unravel(done.point.centre), done.point.factor)
        error = low_rank_state(unravel(done.error.centre), done.error.factor)
        error = relative_to_covariance(relative_to_second_moment(error, y0), y0)

        # How it may have failed.
        rough = all_finite(y1) & ~done.slope.smooth
        # Read only when the step size is constant: an adaptive controller discards the step.
        failure = jnp.where(done.stable, rough.astype(jnp.int32), _TOO_LONG)
        result = choose(failure > 0, RESULTS.nonlinear_divergence, RESULTS.successful)
        # A point without derivative is accepted, so that it ends the run; the estimate of its error
        # is not finite.
        error = jax.tree.map(lambda e: jnp.where(rough & done.stable, 0, e), error)

        spent = spent + self.equation.cost_of(done.values, done.derivatives)
        info = {"y0": y0, "y1": y1, "slopes": (slope, done.slope)}
        return y1, error, info, RodSolverState(done.slope, spent, failure, drift), result

    def _projected(self, spent: Cost | None) -> Cost | None:
        """Add what a projection evaluates, the map and a derivative of it at the centre."""
        return None if spent is None else spent + self.equation.cost_of(1, 1)


def error_norm(error: PyTree[Array]) -> Float[Array, ""]:
    """Return the root mean square of a scaled error, for the step-size controller.

    A factor belongs to many parameters, where a hundred times the usual tolerance is as good as the
    flow itself, and two hundred times in float32, where rounding errors decide when an oscillation
    begins. The dense form belongs to few, of which one wants the flow and not its solver: a
    tenth of the usual one holds 1e-3 through the onset of a rod, with `relative_to_covariance`; in
    float32 that would be rounding errors.
    """
    leaves = [jnp.ravel(x) for x in jax.tree.leaves(error)]
    size = jnp.sqrt(jnp.mean(jnp.concatenate(leaves) ** 2))
    double = size.dtype == jnp.float64
    if isinstance(error, LowRankRodState):
        return (1e-2 if double else 5e-3) * size
    return 10 * size if double else size


def relative_to_covariance(error: PyTree[Array], state: RodState) -> PyTree[Array]:
    """Return an error whose part in the covariance a controller measures relative to the variances.

    Before the onset a variance is many orders of magnitude below an absolute tolerance that suits
    the centre, and grows by as many: an error that is not small beside it shifts the onset. A
    thousand times the relative tolerance prevents that. Of a large variance the error stays what it
    is.
    """
    if error is None or not isinstance(state, DenseRodState):
        return error
    covariance = lax.stop_gradient(state.covariance)
    deviations = jnp.sqrt(jnp.maximum(jnp.diagonal(covariance), 0))
    size = deviations[:, None] * deviations[None, :]
    factor = (_ABSOLUTE + jnp.abs(covariance)) / (_GROWING * size + _VANISHING)
    scaled = jnp.maximum(factor, 1) * error.covariance
    return dataclasses.replace(error, covariance=scaled)


def relative_to_second_moment(error: PyTree[Array], state: RodState) -> PyTree[Array]:
    """Return an error whose part in nu a controller measures relative to nu.

    Entries of nu differ by many orders of magnitude, and a step divides by their root. With an
    absolute tolerance of 1% of the relative one, as that of the flow's own controller is, an error
    of nu counts as if there were a relative one only.
    """
    if state.second_moment is None or error is None:
        return error
    relative = jax.tree.map(
        lambda e, nu: (
            e * (1 + jnp.where(nu > 0, _ABSOLUTE / jnp.maximum(nu, jnp.finfo(nu.dtype).tiny), 0))
        ),
        error.second_moment,
        state.second_moment,
    )
    return dataclasses.replace(error, second_moment=relative)
