"""The solver made for the parity flow of gradient descent: a stabilised method on the map alone.

The field is f plus a correction r = -(1/2) df + ..., and both are stiff: a mode that Phi multiplies
by -1 decays at the rate 2 along f, 4 with the correction of order 2. Stability then takes twice as
many evaluations as accuracy. But what moves slowly has a slow r. So a step of the
Runge-Kutta-Chebyshev method takes f alone at its stages, 2 gradients each, and r as a linear
function of time through its last two values. It is evaluated at (z + Phi z)/2, half a step ahead,
where the modes that flip are averaged out. What that neglects is of the third order in the
slowness, as what a flow of order 2 neglects; of higher orders it would spoil the gain, and it is
not stable for them.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from ..core.arrays import DENSE_LIMIT, BoolLike, BoolScalarLike, RealScalarLike, ScalarLike
from ..core.compilation import traced_once
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.results import RESULTS, choose
from ..core.trees import squared_norm
from ..core.validation import proper_fraction
from ..solvers.chebyshev import chebyshev_error, chebyshev_step_with_slopes, damped_stages_for
from ..solvers.projection import AbstractFlowSolver
from .equation import Halves, ParityEquation, Unravel
from .state import ParityState

# Of f alone: what flips is multiplied by -1, and by down to -1.6 in a burst.
_SPECTRAL_RADIUS = 2.6

_MOST_STAGES = 24

# What decays fast is to be gone after a few steps, so that neither the error nor the size of d is
# that of a remnant of the start: a step multiplies it by .3 to .5, where it would be .35 to .95
# with the damping that is usual, for a fifth more stages.
_DAMPING = 4.0

# Where the correction is evaluated, in steps ahead.
_AHEAD = 0.5

_FIRST_STEP = 0.5

# For the errors of a step: the least size of the centre, and below which share of that the
# half-difference counts as zero.
_FLOORS = {"float32": (1e-3, 1e-5), "float64": (1e-6, 1e-9)}

# The error of d relative to its own size may be that much larger than that of c: it delays a
# burst, where an error of c would displace it.
_LOOSER = 100

# Up to the dense limit the tolerances are that much smaller: a step costs next to nothing there,
# and an onset after hundreds of steps of decay and growth depends on all of them.
_TIGHTER = 1000


class Correction(eqx.Module):
    """r at two times, between and beyond which it is linear.

    Attributes:
        before: r at the earlier time, its parts in c and d.
        after: r at the later time.
        time: The later time.
        distance: How much earlier the other is; 0 where there is only one.
    """

    before: Halves
    after: Halves
    time: Float[Array, ""]
    distance: Float[Array, ""]

    def __call__(self, t: Array) -> Halves:
        """Return r(t)."""
        known = self.distance > 0
        share = jnp.where(known, (t - self.time) / jnp.where(known, self.distance, 1), 0)
        return jax.tree.map(lambda b, a: a + share * (a - b), self.before, self.after)


class ParitySolverState(eqx.Module):
    """State of `ParitySolver`.

    Attributes:
        slope: f + r at the current point, their parts in c and d.
        ahead: f at the point ahead, where r was evaluated.
        correction: r.
        cost: What accepted steps have spent.
        failure: 0; no step fails that a shorter one would not save.
    """

    slope: Halves
    ahead: Halves
    correction: Correction
    cost: Cost
    failure: Int[Array, ""]


class ParitySolver(AbstractFlowSolver):
    """Runge-Kutta-Chebyshev on f, with the parity flow's correction linear in time.

    It is what `simulate` uses for the parity flow of gradient descent to order 1 or 2 with more
    than 512 parameters: its stiff rates are real. A step of s stages costs 2 s gradients, and 4 for
    the correction of order 2. The result agrees with `ParityFlow.vector_field` up to terms of the
    order that the flow neglects.

    Attributes:
        equation: The right-hand side, `flow.equation`, of order 1 or 2.

    Raises:
        ValueError: If the equation is of a higher order.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, ParityFlow, ParitySolver, simulate
        >>> flow = ParityFlow(GradientDescent(1.0))
        >>> well = lambda w: jnp.sum(0.5 * 2.1 * w**2 - 0.25 * w**4)
        >>> run = simulate(flow, well, jnp.asarray([0.1]), 40, solver=ParitySolver(flow.equation))
        >>> round(float(run.observables["half_difference_length"][-1]) ** 2, 2)  # S - 2
        0.1
    """

    equation: ParityEquation

    def __check_init__(self) -> None:
        if self.equation.order > 2:
            raise ValueError(
                "ParitySolver is for order 1 or 2; for higher orders use RungeKuttaChebyshev, or "
                f"leave the choice to the flow; got order {self.equation.order}."
            )

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Any] = diffrax.ThirdOrderHermitePolynomialInterpolation

    def order(self, terms: diffrax.AbstractTerm) -> int:
        """Return 2."""
        del terms
        return 2

    def prepared(self, equation: eqx.Module, smallest: Float[Array, ""]) -> "ParitySolver":
        """Return the solver for a flow's equation."""
        del smallest
        assert isinstance(equation, ParityEquation)
        return ParitySolver(equation)

    @property
    def first_step(self) -> Float[Array, ""]:
        """Half a step of the optimizer."""
        return jnp.asarray(_FIRST_STEP)

    def start(self, y0: ParityState, potential: Potential) -> tuple[ParityState, ParitySolverState]:
        """Return the state itself, and f and r there."""
        point, (_, unravel) = _flat(y0), ravel_pytree(y0.centre)
        move = self.equation.moves(y0.time, point, unravel, potential)
        ahead, added = self._ahead(y0.time, point, move, unravel, potential)
        time = y0.time + self._lead
        correction = Correction(added, added, time, jnp.zeros_like(time))
        spent = self._map_cost * 2 + self._correction_cost
        slope = _sum(move, correction(y0.time))
        return y0, ParitySolverState(slope, ahead, correction, spent, jnp.zeros((), jnp.int32))

    @traced_once
    def step(
        self,
        terms: diffrax.AbstractTerm,
        t0: ScalarLike,
        t1: ScalarLike,
        y0: ParityState,
        args: Potential,
        solver_state: ParitySolverState,
        made_jump: BoolLike,
    ) -> tuple[ParityState, ParityState, dict[str, PyTree[Array]], ParitySolverState, RESULTS]:
        """Take one step."""
        del terms, made_jump
        _, unravel = ravel_pytree(y0.centre)
        dtype, correction = y0.time.dtype, solver_state.correction
        step = jnp.asarray(t1, dtype) - jnp.asarray(t0, dtype)
        wanted = damped_stages_for(step, _SPECTRAL_RADIUS, _DAMPING)
        stages = jnp.clip(wanted, 2, _MOST_STAGES).astype(jnp.int32)

        # The stages, with f alone evaluated at each.
        def field(t: Array, y: Halves) -> Halves:
            return _sum(self.equation.moves(t, y, unravel, args), correction(t))

        start, slope = _flat(y0), solver_state.slope
        end, _, last = chebyshev_step_with_slopes(
            field, y0.time, step, start, slope, True, stages, _MOST_STAGES, _DAMPING
        )
        after = ParityState(unravel(end[0]), unravel(end[1]), y0.time + step)
        move = jax.tree.map(jnp.subtract, last, correction(after.time))

        # The correction at the end.
        ahead, added = self._ahead(after.time, end, move, unravel, args)
        renewed = Correction(correction.after, added, after.time + self._lead, step)
        last = _sum(move, renewed(after.time))

        # The error of the points ahead: the estimate of the scheme's authors grows with the rate
        # of what decays fast, though this has no error to speak of, and is averaged out there.
        # Only its sizes are asked for. In a branch of their own: XLA on a CPU fuses the sums of
        # squares with the rest, and holds a vector for each scalar in it during all of the step
        # (jaxlib 0.10.2).
        def sizes() -> tuple[Array, Array]:
            first = jax.tree.map(jnp.subtract, slope, correction(y0.time))
            points = (self._point_ahead(start, first), self._point_ahead(end, move))
            slopes = (_sum(solver_state.ahead, correction.after), _sum(ahead, added))
            centre, difference = chebyshev_error(step, *points, *slopes)
            return _size(centre), _size(difference)

        too_long, infinite = wanted > _MOST_STAGES, jnp.full_like(step, jnp.inf)
        error = lax.cond(too_long, lambda: (infinite, infinite), sizes)

        spent = self._map_cost * (2 * stages) + self._correction_cost
        state = ParitySolverState(
            last, ahead, renewed, solver_state.cost + spent, jnp.zeros((), jnp.int32)
        )
        # Values and slopes times the step, for the interpolation in between.
        k0, k1 = (
            ParityState(unravel(step * k[0]), unravel(step * k[1]), step) for k in (slope, last)
        )
        dense_info = {"y0": y0, "y1": after, "k0": k0, "k1": k1}
        # As large everywhere, for controllers that look at each entry.
        centre, difference = (
            jax.tree.map(lambda x, e=size: jnp.broadcast_to(e, x.shape), y0.centre)
            for size in error
        )
        y_error = ParityState(centre, difference, jnp.zeros_like(step))
        result = choose(too_long, RESULTS.nonlinear_divergence, RESULTS.successful)
        return after, y_error, dense_info, state, result

    def func(
        self,
        terms: diffrax.AbstractTerm,
        t0: RealScalarLike,
        y0: ParityState,
        args: Potential,
    ) -> ParityState:
        """Return the flow's vector field."""
        return terms.vf(t0, y0, args)

    def _ahead(
        self, t: Array, point: Halves, move: Halves, unravel: Unravel, potential: Potential
    ) -> tuple[Halves, Halves]:
        """Return f and r at the point ahead of one where f is `move`."""
        if self.equation.order == 1:
            return move, jax.tree.map(jnp.zeros_like, move)

        # f at z and at Phi z: the first of the two is kept, and nothing begins as zeros.
        def doubled(carry: tuple[Halves, Halves, Halves], j: Array) -> tuple[Any, None]:
            z, first, _ = carry
            f = self.equation.moves(t + self._lead + j, z, unravel, potential)
            first = jax.tree.map(lambda a, b: jnp.where(j == 0, a, b), f, first)
            return (_sum(z, f), first, f), None

        at = self._point_ahead(point, move)
        steps = jnp.arange(2, dtype=t.dtype)
        (_, first, second), _ = lax.scan(doubled, (at, at, at), steps)
        return first, jax.tree.map(lambda a, b: 0.5 * (a - b), first, second)

    def _point_ahead(self, point: Halves, move: Halves) -> Halves:
        """Return (z + Phi z)/2; z itself at order 1, which has no correction."""
        return jax.tree.map(lambda z, m: z + self._lead * m, point, move)

    @property
    def _lead(self) -> float:
        return 0.0 if self.equation.order == 1 else _AHEAD

    @property
    def _map_cost(self) -> Cost:
        return self.equation.optimizer.cost

    @property
    def _correction_cost(self) -> Cost:
        return self._map_cost * (0 if self.equation.order == 1 else 2 * self.equation.order)


