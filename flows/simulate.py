"""Integrate a flow with diffrax, saved on the optimizer's own time grid."""

import dataclasses
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from .cost import Cost
from .flow import AbstractFlow
from .measure import check_measurements, labels, losses, measure_all
from .measurements import AbstractMeasurement
from .potential import Potential
from .projection import AbstractProjectedFlow, ProjectedSolver, ProjectedState
from .results import LOSS_NOT_FINITE, RESULTS, choose, first_failure
from .segments import Progress, run_segments, segment_length
from .stepping import (
    ShiftedField,
    StepMemory,
    choose_adjoint,
    choose_controller,
    cost_stats,
    evaluations_at_start,
    evaluations_per_step,
    matrix_free,
    smallest_step,
    solver_cost,
)
from .trajectory import Trajectory
from .trees import Params, is_traced
from .validation import (
    Origin,
    as_params,
    check_origin,
    check_potential,
    check_progress,
    count_saves,
    positive,
    positive_integer,
)
from .variables import STEPS, Variables, check_variables, merge_variables

_MAX_SOLVER_STEPS = 4096


class SimulationState(eqx.Module):
    """Where a flow's run stands.

    Attributes:
        flow: The flow's state y(t).
        time: t.
        index: How many saves were made before.
        step: The solver's step size to go on with.
        solver: The solver's state.
        controller: The step-size controller's state; None for a constant step.
        made_jump: diffrax's flag of a discontinuity at t.
        measurements: The state of each measurement.
        result: Whether a failure has happened.
        stopped_at: At which time; nan if none has.
        failure: Which of the trajectory's `failures` it was, from 1; 0 if none.
        origin: What the run was made with.
    """

    flow: PyTree[Any]
    time: Float[Array, ""]
    index: Int[Array, ""]
    step: Float[Array, ""]
    solver: PyTree[Any]
    controller: PyTree[Any]
    made_jump: Array
    measurements: tuple[Any, ...]
    result: RESULTS
    stopped_at: Float[Array, ""]
    failure: Int[Array, ""]
    origin: Origin = eqx.field(static=True)


class _Record(eqx.Module):
    """What is saved of a flow's state."""

    flow: AbstractFlow

    def __call__(self, t: Any, state: Any, args: Potential) -> tuple[Params, dict[str, Array]]:
        del t
        return self.flow.params(state), self.flow.observables(state, args)


class _Problem(eqx.Module):
    flow: AbstractFlow
    potential: Potential
    measurements: tuple[AbstractMeasurement, ...]
    solver: diffrax.AbstractSolver
    controller: diffrax.AbstractStepSizeController
    adjoint: diffrax.AbstractAdjoint
    dt0: Float[Array, ""] | None
    save_every: int | float = eqx.field(static=True)
    max_solver_steps: int = eqx.field(static=True)
    variables: Variables = eqx.field(static=True)
    origin: Origin = eqx.field(static=True)

    @property
    def failures(self) -> tuple[str, ...]:
        return (*getattr(self.flow, "failures", ()), LOSS_NOT_FINITE)

    @property
    def adaptive(self) -> bool:
        return isinstance(self.controller, StepMemory)

    def times(self, time: Float[Array, " T"]) -> Array:
        if self.flow.time_unit == STEPS:
            return jnp.round(time).astype(jnp.int32)
        return time

    def measured(self, states: Any, index: Array, rows: Any) -> tuple[Any, Array, Any]:
        """Measure along stacked rows of (params, observables)."""

        def one(carry: Any, row: tuple[Params, dict[str, Array]]) -> tuple[Any, Any]:
            states, index = carry
            params, predicted = row
            values, states, cost = measure_all(
                self.measurements, self.potential, params, states, index
            )
            return (states, index + 1), ({**values, **predicted}, cost)

        (states, index), (observables, costs) = lax.scan(one, (states, index), rows)
        return (
            states,
            index,
            (observables, jax.tree.map(lambda x: jnp.sum(x, dtype=x.dtype), costs)),
        )

    def piece(self, state: SimulationState, times, params, observables, stats) -> Trajectory:
        return Trajectory(
            steps=self.times(times),
            params=params,
            observables=observables,
            state=None,
            stats=stats,
            result=state.result,
            stopped_at=state.stopped_at,
            failure=state.failure,
            variables=self.variables,
            midpoint=self.flow.midpoint,
            time_unit=self.flow.time_unit,
            failures=self.failures,
        )

    def stats(
        self, steps: Any, rejected: Any, at_start: int, measured: Cost, spent: Cost | None
    ) -> dict[str, Array]:
        """Return the stats of a segment; `spent` where the solver counts by itself."""
        per_step = evaluations_per_step(self.solver)
        cost = spent
        if cost is None and per_step is not None and self.flow.cost is not None:
            cost = self.flow.cost * (steps * per_step + at_start)
        return {
            "solver_steps": jnp.asarray(steps, jnp.int32),
            "rejected_steps": jnp.asarray(rejected, jnp.int32),
            **cost_stats(cost, measured),
        }


