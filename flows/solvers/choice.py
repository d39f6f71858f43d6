"""Which solver, step-size controller and adjoint a run uses, from what its user asks for."""

from typing import Any, Final

import diffrax
import equinox as eqx
import lineax as lx
import optimistix

from ..core.arrays import DENSE_LIMIT, ScalarLike

_KRYLOV_TOLERANCE: Final = 1e-3


def choose_controller(
    solver: diffrax.AbstractSolver,
    controller: diffrax.AbstractStepSizeController | None,
    dt0: ScalarLike | None,
    suited: diffrax.AbstractStepSizeController,
) -> diffrax.AbstractStepSizeController:
    """Return the controller to use.

    Args:
        solver: The solver of the run.
        controller: What the user asks for; None for `suited`, or constant steps for a solver
            without an error estimate.
        dt0: The first, or constant, step size; None if the user gives none.
        suited: The flow's own.

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


def choose_adjoint(
    adjoint: diffrax.AbstractAdjoint | None, traced: bool
) -> diffrax.AbstractAdjoint:
    """Return the adjoint to use.

    Args:
        adjoint: What the user asks for. None is reverse mode with checkpoints inside a
            transformation; outside nothing is differentiated, and forward mode is traced faster.
        traced: True inside a transformation.

    Raises:
        ValueError: If it is no adjoint of diffrax.
    """
    if adjoint is None:
        return diffrax.RecursiveCheckpointAdjoint() if traced else diffrax.ForwardMode()
    if not isinstance(adjoint, diffrax.AbstractAdjoint):
        raise ValueError(
            f"adjoint must be one of diffrax such as diffrax.ForwardMode(); got {adjoint!r}."
        )
    return adjoint


def matrix_free(solver: diffrax.AbstractSolver, size: int) -> diffrax.AbstractSolver:
    """Return the solver, with Krylov inner solves if it is implicit and the state is large.

    diffrax's implicit solvers build the Jacobian by default, which is P x P. Beyond the dense
    limit GMRES on Jacobian-vector products takes its place in the root finders of the Newton
    family, with the tolerances that they have; other root finders, and those for which another
    linear solver was chosen, stay as they are.

    Args:
        solver: The solver.
        size: How many numbers the state holds.

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
    # The two kinds of chord keep a factorised Jacobian, which products do not give.
    newton = diffrax.with_stepsize_controller_tols(optimistix.Newton)(linear_solver=krylov)
    # Numbers, or diffrax's marks for those that it takes from the controller.
    newton = eqx.tree_at(_tolerances, newton, _tolerances(finder))
    return eqx.tree_at(lambda s: s.root_finder, solver, newton, is_leaf=lambda x: x is finder)


def _tolerances(finder: Any) -> tuple[Any, Any, Any]:
    return finder.rtol, finder.atol, finder.norm
