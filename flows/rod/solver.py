"""The solver made for Rod Flow, for both forms of its state."""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ..core.compilation import traced_once
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.results import RESULTS, choose
from ..core.trees import all_finite
from ..optimizers.gradient_descent import GradientDescent
from ..optimizers.phase_space import increments
from ..solvers.projection import AbstractFlowSolver, too_long_failure
from .equation import RodSlope
from .state import DenseRodState, LowRankRodState, RodState, flat_centre
from .stepper import RodInterpolation, RodPoint, Stepped, bogacki_shampine, stabilised

# Beyond, a step would gain nothing: the covariance forgets within a step of the optimizer.
LONGEST_STEP = 8.0
_MOST_STAGES = 12

# How steps adapt: at the edge of stability, where the rods swing, a proportional part and more
# caution than diffrax's own leave few of them rejected, which cost as much as the others.
PROPORTIONAL, INTEGRAL, SAFETY = 0.2, 0.4, 0.8


# The first step to try, in steps of the optimizer: the controller shortens it where rods swing.
_FIRST_STEP = 0.5


class RodSolverState(eqx.Module):
    """State of `RodSolver`.

    Attributes:
        inner: The dense solver's state, or the slope at the current point.
        cost: What was spent so far in accepted steps; None where that is not known, in the dense
            form with a varying number of rods.
        failure: Which of the flow's `failures` ended the run, from 1; 0 for none.
    """

    inner: Any
    cost: Cost | None
    failure: Int[Array, ""]