def _dtype(state: PyTree[Any]) -> Any:
    return jnp.result_type(*(x.dtype for x in jax.tree.leaves(state)))


@eqx.filter_jit
def _begin(problem: _Problem, params: Params) -> tuple[SimulationState, Trajectory]:
    flow, potential = problem.flow, problem.potential
    y0, failure = _projected(problem, flow.init(potential, params))
    t0 = jnp.zeros((), _dtype(y0))
    term = diffrax.ODETerm(ShiftedField(flow, t0))
    dt0 = None if problem.dt0 is None else problem.dt0.astype(t0.dtype)
    controller_state = None
    if problem.adaptive:
        tnext, controller_state = problem.controller.init(
            term,
            t0,
            t0 + problem.save_every,
            y0,
            dt0,
            potential,
            problem.solver.func,
            problem.solver.error_order(term),
        )
        dt0 = tnext - t0
    assert dt0 is not None
    solver_state = problem.solver.init(term, t0, t0 + dt0, y0, potential)
    row = _Record(flow)(t0, y0, potential)
    check_variables(type(flow).__name__, row[1], flow.variables)
    rows = jax.tree.map(lambda x: x[None], row)
    measurements, index, (observables, cost) = problem.measured(
        tuple(m.init(potential, row[0]) for m in problem.measurements),
        jnp.zeros((), jnp.int32),
        rows,
    )
    time = jnp.zeros(())
    broken, _, loss = first_failure(rows[0], losses(problem.measurements, observables))
    result = choose(broken, RESULTS.nonfinite, RESULTS.successful)
    result = choose(failure > 0, RESULTS.nonlinear_divergence, result)
    failure = jnp.where((failure == 0) & loss, len(problem.failures), failure)
    state = SimulationState(
        flow=y0,
        time=time,
        index=index,
        step=jnp.asarray(dt0),
        solver=solver_state,
        controller=controller_state,
        made_jump=jnp.asarray(False),
        measurements=measurements,
        result=result,
        stopped_at=jnp.where(result == RESULTS.successful, jnp.nan, time),
        failure=failure,
        origin=problem.origin,
    )
    at_start = evaluations_at_start(problem.solver, problem.controller, problem.dt0)
    stats = problem.stats(0, 0, at_start, cost, solver_cost(solver_state))
    return state, problem.piece(state, time[None], rows[0], observables, stats)


