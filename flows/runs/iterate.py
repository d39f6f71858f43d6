"""Run a discrete optimizer in one compiled loop."""

import dataclasses
from functools import partial
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from ..core.captured import captured
from ..core.constrained import admitted
from ..core.cost import Cost
from ..core.goal import Stopping, check_goals
from ..core.optimizer import (
    AbstractAdaptiveMethod,
    AbstractCheckedOptimizer,
    AbstractOptimizer,
)
from ..core.potential import Potential
from ..core.results import LOSS_NOT_FINITE, RESULTS, choose, first_failure
from ..core.schedules import captured_schedules
from ..core.trajectory import BoundaryIterates, Neighbours, Trajectory
from ..core.trees import Params, all_finite, is_traced
from ..core.validation import as_params
from ..core.variables import STEPS, Variables, merge_variables
from ..curvature.metric import AbstractMetric, DiagonalMetric, IdentityMetric
from ..measurements.along_path import (
    Measurable,
    captured_measurements,
    check_measurements,
    labels,
    losses,
    measure_all,
)
from ..measurements.base import AbstractMeasurement
from ..optimizers.optax_optimizer import as_optimizer
from ..optimizers.stability import is_preconditioned
from ..solvers.counting import cost_stats
from .arguments import (
    Provenance,
    Whole,
    check_progress,
    check_provenance,
    check_start,
    count_saves,
)
from .diagnosis import fault_of_gradient
from .progress import Progress, reporting
from .segments import AbstractRunState, Segments, segment_length

# To start a segment costs as much as ten steps of a small network, and joining segments a copy.
_MOST_SAVES: Final = 1024


class IterationState(AbstractRunState):
    """Where an optimizer's run stands.

    Attributes:
        optimizer: The optimizer's state one step ahead, at t + 1: midpoints need it.
        previous: w_{t-1}.
        params: w_t.
        step: t.
        index: How many saves were made before.
        measurements: The state of each measurement.
        result: `successful`, or the first failure.
        stopped_at: The step of that failure; nan if there was none.
        failure: Which of the trajectory's `failures` it was, from 1; 0 if the parameters just
            stopped being finite.
        provenance: What the run was made with.
    """

    optimizer: PyTree[Array]
    previous: Params
    params: Params
    step: Int[Array, ""]
    index: Int[Array, ""]
    measurements: tuple[PyTree[Array], ...]
    result: RESULTS
    stopped_at: Float[Array, ""]
    failure: Int[Array, ""]
    provenance: Provenance = eqx.field(static=True)


