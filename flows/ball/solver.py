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
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..core.compilation import traced_once
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.results import RESULTS, choose
from ..core.validation import positive
from ..solvers.projection import AbstractFlowSolver
from .placement import attempt, unplaced

_SHORTEST = 1e-6
# A step that moves the centre by less than this share of the radius has come to a crease, if there
# is one within twice the move: it is caught, rather than approached for ever.
_CAUGHT = 1e-5

# How often the end of a step may be corrected, after the look that is its last stage.
_CORRECTIONS = 4


class BallSolverState(eqx.Module):
    """State of `BallSolver`.

    Attributes:
        dx: Velocity of the centre's parameters at the current point (P,).
        dy: Velocity of its height.
        cost: What was spent so far.
        failure: Which of the flow's `failures` ended the run, from 1; 0 for none.
    """

    dx: Float[Array, " parameter"]
    dy: Float[Array, ""]
    cost: Cost
    failure: Int[Array, ""]


class BallSolver(AbstractFlowSolver):
    """An explicit Runge-Kutta method, Tsitouras's of order 5, on the centre.

    Within a step each stage's search for the contact starts from the last stage's, and its end is
    put to where the ball touches. It counts what that takes. Any other solver of diffrax works
    too, with the same projection after its steps, and starts all stages from the last step's
    contact.

    Attributes:
        flow: The `BallCentreFlow`; the vector field of the terms is not used.
        shortest: A step so short, in steps of the optimizer, is not rejected where no contact is
            found: the run has failed there.

    Raises:
        ValueError: If `shortest` is not positive.
    """

    equation: Any
    shortest: Float[Array, ""] = eqx.field(
        default=_SHORTEST, converter=partial(positive, "shortest")
    )

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., Any]] = diffrax.Tsit5.interpolation_cls

    def prepared(self, flow: Any, smallest: Float[Array, ""]) -> "BallSolver":
        """Return the solver for a flow, which tells what fails before the controller gives up."""
        # An adaptive controller of diffrax shortens a step to no less than a fifth.
        return BallSolver(flow.equation, jnp.maximum(self.shortest, 5 * smallest))

    @property
    def first_step(self) -> Float[Array, ""]:
        """A hundredth of a step of the optimizer."""
        return jnp.asarray(0.01)

    def order(self, terms: Any) -> int:
        """Return 5."""
        del terms
        return 5

    def start(self, y0: Any, potential: Potential) -> tuple[Any, BallSolverState]:
        """Put the ball to where it touches, and evaluate its velocity."""
        placed = self.equation.placed(y0, potential)
        y0 = self.equation.checked(y0, potential, placed)
        failure = self.equation.failure(y0, placed)
        dx, dy = self.equation.rates(placed.contacts)
        return self.equation.renewed(y0, placed), BallSolverState(dx, dy, placed.cost, failure)

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Potential) -> BallSolverState:
        """Evaluate the velocity at the start."""
        del terms, t0, t1
        return self.start(y0, args)[1]

    @traced_once
    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        args: Potential,
        solver_state: BallSolverState,
        made_jump: Any,
    ) -> tuple[Any, Any, dict[str, Any], BallSolverState, RESULTS]:
        """Take one step; it is rejected where a contact was not found."""
        del terms, made_jump
        flow, step = self.equation, t1 - t0
        x0, unravel = ravel_pytree(y0.centre)
        search, surface = flow.optimizer.search, flow.surface(args, y0)
        radius = flow.radius(x0.dtype)
        lower, weights, errors = _tableau(x0.dtype)
        stages = len(weights)
        rates = jnp.zeros((stages, x0.size + 1), x0.dtype)
        rates = rates.at[0].set(jnp.append(solver_state.dx, solver_state.dy))
        start = jnp.append(x0, y0.height)

        def one(carry: Any, index: Array) -> tuple[Any, None]:
            """One stage, or one correction of the end: one search, so that one is compiled."""
            rates, ball, last, cost = carry
            row = jnp.minimum(index, stages - 1)
            inner = index < stages - 1
            here = start + step * (jnp.where(inner, lower[row], weights) @ rates)
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
                renewed = rates.at[row].set(jnp.append(*flow.rates(ball.contacts)))
                nearest = jnp.where(ball.contacts.converged, ball.contacts.nearest, last)
                ball = dataclasses.replace(ball, done=ball.done & ~inner)
                return renewed, ball, nearest, cost + ball.cost

            return lax.cond(ball.done, lambda: carry, tried), None

        first = unplaced(search, surface, x0, y0.height)
        first = rates, first, ravel_pytree(y0.contact)[0], Cost()
        indices = jnp.arange(1, stages + _CORRECTIONS, dtype=jnp.int32)
        (rates, placed, _, cost), _ = lax.scan(one, first, indices)
        dx, dy = rates[-1, :-1], rates[-1, -1]
        error = step * (errors @ rates)
        lost = flow.failure(y0, placed)
        failed = ~jnp.all(jnp.isfinite(error)) | (lost > 0)
        hopeless = failed & (step < self.shortest)
        error = jnp.where(failed, jnp.where(hopeless, 0, jnp.inf), error)
        y1 = flow.renewed(y0, placed)
        y1 = jax.tree.map(lambda new, old: jnp.where(failed, old, new), y1, y0)
        y1 = dataclasses.replace(y1, detail=flow.renewed(y0, placed).detail)
        spent = solver_state.cost + cost
        # Told of a rejected step too, which nobody reads: a constant step size rejects none.
        failure = jnp.where(failed, jnp.maximum(lost, 1), 0).astype(jnp.int32)
        following = BallSolverState(dx, dy, spent, failure)
        chord = jax.tree.map(jnp.subtract, y1.contact, y0.contact)
        # The contact is only a guess for the next search: a straight line will do.
        chord = jax.tree.map(lambda c: jnp.broadcast_to(c, (stages, *c.shape)), chord)
        slopes = jnp.where(jnp.isfinite(rates), step * rates, 0)
        slopes = jax.vmap(y0.moving)(jax.vmap(unravel)(slopes[:, :-1]), slopes[:, -1], chord)
        info = {"y0": y0, "y1": y1, "k": slopes}
        nothing = jax.tree.map(jnp.zeros_like, y0.contact)
        y_error = y0.moving(unravel(jnp.abs(error[:-1])), jnp.abs(error[-1]), nothing)
        result = choose(failed, RESULTS.nonlinear_divergence, RESULTS.successful)
        return y1, y_error, info, following, result

    def func(self, terms: Any, t0: Any, y0: Any, args: Potential) -> Any:
        """Return the vector field."""
        return terms.vf(t0, y0, args)

    def _band(self, move: Array) -> Float[Array, ""]:
        """Return which distances count as equal after a move."""
        radius = self.equation.radius(move.dtype)
        default = self.equation.optimizer.search.band(radius)
        length = 2 * jnp.linalg.norm(lax.stop_gradient(move))
        return jnp.where(length < _CAUGHT * radius, jnp.maximum(length, default), default)


def _tableau(dtype: Any) -> tuple[Array, ...]:
    """Return Tsitouras's lower triangle, with zeros, his weights, and those of the error."""
    tableau = diffrax.Tsit5.tableau
    lower = np.zeros((tableau.num_stages, tableau.num_stages))
    for row, weights in enumerate(tableau.a_lower, start=1):
        lower[row, :row] = weights
    return tuple(jnp.asarray(a, dtype) for a in (lower, tableau.b_sol, tableau.b_error))