class RodSolver(AbstractFlowSolver):
    """Steps of Rod Flow: by `dense` with the covariance itself, in factors of it beyond.

    With a factor, gradient descent's flow takes Runge-Kutta-Chebyshev steps of order two, since
    its rates are real: an evaluation then lasts about as long as a step of the optimizer. With
    momentum they are complex, and a method of order three of Bogacki and Shampine takes over.

    Attributes:
        flow: The `RodFlow`; for a factor the vector field of the terms is not used.
        dense: An explicit Runge-Kutta method for the dense form.
    """

    equation: Any
    dense: diffrax.Tsit5

    term_structure: ClassVar = diffrax.AbstractTerm

    def interpolation_cls(self, **info: Any) -> diffrax.AbstractLocalInterpolation:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return the interpolation of a step of either form."""
        if "slopes" in info:
            return RodInterpolation(**info)
        return self.dense.interpolation_cls(**info)

    def order(self, terms: Any) -> int:
        """Return 2, that of the stabilised method, the lowest."""
        del terms
        return 2

    def error_order(self, terms: Any) -> int:
        """Return 3: what both methods for factors estimate is of this order in the step."""
        del terms
        return 3

    def prepared(self, flow: Any, smallest: Array) -> "RodSolver":
        """Return the solver for a flow; a point without derivative ends it at any step size."""
        del smallest
        return RodSolver(flow.equation, self.dense)

    @property
    def first_step(self) -> Array:
        """Half a step of the optimizer."""
        return jnp.asarray(_FIRST_STEP)

    def start(self, y0: RodState, potential: Potential) -> tuple[RodState, RodSolverState]:
        """Put the state right, and evaluate the slope there."""
        y0, failure = self.equation.project(y0, potential)
        if isinstance(y0, DenseRodState):
            terms = diffrax.ODETerm(self.equation.vector_field)
            zero = jnp.zeros((), y0.covariance.dtype)
            inner = self.dense.init(terms, zero, zero + _FIRST_STEP, y0, potential)
            return y0, RodSolverState(inner, self._projected(self.equation.cost), failure)
        slope = self.equation.slope(y0, potential)
        return y0, RodSolverState(slope, self._projected(self._spent(slope.points)), failure)

    def init(self, terms: Any, t0: Any, t1: Any, y0: RodState, args: Potential) -> RodSolverState:
        """Evaluate the slope at the start."""
        del terms, t0, t1
        return self.start(y0, args)[1]

    @traced_once
    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: RodState,
        args: Potential,
        solver_state: RodSolverState,
        made_jump: Any,
    ) -> tuple[Any, Any, dict[str, Any], RodSolverState, RESULTS]:
        """Take one step; where it leads to a point without derivative, the run ends.

        The slope of a factor tells that by itself; in the dense form, `RodFlow.project` does.
        """
        inner, spent = solver_state.inner, solver_state.cost
        if isinstance(y0, DenseRodState):
            y1, error, info, inner, result = self.dense.step(
                terms, t0, t1, y0, args, inner, made_jump
            )
            y1, failure = self.equation.project(y1, args)
            result = choose(failure > 0, RESULTS.nonlinear_divergence, result)
            if spent is not None:
                spent = spent + self.equation.cost * (self.dense.tableau.num_stages - 1)
            spent = self._projected(spent)
            return y1, error, {**info, "y1": y1}, RodSolverState(inner, spent, failure), result
        field, point, unravel = self._field(y0, args)
        done = self._stepped(field, t1 - t0, point, inner)
        y1 = LowRankRodState(unravel(done.point.centre), done.point.factor)
        error = LowRankRodState(unravel(done.error.centre), done.error.factor)
        info = {"y0": y0, "y1": y1, "slopes": (inner, done.slope)}
        assert spent is not None
        rough = all_finite(y1) & ~done.slope.smooth
        # Of a rejected step nobody reads it: a constant step size rejects none.
        failure = jnp.where(done.stable, rough.astype(jnp.int32), too_long_failure(self.equation))
        result = choose(failure > 0, RESULTS.nonlinear_divergence, RESULTS.successful)
        # Accepted, so that it ends the run; the estimate of its error is not finite.
        error = jax.tree.map(lambda e: jnp.where(rough & done.stable, 0, e), error)
        state = RodSolverState(done.slope, spent + self._spent(done.points), failure)
        return y1, error, info, state, result

    def func(self, terms: Any, t0: Any, y0: RodState, args: Potential) -> Any:
        """Return the vector field, from which the first step is chosen.

        That of a factor is singular at the start, where the covariance has rank one: how the
        optimizer moves has to do.
        """
        if isinstance(y0, DenseRodState):
            return self.dense.func(terms, t0, y0, args)
        centre, unravel = flat_centre(y0)
        move = increments(self.equation.optimizer, args, unravel)(centre)
        return LowRankRodState(unravel(move), jnp.zeros_like(y0.factor))

    def _field(
        self, y0: LowRankRodState, potential: Potential
    ) -> tuple[Callable[[RodPoint], RodSlope], RodPoint, Callable[[Array], Any]]:
        """Return the field on flat states, the state `y0` so, and the way back."""
        centre, unravel = flat_centre(y0)

        def field(point: RodPoint) -> RodSlope:
            state = LowRankRodState(unravel(point.centre), point.factor)
            # Every stage is a truncated sum, whose rows are in order.
            return self.equation.slope(state, potential, ordered=True)

        return field, RodPoint(centre, y0.factor), unravel

    def _stepped(self, field: Any, step: Array, point: RodPoint, slope: RodSlope) -> Stepped:
        if isinstance(self.equation.optimizer, GradientDescent):
            return stabilised(field, step, point, slope, _MOST_STAGES)
        return bogacki_shampine(field, step, point, slope)

    def _spent(self, points: Array) -> Cost:
        return self.equation.point_cost * points

    def _projected(self, spent: Cost | None) -> Cost | None:
        """Add what a projection evaluates, the map and a derivative of it at the centre."""
        return None if spent is None else spent + self.equation.point_cost


def error_norm(error: Any) -> Array:
    """Return the root mean square of a scaled error, for the step-size controller.

    A factor belongs to many parameters, where a hundred times the tolerance of the dense form is
    as good as the flow itself.
    """
    leaves = [jnp.ravel(x) for x in jax.tree.leaves(error)]
    size = jnp.sqrt(jnp.mean(jnp.concatenate(leaves) ** 2))
    return 1e-2 * size if isinstance(error, LowRankRodState) else size
