"""Integrate a flow with diffrax, saved on the optimizer's own time grid."""

import warnings
from typing import Final

import diffrax
import equinox as eqx
import jax
from jaxtyping import Array, Float, PyTree

from ..core.arrays import ScalarLike
from ..core.captured import captured
from ..core.constrained import admitted
from ..core.flow import (
    AbstractDoubtedFlow,
    AbstractFlow,
    AbstractFollowedFlow,
    AbstractProjectedFlow,
    AbstractResizableFlow,
)
from ..core.goal import Stopping, check_goals
from ..core.potential import Potential
from ..core.schedules import captured_schedules
from ..core.trajectory import Trajectory
from ..core.trees import is_traced
from ..core.validation import as_params, positive, positive_integer
from ..core.variables import STEPS, merge_variables
from ..measurements.along_path import Measurable, captured_measurements, check_measurements, labels
from ..solvers.accuracy import Accuracy, check_accuracy, suited_integrator
from ..solvers.choice import choose_adjoint, choose_controller, matrix_free
from ..solvers.controllers import GuardedController, smallest_step
from ..solvers.projection import AbstractFlowSolver, ProjectedSolver
from .arguments import (
    Length,
    check_progress,
    check_provenance,
    check_start,
    count_saves,
    saves_before,
)
from .diagnosis import fault_of_gradient, fault_of_series, fault_of_smoothing
from .progress import Progress, reporting
from .segments import Segments, segment_length
from .simulation import (
    SimulationProblem,
    SimulationState,
    advance,
    begin,
    common_dtype,
    hyperparameters,
    reset,
    same_hyperparameters,
)

_MAX_SOLVER_STEPS: Final = 4096