class _Problem(eqx.Module):
    """What a run is made of, besides its start."""

    optimizer: AbstractOptimizer
    potential: Potential
    measurements: tuple[AbstractMeasurement, ...]
    save_every: int = eqx.field(static=True)
    variables: Variables = eqx.field(static=True)
    provenance: Provenance = eqx.field(static=True)

    @property
    def failures(self) -> tuple[str, ...]:
        """The sentences that a trajectory's `failure` counts."""
        if isinstance(self.optimizer, AbstractCheckedOptimizer):
            return (*self.optimizer.failures, LOSS_NOT_FINITE)
        return (LOSS_NOT_FINITE,)

    def failure(self, optimizer: Any, loss: Array) -> tuple[Int[Array, ""], Float[Array, ""]]:
        """Return which failure it was, the loss or what the optimizer says, and its number."""
        own, detail = jnp.zeros((), jnp.int32), jnp.asarray(jnp.nan)
        if isinstance(self.optimizer, AbstractCheckedOptimizer):
            own, detail = self.optimizer.failure(optimizer)
        return jnp.where(loss, len(self.failures), own).astype(jnp.int32), detail

    def spent(self, before: Any, after: Any, taken: int) -> Cost:
        """Return what steps cost: what the optimizer counted, or the same each."""
        if isinstance(self.optimizer, AbstractCheckedOptimizer):
            return self.optimizer.spent(after) - self.optimizer.spent(before)
        return self.optimizer.cost * taken

    def metric(self, optimizer: PyTree[Array]) -> AbstractMetric | None:
        """Return the metric of the step from an optimizer's state; None if it is not known."""
        if not isinstance(self.optimizer, AbstractAdaptiveMethod):
            return None if is_preconditioned(self.optimizer) else IdentityMetric()
        return DiagonalMetric(self.optimizer.preconditioner(optimizer, self.potential))

    def shift(self, state: IterationState) -> IterationState:
        """Take one step of the optimizer."""
        params = self.optimizer.params(state.optimizer)
        step = state.step + 1
        failed = (state.result == RESULTS.successful) & ~all_finite(params)
        return dataclasses.replace(
            state,
            optimizer=self.optimizer.step(state.optimizer, self.potential),
            previous=state.params,
            params=params,
            step=step,
            result=choose(failed, RESULTS.nonfinite, state.result),
            stopped_at=jnp.where(failed, step.astype(state.stopped_at.dtype), state.stopped_at),
            failure=jnp.where(
                failed, self.failure(state.optimizer, jnp.asarray(False))[0], state.failure
            ),
        )

    def save(self, state: IterationState) -> tuple[IterationState, Any]:
        """Take one step and record where it leads."""
        # That which `shift` makes the saved one.
        optimizer = state.optimizer
        state = self.shift(state)
        observables, measurements, cost = measure_all(
            self.measurements,
            self.potential,
            state.params,
            state.measurements,
            state.index,
            partial(self.metric, optimizer),
        )
        following = self.optimizer.params(state.optimizer)
        row = (state.step, state.params, observables, Neighbours(state.previous, following), cost)
        state = eqx.tree_at(
            lambda s: (s.measurements, s.index), state, (measurements, state.index + 1)
        )
        return state, row

    def judge(self, state: IterationState, rows: Any) -> IterationState:
        """Note which of the saved rows is the first that is not finite, if it is the first failure.

        All rows at once, after the loop: in it the check would cost time at each step.
        """
        steps, params, observables = rows
        failed, index, loss = first_failure(params, losses(self.measurements, observables))
        step = steps[index].astype(state.stopped_at.dtype)
        first = failed & ~(state.stopped_at <= step)
        return dataclasses.replace(
            state,
            result=choose(first, RESULTS.nonfinite, state.result),
            stopped_at=jnp.where(first, step, state.stopped_at),
            failure=jnp.where(first, self.failure(state.optimizer, loss)[0], state.failure),
        )

    def save_often(self, state: IterationState, count: int) -> tuple[IterationState, Trajectory]:
        """Take `count` steps and record each.

        On a CPU every small operation of a compiled loop costs a microsecond, so that the loop
        carries and records as little as possible: the rows are each other's neighbours, and where
        they stop being finite is found afterwards.
        """

        def one(carry: Any, index: Int[Array, ""]) -> tuple[Any, Any]:
            optimizer, measurements, total = carry
            params = self.optimizer.params(optimizer)
            observables, measurements, cost = measure_all(
                self.measurements,
                self.potential,
                params,
                measurements,
                index,
                partial(self.metric, optimizer),
            )
            optimizer = self.optimizer.step(optimizer, self.potential)
            return (optimizer, measurements, total + cost), (params, observables)

        passed = jnp.arange(count, dtype=jnp.int32)
        (optimizer, measurements, cost), (params, observables) = lax.scan(
            one, (state.optimizer, state.measurements, Cost()), state.index + passed
        )
        rows = (state.step + 1 + passed, params, observables)
        following = dataclasses.replace(
            state,
            optimizer=optimizer,
            previous=jax.tree.map(lambda x: x[-2], params) if count > 1 else state.params,
            params=jax.tree.map(lambda x: x[-1], params),
            step=rows[0][-1],
            index=state.index + count,
            measurements=measurements,
        )
        following = self.judge(following, rows)
        neighbour_source = BoundaryIterates(state.params, self.optimizer.params(optimizer))
        spent = self.spent(state.optimizer, optimizer, count)
        return following, self.piece(following, rows, neighbour_source, cost, spent)

    def save_seldom(
        self, state: IterationState, count: int, started: bool
    ) -> tuple[IterationState, Trajectory]:
        """Record every so many steps, `count` times; first the start, if not `started`."""

        def one(state: IterationState, _: None) -> tuple[IterationState, Any]:
            state, _ = lax.scan(
                lambda s, _: (self.shift(s), None), state, length=self.save_every - 1
            )
            return self.save(state)

        taken = (count - (not started)) * self.save_every + (not started)
        before = state.optimizer
        if started:
            state, rows = lax.scan(one, state, length=count)
        else:
            state, first = self.save(state)
            state, rows = lax.scan(one, state, length=count - 1)
            rows = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), first, rows)
        *kept, neighbour_source, costs = rows
        state = self.judge(state, kept)
        cost = jax.tree.map(lambda x: jnp.sum(x, dtype=x.dtype), costs)
        spent = self.spent(before, state.optimizer, taken)
        return state, self.piece(state, kept, neighbour_source, cost, spent)

    def piece(
        self, state: IterationState, rows: Any, neighbour_source: Any, cost: Cost, spent: Cost
    ) -> Trajectory:
        """Make a trajectory of stacked rows, whose steps cost `spent`."""
        steps, params, observables = rows
        return Trajectory(
            steps=steps,
            params=params,
            observables=observables,
            state=None,
            stats=cost_stats(spent, cost),
            result=state.result,
            stopped_at=state.stopped_at,
            failure=state.failure,
            failures=self.failures,
            detail=self.failure(state.optimizer, jnp.asarray(False))[1],
            neighbour_source=neighbour_source,
            variables=self.variables,
            midpoint=None,
            time_unit=STEPS,
        )


