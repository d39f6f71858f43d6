"""Samples of the set of minima: particles thrown from a trained point that come to rest on it.

Dissipative mechanics with gravity and viscous friction brings every particle to rest on the
critical set (arXiv 2605.15459). From one trained point, random velocities thus give different
points of the same set of minima, or of others that they can reach.
"""

import warnings
from typing import Final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..core.arrays import PRNGKeyLike, ScalarLike
from ..core.batches import in_batches
from ..core.captured import captured
from ..core.potential import Potential
from ..core.trees import Params, is_traced
from ..core.validation import (
    as_params,
    cast,
    finite,
    positive,
    positive_integer,
    prng_key,
)
from ..solvers.choice import matrix_free
from ..solvers.controllers import GuardedController
from .flow import DissipativeFlow
from .friction import AbstractFriction, Coulomb, TotalFriction, Viscous, check_friction
from .settling import MinimaSamples, SettlingProblem, normal_velocities

# What the solver's stages and copies of all particles of a batch may take, in bytes.
_BATCH_BYTES: Final = 2**28
_VECTORS_PER_PARTICLE: Final = 32


def sample_minima(
    potential: Potential,
    params: PyTree,
    key: PRNGKeyLike,
    num_samples: int,
    *,
    speed: ScalarLike = 1.0,
    gravity: ScalarLike = 10.0,
    friction: ScalarLike | AbstractFriction = 1.0,
    tolerance: ScalarLike = 1e-8,
    max_time: ScalarLike = 1000.0,
    minimum: ScalarLike = 0.0,
    batch_size: int | None = None,
    solver: diffrax.AbstractSolver | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    max_solver_steps: int = 65536,
) -> MinimaSamples:
    """Throw particles from a trained point, and let them come to rest on the set of minima.

    Each particle starts at `params` with a velocity of independent normal entries of standard
    deviation `speed`, moves by `DissipativeFlow(gravity, friction)` and stops as soon as its energy
    above the minimum is below `tolerance`, which bounds gravity (loss - minimum) too. Sample i
    depends only on the i-th key of `jax.random.split(key, num_samples)`, not on the batches.

    Args:
        potential: The loss: any twice differentiable function of `params` that returns a scalar.
        params: Where all particles start, any pytree of floats: a minimum, as training leaves it.
            Another point is allowed, with a warning: its particles fall before they come to rest.
        key: PRNG key of the velocities.
        num_samples: How many particles N.
        speed: Standard deviation of each entry of the velocities, above 0, in parameter / time. The
            expected kinetic energy at a minimum is speed^2 P / 2 for P parameters.
        gravity: Weight of the loss in the energy, above 0.
        friction: Viscous coefficient gamma, or a friction law with a viscous part above 0: only
            that brings every particle to rest on the critical set.
        tolerance: Energy above the minimum at which a particle is at rest, above 0. In float32 a
            loss that is not a sum of squares has no digits below about 1e-7.
        max_time: Time at which a particle that still moves is given up.
        minimum: The smallest loss there is: 0 for every loss of this project but one of a fit with
            noise, or a regulariser.
        batch_size: Particles that are integrated side by side; by default as many as fit into
            256 MiB of states, not counting what the model holds for its examples.
        solver: Any diffrax ODE solver with an error estimate; the flow's if not given.
        stepsize_controller: Any adaptive controller of diffrax; the flow's if not given.
        max_solver_steps: Bound on the solver steps of one particle; one that needs more fails.

    Returns:
        All samples: those that are not at rest are there too, with `converged` false. They have
        derivatives in reverse mode (`jax.grad`), not in forward mode.

    Raises:
        ValueError: If an argument is wrong; the message names it.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flows import sample_minima
        >>> from potentials import Ring
        >>> samples = sample_minima(Ring(), jnp.asarray([1.0, 0.0]), jax.random.key(0), 3)
        >>> samples.message
        '3 of 3 samples are at rest'
        >>> [round(float(x), 3) for x in jnp.linalg.norm(samples.params, axis=1)]
        [1.0, 1.0, 1.0]
    """
    # What is thrown, and from where.
    params = as_params(params)
    potential = captured(potential, params)
    key = prng_key("key", key)
    num_samples = positive_integer("num_samples", num_samples)
    law = _viscous_law(friction)
    gravity, speed = positive("gravity", gravity), positive("speed", speed)
    tolerance, max_time = positive("tolerance", tolerance), positive("max_time", max_time)
    if batch_size is None:
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
        batch_size = max(1, _BATCH_BYTES // (_VECTORS_PER_PARTICLE * size))
    batch_size = positive_integer("batch_size", batch_size)
    dtype = jax.tree.leaves(params)[0].dtype
    flow = DissipativeFlow(cast("gravity", gravity, dtype), law)
    solver, controller = _integrator(flow, params, solver, stepsize_controller)
    problem = SettlingProblem(
        flow=flow,
        potential=potential,
        tolerance=cast("tolerance", tolerance, dtype),
        max_time=cast("max_time", max_time, dtype),
        minimum=cast("minimum", finite("minimum", minimum), dtype),
        solver=solver,
        controller=controller,
        max_solver_steps=positive_integer("max_solver_steps", max_solver_steps),
    )
    speed = cast("speed", speed, dtype)
    _check_start(problem, params)
    samples = _sample(problem, params, key, speed, num_samples, min(batch_size, num_samples))
    if not is_traced(samples.converged) and not np.all(samples.converged):
        warnings.warn(f"{samples.message}.", UserWarning, stacklevel=2)
    return samples


@eqx.filter_jit
def _sample(
    problem: SettlingProblem,
    params: Params,
    key: PRNGKeyArray,
    speed: Float[Array, ""],
    count: int,
    batch_size: int,
) -> MinimaSamples:
    velocities = normal_velocities(params, jax.random.split(key, count), speed)
    return in_batches(lambda velocity: problem.one(params, velocity), velocities, batch_size)


def _integrator(
    flow: DissipativeFlow,
    params: Params,
    solver: diffrax.AbstractSolver | None,
    controller: diffrax.AbstractStepSizeController | None,
) -> tuple[diffrax.AbstractSolver, GuardedController]:
    """Return the solver and the controller to use, the flow's own in place of None.

    Raises:
        ValueError: If one of them is no solver or controller, or takes steps of a fixed size.
    """
    suited, own = flow.integrator(jax.tree.leaves(params)[0].dtype)
    size = 2 * sum(x.size for x in jax.tree.leaves(params))
    solver = matrix_free(suited if solver is None else solver, size)
    if not isinstance(solver, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            "solver must be one with an error estimate, such as diffrax.Tsit5(); got "
            f"{type(solver).__name__}."
        )
    controller = own if controller is None else controller
    if not isinstance(controller, diffrax.AbstractAdaptiveStepSizeController):
        raise ValueError(
            "stepsize_controller must be an adaptive controller such as "
            f"diffrax.PIDController(rtol=..., atol=...); got {controller!r}."
        )
    return solver, GuardedController(controller)


@eqx.filter_jit
def _loss(potential: Potential, params: Params) -> Float[Array, ""]:
    return potential(params)


def _check_start(problem: SettlingProblem, params: Params) -> None:
    """Check the start, where its values are known, and warn if it is no minimum.

    Raises:
        ValueError: If the loss at the start is not finite, or `minimum` above it.
    """
    loss = _loss(problem.potential, params)
    gravity, minimum, tolerance = problem.flow.gravity, problem.minimum, problem.tolerance
    if is_traced((loss, gravity, minimum, tolerance)):
        return
    if not np.isfinite(float(loss)):
        raise ValueError(f"params must have a finite loss; got {float(loss)}.")
    excess = float(loss) - float(minimum)
    # The rounding of a loss that cancels to its minimum.
    rounding = 100 * float(jnp.finfo(loss.dtype).eps) * max(1.0, abs(float(minimum)))
    if excess < -rounding:
        raise ValueError(
            f"minimum must be at most the loss at params, {float(loss):g}; got "
            f"{float(minimum):g}. It is the smallest loss that there is."
        )
    energy = float(gravity) * excess
    if energy > float(tolerance):
        warnings.warn(
            f"params is not at a minimum: its loss is {excess:.3g} above `minimum`, an energy of "
            f"{energy:.3g} where the tolerance is {float(tolerance):.3g}. Its particles "
            "fall first, and rest on whichever minima they reach.",
            UserWarning,
            stacklevel=3,
        )


def _viscous_law(friction: ScalarLike | AbstractFriction) -> AbstractFriction:
    """Return the friction law, which must have a viscous part above 0.

    Raises:
        ValueError: If it has none, so that not every particle would rest on the minima.
    """
    if not isinstance(friction, AbstractFriction):
        return Viscous(positive("friction", friction))
    law = check_friction(friction)
    parts = _parts(law)
    viscous = [part.coefficient for part in parts if isinstance(part, Viscous)]
    known = not is_traced(viscous)
    if not viscous or (known and not any(float(c) > 0 for c in viscous)):
        raise ValueError(
            "friction must have a viscous part above 0, without which not every particle rests on "
            f"the minima: Viscous(1.0), or TotalFriction(Viscous(1.0), ...); got {friction!r}."
        )
    if any(isinstance(part, Coulomb) for part in parts):
        warnings.warn(
            "friction has a Coulomb part, with which particles creep in a band around the minima "
            "instead of resting on them.",
            UserWarning,
            stacklevel=3,
        )
    return law


def _parts(law: AbstractFriction) -> tuple[AbstractFriction, ...]:
    if isinstance(law, TotalFriction):
        return tuple(part for inner in law.laws for part in _parts(inner))
    return (law,)
