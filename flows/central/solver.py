"""A solver made for Central Flow: long stabilised steps on a model renewed at each step.

What is expensive in Central Flow, the eigenvectors U and the third derivatives dH, changes slowly.
What is fast, the gradient and the distance of the eigenvalues to the threshold, is cheap once those
are known: U^T H(w) U = Lambda + dH . (w - w_n) to first order. So a step takes U and dH from its
start, and lets dH go on changing as it did in the last step. With them it integrates the flow by
Runge-Kutta-Chebyshev in a few parts, one gradient a stage, and evaluates U and dH again only at its
end. That evaluation gives the model of the next step, the error that the model made, and a
correction: the flow itself never lets an eigenvalue rise above the threshold (nor decay to it
slower than exp(-t / relaxation time)), so that what a step leaves above is its error. The shortest
move of w that removes it to first order does so.
"""

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..core.arrays import BoolLike, Modes, RealScalarLike, ScalarLike, Vector
from ..core.compilation import traced_once
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.results import RESULTS, choose
from ..core.schedules import is_scheduled
from ..core.validation import positive
from ..linear_algebra.packed_symmetric import modes_of, pack, unpack
from ..solvers.chebyshev import (
    SLOPE_IN_ERROR,
    chebyshev_error,
    chebyshev_step,
    chebyshev_step_with_slopes,
    check_stages,
    stages_for,
)
from ..solvers.packed import select
from ..solvers.projection import AbstractFlowSolver
from .equation import FAILURES, CentralEquation, solve_where
from .interpolation import CentralInterpolation, cubic_move
from .place import Place
from .state import CentralFlowState, CurvatureModel, Packed, Response, SlowForces

# How much faster than estimated a perturbation may decay.
_SAFETY = 1.2

_SHORTEST = 1e-4

# The error of a step is that of the model and of the method, and the model costs most: for some
# gradients more, a method in parts has the smaller error, and knows better what is in between.
# Large networks do without the parts, and without the change of the third derivatives, which takes
# as much memory as these do.
_PARTS = 3
_LARGE = 100_000

# The absolute tolerance that suits the flow, relative to the relative one.
ABSOLUTE_TOLERANCE = 1e-2

# How far above the threshold, relative to it, an interpolation may lead.
_OVERSHOOT = 2e-4

# The failure of a step that would need more stages than there are: next to those of the equation.
_TOO_LONG = len(FAILURES) + 1


# Where a part of a step leads, the slope there, and the sum of the errors so far.
Ends = tuple[Vector, Vector, Vector]


class Path(eqx.Module):
    """Where a step leads with the model of its start.

    Attributes:
        nodes: Where its parts begin, and its end.
        slopes: The velocity where its parts begin.
        error: The sum of their errors, (P,), without the term of the slope at the end.
    """

    nodes: tuple[Vector, ...]
    slopes: tuple[Vector, ...]
    error: Vector


class CentralSolverState(eqx.Module):
    """State of `CentralSolver`.

    Attributes:
        model: The curvature around the current point.
        slope: The flow's velocity there, (P,).
        turning: How fast the modes changed in the last step, (k, P): a row has an entry per weight.
        turn: The state's modes as combinations of the model's, (k, k).
        cost: What was spent so far.
        failure: Which of the flow's `failures` ended the run, from 1; 0 for none.
    """

    model: CurvatureModel
    slope: Vector
    turning: Float[Array, "mode weight"]
    turn: Float[Array, "mode mode"]
    cost: Cost
    failure: Int[Array, ""]