def _check_state(optimizer: AbstractOptimizer, state: IterationState) -> None:
    """Check that an optimizer can go on from a state.

    Raises:
        ValueError: If its own states have other parts, as with another convention.
    """
    own = jax.tree.structure(eqx.filter_eval_shape(optimizer.init, state.params))
    name, given = type(optimizer).__name__, jax.tree.structure(state.optimizer)
    if own != given:
        raise ValueError(
            f"state must be of the same optimizer, with the same options; {name} goes on from a "
            f"{own}, got a {given}."
        )


@eqx.filter_jit
def _begin(problem: _Problem, params: Params, count: int) -> tuple[IterationState, Trajectory]:
    state = IterationState(
        optimizer=problem.optimizer.init(params),
        previous=params,
        params=params,
        step=jnp.asarray(-1, jnp.int32),
        index=jnp.asarray(0, jnp.int32),
        measurements=tuple(m.init(problem.potential, params) for m in problem.measurements),
        result=RESULTS.successful,
        stopped_at=jnp.asarray(jnp.nan),
        failure=jnp.zeros((), jnp.int32),
        provenance=problem.provenance,
    )
    if problem.save_every == 1:
        return problem.save_often(state, 1 + count)
    return problem.save_seldom(state, 1 + count, started=False)


@eqx.filter_jit
def _advance(
    problem: _Problem, state: IterationState, count: int
) -> tuple[IterationState, Trajectory]:
    if problem.save_every == 1:
        return problem.save_often(state, count)
    return problem.save_seldom(state, count, started=True)


