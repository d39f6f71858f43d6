"""The compiled segments of `simulate`, and the state between them."""

import dataclasses
import operator
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from ..core.compilation import compiled_once
from ..core.cost import Cost
from ..core.flow import AbstractFlow, AbstractFollowedFlow
from ..measurements.along_path import losses, measure_all
from ..measurements.base import AbstractMeasurement
from ..core.potential import Potential
from ..solvers.projection import (AbstractFlowSolver)
from ..core.flow import (AbstractProjectedFlow)
from ..core.results import LOSS_NOT_FINITE, RESULTS, TOO_LONG, choose, first_failure
from ..solvers.field import (ShiftedField)
from ..solvers.controllers import (StepMemory)
from ..solvers.counting import (cost_stats, evaluations_at_start, evaluations_per_step, solver_cost)
from ..core.trajectory import Trajectory
from ..core.trees import Params
from ..core.validation import Provenance
from ..core.variables import STEPS, Variables, check_variables


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
        measurements: The state of each measurement, and the memory of a flow that follows some of
            its observables.
        result: Whether a failure has happened.
        stopped_at: At which time; nan if none has.
        failure: Which of the trajectory's `failures` it was, from 1; 0 if none.
        hyperparameters: Those of the flow, for which the solver's state was found.
        provenance: What the run was made with.
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
    hyperparameters: PyTree[Any]
    provenance: Provenance = eqx.field(static=True)


class _Record(eqx.Module):
    """What is saved of a flow's state while it is integrated.

    Params and observables, with what the flow keeps for those that it follows; of a state that is
    nothing but params, the state: its observables are left to the loop that measures, where XLA
    sees that they share the loss with measurements.
    """

    flow: AbstractFlow

    def __call__(self, t: Any, state: Any, args: Potential) -> tuple[Any, Any]:
        del t
        params = self.flow.params(state)
        if isinstance(self.flow, AbstractFollowedFlow):
            return params, (self.flow.instant(state, args), self.flow.kept(state))
        all_of_it, parts = jax.tree.leaves(state), jax.tree.leaves(params)
        if len(all_of_it) == len(parts) and all(map(operator.is_, all_of_it, parts)):
            return state, None
        return params, self.flow.observables(state, args)


class SimulationProblem(eqx.Module):
    """What a run is made of, besides its start."""

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
    provenance: Provenance = eqx.field(static=True)

    @property
    def failures(self) -> tuple[str, ...]:
        """The sentences that a trajectory's `failure` counts."""
        if isinstance(self.flow, AbstractProjectedFlow):
            return (*self.flow.failures, TOO_LONG, LOSS_NOT_FINITE)
        return (LOSS_NOT_FINITE,)

    def detail(self, flow_state: Any) -> Float[Array, ""]:
        """Return the number that belongs to a failure; nan if there is none."""
        if isinstance(self.flow, AbstractProjectedFlow) and self.flow.failure_detail is not None:
            return getattr(flow_state, self.flow.failure_detail)
        return jnp.asarray(jnp.nan)

    @property
    def adaptive(self) -> bool:
        """Whether the step size adapts."""
        return isinstance(self.controller, StepMemory)

    def times(self, time: Float[Array, " T"]) -> Array:
        """Return times as a trajectory has them."""
        if self.flow.time_unit == STEPS:
            return jnp.round(time).astype(jnp.int32)
        return time

    def measured(self, states: Any, index: Array, rows: Any) -> tuple[Any, Array, Any]:
        """Measure along stacked rows of (params, observables), or (state, None)."""

        def one(carry: Any, row: tuple[Any, Any]) -> tuple[Any, Any]:
            states, index = carry
            params: Any = row[0]
            predicted: Any = row[1]
            if row[1] is None:
                predicted = self.flow.observables(params, self.potential)
                params = self.flow.params(params)
            own, memory = states[: len(self.measurements)], states[len(self.measurements) :]
            values, own, cost = measure_all(self.measurements, self.potential, params, own, index)
            if isinstance(self.flow, AbstractFollowedFlow):
                instant, kept = predicted
                later, *memory, spent = self.flow.followed(self.potential, params, kept, memory[0])
                predicted, cost = {**instant, **later}, cost + spent
            return ((*own, *memory), index + 1), ({**values, **predicted}, cost)

        (states, index), (observables, costs) = lax.scan(one, (states, index), rows)
        return (
            states,
            index,
            (observables, jax.tree.map(lambda x: jnp.sum(x, dtype=x.dtype), costs)),
        )

    def piece(self, state: SimulationState, times, params, observables, stats) -> Trajectory:
        """Return the trajectory of a segment, without its state."""
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
            detail=self.detail(state.flow),
            iterates_at=self.flow.iterates_at,
        )

    def stats(
        self, steps: Any, rejected: Any, at_start: int, measured: Cost, spent: Cost | None
    ) -> dict[str, Array]:
        """Return the stats of a segment; `spent` where the solver counts by itself."""
        per_step = evaluations_per_step(self.solver)
        cost = spent
        if self.flow.cost is not None and not isinstance(self.solver, AbstractFlowSolver):
            if cost is not None:
                cost = cost + self.flow.cost * at_start
            elif per_step is not None:
                cost = self.flow.cost * (steps * per_step + at_start)
        return {
            "solver_steps": jnp.asarray(steps, jnp.int32),
            "rejected_steps": jnp.asarray(rejected, jnp.int32),
            **cost_stats(cost, measured),
        }


def hyperparameters(flow: AbstractFlow) -> PyTree[Any]:
    """Return the arrays of a flow: learning rate, relaxation, ..."""
    return eqx.filter(flow, eqx.is_array)