class CentralSolver(AbstractFlowSolver):
    """Runge-Kutta-Chebyshev steps of Central Flow with the curvature modelled within a step.

    `simulate` uses it for a `CentralFlow` unless another solver is given. Of order two, with an
    error estimate; a step takes one gradient for each of its stages, and the eigenvectors and third
    derivatives once.

    Attributes:
        equation: The right-hand side, `flow.equation`. The vector field of the terms is not used,
            and `simulate` puts the equation of its own flow in its place.
        most_stages: A step that would need more is rejected; at least 2.
        shortest: A step so short, in steps of the optimizer, is not rejected where the model
            cannot be evaluated: the run has failed there.

    Raises:
        ValueError: If `most_stages` or `shortest` is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import CentralFlow, CentralSolver, GradientDescent, simulate
        >>> from potentials import SharpValley
        >>> flow = CentralFlow(GradientDescent(0.3))
        >>> solver = CentralSolver(flow.equation, most_stages=12)
        >>> run = simulate(flow, SharpValley(0.01), jnp.asarray([0.0, 6.65]), 20, solver=solver)
        >>> run.params.shape
        (21, 2)
    """

    equation: CentralEquation
    most_stages: int = eqx.field(static=True, default=24)
    shortest: Float[Array, ""] = eqx.field(
        default=_SHORTEST, converter=partial(positive, "shortest")
    )

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., CentralInterpolation]] = CentralInterpolation

    def __check_init__(self) -> None:
        check_stages(self.most_stages)

    def prepared(self, equation: eqx.Module, smallest: Float[Array, ""]) -> "CentralSolver":
        """Return the solver for a run, which names what fails before the controller gives up.

        Args:
            equation: That of a `CentralFlow`.
            smallest: The step size below which a controller ends the run.
        """
        assert isinstance(equation, CentralEquation)
        # An adaptive controller of diffrax shortens a step to no less than a fifth.
        shortest = jnp.maximum(self.shortest, 5 * smallest)
        return dataclasses.replace(self, equation=equation, shortest=shortest)

    @property
    def spectral_radius(self) -> Float[Array, ""]:
        """Bound on the rates of decay: of gradient flow at the threshold, and of the relaxation."""
        return self._free_radius + _SAFETY / self.equation.relaxation_time

    @property
    def _free_radius(self) -> Float[Array, ""]:
        """Bound on the rates of decay where no eigenvalue is near the threshold.

        A threshold times the learning rate does not change with time.
        """
        dtype = self.equation.relaxation_time.dtype
        zero = jnp.zeros((), dtype)
        learning_rate, threshold = self.equation.rates(zero, dtype)
        rate = learning_rate * threshold
        if is_scheduled(self.equation.optimizer):
            # Where the rate is zero, the product is not what it is elsewhere.
            rate = jnp.maximum(rate, 2)
        if self.equation.preconditioning is not None:
            rate = rate + self.equation.preconditioning.lag.astype(dtype)
        return _SAFETY * (rate + 0.5 * rate**2 if self.equation.correction else rate)

    @property
    def longest_step(self) -> Float[Array, ""]:
        """The longest step that `most_stages` stages are stable for."""
        return ((self.most_stages - 1) ** 2 - 1) / (1.54 * self.spectral_radius)

    @property
    def first_step(self) -> Float[Array, ""]:
        """Short enough for a start above the threshold, which relaxes to it."""
        return jnp.minimum(0.1, 0.4 * self.equation.relaxation_time)

    def order(self, terms: diffrax.AbstractTerm) -> int:
        """Return 2."""
        del terms
        return 2

    def error_order(self, terms: diffrax.AbstractTerm) -> int:
        """Return 3: what is estimated is of this order in the step."""
        del terms
        return 3

    def start(
        self, y0: CentralFlowState, potential: Potential
    ) -> tuple[CentralFlowState, CentralSolverState]:
        """Evaluate the model at the start, and put the state right there."""
        equation = self.equation
        # What is above the threshold here may decay from here.
        y0 = dataclasses.replace(y0, excess_at_start=jnp.full_like(y0.excess_at_start, -1))
        potential = equation.objective(potential)
        model, modes = equation.curvature_model(potential, y0.place, y0.modes)
        found = equation.respond(jax.linearize(jax.grad(potential), y0.params), model, y0.place)
        spent = model.cost + Cost(gradients=1, hvps=int(equation.correction))
        still, y0 = jnp.zeros_like(modes), equation.renewed(y0, model, modes, found)
        turn = self._turn(y0, modes)
        if self._extrapolates(model):
            # Nothing is known of a change yet.
            same, step = jnp.eye(turn.shape[0], dtype=turn.dtype), jnp.ones((), turn.dtype)
            model = equation.bent(model, model, same, step, y0.place)
        state = CentralSolverState(model, found.velocity, still, turn, spent, found.failure)
        return y0, state

    @traced_once
    def step(
        self,
        terms: diffrax.AbstractTerm,
        t0: ScalarLike,
        t1: ScalarLike,
        y0: CentralFlowState,
        args: Potential,
        solver_state: CentralSolverState,
        made_jump: BoolLike,
    ) -> tuple[CentralFlowState, CentralFlowState, dict[str, Any], CentralSolverState, RESULTS]:
        """Take one step; it is rejected where the model was not good enough for it."""
        del terms, made_jump
        equation, model, f0 = self.equation, solver_state.model, solver_state.slope
        loss = equation.objective(args)
        start, unravel = y0.place.flat()
        t0, t1 = jnp.asarray(t0), jnp.asarray(t1)
        step = t1 - t0

        # Integrate with the model of the start.
        count = _parts(start)
        radius = jnp.where(model.any_near, self.spectral_radius, self._free_radius)
        wanted = stages_for(step / count, radius)
        stages = jnp.clip(wanted, 2, self.most_stages).astype(jnp.int32)

        def field(passed: Array, z: Vector) -> Vector:
            place = unravel(z, y0.place.after(passed))
            here = jax.linearize(jax.grad(loss), place.params)
            return equation.respond(here, model.after(passed), place, z - start).velocity

        path = self._path(field, step, start, f0, stages)
        end = path.nodes[-1]
        time = y0.place.after(step)

        # Evaluate the model at the end, and move back to the threshold what is above it.
        reached = unravel(end, time)
        turned = y0.modes + step.astype(y0.modes.dtype) * solver_state.turning
        renewed, modes = equation.curvature_model(loss, reached, turned)
        decay = jnp.exp(-step / equation.relaxation_time.astype(step.dtype))
        excess = jnp.maximum(y0.excess_at_start, 0) * decay
        bound = equation.rates(time, end.dtype)[1] + excess
        returned, last, found = self._back_to(bound, loss, end, reached, renewed)

        # Reject what the model was not good enough for: a step in which an eigenvalue reached the
        # threshold that started too far from it to have its third derivatives is one.
        above = jnp.diagonal(unpack(renewed.curvature, model.near.size)) > bound
        unprepared = jnp.sum(above) > jnp.sum(model.near)
        too_long = (wanted > self.most_stages) | unprepared
        rejected = too_long | ~found.solved
        hopeless = ~found.solved & (step < self.shortest)
        # The field at the end is the true one, so that the estimate sees what the model got wrong.
        error = path.error + SLOPE_IN_ERROR * step * found.velocity
        error = jnp.where(rejected, jnp.inf, jnp.abs(error) + jnp.abs(last - end))
        error = jnp.where(hopeless, 0, error)
        error = _relative_to_second_moment(error, y0)

        # The state at the end; that of the start where the step is rejected, since what could not
        # be evaluated is not a number, with which no step is accepted.
        y1 = dataclasses.replace(y0.at(reached), excess_at_start=excess)
        y1 = equation.renewed(y1, renewed, modes, found, returned.curvature).at(unravel(last, time))
        y1 = select(rejected, y0, y1)
        evaluations = count * stages + int(count > 1)
        spent = Cost(gradients=evaluations, hvps=evaluations if equation.correction else 0)
        turn = self._turn(y1, modes)
        if model.bending is not None:
            returned = equation.bent(returned, model, turn.T @ solver_state.turn, step, y1.place)
        # Read only where the step size is constant: an adaptive controller discards the state of a
        # rejected step.
        failure = jnp.where(found.solved, _TOO_LONG, found.failure)
        state = CentralSolverState(
            model=returned,
            slope=found.velocity,
            turning=(y1.modes - y0.modes) / step.astype(y0.modes.dtype),
            turn=turn,
            cost=solver_state.cost + renewed.cost + spent,
            failure=jnp.where(rejected, failure, 0).astype(jnp.int32),
        )
        # Between the ends too, what was moved back is moved back, in proportion to the time.
        back = last - end
        nodes = [z + i / count * back for i, z in enumerate(path.nodes[:-1])]
        nodes = tuple(jnp.where(rejected, start, z) for z in (*nodes, last))
        slopes = tuple(jnp.where(rejected, f0, f) for f in (*path.slopes, found.velocity))
        k0, k1 = self._slopes(nodes, slopes, step / count, y0, model, bound)
        dense_info = {"y0": y0, "y1": y1, "nodes": nodes, "k0": k0, "k1": k1}
        still = None if time is None else jnp.zeros_like(time)
        y_error = y0.rates(unravel(error, still), jnp.zeros_like(excess))
        result = choose(rejected, RESULTS.nonlinear_divergence, RESULTS.successful)
        return y1, y_error, dense_info, state, result

    def func(
        self, terms: diffrax.AbstractTerm, t0: RealScalarLike, y0: CentralFlowState, args: Potential
    ) -> PyTree[Array]:
        """Return the vector field of the terms, which a controller asks for its first step."""
        return terms.vf(jnp.asarray(t0), y0, args)

    def _extrapolates(self, model: CurvatureModel) -> bool:
        """Return whether third derivatives are taken to go on changing."""
        return model.responses is None and _parts(model.derivatives[0]) > 1

    def _turn(self, state: CentralFlowState, modes: Modes) -> Float[Array, "mode mode"]:
        """Return a state's modes as combinations of the model's."""
        with jax.default_matmul_precision("highest"):
            return state.modes @ self.equation.metric_at(state.place).apply(modes).T

    def _back_to(
        self,
        bound: Float[Array, ""],
        potential: Potential,
        end: Vector,
        reached: Place,
        model: CurvatureModel,
    ) -> tuple[CurvatureModel, Vector, Response]:
        """Move to where no eigenvalue is above `bound`, to first order, by the shortest way.

        Args:
            bound: The eigenvalue.
            potential: The loss.
            end: Where a step led, as a vector.
            reached: The same as a place.
            model: The curvature there.

        Returns:
            The model there, the point, and how the flow moves there.
        """
        equation = self.equation
        identity = pack(jnp.eye(modes_of(model.curvature.size), dtype=bound.dtype))
        above = model.highest > bound
        metric = equation.metric_at(reached)
        _, unravel = reached.flat()

        def forces(point: Vector, here: CurvatureModel) -> SlowForces:
            place = unravel(point, reached.time)
            linearised = jax.linearize(jax.grad(potential), place.params)
            return equation.slow_forces(linearised, here, place)

        def shortest(point: Vector, here: CurvatureModel) -> SlowForces:
            """Return the problem whose solution X makes the move -P^-1 sum_ij X_ij dH_ij."""
            with jax.default_matmul_precision("highest"):
                operator = model.derivatives @ metric.inverse(model.derivatives).T
            shapes = jax.eval_shape(forces, point, here)
            nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
            linear = bound * identity - model.curvature
            return dataclasses.replace(nothing, linear=linear, operator=operator)

        def half(
            carry: tuple[Vector, Packed, Response], moving: Bool[Array, ""]
        ) -> tuple[tuple[Vector, Packed, Response], None]:
            point, curvature, _ = carry
            here = model.at(curvature)
            needed = model.any_near & (above | ~moving)
            problem = lax.cond(moving, shortest, forces, point, here)
            solved = solve_where(needed, problem)
            push = metric.inverse(solved.solution @ model.derivatives)
            moves = moving & needed
            valid = solved.converged & (jnp.max(jnp.abs(push)) < jnp.inf)
            # What follows the params in a place stays.
            moved = point - jnp.pad(push, (0, point.size - push.size))
            point = jnp.where(moves, jnp.where(valid, moved, jnp.nan), point)
            curvature = jnp.where(moves, bound * identity - solved.slack, curvature)
            return (point, curvature, equation.response(problem, here, solved)), None

        # The two problems, one after the other in a loop: one copy of the solver to compile.
        nothing, no_failure = jnp.zeros_like(end), jnp.zeros((), jnp.int32)
        start = Response(0 * identity, nothing, bound, no_failure)
        (point, curvature, found), _ = lax.scan(
            half, (end, model.curvature, start), jnp.asarray([True, False])
        )
        return model.at(curvature), point, found

    def _slopes(
        self,
        nodes: tuple[Vector, ...],
        slopes: tuple[Vector, ...],
        part: Float[Array, ""],
        y0: CentralFlowState,
        model: CurvatureModel,
        bound: Float[Array, ""],
    ) -> tuple[tuple[Vector, ...], tuple[Vector, ...]]:
        """Return slopes times the time for each part; those of the chord if a cubic is too high.

        Where an eigenvalue reaches the threshold within a part, the path has a kink there. A cubic
        with the slopes before and after it leads above the threshold; a straight line does not.
        """
        _, unravel = y0.place.flat()

        def highest(number: Array, s: Array) -> Float[Array, ""]:
            before, after, *ends = (_one_of(x, number) for x in (nodes[:-1], nodes[1:], *between))
            point = before + cubic_move(s, after - before, *(part * f for f in ends))
            here = model.after((number.astype(part.dtype) + s) * part)
            weight = self.equation.weight(here, unravel(point, y0.time))
            excess = here.curvature_after(point - nodes[0]) - bound * weight
            return jnp.linalg.eigvalsh(unpack(excess, modes_of(excess.size)))[-1]

        between = slopes[:-1], slopes[1:]
        inside = jnp.asarray([0.25, 0.5, 0.75], part.dtype)
        count = len(nodes) - 1
        numbers = jnp.repeat(jnp.arange(count, dtype=jnp.int32), inside.size)
        found = lax.map(lambda x: highest(*x), (numbers, jnp.tile(inside, count)))
        straight = jnp.max(found.reshape(count, -1), axis=1) > _OVERSHOOT * bound

        def bent(which: tuple[Vector, ...]) -> tuple[Vector, ...]:
            chords = [after - before for before, after in itertools.pairwise(nodes)]
            return tuple(
                jnp.where(straight[i], chord, part * slope)
                for i, (chord, slope) in enumerate(zip(chords, which, strict=True))
            )

        return bent(between[0]), bent(between[1])

    def _path(
        self,
        field: Callable[[Array, Vector], Vector],
        step: Float[Array, ""],
        start: Vector,
        f0: Vector,
        stages: Int[Array, ""],
    ) -> Path:
        """Integrate a step in its parts.

        Args:
            field: The field, of the time since the start and of the point.
            step: The step.
            start: Its start.
            f0: The field there.
            stages: How many stages each part has.
        """
        count, zero = _parts(start), jnp.zeros_like(step)
        if count == 1:
            end = chebyshev_step(field, zero, step, start, f0, stages, self.most_stages)
            error = chebyshev_error(step, start, end, f0, jnp.zeros_like(f0))
            return Path((start, end), (f0,), error)
        part = step / count

        def go_on(carry: Ends, number: Array) -> tuple[Ends, tuple[Vector, Vector]]:
            point, slope, error = carry
            reached, _, after = chebyshev_step_with_slopes(
                field, number * part, part, point, slope, True, stages, self.most_stages
            )
            error = error + chebyshev_error(part, point, reached, slope, after)
            return (reached, after, error), (point, slope)

        numbers = jnp.arange(count, dtype=step.dtype)
        (end, last, error), begun = lax.scan(go_on, (start, f0, jnp.zeros_like(f0)), numbers)
        error = error - SLOPE_IN_ERROR * step * last
        return Path((*begun[0], end), tuple(begun[1]), error)


def _one_of(vectors: tuple[Vector, ...], number: Array) -> Vector:
    """Return one of several vectors, without a copy where there is one."""
    return vectors[0] if len(vectors) == 1 else jnp.stack(vectors)[number]


def _parts(place: Vector) -> int:
    """Return in how many parts a step is made."""
    return _PARTS if place.size <= _LARGE else 1


# nu forgets its errors, which the parameters do not. Counted in full they would set all steps.
_SHARE = 0.15


def _relative_to_second_moment(error: Vector, state: CentralFlowState) -> Vector:
    """Return an error, in params and nu, that a controller measures relative to nu.

    Entries of nu differ by many orders of magnitude, and P is their root. With an absolute
    tolerance of 1% of the relative one, as that of the flow's own controller is, an error of nu
    counts as a share of the relative error of its root.
    """
    if state.second_moment is None:
        return error
    size = ravel_pytree(state.params)[0].size
    nu = ravel_pytree(state.second_moment)[0]
    tiny = jnp.finfo(nu.dtype).tiny
    factor = 1 + jnp.where(nu > 0, ABSOLUTE_TOLERANCE / jnp.maximum(nu, tiny), 0)
    return jnp.concatenate([error[:size], 0.5 * _SHARE * factor * error[size:]])