def iterate(
    optimizer: AbstractOptimizer | optax.GradientTransformation,
    potential: Potential,
    params: PyTree | None,
    steps: Whole,
    *,
    state: IterationState | None = None,
    save_every: Whole = 1,
    measurements: Measurable = None,
    stop: Stopping = None,
    segment: int | None = None,
    progress: Progress = False,
    throw: bool | None = None,
) -> Trajectory:
    """Run a discrete optimizer on a potential.

    Args:
        optimizer: The map, for example `GradientDescent(0.1)` or `optax.adam(1e-3)`.
        potential: The loss: any differentiable function of `params` that returns a scalar.
        params: The start w_0, any pytree of floats; None to go on from `state`.
        steps: How many steps to take.
        state: `trajectory.state` of an earlier run to go on from, with the same kind of optimizer
            and the same measurements. The new trajectory then starts after it: the step that
            `state` stands at is not saved again.
        save_every: Save every so many steps; must divide `steps`. The start is saved too.
        measurements: What to measure at each save; `(LossAndGradient(),)` if not given.
        stop: `Goal("loss", at_most=1e-3)`, or several: the run ends with the first save that
            reaches one, as `message` then says, and `state` goes on from there. Inside `jax.vmap`
            or `jax.jit` all steps are made; `result` and `stopped_at` say where a goal was reached.
        segment: Saves per compiled segment; by default at most 1024 and 32 MiB of parameters.
        progress: Show a progress bar, or call `progress(saves_done, saves_in_all)`.
        throw: True to raise if the run fails, False to return a trajectory that says so. By default
            a single run raises; inside `jax.vmap` or `jax.jit` each member says how it ended in
            `result`, `stopped_at` and `message`, and its rows from there on are not finite.

    Returns:
        The trajectory, with the iterates next to each saved one for midpoints.

    Raises:
        ValueError: If an argument is wrong; the message names it.
        SimulationError: If the parameters stop being finite, or the measured loss does; its
            `trajectory` has all steps before. (Inside `jax.jit` it is a run-time error of
            equinox.)

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, iterate
        >>> optimizer, bowl = GradientDescent(0.1), lambda w: 0.5 * jnp.sum(w**2)
        >>> run = iterate(optimizer, bowl, jnp.ones(2), steps=3)
        >>> round(float(run.params[-1][0]), 3)
        0.729
        >>> longer = iterate(optimizer, bowl, None, steps=2, state=run.state)
        >>> longer.steps.tolist(), round(float(longer.params[-1][0]), 5)
        ([4, 5], 0.59049)
    """
    # What is run, and from where.
    optimizer = as_optimizer(optimizer)
    check_start(params, state, IterationState, "iterate")
    saves, every = count_saves(steps, save_every, whole=True)
    save_every = int(every)
    check_progress(progress)
    measurements = check_measurements(measurements)
    variables = merge_variables(m.variables for m in measurements)
    name = type(optimizer).__name__
    provenance = {"optimizer": name, "measurements": labels(measurements)}
    if state is None:
        params = admitted(optimizer, as_params(params))
    else:
        check_provenance(state.provenance, **provenance)
        _check_state(optimizer, state)
    given = params if state is None else state.params
    potential = captured(potential, given)
    measurements = captured_measurements(measurements, potential, given)
    optimizer = captured_schedules(optimizer)

    # How long a segment is.
    problem = _Problem(
        optimizer, potential, measurements, save_every, variables, tuple(provenance.items())
    )
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(given))
    length = segment_length(segment, saves, size if save_every == 1 else 3 * size, _MOST_SAVES)
    segments = Segments(name, saves, length, check_goals(stop, variables))

    # The segments; the first makes the row of the start too, so that a run of one needs no copy.
    with reporting(False if is_traced((problem, given)) else progress, name, saves) as report:
        if state is None:
            count = next(iter(segments))
            state, piece = _begin(problem, params, count)
            # A traced piece has no goal to stop at.
            goal = 0 if is_traced(piece) else segments.rows_to_goal(piece)
            if 0 < goal <= count:
                count = goal - 1
                state, piece = _begin(problem, params, count)
            segments.add(piece, count)
            report(segments.done)
        if is_traced((state, problem)):
            state = segments.scan(eqx.Partial(_advance, problem), state)
        else:
            for count in segments:
                start = state
                state, piece = _advance(problem, start, count)
                if 0 < (goal := segments.rows_to_goal(piece)) < count:
                    count = goal
                    state, piece = _advance(problem, start, count)
                segments.add(piece, count)
                report(segments.done)

    def diagnose(run: Trajectory) -> str:
        if not len(run.steps):
            return ""
        return fault_of_gradient(potential, jax.tree.map(lambda x: x[-1], run.params))

    return segments.trajectory(state, throw, diagnose)
