"""The compiled segments of `simulate`, and the state between them."""

import dataclasses
import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..core.arrays import Vector
from ..core.compilation import compiled_once, traced_once
from ..core.cost import Cost
from ..core.flow import (
    AbstractFlow,
    AbstractFollowedFlow,
    AbstractPreconditionedFlow,
    AbstractProjectedFlow,
)
from ..core.optimizer import AbstractOptimizer
from ..core.potential import Potential
from ..core.results import LOSS_NOT_FINITE, RESULTS, TOO_LONG, choose, first_failure
from ..core.trajectory import Trajectory
from ..core.trees import Params, strongly_typed
from ..core.variables import STEPS, Variables, check_variables
from ..curvature.metric import AbstractMetric, DiagonalMetric, IdentityMetric
from ..measurements.along_path import losses, measure_all, need_metric
from ..measurements.base import AbstractMeasurement
from ..optimizers.stability import is_preconditioned
from ..solvers.controllers import GuardedController
from ..solvers.counting import cost_stats, evaluations_at_start, evaluations_per_step, solver_cost
from ..solvers.field import ShiftedField
from ..solvers.packed import Packing, Vectors, is_large
from ..solvers.projection import AbstractFlowSolver
from .arguments import Provenance
from .integrated import Restore, flattened, integrated, unchanged
from .segments import AbstractRunState

Measurements = tuple[PyTree[Array], ...]
"""The state of each measurement, and the memory of a flow that follows some of its observables."""