class PartwiseController(diffrax.AbstractAdaptiveStepSizeController):
    """A controller that measures the errors of c and of d as a whole, each relative to its size.

    Entry by entry the many parameters that hardly oscillate would set the step; and an absolute
    tolerance that suits c is far above a d that is about to grow.

    Args:
        rtol: The error of c in a step, relative to its size; that of d, relative to its own, may be
            a hundred times as large. Up to 512 parameters it is a thousandth of that.

    Raises:
        ValueError: If `rtol` is not a number between 0 and 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, ParityFlow, PartwiseController, simulate
        >>> well = lambda w: jnp.sum(0.5 * 2.1 * w**2 - 0.25 * w**4)
        >>> flow, start = ParityFlow(GradientDescent(1.0)), jnp.asarray([0.1])
        >>> spent = []
        >>> for rtol in (1e-2, 1e-4):
        ...     controller = PartwiseController(rtol)
        ...     run = simulate(flow, well, start, 40, stepsize_controller=controller)
        ...     spent.append(int(run.stats["gradient_evaluations"]))
        >>> spent[0] < spent[1]
        True
    """

    controller: diffrax.AbstractStepSizeController
    rtol: RealScalarLike
    atol: RealScalarLike
    norm: Callable[[PyTree[Array]], RealScalarLike]

    def __init__(self, rtol: float):
        # As a Python number, which takes on the precision of the errors.
        self.rtol, self.atol, self.norm = proper_fraction("rtol", rtol), 0.0, _largest
        self.controller = diffrax.PIDController(
            rtol=self.rtol, atol=self.atol, norm=self.norm, pcoeff=0.3, icoeff=0.4, safety=0.8
        )

    def wrap(self, direction: int | np.ndarray | Array) -> "PartwiseController":
        """Return the controller for a solve in this direction of time, 1 or -1."""
        return eqx.tree_at(lambda c: c.controller, self, self.controller.wrap(direction))

    def init(
        self,
        terms: diffrax.AbstractTerm,
        t0: RealScalarLike,
        t1: RealScalarLike,
        y0: ParityState,
        dt0: RealScalarLike | None,
        args: PyTree,
        func: Any,
        error_order: RealScalarLike | None,
    ) -> tuple[RealScalarLike, Any]:
        """Begin with half a step of the optimizer, if no other is asked for."""
        dt0 = _FIRST_STEP if dt0 is None else dt0
        return self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)

    def adapt_step_size(
        self,
        t0: RealScalarLike,
        t1: RealScalarLike,
        y0: ParityState,
        y1_candidate: ParityState,
        args: PyTree,
        y_error: PyTree,
        error_order: RealScalarLike,
        controller_state: Any,
    ) -> tuple[BoolScalarLike, RealScalarLike, RealScalarLike, BoolScalarLike, Any, RESULTS]:
        """Adapt the step to the errors of the two parts."""
        sizes = (_sizes(y0), _sizes(y1_candidate))
        centre, difference = (_size(x) for x in (y_error.centre, y_error.half_difference))
        size = sum(x.size for x in jax.tree.leaves(y0.centre))
        factor = _TIGHTER if size <= DENSE_LIMIT else 1
        errors = factor * centre, factor / _LOOSER * difference
        return self.controller.adapt_step_size(
            t0, t1, *sizes, args, errors, error_order, controller_state
        )


def _largest(errors: PyTree[Array]) -> Float[Array, ""]:
    """Return the largest of some numbers."""
    return jnp.max(jnp.stack(jax.tree.leaves(errors)))


def _sizes(state: ParityState) -> tuple[Float[Array, ""], Float[Array, ""]]:
    centre, difference = _size(state.centre), _size(state.half_difference)
    least, share = _FLOORS[str(centre.dtype)]
    # A centre that oscillation keeps at zero, or that descends to zero, needs no relative accuracy.
    scale = jnp.maximum(jnp.maximum(centre, difference), least)
    return scale, jnp.maximum(difference, share * scale)


def _size(tree: PyTree[Array]) -> Float[Array, ""]:
    # Leaf by leaf: parameters that are spread over devices need not be gathered.
    squares = squared_norm(tree)
    return jnp.sqrt(squares / sum(x.size for x in jax.tree.leaves(tree)))


def _flat(state: ParityState) -> Halves:
    return ravel_pytree(state.centre)[0], ravel_pytree(state.half_difference)[0]


def _sum(x: Halves, y: Halves) -> Halves:
    return jax.tree.map(jnp.add, x, y)
