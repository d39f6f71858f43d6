"""A solver made for Central Flow: long stabilised steps on a model renewed at each step.

What is expensive in Central Flow, the eigenvectors U and the third derivatives dH, changes slowly.
What is fast, the gradient and the distance of the eigenvalues to 2/eta, is cheap once those are
known: U^T H(w) U = Lambda + dH . (w - w_n) to first order. So a step takes U and dH from its
start, integrates the flow with them by Runge-Kutta-Chebyshev, one gradient a stage, and evaluates
them again only at its end. That evaluation gives the model of the next step, the error that the
frozen model made, and a correction: the flow itself never lets an eigenvalue rise above 2/eta (nor
come down to it slower than exp(-t / relaxation)), so that what a step leaves above is its error.
The shortest move of w that removes it to first order does so.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .chebyshev import chebyshev_error, chebyshev_step, stages_for
from .complementarity import gram_operator, solve_complementarity
from .cost import Cost
from .edge_model import CentralFlowState, EdgeModel
from .potential import Potential
from .results import RESULTS

_SAFETY = 1.2


class EdgeState(eqx.Module):
    """State of `EdgeSolver`: the model around the current point, and what was spent so far."""

    model: EdgeModel
    slope: Float[Array, " parameter"]
    cost: Cost


class EdgeSolver(diffrax.AbstractAdaptiveSolver):
    """Runge-Kutta-Chebyshev steps of Central Flow with the curvature modelled within a step.

    Attributes:
        flow: The `CentralFlow`; the vector field of the terms is not used.
        most_stages: A step that would need more is rejected.
    """

    flow: Any
    most_stages: int = eqx.field(static=True, default=24)

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., diffrax.AbstractLocalInterpolation]] = (
        diffrax.ThirdOrderHermitePolynomialInterpolation
    )

    @property
    def spectral_radius(self) -> Float[Array, ""]:
        """Bound on the rates of decay: eta lambda at the threshold, and of the relaxation."""
        return _SAFETY * ((4 if self.flow.correction else 2) + 1 / self.flow.relaxation)

    @property
    def longest_step(self) -> Float[Array, ""]:
        """The longest step that `most_stages` stages are stable for."""
        return ((self.most_stages - 1) ** 2 - 1) / (1.54 * self.spectral_radius)

    def order(self, terms: Any) -> int:
        """Return 2."""
        del terms
        return 2

    def init(
        self, terms: Any, t0: Any, t1: Any, y0: CentralFlowState, args: Potential
    ) -> EdgeState:
        """Evaluate the model at the start."""
        del terms, t0, t1
        model = self.flow.model(args, y0.params, y0.modes)
        slope = self.flow.respond(args, y0.params, model).velocity
        return EdgeState(model, slope, model.cost + Cost(gradients=1))

    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: CentralFlowState,
        args: Potential,
        solver_state: EdgeState,
        made_jump: Any,
    ) -> tuple[Any, Any, dict[str, Any], EdgeState, RESULTS]:
        """Take one step; it is rejected where the model was not good enough for it."""
        del terms, made_jump
        flow, model, f0 = self.flow, solver_state.model, solver_state.slope
        start, unravel = ravel_pytree(y0.params)
        step = t1 - t0
        relaxation = flow.relaxation.astype(step.dtype)
        wanted = stages_for(step, self.spectral_radius)
        stages = jnp.clip(wanted, 2, self.most_stages).astype(jnp.int32)

        def field(t: Array, w: Array) -> Array:
            del t
            return flow.respond(args, unravel(w), model).velocity

        end = chebyshev_step(field, t0, step, start, f0, stages, self.most_stages)
        renewed = flow.model(args, unravel(end), model.modes)
        allowance = y0.allowance * jnp.exp(-step / relaxation)
        bound = 2 / flow.optimizer.learning_rate.astype(end.dtype) + allowance
        move, renewed = _back_to(bound, renewed)
        found = flow.respond(args, unravel(renewed.origin), renewed)
        # A step that started too far from the threshold to have the third derivatives.
        unprepared = ~model.near & (jnp.max(renewed.curvature) > bound)
        failed = (wanted > self.most_stages) | unprepared | ~found.solved
        # The field at the end is the true one, so that the estimate sees what was frozen.
        error = chebyshev_error(step, start, end, f0, found.velocity)
        error = jnp.where(failed, jnp.inf, jnp.abs(error) + jnp.abs(move))

        y1 = CentralFlowState(unravel(renewed.origin), renewed.modes, y0.approach, allowance)
        nothing = jnp.zeros_like(y0.modes)
        zero = jnp.zeros_like(allowance)
        spent = Cost(gradients=stages, hvps=stages if flow.correction else 0)
        state = EdgeState(renewed, found.velocity, solver_state.cost + renewed.cost + spent)
        dense_info = {
            "y0": y0,
            "y1": y1,
            "k0": CentralFlowState(unravel(step * f0), nothing, zero, zero),
            "k1": CentralFlowState(unravel(step * found.velocity), nothing, zero, zero),
        }
        y_error = CentralFlowState(unravel(error), nothing, zero, zero)
        return y1, y_error, dense_info, state, RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: CentralFlowState, args: Potential) -> Any:
        """Return the vector field."""
        return terms.vf(t0, y0, args)


def _back_to(bound: Array, model: EdgeModel) -> tuple[Array, EdgeModel]:
    """Move to where no eigenvalue is above `bound`, to first order, by the shortest way.

    Returns:
        The move, and the model there.
    """

    def moved() -> tuple[Array, Array]:
        room = bound * jnp.eye(model.modes.shape[0], dtype=bound.dtype) - model.curvature
        operator = gram_operator(model.derivatives, 1.0)
        found = solve_complementarity(room, operator)
        move = -jnp.einsum("ij,ijp->p", found.solution, model.derivatives)
        valid = found.converged & (jnp.max(jnp.abs(move)) < jnp.inf)
        return jnp.where(valid, move, jnp.nan), bound * jnp.eye(room.shape[0]) - found.slack

    def stayed() -> tuple[Array, Array]:
        return jnp.zeros_like(model.origin), model.curvature

    above = model.near & (jnp.max(model.curvature) > bound)
    move, curvature = lax.cond(above, moved, stayed)
    return move, eqx.tree_at(
        lambda m: (m.origin, m.curvature), model, (model.origin + move, curvature)
    )