def simulate(
    flow: AbstractFlow,
    potential: Potential,
    params: PyTree | None,
    steps: Length,
    *,
    state: SimulationState | None = None,
    save_every: Length = 1,
    solver: diffrax.AbstractSolver | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    accuracy: Accuracy = "default",
    dt0: ScalarLike | None = None,
    measurements: Measurable = None,
    stop: Stopping = None,
    segment: int | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    max_solver_steps: int = _MAX_SOLVER_STEPS,
    progress: Progress = False,
    throw: bool | None = None,
) -> Trajectory:
    """Integrate a flow on a potential.

    The run is a sequence of compiled segments; hyperparameters, starts and data are arrays of it,
    so that new values do not compile again, and `jax.vmap` and `jax.grad` go through it.

    Args:
        flow: The law of motion, for example `GradientFlow(GradientDescent(0.1))`.
        potential: The loss: any differentiable function of `params` that returns a scalar.
        params: The optimizer's start w_0, any pytree of floats; None to go on from `state`.
        steps: How long to run: optimizer steps, or the flow's own time if it has one. They count
            from the optimizer's start, also for a flow that begins at a later step: its first save
            is at `flow.first_step`.
        state: `trajectory.state` of an earlier run to go on from, with the same kinds of flow,
            solver and controller and the same measurements. The new trajectory then starts after
            it: the time of `state` is not saved again. The flow's hyperparameters may differ: what
            the solver knows of the field is then computed again (not inside `jax.jit`).
        save_every: Distance between saves; must divide `steps`. The start is saved too. Saved
            values are interpolated: they do not shorten the solver's steps.
        solver: Any diffrax ODE solver; the flow's `integrator` if not given, mostly
            `diffrax.Tsit5()`, and up to 512 parameters its `high_order` one, if it has one and no
            controller is given either. A solver made for a kind of flow integrates the equation of
            `flow`, whichever equation it holds.
        stepsize_controller: Any adaptive controller of diffrax, or `ConstantStepSize()`. Default:
            the tolerances of the flow's `integrator`, mostly 1e-8 relative in float64 and 1e-5 in
            float32; a constant step for a solver without error estimate.
        accuracy: In place of these: "draft" takes ten times the default tolerances, and for more
            than 512 parameters the flow's economical solver, which for `GradientFlow` is
            Runge-Kutta-Chebyshev; "reference" takes a hundredth of the default tolerances.
        dt0: First (or constant) step size; chosen by an adaptive controller if not given.
        measurements: What to measure at each save; `(LossAndGradient(),)` if not given.
        stop: `Goal("loss", at_most=1e-3)`, or several: the run ends with the first save that
            reaches one, as `message` then says, and `state` goes on from there. Inside `jax.vmap`
            or `jax.jit` all saves are made; `result` and `stopped_at` say where a goal was reached.
        segment: Saves per compiled segment, at whose end the solver stops exactly; by default at
            most 256 and 32 MiB of parameters.
        adjoint: How diffrax differentiates through the solve; reverse mode, as with
            `RecursiveCheckpointAdjoint()`, if not given. Pass `ForwardMode()` for `jax.jvp` and
            `jax.jacfwd`.
        max_solver_steps: Bound on the solver steps per save, rejected ones included, on average
            over a segment.
        progress: Show a progress bar, or call `progress(saves_done, saves_in_all)`.
        throw: True to raise if the run fails, False to return a trajectory that says so. By default
            a single run raises; inside `jax.vmap` or `jax.jit` each member says how it ended in
            `result`, `stopped_at` and `message`, and its rows from there on are not finite.

    Returns:
        The trajectory of the flow's centre.

    Raises:
        ValueError: If an argument is wrong; the message names it.
        SimulationError: If the state or the measured loss stops being finite, or the solver
            fails; its `trajectory` has all saves before. (Inside `jax.jit` it is a run-time error
            of equinox.)

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, GradientFlow, simulate
        >>> from potentials import Quadratic
        >>> bowl, start = Quadratic(jnp.asarray([1.0, 4.0])), jnp.asarray([1.0, 2.0])
        >>> run = simulate(GradientFlow(GradientDescent(0.1)), bowl, start, steps=10)
        >>> [round(float(x), 4) for x in run.params[-1]]
        [0.3679, 0.0366]
        >>> sorted(run.observables)
        ['gradient_norm', 'loss', 'predicted_loss']
    """
    # What is run, and from where.
    _check_flow(flow)
    check_start(params, state, SimulationState, "simulate")
    saves, save_every = count_saves(steps, save_every, whole=flow.time_unit == STEPS)
    check_progress(progress)
    max_solver_steps = positive_integer("max_solver_steps", max_solver_steps)
    measurements = check_measurements(measurements)
    if state is None:
        params = admitted(flow, as_params(params))
        shape = params
        saves -= saves_before(flow.first_step, steps, save_every)
    else:
        check_provenance(state.provenance, **_flow_provenance(flow))
        shape = eqx.filter_eval_shape(flow.params, state.flow)
    potential = captured(potential, shape)
    measured = labels(measurements)
    measurements = captured_measurements(measurements, potential, shape)
    flow = captured_schedules(flow)

    # How long a segment is.
    dtype = common_dtype(shape)
    size = sum(x.size for x in jax.tree.leaves(shape))
    vectors = 1 + (flow.kept_vectors if isinstance(flow, AbstractFollowedFlow) else 0)
    length = segment_length(segment, saves, vectors * size * dtype.itemsize)

    # The integrator.
    check_accuracy(accuracy)
    if accuracy != "default" and stepsize_controller is not None:
        raise ValueError(
            f"accuracy must be left out where stepsize_controller is given; got {accuracy!r}."
        )
    suited_solver, suited_controller = suited_integrator(
        flow, dtype, size, accuracy, free=solver is None and stepsize_controller is None
    )
    solver = suited_solver if solver is None else solver
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        solved_for = (
            eqx.filter_eval_shape(flow.init, potential, params) if state is None else state.flow
        )
        size = sum(x.size for x in jax.tree.leaves(solved_for))
    solver = matrix_free(solver, size)
    controller = choose_controller(solver, stepsize_controller, dt0, suited_controller)
    if accuracy != "default" and isinstance(controller, diffrax.ConstantStepSize):
        raise ValueError(
            f"accuracy must be left out with {type(solver).__name__}, whose steps have a fixed "
            f"size; got {accuracy!r}."
        )
    provenance = {
        **_flow_provenance(flow),
        "solver": type(solver).__name__,
        "stepsize_controller": type(controller).__name__,
        "measurements": measured,
    }
    if state is not None:
        check_provenance(state.provenance, **provenance)
        _check_state(flow, potential, shape, state)
    smallest = smallest_step(dtype, length * save_every)
    if isinstance(controller, diffrax.AbstractAdaptiveStepSizeController):
        controller = GuardedController(controller, smallest)

    # The start.
    given = params, state, flow, potential, measurements, solver, controller, dt0
    problem = SimulationProblem(
        flow=flow,
        potential=potential,
        measurements=measurements,
        solver=_fitted(solver, flow, smallest),
        controller=controller,
        adjoint=choose_adjoint(adjoint, traced=is_traced(given)),
        dt0=None if dt0 is None else positive("dt0", dt0),
        save_every=save_every,
        max_solver_steps=max_solver_steps,
        variables=merge_variables([*(m.variables for m in measurements), flow.variables]),
        provenance=tuple(provenance.items()),
    )
    goals = check_goals(stop, problem.variables)
    segments = Segments(type(flow).__name__, saves, length, goals)
    if state is None:
        state, first = begin(problem, params)
        while (again := _reviewed(flow, state, state)) is not None:
            state, first = begin(problem, params, again)
        segments.add(first, 0)
    elif not is_traced((state, flow)) and not same_hyperparameters(
        state.hyperparameters, hyperparameters(flow)
    ):
        state = reset(problem, state, state.flow)

    # The segments. No function lies between here and the compiled one, so that the traceback of
    # a potential that raises is short.
    if is_traced((state, problem)):
        state = segments.scan(eqx.Partial(advance, problem), state)
        return segments.trajectory(state, throw, lambda run: "")
    doubt = ""
    with reporting(progress, type(flow).__name__, saves) as report:
        for count in segments:
            start = state
            state, piece = advance(problem, start, count)
            while (again := _reviewed(flow, start, state)) is not None:
                start = reset(problem, start, again)
                state, piece = advance(problem, start, count)
            if 0 < (goal := segments.rows_to_goal(piece)) < count:
                count = goal
                state, piece = advance(problem, start, count)
            segments.add(piece, count)
            report(segments.done)
            if not doubt and isinstance(flow, AbstractDoubtedFlow):
                doubt = flow.doubt(state.flow, potential)
                if doubt:
                    warnings.warn(doubt, UserWarning, stacklevel=2)

    def diagnose(run: Trajectory) -> str:
        if isinstance(flow, AbstractResizableFlow):
            missing = flow.shortage(state.flow, potential)
            if missing:
                return missing
        # Where the solver stopped, if that is known, lies behind the last saved row.
        reached = flow.params(state.flow)
        if len(run.steps):
            missing = fault_of_smoothing(flow, potential, run, reached) or fault_of_series(run)
            if missing:
                return missing
        places = [reached, jax.tree.map(lambda x: x[-1], run.params)] if len(run.steps) else []
        return next(filter(None, (fault_of_gradient(potential, place) for place in places)), "")

    return segments.trajectory(state, throw, diagnose)


