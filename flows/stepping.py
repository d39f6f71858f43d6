"""What diffrax needs to integrate a flow in segments: the clock, the controller, the costs."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix
from jaxtyping import Array, Float, PyTree

from .chebyshev import ChebyshevState
from .compilation import traced_once
from .controllers import OverflowGuard
from .cost import Cost
from .curvature import DENSE_LIMIT
from .flow import AbstractFlow
from .projection import ProjectedSolver, ProjectedState
from .results import RESULTS, choose

# Smallest step that an adaptive controller may fall to before the run counts as failed, relative
# to the length of a segment, in units of the rounding error.
_SMALLEST_STEP = 16

_KRYLOV_TOLERANCE = 1e-3


class ShiftedField(eqx.Module):
    """A flow's vector field on a clock that starts at 0 in each segment.

    Steps of a fixed size relative to the segment keep their precision in float32 however long the
    run is; only fields that depend on time see the difference.
    """

    flow: AbstractFlow
    origin: Float[Array, ""]

    def __call__(self, t: Any, state: Any, args: Any) -> PyTree[Array]:
        """Return the vector field at `origin + t`."""
        return _vector_field(self.flow, self.origin.astype(t.dtype) + t, state, args)


@traced_once
def _vector_field(flow: AbstractFlow, t: Array, state: Any, args: Any) -> PyTree[Array]:
    return flow.vector_field(t, state, args)


class MemoryState(eqx.Module):
    """State of `StepMemory`: the controller's own, and the step size to go on with."""

    inner: Any
    step: Float[Array, ""]


class StepMemory(diffrax.AbstractAdaptiveStepSizeController):
    """An adaptive controller that remembers its step size across the end of a segment.

    diffrax shortens the last step so that it ends on time; what the controller makes of such a
    step says nothing about the next one. The longest recent proposal is kept instead. A step that
    is rejected down to `smallest` ends the run, so that a flow that blows up does not spin.
    """

    controller: OverflowGuard
    smallest: Float[Array, ""]
    rtol: Any
    atol: Any
    norm: Callable[[PyTree[Any]], Any]

    def __init__(
        self,
        controller: diffrax.AbstractAdaptiveStepSizeController,
        smallest: Float[Array, ""],
    ):
        self.controller = OverflowGuard(controller)
        self.smallest = smallest
        # Implicit solvers take their tolerances from here.
        self.rtol, self.atol, self.norm = controller.rtol, controller.atol, controller.norm

    def wrap(self, direction: Any) -> "StepMemory":
        """Wrap the controller."""
        return StepMemory(self.controller.wrap(direction).controller, self.smallest)

    def init(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        dt0: Any,
        args: Any,
        func: Callable[..., Any],
        error_order: Any,
    ) -> tuple[Any, MemoryState]:
        """Let the controller choose the first step."""
        tnext, inner = self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)
        # An array for each Python number: the state is carried through compiled code.
        inner = jax.tree.map(jnp.asarray, inner)
        return tnext, MemoryState(inner, jnp.asarray(tnext - t0))

    def adapt_step_size(
        self,
        t0: Any,
        t1: Any,
        y0: Any,
        y1_candidate: Any,
        args: Any,
        y_error: Any,
        error_order: Any,
        controller_state: MemoryState,
    ) -> tuple[Any, Any, Any, Any, MemoryState, RESULTS]:
        """Let the controller adapt, and remember what it proposes."""
        keep, next_t0, next_t1, made_jump, inner, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state.inner
        )
        proposed = next_t1 - next_t0
        shortened = (t1 - t0) < 0.999 * controller_state.step
        step = jnp.where(keep & shortened, jnp.maximum(proposed, controller_state.step), proposed)
        stuck = ~keep & (proposed < self.smallest)
        result = choose(jnp.asarray(stuck), RESULTS.dt_min_reached, result)
        return keep, next_t0, next_t1, made_jump, MemoryState(inner, step), result


def choose_controller(
    solver: Any,
    controller: Any,
    dt0: Any,
    suited: diffrax.AbstractStepSizeController,
) -> diffrax.AbstractStepSizeController:
    """Return the controller to use, for `controller` None too: `suited` if it fits the solver.

    Raises:
        ValueError: If the solver, the controller and `dt0` do not go together.
    """
    adaptive_solver = isinstance(solver, diffrax.AbstractAdaptiveSolver)
    name = type(solver).__name__
    if controller is None:
        if adaptive_solver:
            return suited
        if dt0 is None:
            raise ValueError(f"dt0 must be given: {name} has a fixed step size.")
        return diffrax.ConstantStepSize()
    if isinstance(controller, diffrax.AbstractAdaptiveStepSizeController):
        if not adaptive_solver:
            raise ValueError(
                f"stepsize_controller must be diffrax.ConstantStepSize() for {name}, which gives "
                f"no error estimate; got {type(controller).__name__}."
            )
        return controller
    if isinstance(controller, diffrax.ConstantStepSize):
        if dt0 is None:
            raise ValueError("dt0 must be given with diffrax.ConstantStepSize().")
        return controller
    raise ValueError(
        "stepsize_controller must be diffrax.ConstantStepSize() or an adaptive controller such "
        f"as diffrax.PIDController(rtol=..., atol=...); got {controller!r}."
    )