@eqx.filter_jit
def _advance(
    problem: _Problem, state: SimulationState, count: int
) -> tuple[SimulationState, Trajectory]:
    dtype = state.step.dtype
    offsets = problem.save_every * jnp.arange(1, count + 1).astype(state.time.dtype)
    times = state.time + offsets
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(ShiftedField(problem.flow, state.time)),
        problem.solver,
        t0=jnp.zeros((), dtype),
        t1=offsets[-1].astype(dtype),
        dt0=state.step,
        y0=state.flow,
        args=problem.potential,
        saveat=diffrax.SaveAt(
            subs=[
                diffrax.SubSaveAt(ts=offsets.astype(dtype), fn=_Record(problem.flow)),
                diffrax.SubSaveAt(t1=True),
            ],
            solver_state=True,
            controller_state=problem.adaptive,
            made_jump=True,
        ),
        stepsize_controller=problem.controller,
        adjoint=problem.adjoint,
        max_steps=problem.max_solver_steps * count,
        throw=False,
        solver_state=state.solver,
        controller_state=state.controller,
        made_jump=state.made_jump,
    )
    assert solution.ys is not None
    assert solution.ts is not None
    rows, last = solution.ys
    flow_state = jax.tree.map(lambda x: x[0], last)
    measurements, index, (observables, cost) = problem.measured(
        state.measurements, state.index, rows
    )
    broken, row, loss = first_failure(rows[0], losses(problem.measurements, observables))
    reached = solution.result == RESULTS.successful
    # Rows that the solver did not reach are not finite: a loss that fails does so before them.
    result = choose(loss | (reached & broken), RESULTS.nonfinite, solution.result)
    stopped = jnp.where(
        reached | loss, times[row], state.time + solution.ts[1][0].astype(times.dtype)
    )
    ended = state.result != RESULTS.successful
    failed = ~ended & (result != RESULTS.successful)
    controller_state = solution.controller_state
    solver_state = solution.solver_state
    # Only a failed projection ends a run with an accepted step and this result.
    failure = solver_state.failure if isinstance(solver_state, ProjectedState) else state.failure
    step = controller_state.step if controller_state is not None else state.step
    failure = jnp.where(loss, len(problem.failures), failure)
    following = SimulationState(
        flow=flow_state,
        time=times[-1],
        index=index,
        step=step,
        solver=solution.solver_state,
        controller=controller_state,
        made_jump=jnp.asarray(solution.made_jump),
        measurements=measurements,
        result=choose(ended, state.result, result),
        stopped_at=jnp.where(failed, stopped, state.stopped_at),
        failure=jnp.where(failed, failure, state.failure),
        origin=state.origin,
    )
    before, after = solver_cost(state.solver), solver_cost(solver_state)
    spent = None if before is None or after is None else after - before
    stats = problem.stats(
        solution.stats["num_steps"],
        solution.stats["num_rejected_steps"],
        0,
        cost,
        spent,
    )
    return following, problem.piece(following, times, rows[0], observables, stats)


@eqx.filter_jit
def _reset(problem: _Problem, state: SimulationState, flow_state: Any) -> SimulationState:
    """Put another flow state, of other shapes perhaps, at the same time."""
    flow_state, failure = _projected(problem, flow_state)
    time = jnp.zeros_like(state.step)
    term = diffrax.ODETerm(ShiftedField(problem.flow, state.time))
    solver = problem.solver.init(term, time, time + state.step, flow_state, problem.potential)
    result = choose(failure > 0, RESULTS.nonlinear_divergence, state.result)
    return dataclasses.replace(
        state, flow=flow_state, solver=solver, result=result, failure=failure
    )


def _projected(problem: _Problem, flow_state: Any) -> tuple[Any, Int[Array, ""]]:
    if isinstance(problem.flow, AbstractProjectedFlow):
        return problem.flow.project(flow_state, problem.potential)
    return flow_state, jnp.zeros((), jnp.int32)