class SimulationState(AbstractRunState):
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
        result: `successful`, or the first failure.
        stopped_at: The time of that failure; nan if there was none.
        failure: Which of the trajectory's `failures` it was, from 1; 0 if none.
        hyperparameters: Those of the flow, for which the solver's state was found.
        provenance: What the run was made with.
    """

    flow: PyTree[Array]
    time: Float[Array, ""]
    index: Int[Array, ""]
    step: Float[Array, ""]
    solver: PyTree
    controller: PyTree
    made_jump: Bool[Array, ""]
    measurements: Measurements
    result: RESULTS
    stopped_at: Float[Array, ""]
    failure: Int[Array, ""]
    hyperparameters: PyTree[Array]
    provenance: Provenance = eqx.field(static=True)


class _Saved(eqx.Module):
    """What is kept of a flow's state at a save, until it is measured.

    Attributes:
        params: The parameters; all of the state where `predicted` is None.
        predicted: The observables, for a flow that follows some of them the others and what it
            keeps. None for a state that is nothing but params: its observables are left to the
            loop that measures, where XLA sees that they share the loss with measurements.
        preconditioner: That of the optimizer that is modelled, flat (P,); None where it has none,
            or no measurement needs it.
    """

    params: PyTree[Array]
    predicted: PyTree[Array]
    preconditioner: Vector | None


class _Record(eqx.Module):
    """What diffrax saves of a state while it integrates."""

    flow: AbstractFlow
    restore: Restore = eqx.field(static=True)
    metric: bool = eqx.field(static=True)

    @traced_once
    def __call__(self, t: Array, state: PyTree[Array], args: Potential) -> _Saved:
        del t
        state = self.restore(state)
        params, preconditioner = self.flow.params(state), None
        if self.metric and isinstance(self.flow, AbstractPreconditionedFlow):
            preconditioner = self.flow.preconditioner(state, args)
        if isinstance(self.flow, AbstractFollowedFlow):
            predicted = self.flow.instant(state, args), self.flow.kept(state)
            return _Saved(params, predicted, preconditioner)
        all_of_it, parts = jax.tree.leaves(state), jax.tree.leaves(params)
        if len(all_of_it) == len(parts) and all(map(operator.is_, all_of_it, parts)):
            return _Saved(state, None, None)
        return _Saved(params, self.flow.observables(state, args), preconditioner)


class _PackedRecord(eqx.Module):
    """The same as vectors: a save is a few operations, not some for each leaf."""

    record: _Record
    packing: Packing = eqx.field(static=True)

    def __call__(self, t: Array, state: PyTree[Array], args: Potential) -> Vectors:
        return self.packing.pack(self.record(t, state, args))


def _recorder(
    record: _Record, y0: PyTree[Array], potential: Potential
) -> tuple[Callable[..., PyTree[Array]], Restore]:
    """Return what diffrax calls at a save, and what gives a row of what it saved."""
    row = eqx.filter_eval_shape(record, jnp.zeros(()), y0, potential)
    if is_large(row):
        return record, unchanged
    packing = Packing.of(row)
    return _PackedRecord(record, packing), packing.unpack


def _metric(flow: AbstractFlow, row: _Saved) -> AbstractMetric | None:
    """Return the metric at a save; None if it is not known."""
    if row.preconditioner is not None:
        return DiagonalMetric(row.preconditioner)
    optimizer = getattr(flow, "optimizer", None)
    known = not isinstance(optimizer, AbstractOptimizer) or not is_preconditioned(optimizer)
    return IdentityMetric() if known else None


class SimulationProblem(eqx.Module):
    """What a run is made of, besides its start.

    Attributes:
        flow: The flow.
        potential: The loss.
        measurements: What is measured at each save.
        solver: The solver, as `simulate` has fitted it to the flow.
        controller: How its steps adapt: a `GuardedController`, or constant steps.
        adjoint: How the solve is differentiated.
        dt0: The first step size that the user asks for; None if the user asks for none.
        save_every: The distance between two saves.
        max_solver_steps: Bound on the solver steps per save, on average over a segment.
        variables: Metadata of everything that is saved.
        provenance: What the run is made with.
    """

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

    def detail(self, flow_state: PyTree[Array]) -> Float[Array, ""]:
        """Return the number that belongs to a failure; nan if there is none."""
        if isinstance(self.flow, AbstractProjectedFlow) and self.flow.failure_detail is not None:
            return getattr(flow_state, self.flow.failure_detail)
        return jnp.asarray(jnp.nan)

    @property
    def adaptive(self) -> bool:
        """True if the step size adapts."""
        return isinstance(self.controller, GuardedController)

    def times(self, time: Float[Array, " T"]) -> Array:
        """Return times as a trajectory has them."""
        if self.flow.time_unit == STEPS:
            return jnp.round(time).astype(jnp.int32)
        return time

    def measured(
        self,
        states: Measurements,
        index: Int[Array, ""],
        rows: PyTree[Array],
        restore: Restore = unchanged,
    ) -> tuple[Measurements, Int[Array, ""], dict[str, Array], Cost]:
        """Measure along stacked rows.

        Args:
            states: Where the measurements stand.
            index: How many saves were made before.
            rows: What was saved, with a leading axis.
            restore: From a row to a `_Saved`.

        Returns:
            Where the measurements stand then, the number of saves, all observables with a leading
            axis, and what the measurements and the flow's own observables cost.
        """
        split = len(self.measurements)

        def one(
            carry: tuple[Measurements, Array], saved: PyTree[Array]
        ) -> tuple[tuple[Measurements, Array], tuple[dict[str, Array], Cost]]:
            (states, index), row = carry, restore(saved)
            params = row.params
            predicted: Any = row.predicted
            if predicted is None:
                predicted = self.flow.observables(params, self.potential)
                params = self.flow.params(params)
            own, memory = states[:split], states[split:]
            values, own, cost = measure_all(
                self.measurements,
                self.potential,
                params,
                own,
                index,
                partial(_metric, self.flow, row),
            )
            if isinstance(self.flow, AbstractFollowedFlow):
                instant, kept = predicted
                later, *memory, spent = self.flow.followed(self.potential, params, kept, memory[0])
                predicted, cost = {**instant, **later}, cost + spent
            if self.flow.observables_cost is not None:
                cost = cost + self.flow.observables_cost
            return ((*own, *memory), index + 1), ({**values, **predicted}, cost)

        (states, index), (observables, costs) = lax.scan(one, (states, index), rows)
        cost = jax.tree.map(lambda x: jnp.sum(x, dtype=x.dtype), costs)
        return states, index, observables, cost

    def piece(
        self,
        state: SimulationState,
        times: Float[Array, " T"],
        params: Params,
        observables: Mapping[str, Array],
        stats: Mapping[str, Array],
    ) -> Trajectory:
        """Return the trajectory of a segment that ends at `state`, without that state."""
        return Trajectory(
            steps=self.times(times),
            params=params,
            observables=dict(observables),
            state=None,
            stats=dict(stats),
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
        self,
        measured: Cost,
        spent: Cost | None,
        steps: int | Array = 0,
        rejected: int | Array = 0,
        at_start: int = 0,
        init: Cost | None = None,
    ) -> dict[str, Array]:
        """Return the stats of a segment.

        Args:
            measured: What the measurements cost.
            spent: What the solver counted; None if it does not count.
            steps: How many steps the solver took.
            rejected: How many of them were rejected.
            at_start: How often the vector field was evaluated before the first step.
            init: What the flow's first state cost; None if nothing.
        """
        per_step = evaluations_per_step(self.solver)
        cost = spent
        if self.flow.cost is not None and not isinstance(self.solver, AbstractFlowSolver):
            if cost is not None:
                cost = cost + self.flow.cost * at_start
            elif per_step is not None:
                cost = self.flow.cost * (steps * per_step + at_start)
        if cost is not None and init is not None:
            cost = cost + init
        return {
            "solver_steps": jnp.asarray(steps, jnp.int32),
            "rejected_steps": jnp.asarray(rejected, jnp.int32),
            **cost_stats(cost, measured),
        }


def hyperparameters(flow: AbstractFlow) -> PyTree[Array]:
    """Return the arrays of a flow: learning rate, relaxation time, ..."""
    return eqx.filter(flow, eqx.is_array)


def same_hyperparameters(before: PyTree[Array], after: PyTree[Array]) -> bool:
    """Return True if two flows of a kind have the same numbers, outside of compiled code."""
    # The structure says which functions of time there are.
    if jax.tree.structure(before) != jax.tree.structure(after):
        return False
    pairs = jax.tree.leaves(before), jax.tree.leaves(after)
    return all(np.array_equal(a, b) for a, b in zip(*pairs, strict=True))


def common_dtype(state: PyTree) -> np.dtype:
    """Return the dtype that holds all leaves."""
    return jnp.result_type(*(x.dtype for x in jax.tree.leaves(state)))


@compiled_once
def begin(
    problem: SimulationProblem, params: Params, flow_state: PyTree[Array] = None
) -> tuple[SimulationState, Trajectory]:
    """Return the state of a run that starts, and the row of the start.

    Args:
        problem: What runs.
        params: The optimizer's start.
        flow_state: The flow's state there, where it is not to be `flow.init`.
    """
    flow, potential, solver = problem.flow, problem.potential, problem.solver
    # The flow's state, on its surface.
    init = None
    if flow_state is None:
        flow_state, init = flow.counted_init(potential, params)
    y0, failure, solver_state = _placed(problem, *_projection(problem)(flow_state, potential))
    # The first step, and the states of the controller and the solver.
    time = jnp.asarray(float(flow.first_step))
    t0 = jnp.zeros((), common_dtype(y0))
    y, restore = flattened(solver, problem.controller, y0)
    term = diffrax.ODETerm(ShiftedField(flow, time, restore))
    dt0 = solver.first_step if isinstance(solver, AbstractFlowSolver) else None
    dt0 = dt0 if problem.dt0 is None else problem.dt0
    dt0 = None if dt0 is None else dt0.astype(t0.dtype)
    controller_state = None
    if problem.adaptive:
        t1 = t0 + problem.save_every
        order = solver.error_order(term)
        tnext, controller_state = problem.controller.init(
            term, t0, t1, y, dt0, potential, solver.func, order
        )
        dt0 = jnp.asarray(tnext - t0)
    assert dt0 is not None
    if solver_state is None:
        solver_state = solver.init(term, t0, t0 + dt0, y, potential)
    # The row of the start: its observables are always found at once.
    params = flow.params(y0)
    states = tuple(m.init(potential, params) for m in problem.measurements)
    if isinstance(flow, AbstractFollowedFlow):
        predicted = flow.instant(y0, potential), flow.kept(y0)
        states = (*states, flow.first_memory(y0))
    else:
        predicted = flow.observables(y0, potential)
    preconditioner = None
    if need_metric(problem.measurements) and isinstance(flow, AbstractPreconditionedFlow):
        preconditioner = flow.preconditioner(y0, potential)
    row = jax.tree.map(lambda x: x[None], _Saved(params, predicted, preconditioner))
    measurements, index, observables, cost = problem.measured(states, jnp.zeros((), jnp.int32), row)
    measured = {name for m in problem.measurements for name in m.variables}
    check_variables(type(flow).__name__, observables.keys() - measured, flow.variables)
    # A start that has failed already.
    broken, _, loss = first_failure(row.params, losses(problem.measurements, observables))
    result = choose(broken, RESULTS.nonfinite, RESULTS.successful)
    result = choose(failure > 0, RESULTS.nonlinear_divergence, result)
    state = SimulationState(
        flow=y0,
        time=time,
        index=index,
        step=dt0,
        solver=solver_state,
        controller=controller_state,
        made_jump=jnp.asarray(False),
        measurements=measurements,
        result=result,
        stopped_at=jnp.where(result == RESULTS.successful, jnp.nan, time),
        failure=jnp.where((failure == 0) & loss, len(problem.failures), failure),
        hyperparameters=hyperparameters(flow),
        provenance=problem.provenance,
    )
    # As `advance` returns it: else the first segment would be a program of its own.
    state = strongly_typed(state)
    at_start = evaluations_at_start(solver, problem.controller, problem.dt0)
    spent = solver_cost(solver_state, flow.cost)
    stats = problem.stats(cost, spent, at_start=at_start, init=init)
    return state, problem.piece(state, time[None], row.params, observables, stats)


@eqx.filter_jit
def advance(
    problem: SimulationProblem, state: SimulationState, count: int
) -> tuple[SimulationState, Trajectory]:
    """Integrate to `count` more saves; return the state there, and the rows of the saves."""
    # Integration, on a clock that starts at 0.
    dtype = state.step.dtype
    # Constants, so that XLA sees that the segment has a length and drops what saves an empty one.
    offsets = problem.save_every * np.arange(1, count + 1)
    times = state.time + jnp.asarray(offsets, state.time.dtype)
    whole = integrated(
        problem.flow,
        problem.solver,
        problem.controller,
        state.time,
        state.flow,
        state.solver,
    )
    record = _Record(problem.flow, whole.restore, need_metric(problem.measurements))
    recorder, restored = _recorder(record, whole.y0, problem.potential)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(whole.field),
        whole.solver,
        t0=jnp.zeros((), dtype),
        t1=jnp.asarray(offsets[-1], dtype),
        dt0=state.step,
        y0=whole.y0,
        args=problem.potential,
        saveat=diffrax.SaveAt(
            subs=[
                diffrax.SubSaveAt(ts=jnp.asarray(offsets, dtype), fn=recorder),
                diffrax.SubSaveAt(t1=True),
            ],
            solver_state=True,
            controller_state=problem.adaptive,
            made_jump=True,
        ),
        stepsize_controller=whole.controller,
        adjoint=problem.adjoint,
        max_steps=problem.max_solver_steps * count,
        throw=False,
        solver_state=whole.solver_state,
        controller_state=state.controller,
        made_jump=state.made_jump,
    )
    assert solution.ys is not None
    assert solution.ts is not None
    rows, last = solution.ys
    last = jax.tree.map(lambda x: x[0], last)
    solver_state = whole.restore_solver(solution.solver_state)
    # Measurements along the saves.
    measurements, index, observables, cost = problem.measured(
        state.measurements, state.index, rows, restored
    )
    saved = jax.vmap(restored)(rows)
    params = saved.params
    if saved.predicted is None:
        params = jax.vmap(problem.flow.params)(params)
    # The first failure: of the loss, of the solver, or of the parameters.
    broken, row, loss = first_failure(params, losses(problem.measurements, observables))
    reached = solution.result == RESULTS.successful
    # Rows that the solver did not reach are not finite: a loss that fails does so before them.
    result = choose(loss | (reached & broken), RESULTS.nonfinite, solution.result)
    solver_stopped = state.time + solution.ts[1][0].astype(times.dtype)
    stopped = jnp.where(reached | loss, times[row], solver_stopped)
    # Only a failed projection ends a run with an accepted step and this result.
    failure = getattr(solver_state, "failure", state.failure)
    failure = jnp.where(loss, len(problem.failures), failure)
    ended = state.result != RESULTS.successful
    failed = ~ended & (result != RESULTS.successful)
    # The state to go on from.
    controller_state = solution.controller_state
    following = SimulationState(
        flow=whole.restore(last),
        time=times[-1],
        index=index,
        step=state.step if controller_state is None else controller_state.step,
        solver=solver_state,
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
    steps, rejected = (solution.stats[f"num_{kind}"] for kind in ("steps", "rejected_steps"))
    stats = problem.stats(cost, spent, steps, rejected)
    return following, problem.piece(following, times, params, observables, stats)


@compiled_once
def reset(
    problem: SimulationProblem, state: SimulationState, flow_state: PyTree[Array]
) -> SimulationState:
    """Return the run's state with another flow state, of other shapes perhaps, at the same time."""
    flow_state, failure, solver = _placed(
        problem, *_projection(problem)(flow_state, problem.potential)
    )
    time = jnp.zeros_like(state.step)
    if solver is None:
        y, restore = flattened(problem.solver, problem.controller, flow_state)
        term = diffrax.ODETerm(ShiftedField(problem.flow, state.time, restore))
        solver = problem.solver.init(term, time, time + state.step, y, problem.potential)
    failed = (failure > 0) & (state.result == RESULTS.successful)
    return strongly_typed(
        dataclasses.replace(
            state,
            flow=flow_state,
            solver=solver,
            result=choose(failed, RESULTS.nonlinear_divergence, state.result),
            stopped_at=jnp.where(failed, state.time, state.stopped_at),
            failure=jnp.where(failed, failure, state.failure),
            hyperparameters=hyperparameters(problem.flow),
        )
    )


def _projection(problem: SimulationProblem) -> Callable[..., tuple[PyTree[Array], PyTree]]:
    """Return what puts a flow's state right: of the solver, of the flow, or nothing."""
    if isinstance(problem.solver, AbstractFlowSolver):
        return problem.solver.start
    if isinstance(problem.flow, AbstractProjectedFlow):
        return problem.flow.project
    return lambda state, potential: (state, jnp.zeros((), jnp.int32))


def _placed(
    problem: SimulationProblem, flow_state: PyTree[Array], found: PyTree
) -> tuple[PyTree[Array], Int[Array, ""], PyTree]:
    """Return the state, which failure happened, and the solver's state if it is known."""
    if isinstance(problem.solver, AbstractFlowSolver):
        return flow_state, found.failure, found
    return flow_state, found, None
