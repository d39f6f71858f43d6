"""A solver made for Central Flow: long stabilised steps on a model renewed at each step.

What is expensive in Central Flow, the eigenvectors U and the third derivatives dH, changes slowly.
What is fast, the gradient and the distance of the eigenvalues to 2/eta, is cheap once those are
known: U^T H(w) U = Lambda + dH . (w - w_n) to first order. So a step takes U and dH from its
start, integrates the flow with them by Runge-Kutta-Chebyshev, one gradient a stage, and evaluates
them again only at its end. That evaluation gives the model of the next step, the error that the
frozen model made, and a correction: the flow itself never lets an eigenvalue rise above 2/eta (nor
come down to it slower than exp(-t / relaxation time)), so that what a step leaves above is its
error.
The shortest move of w that removes it to first order does so.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from ..core.compilation import traced_once
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.results import RESULTS, choose
from ..core.validation import positive
from ..linear_algebra.complementarity import solve_packed_complementarity
from ..linear_algebra.packed_symmetric import modes_of, pack, unpack
from ..solvers.chebyshev import chebyshev_error, chebyshev_step, check_stages, stages_for
from ..solvers.projection import AbstractFlowSolver, too_long_failure
from .interpolation import CentralInterpolation, cubic_move
from .state import CentralFlowState, CurvatureModel, Response, SlowForces

_SAFETY = 1.2

_SHORTEST = 1e-4

# How far above the threshold, relative to it, an interpolation may lead.
_OVERSHOOT = 2e-4


class CentralSolverState(eqx.Module):
    """State of `CentralSolver`.

    Attributes:
        model: The curvature around the current point.
        slope: The flow's velocity there.
        cost: What was spent so far.
        failure: Which of the flow's `failures` ended the run, from 1; 0 for none.
    """

    model: CurvatureModel
    slope: Float[Array, " parameter"]
    cost: Cost
    failure: Int[Array, ""]


class CentralSolver(AbstractFlowSolver):
    """Runge-Kutta-Chebyshev steps of Central Flow with the curvature modelled within a step.

    Attributes:
        flow: The `CentralFlow`; the vector field of the terms is not used.
        most_stages: A step that would need more is rejected; at least 2.
        shortest: A step so short, in steps of the optimizer, is not rejected where the model
            cannot be evaluated: the run has failed there.

    Raises:
        ValueError: If `most_stages` or `shortest` is out of range.
    """

    equation: Any
    most_stages: int = eqx.field(static=True, default=24)
    shortest: Float[Array, ""] = eqx.field(
        default=_SHORTEST, converter=partial(positive, "shortest")
    )

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., CentralInterpolation]] = CentralInterpolation

    def __check_init__(self) -> None:
        check_stages(self.most_stages)

    def prepared(self, flow: Any, smallest: Float[Array, ""]) -> "CentralSolver":
        """Return the solver for a flow, which tells what fails before the controller gives up."""
        # An adaptive controller of diffrax shortens a step to no less than a fifth.
        shortest = jnp.maximum(self.shortest, 5 * smallest)
        return dataclasses.replace(self, equation=flow.equation, shortest=shortest)

    @property
    def spectral_radius(self) -> Float[Array, ""]:
        """Bound on the rates of decay: eta lambda at the threshold, and of the relaxation_time."""
        return self._free_radius + _SAFETY / self.equation.relaxation_time

    @property
    def _free_radius(self) -> float:
        """Bound on the rates of decay where no eigenvalue is near the threshold."""
        return _SAFETY * (4 if self.equation.correction else 2)

    @property
    def longest_step(self) -> Float[Array, ""]:
        """The longest step that `most_stages` stages are stable for."""
        return ((self.most_stages - 1) ** 2 - 1) / (1.54 * self.spectral_radius)

    @property
    def first_step(self) -> Float[Array, ""]:
        """Short enough for a start above the threshold, which relaxes to it."""
        return jnp.minimum(0.1, 0.4 * self.equation.relaxation_time)

    def order(self, terms: Any) -> int:
        """Return 2."""
        del terms
        return 2

    def start(
        self, y0: CentralFlowState, potential: Potential
    ) -> tuple[CentralFlowState, CentralSolverState]:
        """Evaluate the model at the start, and put the state right there."""
        # What is above the threshold here may decay from here.
        flow, y0 = (
            self.equation,
            dataclasses.replace(y0, excess_at_start=jnp.full_like(y0.excess_at_start, -1)),
        )
        model, modes = flow.model(potential, y0.params, y0.modes)
        found = flow.respond(potential, y0.params, model)
        spent = model.cost + Cost(gradients=1, hvps=int(flow.correction))
        state = CentralSolverState(model, found.velocity, spent, flow.failure(model, found))
        return flow.renewed(y0, model, modes, found), state

    def init(
        self, terms: Any, t0: Any, t1: Any, y0: CentralFlowState, args: Potential
    ) -> CentralSolverState:
        """Evaluate the model at the start."""
        del terms, t0, t1
        return self.start(y0, args)[1]

    @traced_once
    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: CentralFlowState,
        args: Potential,
        solver_state: CentralSolverState,
        made_jump: Any,
    ) -> tuple[Any, Any, dict[str, Any], CentralSolverState, RESULTS]:
        """Take one step; it is rejected where the model was not good enough for it."""
        del terms, made_jump
        flow, model, f0 = self.equation, solver_state.model, solver_state.slope
        start, unravel = ravel_pytree(y0.params)
        step = t1 - t0
        relaxation_time = flow.relaxation_time.astype(step.dtype)
        radius = jnp.where(model.near, self.spectral_radius, self._free_radius)
        wanted = stages_for(step, radius)
        stages = jnp.clip(wanted, 2, self.most_stages).astype(jnp.int32)

        def field(t: Array, w: Array) -> Array:
            del t
            return flow.respond(args, unravel(w), model, w - start).velocity

        end = chebyshev_step(field, t0, step, start, f0, stages, self.most_stages)
        renewed, modes = flow.model(args, unravel(end), y0.modes)
        excess_at_start = jnp.maximum(y0.excess_at_start, 0) * jnp.exp(-step / relaxation_time)
        bound = 2 / flow.optimizer.learning_rate.astype(end.dtype) + excess_at_start
        # A step that started too far from the threshold to have the third derivatives.
        unprepared = ~model.near & (renewed.highest > bound)
        returned, last, found = self._back_to(bound, args, end, unravel, renewed)
        move = last - end
        too_long = (wanted > self.most_stages) | unprepared
        rejected = too_long | ~found.solved
        hopeless = ~found.solved & (step < self.shortest)
        # The field at the end is the true one, so that the estimate sees what was frozen.
        error = chebyshev_error(step, start, end, f0, found.velocity)
        error = jnp.where(rejected, jnp.inf, jnp.abs(error) + jnp.abs(move))
        error = jnp.where(hopeless, 0, error)

        y1 = flow.renewed(
            dataclasses.replace(y0, excess_at_start=excess_at_start), renewed, modes, found
        )
        y1 = dataclasses.replace(y1, params=unravel(last))
        # What could not be evaluated is no number, with which no step is accepted.
        y1 = jax.tree.map(lambda before, after: jnp.where(rejected, before, after), y0, y1)
        hvps = stages if flow.correction else 0
        spent = solver_state.cost + renewed.cost + Cost(gradients=stages, hvps=hvps)
        # Told of a rejected step too, which nobody reads: a constant step size rejects none.
        failure = jnp.where(found.solved, too_long_failure(flow), flow.failure(renewed, found))
        failure = jnp.where(rejected, failure, 0).astype(jnp.int32)
        state = CentralSolverState(returned, found.velocity, spent, failure)
        ends = start, ravel_pytree(y1.params)[0]
        last_slope = jnp.where(rejected, f0, found.velocity)
        slopes = _slopes(ends, step * f0, step * last_slope, model, bound)
        dense_info = {"y0": y0, "y1": y1, "k0": unravel(slopes[0]), "k1": unravel(slopes[1])}
        y_error = y0.rates(unravel(error), jnp.zeros_like(excess_at_start))
        result = choose(rejected, RESULTS.nonlinear_divergence, RESULTS.successful)
        return y1, y_error, dense_info, state, result

    def func(self, terms: Any, t0: Any, y0: CentralFlowState, args: Potential) -> Any:
        """Return the vector field."""
        return terms.vf(t0, y0, args)

    def _back_to(
        self,
        bound: Float[Array, ""],
        potential: Potential,
        end: Array,
        unravel: Callable[[Array], Any],
        model: CurvatureModel,
    ) -> tuple[CurvatureModel, Array, Response]:
        """Move to where no eigenvalue is above `bound`, to first order, by the shortest way.

        Returns:
            The model there, the point, and how the flow moves there.
        """
        identity = pack(jnp.eye(modes_of(model.curvature.size), dtype=bound.dtype))
        above = model.highest > bound
        nothing = jnp.zeros_like(end)

        def shortest() -> SlowForces:
            with jax.default_matmul_precision("highest"):
                operator = model.derivatives @ model.derivatives.T
            return SlowForces(nothing, nothing, bound * identity - model.curvature, operator)

        def half(
            carry: tuple[Array, Array, Response], moving: Bool[Array, ""]
        ) -> tuple[tuple[Array, Array, Response], None]:
            point, curvature, _ = carry
            here = model.at(curvature)
            forces = lax.cond(
                moving, shortest, lambda: self.equation.slow_forces(potential, unravel(point), here)
            )
            needed = model.near & (above | ~moving)
            solution, slack, residual, solved = solve_where(needed, forces)
            push = solution @ model.derivatives
            moves = moving & needed
            valid = solved & (jnp.max(jnp.abs(push)) < jnp.inf)
            point = jnp.where(moves, jnp.where(valid, point - push, jnp.nan), point)
            curvature = jnp.where(moves, bound * identity - slack, curvature)
            found = self.equation.response(forces, here, solution, residual, solved)
            return (point, curvature, found), None

        # The two problems, one after the other in a loop: one copy of the solver to compile.
        start = Response(nothing, 0 * identity, nothing, bound, above)
        (point, curvature, found), _ = lax.scan(
            half, (end, model.curvature, start), jnp.asarray([True, False])
        )
        return model.at(curvature), point, found


def _slopes(
    ends: tuple[Array, Array], k0: Array, k1: Array, model: CurvatureModel, bound: Array
) -> tuple[Array, Array]:
    """Return slopes for the interpolation between two ends; the chord's where a cubic is too high.

    Where an eigenvalue reaches the threshold within a step, the path has a kink there. A cubic with
    the slopes before and after it leads above the threshold; a straight line does not.
    """
    chord = ends[1] - ends[0]

    def highest(s: Array) -> Array:
        curvature = model.curvature_after(cubic_move(s, chord, k0, k1))
        return jnp.linalg.eigvalsh(unpack(curvature, modes_of(curvature.size)))[-1]

    inside = jnp.asarray([0.25, 0.5, 0.75], chord.dtype)
    straight = jnp.max(lax.map(highest, inside)) > (1 + _OVERSHOOT) * bound
    return jnp.where(straight, chord, k0), jnp.where(straight, chord, k1)


def solve_where(
    needed: Bool[Array, ""], forces: SlowForces
) -> tuple[Array, Array, Float[Array, ""], Bool[Array, ""]]:
    """Return X, its slack, residual and whether it was solved; X = 0 where that is known."""

    def solve() -> tuple[Array, Array, Array, Array]:
        found = solve_packed_complementarity(forces.linear, forces.operator)
        return found.solution, found.slack, found.residual, found.converged

    def known() -> tuple[Array, Array, Array, Array]:
        nothing = jnp.zeros_like(forces.linear)
        return nothing, forces.linear, nothing[0], jnp.asarray(True)

    return lax.cond(needed, solve, known)