def choose_adjoint(adjoint: Any) -> diffrax.AbstractAdjoint:
    """Return the adjoint to use, for None too.

    Raises:
        ValueError: If it is none of diffrax.
    """
    if adjoint is None:
        return diffrax.RecursiveCheckpointAdjoint()
    if not isinstance(adjoint, diffrax.AbstractAdjoint):
        raise ValueError(
            f"adjoint must be one of diffrax such as diffrax.ForwardMode(); got {adjoint!r}."
        )
    return adjoint


def smallest_step(dtype: Any, duration: int | float) -> Float[Array, ""]:
    """Return the step size below which a segment of this duration makes no progress."""
    return jnp.asarray(_SMALLEST_STEP * jnp.finfo(dtype).eps * max(duration, 1.0), dtype)


def matrix_free(solver: Any, size: int) -> diffrax.AbstractSolver:
    """Return the solver, with Krylov inner solves if it is implicit and the state is large.

    diffrax's implicit solvers build the Jacobian by default, which is P x P. Beyond the dense
    limit GMRES on Jacobian-vector products takes its place in the root finders of the Newton
    family, with the tolerances that they have; other root finders, and those for which another
    linear solver was chosen, stay as they are.

    Raises:
        ValueError: If it is no solver of diffrax, or not one for a single ordinary equation.
    """
    if not isinstance(solver, diffrax.AbstractSolver):
        raise ValueError(f"solver must be a diffrax solver such as Tsit5(); got {solver!r}.")
    structure = solver.term_structure
    if not (isinstance(structure, type) and issubclass(diffrax.ODETerm, structure)):
        raise ValueError(
            "solver must be one for a single ordinary differential equation, such as Tsit5(); got "
            f"{type(solver).__name__}, which is made for several terms or for noise."
        )
    if not isinstance(solver, diffrax.AbstractImplicitSolver) or size <= DENSE_LIMIT:
        return solver
    finder: Any = solver.root_finder
    if type(finder) not in (diffrax.VeryChord, optimistix.Chord, optimistix.Newton):
        return solver
    if not isinstance(finder.linear_solver, lx.AutoLinearSolver):
        return solver
    krylov = lx.GMRES(rtol=_KRYLOV_TOLERANCE, atol=_KRYLOV_TOLERANCE)
    # The two kinds of chord keep a factorised Jacobian, and have none for products alone.
    newton = diffrax.with_stepsize_controller_tols(optimistix.Newton)(linear_solver=krylov)
    # Numbers, or diffrax's marks for what the controller's tolerances take the place of.
    newton = eqx.tree_at(_tolerances, newton, _tolerances(finder))
    return eqx.tree_at(lambda s: s.root_finder, solver, newton, is_leaf=lambda x: x is finder)


def _tolerances(finder: Any) -> tuple[Any, Any, Any]:
    return finder.rtol, finder.atol, finder.norm


def _tableau(solver: diffrax.AbstractSolver) -> diffrax.ButcherTableau | None:
    """Return the tableau of an explicit Runge-Kutta method for ordinary equations."""
    solver = solver.solver if type(solver) is ProjectedSolver else solver
    if isinstance(solver, diffrax.AbstractERK) and isinstance(
        solver.tableau, diffrax.ButcherTableau
    ):
        return solver.tableau
    return None


def evaluations_per_step(solver: diffrax.AbstractSolver) -> int | None:
    """Return how often one step evaluates the vector field; None if that is not fixed."""
    if isinstance(solver, diffrax.Euler):
        return 1
    tableau = _tableau(solver)
    return None if tableau is None else tableau.num_stages - int(tableau.fsal)


def evaluations_at_start(
    solver: diffrax.AbstractSolver,
    controller: diffrax.AbstractStepSizeController,
    dt0: Any,
) -> int:
    """Return how often the start of a run evaluates the vector field."""
    tableau = _tableau(solver)
    first_stage = tableau is not None and tableau.fsal
    chooses = dt0 is None and isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)
    return int(first_stage) + (2 if chooses else 0)


def solver_cost(state: Any, evaluation: Cost | None) -> Cost | None:
    """Return what a solver has counted itself in its accepted steps, if it does.

    Args:
        state: The solver's state.
        evaluation: What one evaluation of the vector field costs; None if that varies.
    """
    inner = state.inner if isinstance(state, ProjectedState) else state
    if isinstance(inner, ChebyshevState):
        return None if evaluation is None else evaluation * inner.evaluations
    return getattr(inner, "cost", None)


def cost_stats(cost: Cost | None, measured: Cost) -> dict[str, Array]:
    """Return the stats of a trajectory that say what it cost; None where it is not known."""
    stats = {"measurement_gradient_equivalents": measured.gradient_equivalents}
    if cost is not None:
        stats["gradient_evaluations"] = cost.gradients
        stats["hvp_evaluations"] = cost.hvps
        stats["third_derivative_evaluations"] = cost.third_derivatives
        stats["gradient_equivalents"] = cost.gradient_equivalents
    return stats
