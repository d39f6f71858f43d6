"""What a solver's steps cost, in evaluations of the vector field and in derivatives."""

import diffrax
from jaxtyping import Array, PyTree

from ..core.arrays import ScalarLike
from ..core.cost import Cost
from .chebyshev import ChebyshevState
from .projection import ProjectedSolver, ProjectedState


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
    dt0: ScalarLike | None,
) -> int:
    """Return how often the start of a run evaluates the vector field."""
    tableau = _tableau(solver)
    first_stage = tableau is not None and tableau.fsal
    chooses = dt0 is None and isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)
    return int(first_stage) + (2 if chooses else 0)


def solver_cost(state: PyTree, evaluation: Cost | None) -> Cost | None:
    """Return what a solver has counted itself in its accepted steps; None if it does not count.

    Args:
        state: The solver's state.
        evaluation: What one evaluation of the vector field costs; None if that varies.
    """
    inner = state.inner if isinstance(state, ProjectedState) else state
    if isinstance(inner, ChebyshevState):
        return None if evaluation is None else evaluation * inner.evaluations
    return getattr(inner, "cost", None)


def cost_stats(cost: Cost | None, measured: Cost) -> dict[str, Array]:
    """Return the stats of a trajectory that say what it cost.

    Args:
        cost: What the run itself cost; None if that is not known, which leaves its stats out.
        measured: What its measurements cost.
    """
    stats = {"measurement_gradient_equivalents": measured.gradient_equivalents}
    if cost is not None:
        stats["gradient_evaluations"] = cost.gradients
        stats["hvp_evaluations"] = cost.hvps
        stats["third_derivative_evaluations"] = cost.third_derivatives
        stats["gradient_equivalents"] = cost.gradient_equivalents
    return stats