def simulate(
    flow: AbstractFlow,
    potential: Potential,
    params: PyTree[Any] | None,
    steps: int | float,
    *,
    state: SimulationState | None = None,
    save_every: int | float = 1,
    solver: diffrax.AbstractSolver | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    dt0: Any = None,
    measurements: Any = None,
    segment: int | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    max_solver_steps: int = _MAX_SOLVER_STEPS,
    progress: Progress = False,
    throw: bool = True,
) -> Trajectory:
    """Integrate a flow on a potential.

    Args:
        flow: The law of motion, for example `GradientFlow(GradientDescent(0.1))`.
        potential: The loss: any differentiable function of `params` that returns a scalar.
        params: The optimizer's start w_0, any pytree of floats; None to go on from `state`.
        steps: How long to run: optimizer steps, or the flow's own time if it has one.
        state: `trajectory.state` of an earlier run to go on from, with the same kinds of flow,
            solver and controller and the same measurements. The new trajectory then starts after
            it: the time that `state` stands at is not saved again.
        save_every: Distance between saves; must divide `steps`. The start is saved too. Saved
            values are interpolated: they do not shorten the solver's steps.
        solver: Any diffrax ODE solver; the flow's `integrator` if not given, mostly
            `diffrax.Tsit5()`.
        stepsize_controller: Any adaptive controller of diffrax, or `ConstantStepSize()`. Default:
            the tolerances of the flow's `integrator`, mostly 1e-8 relative in float64 and 1e-5 in
            float32; a constant step for a solver without error estimate.
        dt0: First (or constant) step size; chosen by an adaptive controller if not given.
        measurements: What to measure at each save; `(LossAndGradient(),)` if not given.
        segment: Saves per compiled segment, at whose end the solver stops exactly; by default at
            most 256 and 32 MiB of parameters.
        adjoint: How diffrax differentiates through the solve; `RecursiveCheckpointAdjoint()` if
            not given (reverse mode). Pass `ForwardMode()` for `jax.jvp` and `jax.jacfwd`.
        max_solver_steps: Bound on the solver steps per save, rejected ones included, on average
            over a segment.
        progress: Show a progress bar, or call `progress(saves_done, saves_in_all)`.
        throw: Raise if the run fails. Otherwise the trajectory says so.

    Returns:
        The trajectory of the flow's centre.

    Raises:
        ValueError: If an argument is wrong; the message names it.
        SimulationError: If the state or the measured loss stops being finite, or the solver
            fails; its `trajectory` has all saves before. (Inside `jax.jit` it is a run-time error
            of equinox.)
    """
    if not isinstance(flow, AbstractFlow):
        raise ValueError(
            f"flow must be a flow such as GradientFlow(GradientDescent(0.1)); got {flow!r}."
        )
    if (params is None) == (state is None):
        raise ValueError("exactly one of params and state must be given, the other be None.")
    saves, save_every = count_saves(steps, save_every, whole=flow.time_unit == STEPS)
    check_progress(progress)
    max_solver_steps = positive_integer("max_solver_steps", max_solver_steps)
    measurements = check_measurements(measurements)
    if state is None:
        params = as_params(params)
        shape = params
    elif isinstance(state, SimulationState):
        check_origin(state.origin, flow=type(flow).__name__)
        shape = eqx.filter_eval_shape(flow.params, state.flow)
    else:
        raise ValueError(
            f"state must be the `.state` of a trajectory of simulate; got {type(state).__name__}."
        )
    check_potential(potential, shape)
    dtype = _dtype(shape)
    size = sum(x.size for x in jax.tree.leaves(shape))
    length = segment_length(segment, saves, size * jnp.dtype(dtype).itemsize)
    suited_solver, suited_controller = flow.integrator(dtype)
    solver = matrix_free(suited_solver if solver is None else solver, size)
    controller = choose_controller(solver, stepsize_controller, dt0, suited_controller)
    origin = {
        "flow": type(flow).__name__,
        "solver": type(solver).__name__,
        "stepsize_controller": type(controller).__name__,
        "measurements": labels(measurements),
    }
    if state is not None:
        check_origin(state.origin, **origin)
    if isinstance(controller, diffrax.AbstractAdaptiveStepSizeController):
        controller = StepMemory(controller, smallest_step(dtype, length * save_every))
    if isinstance(flow, AbstractProjectedFlow):
        solver = ProjectedSolver(solver, flow)
    problem = _Problem(
        flow=flow,
        potential=potential,
        measurements=measurements,
        solver=solver,
        controller=controller,
        adjoint=choose_adjoint(adjoint),
        dt0=None if dt0 is None else positive("dt0", dt0),
        save_every=save_every,
        max_solver_steps=max_solver_steps,
        variables=merge_variables([*(m.variables for m in measurements), flow.variables]),
        origin=tuple(origin.items()),
    )
    first = None
    if state is None:
        state, first = _begin(problem, params)

    def advance(state: SimulationState, count: int) -> tuple[SimulationState, Trajectory]:
        following, piece = _advance(problem, state, count)
        if not isinstance(flow, AbstractProjectedFlow) or is_traced(following):
            return following, piece
        again = flow.review(state.flow, following.flow)
        return (
            (following, piece) if again is None else advance(_reset(problem, state, again), count)
        )

    return run_segments(
        advance,
        state,
        first,
        saves=saves,
        length=length,
        progress=progress,
        throw=throw,
        name=type(flow).__name__,
    )