def _check_flow(flow: object) -> None:
    """Check that `flow` is a flow.

    Raises:
        ValueError: If it is not, or has a projection that would not be used.
    """
    if not isinstance(flow, AbstractFlow):
        raise ValueError(
            f"flow must be a flow such as GradientFlow(GradientDescent(0.1)); got {flow!r}."
        )
    if hasattr(flow, "project") and not isinstance(flow, AbstractProjectedFlow):
        raise ValueError(
            "flow must be an AbstractProjectedFlow to be projected; its class "
            f"{type(flow).__name__} has a method `project`, but is no subclass of it."
        )


def _check_state(
    flow: AbstractFlow, potential: Potential, params: PyTree, state: SimulationState
) -> None:
    """Check that a flow can go on from a state.

    Raises:
        ValueError: If its own states have other parts, as with a schedule in place of a number.
    """
    if jax.tree.structure(hyperparameters(flow)) == jax.tree.structure(state.hyperparameters):
        return
    own = jax.tree.structure(eqx.filter_eval_shape(flow.init, potential, params))
    given = jax.tree.structure(state.flow)
    if own != given:
        raise ValueError(
            "state must be of the same flow, with an optimizer of the same options, such as a "
            f"learning rate that is a schedule or is none; {type(flow).__name__} goes on from a "
            f"{own}, got a {given}."
        )


def _reviewed(
    flow: AbstractFlow, start: SimulationState, end: SimulationState
) -> PyTree[Array] | None:
    """Return the flow's state to repeat a segment from, if the flow asks for that."""
    if not isinstance(flow, AbstractResizableFlow) or is_traced(end):
        return None
    return flow.review(start.flow, end.flow)


def _flow_provenance(flow: AbstractFlow) -> dict[str, str]:
    """Return what must be the same of a flow for a run to go on."""
    structure = {f"flow.{name}": repr(getattr(flow, name)) for name in flow.structural_fields}
    return {"flow": type(flow).__name__, **structure}


def _fitted(
    solver: diffrax.AbstractSolver, flow: AbstractFlow, smallest: Float[Array, ""]
) -> diffrax.AbstractSolver:
    """Return the solver as a run of the flow uses it.

    Raises:
        ValueError: If it is made for another kind of flow.
    """
    if isinstance(solver, AbstractFlowSolver):
        equation = getattr(flow, "equation", None)
        if not isinstance(equation, type(solver.equation)):
            raise ValueError(
                f"solver must be one for {type(flow).__name__}, or for any flow such as Tsit5(); "
                f"got {type(solver).__name__}, made for {type(solver.equation).__name__}."
            )
        return solver.prepared(equation, smallest)
    return ProjectedSolver(solver, flow) if isinstance(flow, AbstractProjectedFlow) else solver
