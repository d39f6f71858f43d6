"""What diffrax needs to integrate a flow in segments: the clock, the controller, the costs."""

from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import lineax as lx
import optimistix
from jaxtyping import Array, Float

from ..core.arrays import DENSE_LIMIT

# Smallest step that an adaptive controller may fall to before the run counts as failed, relative
# to the length of a segment, in units of the rounding error.
_SMALLEST_STEP = 16

_KRYLOV_TOLERANCE = 1e-3


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
