"""The solver made for ball-centre dynamics: Runge-Kutta steps that end with a touching ball."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from diffrax import AbstractTerm
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PyTree

from ..core.arrays import BoolLike, ScalarLike, Vector
from ..core.compilation import traced_once
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.results import RESULTS, choose
from ..core.validation import positive
from ..solvers.field import segment_start
from ..solvers.projection import AbstractFlowSolver
from .equation import BallEquation
from .placement import Placed, attempt, unplaced
from .state import BallCentreState

_SHORTEST = 1e-6
# A step that moves the centre by less than this share of the radius has reached a crease, if there
# is one within twice the move: the ball is put on it, which it would otherwise approach for ever.
_CAUGHT = 1e-5

# How often the end of a step may be corrected, after the search that is its last stage.
_CORRECTIONS = 4


class BallSolverState(eqx.Module):
    """State of `BallSolver`.

    Attributes:
        dx: Velocity of the centre's parameters at the current point over eta / a (P,).
        dy: Velocity of its height over eta / a.
        cost: What was spent so far.
        failure: Which of the flow's `failures` ended the run, from 1; 0 for none.
    """

    dx: Vector
    dy: Float[Array, ""]
    cost: Cost
    failure: Int[Array, ""]


class BallSolver(AbstractFlowSolver):
    """An explicit Runge-Kutta method, Tsitouras's of order 5, on the ball's centre.

    Within a step the search for the contact starts from the contact of the stage before, and the
    end of the step is put where the ball touches. What that takes is counted. Any other solver of
    diffrax works too, with the same projection after its steps; all its stages start their search
    from the contact at the start of the step.

    Attributes:
        equation: The right-hand side, `flow.equation`; the vector field of the terms is not used.
        shortest: Where no contact is found, a step shorter than this, in steps of the optimizer, is
            not rejected: the run has failed there.

    Raises:
        ValueError: If `shortest` is not positive.

    Example:
        It is what `simulate` uses for ball-centre dynamics. On the bowl |w|^2 / 2 the centre of a
        ball that touches at w moves by -w:

        >>> import jax.numpy as jnp
        >>> from flows import BallCentreFlow, BallSolver, RollingBall
        >>> flow = BallCentreFlow(RollingBall(1.0, radius=0.5))
        >>> bowl = lambda w: 0.5 * jnp.sum(w**2)
        >>> state = flow.init(bowl, jnp.asarray([2.0, 0.0, 0.0]))
        >>> state, own = BallSolver(flow.equation).start(state, bowl)
        >>> round(float(own.dx[0]), 6), round(float(own.dy), 6), int(own.failure)
        (-2.0, -4.0, 0)
    """

    equation: BallEquation
    shortest: Float[Array, ""] = eqx.field(
        default=_SHORTEST, converter=partial(positive, "shortest")
    )

    term_structure: ClassVar = AbstractTerm
    interpolation_cls: ClassVar[Callable[..., diffrax.AbstractLocalInterpolation]] = (
        diffrax.Tsit5.interpolation_cls
    )

    def prepared(self, equation: eqx.Module, smallest: Float[Array, ""]) -> "BallSolver":
        """Return the solver for a flow, which fails before the controller gives up."""
        assert isinstance(equation, BallEquation)
        # An adaptive controller of diffrax shortens a step to no less than a fifth.
        return BallSolver(equation, jnp.maximum(self.shortest, 5 * smallest))

    @property
    def first_step(self) -> Float[Array, ""]:
        """A hundredth of a step of the optimizer."""
        return jnp.asarray(0.01)

    def order(self, terms: AbstractTerm) -> int:
        """Return 5."""
        del terms
        return 5

    def start(
        self, y0: BallCentreState, potential: Potential
    ) -> tuple[BallCentreState, BallSolverState]:
        """Put the ball where it touches, and evaluate its velocity."""
        y0, failure, placed = self.equation.settled(y0, potential)
        return y0, BallSolverState(*self.equation.velocity(placed.contacts), placed.cost, failure)

    @traced_once
    def step(
        self,
        terms: AbstractTerm,
        t0: ScalarLike,
        t1: ScalarLike,
        y0: BallCentreState,
        args: Potential,
        solver_state: BallSolverState,
        made_jump: BoolLike,
    ) -> tuple[
        BallCentreState, BallCentreState, dict[str, PyTree[Array]], BallSolverState, RESULTS
    ]:
        """Take one step; it is rejected where a contact was not found."""
        del made_jump
        step = jnp.asarray(t1) - jnp.asarray(t0)
        x0, unravel = ravel_pytree(y0.centre)
        _, _, errors, shares = _tableau(x0.dtype)

        # The stages, and where the ball is at the end of the step.
        start = jnp.asarray(t0) + jnp.asarray(segment_start(terms), step.dtype)
        times = start + step * shares.astype(step.dtype)
        scales = jax.vmap(partial(self.equation.optimizer.rate, x0.dtype))(times)
        velocities, placed, cost = self._stages(step, scales, y0, args, solver_state)
        stages, rates = len(scales), scales[:, None] * velocities

        # Whether the step failed: it is then rejected, unless it is too short for that.
        error = step * (errors @ rates)
        y1, lost = self.equation.outcome(y0, placed)
        failed = ~jnp.all(jnp.isfinite(error)) | (lost > 0)
        hopeless = failed & (step < self.shortest)
        error = jnp.where(failed, jnp.where(hopeless, 0, jnp.inf), error)
        kept = jax.tree.map(lambda new, old: jnp.where(failed, old, new), y1, y0)
        y1 = dataclasses.replace(kept, detail=y1.detail)
        # Read only when the step size is constant: an adaptive controller discards the step.
        failure = jnp.where(failed, jnp.maximum(lost, 1), 0).astype(jnp.int32)
        following = BallSolverState(
            velocities[-1, :-1], velocities[-1, -1], solver_state.cost + cost, failure
        )

        # What interpolation needs. The contact is only a guess for the next search: a straight line
        # will do.
        chord = jax.tree.map(jnp.subtract, y1.contact, y0.contact)
        chord = jax.tree.map(lambda c: jnp.broadcast_to(c, (stages, *c.shape)), chord)
        slopes = jnp.where(jnp.isfinite(rates), step * rates, 0)
        slopes = jax.vmap(y0.moving)(jax.vmap(unravel)(slopes[:, :-1]), slopes[:, -1], chord)
        info = {"y0": y0, "y1": y1, "k": slopes}
        nothing = jax.tree.map(jnp.zeros_like, y0.contact)
        y_error = y0.moving(unravel(jnp.abs(error[:-1])), jnp.abs(error[-1]), nothing)
        result = choose(failed, RESULTS.nonlinear_divergence, RESULTS.successful)
        return y1, y_error, info, following, result

    def func(
        self, terms: AbstractTerm, t0: ScalarLike, y0: BallCentreState, args: Potential
    ) -> BallCentreState:
        """Return the vector field."""
        time = jnp.asarray(t0)
        start = jnp.asarray(segment_start(terms), time.dtype)
        return self.equation.vector_field(start + time, y0, args)

    def _stages(
        self,
        step: Array,
        scales: Float[Array, " stage"],
        y0: BallCentreState,
        potential: Potential,
        solver_state: BallSolverState,
    ) -> tuple[Float[Array, "stage coordinate"], Placed, Cost]:
        """Return the velocities of all stages, the ball at the end, and what it took.

        They are (dx, dy) over eta / a, which `scales` are at the times of the stages.
        """
        x0, _ = ravel_pytree(y0.centre)
        equation, search = self.equation, self.equation.optimizer.search
        surface, radius = equation.surface(potential, y0), equation.radius(x0.dtype)
        lower, weights, *_ = _tableau(x0.dtype)
        stages = len(weights)
        velocities = jnp.zeros((stages, x0.size + 1), x0.dtype)
        velocities = velocities.at[0].set(jnp.append(solver_state.dx, solver_state.dy))
        start = jnp.append(x0, y0.height)

        def one(carry: Any, index: Array) -> tuple[Any, None]:
            """Make one stage, or one correction of the end: with one search, compiled once."""
            velocities, ball, last, cost = carry
            row = jnp.minimum(index, stages - 1)
            inner = index < stages - 1
            here = start + step * ((scales * jnp.where(inner, lower[row], weights)) @ velocities)
            # The last stage is at the end of the step, where the ball is placed.
            here = jnp.where(index < stages, here, jnp.append(ball.x, ball.y))
            fresh = dataclasses.replace(
                ball,
                x=here[:-1],
                y=here[-1],
                first_distance=jnp.full_like(radius, jnp.inf),
                done=jnp.asarray(False),
                cost=Cost(),
            )
            band = jnp.where(inner, search.band(radius), self._band(here - start))

            def tried() -> Any:
                ball = attempt(search, surface, fresh, radius, last, band)
                renewed = velocities.at[row].set(jnp.append(*equation.velocity(ball.contacts)))
                nearest = jnp.where(ball.contacts.converged, ball.contacts.nearest, last)
                ball = dataclasses.replace(ball, done=ball.done & ~inner)
                return renewed, ball, nearest, cost + ball.cost

            return lax.cond(ball.done, lambda: carry, tried), None

        first = unplaced(search, surface, x0, y0.height)
        first = velocities, first, ravel_pytree(y0.contact)[0], Cost()
        indices = jnp.arange(1, stages + _CORRECTIONS, dtype=jnp.int32)
        (velocities, placed, _, cost), _ = lax.scan(one, first, indices)
        return velocities, placed, cost

    def _band(self, move: Array) -> Float[Array, ""]:
        """Return which distances count as equal after a move."""
        radius = self.equation.radius(move.dtype)
        default = self.equation.optimizer.search.band(radius)
        length = 2 * jnp.linalg.norm(lax.stop_gradient(move))
        return jnp.where(length < _CAUGHT * radius, jnp.maximum(length, default), default)


def _tableau(dtype: DTypeLike) -> tuple[Array, Array, Array, Array]:
    """Return Tsitouras's lower triangle, with zeros, his weights, those of the error, and when.

    The last is the share of a step after which each stage is.
    """
    tableau = diffrax.Tsit5.tableau
    lower = np.zeros((tableau.num_stages, tableau.num_stages))
    for row, weights in enumerate(tableau.a_lower, start=1):
        lower[row, :row] = weights
    parts = lower, tableau.b_sol, tableau.b_error, np.append(0.0, tableau.c)
    lower, weights, errors, shares = (jnp.asarray(a, dtype) for a in parts)
    return lower, weights, errors, shares
