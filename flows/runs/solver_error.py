"""How far the solver of a flow's equation is from its exact solution, by solving it once more."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..core.arrays import ScalarLike
from ..core.flow import AbstractFlow
from ..core.potential import Potential
from ..core.trajectory import Trajectory
from ..core.validation import as_params, positive
from ..measurements.tracking import norms
from ..solvers.accuracy import Accuracy, check_accuracy, suited_integrator
from .arguments import Length
from .simulate import simulate


class SolverError(eqx.Module):
    """A flow's trajectory, the same with tighter tolerances, and how far they are apart.

    Attributes:
        trajectory: With the tolerances that are judged.
        tighter: With tighter ones.
        distances: |c(t) - c_tighter(t)| of the centres at each save, (T,), in parameters.

    Example:
        >>> from flows import SolverError
        >>> sorted(SolverError.__annotations__)
        ['distances', 'tighter', 'trajectory']
    """

    trajectory: Trajectory
    tighter: Trajectory
    distances: Float[Array, " T"]

    @property
    def largest(self) -> Float[Array, ""]:
        """The largest distance along the run."""
        return jnp.max(self.distances)


def solver_error(
    flow: AbstractFlow,
    potential: Potential,
    params: PyTree,
    steps: Length,
    *,
    factor: ScalarLike = 10.0,
    save_every: Length = 1,
    solver: diffrax.AbstractSolver | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    accuracy: Accuracy = "default",
    max_solver_steps: int = 4096,
) -> SolverError:
    """Integrate a flow twice, the second time with tighter tolerances, and compare.

    A solver's own estimate is that of a single step. Where a flow is unstable, as at the onset of
    an oscillation, its equation amplifies what earlier steps left, by orders of magnitude, and no
    sum of the estimates knows that. The difference between two runs does. If the error is in
    proportion to the tolerance, it is 1 - 1/factor of the error of the first run. Where it does not
    fall as the tolerances of both do, neither run has resolved the flow. In float32 rounding errors
    are the limit, and a tighter tolerance may take very short steps.

    Rod Flow with two rods is the case in point: on the sharp valley, with one tolerance of 1e-9 for
    centre and covariance, the solver's error was up to 0.03, where the onset of the oscillation
    comes a little earlier or later. With the flow's own controller it is below 1e-3.

    Args:
        flow: The law of motion.
        potential: The loss.
        params: The optimizer's start w_0.
        steps: How long to run, as for `simulate`.
        factor: By what to divide the tolerances, above 1.
        save_every: Distance between saves.
        solver: As for `simulate`, of an adaptive kind.
        stepsize_controller: As for `simulate`, with tolerances: a `diffrax.PIDController`.
        accuracy: As for `simulate`.
        max_solver_steps: As for `simulate`; both runs may take `factor` times as many.

    Raises:
        ValueError: If `factor` is not above 1, or the controller has no tolerances; otherwise as
            `simulate` does.
        SimulationError: As `simulate` does.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, GradientFlow, solver_error
        >>> loss = lambda w: jnp.sum(w**4)
        >>> found = solver_error(GradientFlow(GradientDescent(0.1)), loss, jnp.ones(2), steps=5)
        >>> bool(1e-12 < found.largest < 1e-6)
        True
    """
    times = float(positive("factor", factor))
    if times <= 1:
        raise ValueError(f"factor must be above 1, to make tolerances tighter; got {times:g}.")
    leaves = jax.tree.leaves(as_params(params))
    dtype, size = jnp.result_type(*leaves), sum(x.size for x in leaves)
    check_accuracy(accuracy)
    free = solver is None and stepsize_controller is None
    suited = suited_integrator(flow, dtype, size, accuracy, free=free)
    solver = suited.solver if solver is None else solver
    controller: Any = suited.controller if stepsize_controller is None else stepsize_controller
    if not all(isinstance(getattr(controller, name, None), float) for name in ("rtol", "atol")):
        raise ValueError(
            "stepsize_controller must have tolerances rtol and atol, both numbers, as "
            f"diffrax.PIDController(rtol=1e-8, atol=1e-10); got {type(controller).__name__}."
        )
    given = controller.rtol, controller.atol
    runs = []
    for divisor in (1.0, times):
        # As arrays, so that both runs are one compiled program.
        tolerances = tuple(jnp.asarray(value / divisor, dtype) for value in given)
        runs.append(
            simulate(
                flow,
                potential,
                params,
                steps,
                save_every=save_every,
                solver=solver,
                stepsize_controller=eqx.tree_at(_tolerances, controller, tolerances),
                max_solver_steps=int(max_solver_steps * times),
            )
        )
    apart = jax.tree.map(jnp.subtract, runs[0].params, runs[1].params)
    return SolverError(runs[0], runs[1], norms(apart))


def _tolerances(controller: Any) -> tuple[Any, Any]:
    return controller.rtol, controller.atol