def same_hyperparameters(before: PyTree[Any], after: PyTree[Any]) -> bool:
    """Return whether two flows of a kind have the same numbers, outside of compiled code."""
    pairs = jax.tree.leaves(before), jax.tree.leaves(after)
    if len(pairs[0]) != len(pairs[1]):
        return False
    return all(np.array_equal(a, b) for a, b in zip(*pairs, strict=True))


def common_dtype(state: PyTree[Any]) -> Any:
    """Return the dtype that holds all leaves."""
    return jnp.result_type(*(x.dtype for x in jax.tree.leaves(state)))


@compiled_once
def begin(
    problem: SimulationProblem, params: Params, flow_state: Any = None
) -> tuple[SimulationState, Trajectory]:
    """Make the state of a run that starts, and its first row; from another flow state if given."""
    flow, potential = problem.flow, problem.potential
    flow_state = flow.init(potential, params) if flow_state is None else flow_state
    y0, failure, solver_state = _started(problem, flow_state)
    t0 = jnp.zeros((), common_dtype(y0))
    term = diffrax.ODETerm(ShiftedField(flow, t0))
    dt0 = problem.dt0
    if dt0 is None and isinstance(problem.solver, AbstractFlowSolver):
        dt0 = problem.solver.first_step
    dt0 = None if dt0 is None else dt0.astype(t0.dtype)
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
    if solver_state is None:
        solver_state = problem.solver.init(term, t0, t0 + dt0, y0, potential)
    params = flow.params(y0)
    states = tuple(m.init(potential, params) for m in problem.measurements)
    if isinstance(flow, AbstractFollowedFlow):
        predicted = flow.instant(y0, potential), flow.kept(y0)
        states = (*states, flow.first_memory(y0))
    else:
        predicted = flow.observables(y0, potential)
    rows = jax.tree.map(lambda x: x[None], (params, predicted))
    measurements, index, (observables, cost) = problem.measured(
        states, jnp.zeros((), jnp.int32), rows
    )
    measured = {name for m in problem.measurements for name in m.variables}
    own = {name: x for name, x in observables.items() if name not in measured}
    check_variables(type(flow).__name__, own, flow.variables)
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
        hyperparameters=hyperparameters(flow),
        provenance=problem.provenance,
    )
    at_start = evaluations_at_start(problem.solver, problem.controller, problem.dt0)
    spent = solver_cost(solver_state, flow.cost)
    stats = problem.stats(0, 0, at_start, cost, spent)
    return state, problem.piece(state, time[None], rows[0], observables, stats)


@eqx.filter_jit
def advance(
    problem: SimulationProblem, state: SimulationState, count: int
) -> tuple[SimulationState, Trajectory]:
    """Integrate to `count` more saves."""
    dtype = state.step.dtype
    # Constants, so that XLA sees that the segment has a length and drops what saves an empty one.
    offsets = problem.save_every * np.arange(1, count + 1)
    times = state.time + jnp.asarray(offsets, state.time.dtype)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(ShiftedField(problem.flow, state.time)),
        problem.solver,
        t0=jnp.zeros((), dtype),
        t1=jnp.asarray(offsets[-1], dtype),
        dt0=state.step,
        y0=state.flow,
        args=problem.potential,
        saveat=diffrax.SaveAt(
            subs=[
                diffrax.SubSaveAt(ts=jnp.asarray(offsets, dtype), fn=_Record(problem.flow)),
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
    params = rows[0] if rows[1] is not None else jax.vmap(problem.flow.params)(rows[0])
    broken, row, loss = first_failure(params, losses(problem.measurements, observables))
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
    failure = getattr(solver_state, "failure", state.failure)
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
        hyperparameters=state.hyperparameters,
        provenance=state.provenance,
    )
    before, after = (solver_cost(s, problem.flow.cost) for s in (state.solver, solver_state))
    spent = None if before is None or after is None else after - before
    stats = problem.stats(
        solution.stats["num_steps"],
        solution.stats["num_rejected_steps"],
        0,
        cost,
        spent,
    )
    return following, problem.piece(following, times, params, observables, stats)


@compiled_once
def reset(problem: SimulationProblem, state: SimulationState, flow_state: Any) -> SimulationState:
    """Put another flow state, of other shapes perhaps, at the same time."""
    flow_state, failure, solver = _started(problem, flow_state)
    time = jnp.zeros_like(state.step)
    term = diffrax.ODETerm(ShiftedField(problem.flow, state.time))
    if solver is None:
        solver = problem.solver.init(term, time, time + state.step, flow_state, problem.potential)
    failed = (failure > 0) & (state.result == RESULTS.successful)
    return dataclasses.replace(
        state,
        flow=flow_state,
        solver=solver,
        result=choose(failed, RESULTS.nonlinear_divergence, state.result),
        stopped_at=jnp.where(failed, state.time, state.stopped_at),
        failure=jnp.where(failed, failure, state.failure),
        hyperparameters=hyperparameters(problem.flow),
    )


def _started(problem: SimulationProblem, flow_state: Any) -> tuple[Any, Int[Array, ""], Any]:
    """Put a state right; return it, which failure happened, and the solver's state if known."""
    if isinstance(problem.solver, AbstractFlowSolver):
        flow_state, solver_state = problem.solver.start(flow_state, problem.potential)
        return flow_state, solver_state.failure, solver_state
    if isinstance(problem.flow, AbstractProjectedFlow):
        return *problem.flow.project(flow_state, problem.potential), None
    return flow_state, jnp.zeros((), jnp.int32), None
