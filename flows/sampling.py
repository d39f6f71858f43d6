"""Samples of the set of minima: particles thrown from a trained point that come to rest on it.

Dissipative mechanics with gravity and viscous friction brings every particle to rest on the
critical set (arXiv 2605.15459; THEORY.md section 6). From one trained point, random velocities
thus give different points of the same set of minima, or of others that they can reach.
"""

import warnings
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from .dims import DissipativeFlow, DissipativeState
from .friction import AbstractFriction, Coulomb, TotalFriction, Viscous, check_friction
from .potential import Potential
from .results import RESULTS, choose
from .stepping import evaluations_at_start, evaluations_per_step
from .trees import Params, is_traced, squared_norm
from .validation import as_params, check_potential, positive, positive_integer

# What the solver's stages and copies of all particles of a batch may take, in bytes.
_BATCH_BYTES = 2**28
_VECTORS_PER_PARTICLE = 32
# Stop a little below the tolerance, so that rounding cannot leave a stopped particle above it.
_MARGIN = 1e-6


class MinimaSamples(eqx.Module):
    """What `sample_minima` returns: all samples, at rest or not, leading axis the sample.

    Attributes:
        params: Where each particle ended, leading axis the sample (N, ...).
        stopping_time: When, in the flow's time (N,): when it came to rest, or `max_time`, or when
            its integration failed.
        loss: The loss there (N,).
        energy: Energy above the minimum there, v^T G v / 2 + gravity (loss - minimum) (N,).
        converged: Whether it came to rest: its energy is below the tolerance (N,).
        result: How each integration ended, an item of `RESULTS` for each sample.
        stats: By name, for each sample (N,): `solver_steps`, `rejected_steps`,
            `gradient_equivalents` (a gradient counts 1, a Hessian-vector product 2), the few
            evaluations that locate the moment of rest not counted.
    """

    params: Params
    stopping_time: Float[Array, "..."]
    loss: Float[Array, "..."]
    energy: Float[Array, "..."]
    converged: Bool[Array, "..."]
    result: RESULTS
    stats: dict[str, Array]

    @property
    def message(self) -> str:
        """How many samples are at rest, and what became of the others, in a sentence."""
        converged = np.asarray(self.converged)
        late = ~converged & np.asarray(self.result == RESULTS.successful)
        parts = [f"{converged.sum()} of {converged.size} samples are at rest"]
        if late.any():
            parts.append(f"{late.sum()} still moved at max_time")
        failed = converged.size - converged.sum() - late.sum()
        if failed:
            parts.append(f"the integration of {failed} failed, see `result`")
        return "; ".join(parts)


def sample_minima(
    potential: Potential,
    params: PyTree[Any],
    key: PRNGKeyArray,
    num_samples: int,
    *,
    speed: Any = 1.0,
    gravity: Any = 10.0,
    friction: Any = 1.0,
    tolerance: Any = 1e-8,
    max_time: Any = 1000.0,
    minimum: Any = 0.0,
    batch_size: int | None = None,
    solver: diffrax.AbstractSolver | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    max_solver_steps: int = 65536,
) -> MinimaSamples:
    """Throw particles from a trained point, and let them come to rest on the set of minima.

    Each particle starts at `params` with a velocity of independent normal entries of standard
    deviation `speed`, moves by `DissipativeFlow(gravity, friction)` and stops as soon as its energy
    above the minimum is below `tolerance`, which bounds gravity (loss - minimum) too. Sample i
    depends on the i-th key of `jax.random.split(key, num_samples)` alone, not on the batches.

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
        All samples: those that are not at rest are there too, with `converged` false.

    Raises:
        ValueError: If an argument is wrong; the message names it.
    """
    params = as_params(params)
    check_potential(potential, params)
    num_samples = positive_integer("num_samples", num_samples)
    law = _viscous_law(friction)
    gravity, speed = positive("gravity", gravity), positive("speed", speed)
    tolerance, max_time = positive("tolerance", tolerance), positive("max_time", max_time)
    if batch_size is None:
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
        batch_size = max(1, _BATCH_BYTES // (_VECTORS_PER_PARTICLE * size))
    batch_size = positive_integer("batch_size", batch_size)
    flow = DissipativeFlow(gravity, law)
    dtype = jax.tree.leaves(params)[0].dtype
    own_solver, own_controller = flow.integrator(dtype)
    problem = _Problem(
        flow=flow,
        potential=potential,
        speed=speed.astype(dtype),
        tolerance=tolerance.astype(dtype),
        max_time=max_time.astype(dtype),
        minimum=jnp.asarray(minimum, dtype),
        solver=own_solver if solver is None else solver,
        controller=own_controller if stepsize_controller is None else stepsize_controller,
        max_solver_steps=positive_integer("max_solver_steps", max_solver_steps),
    )
    _check_start(problem, params)
    samples = _sample(problem, params, key, num_samples, min(batch_size, num_samples))
    if not is_traced(samples.converged) and not np.all(samples.converged):
        warnings.warn(f"{samples.message}.", UserWarning, stacklevel=2)
    return samples


def exponential_map(
    potential: Potential,
    params: PyTree[Any],
    velocities: PyTree[Any],
    *,
    time: Any = 1.0,
    batch_size: int | None = None,
    max_solver_steps: int = 65536,
) -> tuple[Params, Bool[Array, " N"]]:
    """Follow geodesics of the graph of the loss, mechanics without gravity and friction.

    Args:
        potential: The loss.
        params: Where they start.
        velocities: Their velocities, a pytree like `params` with a leading axis N.
        time: How long to follow each of them.
        batch_size: How many to integrate side by side; all if not given.
        max_solver_steps: Bound on the solver steps of one of them.

    Returns:
        Where they end, with a leading axis N, and whether each got there (N,).
    """
    params, velocities = as_params(params), as_params(velocities, "velocities")
    check_potential(potential, params)
    count = jax.tree.leaves(velocities)[0].shape[0]
    batch_size = count if batch_size is None else positive_integer("batch_size", batch_size)
    time = positive("time", time)
    return _geodesics(potential, params, velocities, time, min(batch_size, count), max_solver_steps)


def random_velocities(
    params: PyTree[Any], key: PRNGKeyArray, num_samples: int, speed: Any
) -> Params:
    """Return the velocities that `sample_minima` throws its particles with.

    Args:
        params: Where they start, any pytree of floats.
        key: PRNG key; particle i has the i-th of `jax.random.split(key, num_samples)`.
        num_samples: How many particles N.
        speed: Standard deviation of each entry, above 0.

    Returns:
        A pytree like `params` with a leading axis N, of independent normal entries.
    """
    params, speed = as_params(params), positive("speed", speed)
    keys = jax.random.split(key, positive_integer("num_samples", num_samples))
    return jax.vmap(lambda k: _velocity(params, k, speed))(keys)


def _velocity(params: Params, key: PRNGKeyArray, speed: Float[Array, ""]) -> Params:
    flat, unravel = ravel_pytree(params)
    return unravel(speed.astype(flat.dtype) * jax.random.normal(key, flat.shape, flat.dtype))


class _Problem(eqx.Module):
    flow: DissipativeFlow
    potential: Potential
    speed: Float[Array, ""]
    tolerance: Float[Array, ""]
    max_time: Float[Array, ""]
    minimum: Float[Array, ""]
    solver: diffrax.AbstractSolver
    controller: diffrax.AbstractStepSizeController
    max_solver_steps: int = eqx.field(static=True)

    def energy(self, state: DissipativeState) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The energy above the minimum, and the loss, in one forward pass."""
        loss, slope = jax.jvp(self.potential, (state.position,), (state.velocity,))
        kinetic = (squared_norm(state.velocity) + slope**2) / 2
        return kinetic + self.flow.gravity.astype(loss.dtype) * (loss - self.minimum), loss

    @property
    def event(self) -> diffrax.Event:
        """The moment of rest; in float32, where it has too few digits, the step that it is in."""
        if self.tolerance.dtype == jnp.float64:
            # The sign of the slope is given, since the batch's other particles have no root.
            finder = optimistix.Bisection(rtol=0.0, atol=_MARGIN / 10, flip=True)
            return diffrax.Event(_log_excess, finder)
        return diffrax.Event(_below)

    def one(self, params: Params, key: PRNGKeyArray) -> MinimaSamples:
        """Integrate one particle."""
        start = DissipativeState(params, _velocity(params, key, self.speed))
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(_field),
            self.solver,
            t0=jnp.zeros_like(self.max_time),
            t1=self.max_time,
            dt0=None,
            y0=start,
            args=self,
            stepsize_controller=self.controller,
            event=self.event,
            max_steps=self.max_solver_steps,
            throw=False,
        )
        assert solution.ys is not None
        assert solution.ts is not None
        # An event is a change of sign: a particle that never moved enough has none.
        resting = self.energy(start)[0] <= self.tolerance
        state = jax.tree.map(lambda x, y: jnp.where(resting, x, y[0]), start, solution.ys)
        result = choose(resting, RESULTS.event_occurred, solution.result)
        energy, loss = self.energy(state)
        return MinimaSamples(
            params=state.position,
            stopping_time=jnp.where(resting, 0, solution.ts[0]),
            loss=loss,
            energy=energy,
            converged=(result == RESULTS.event_occurred) & (energy <= self.tolerance),
            result=result,
            stats=self.stats(solution.stats),
        )

    def stats(self, counted: dict[str, Any]) -> dict[str, Array]:
        """What a particle cost; without the gradients where the solver's number is not known."""
        steps = counted["num_steps"]
        stats = {"solver_steps": steps, "rejected_steps": counted["num_rejected_steps"]}
        per_step = evaluations_per_step(self.solver)
        if per_step is not None:
            first = evaluations_at_start(self.solver, self.controller, None)
            cost = (self.flow.cost * (steps * per_step + first)).gradient_equivalents
            # The energy, a forward derivative, after each accepted step.
            stats["gradient_equivalents"] = cost + counted["num_accepted_steps"]
        return stats


def _field(t: Any, state: DissipativeState, args: _Problem) -> DissipativeState:
    return args.flow.vector_field(t, state, args.potential)


def _log_excess(t: Any, y: DissipativeState, args: _Problem, **options: Any) -> Array:
    """log(energy / tolerance): it falls about linearly, to 0 where a particle comes to rest."""
    del t, options
    energy, _ = args.energy(y)
    floor = jnp.asarray(jnp.finfo(energy.dtype).tiny, energy.dtype)
    return jnp.log(jnp.maximum(energy, floor) / args.tolerance) + _MARGIN


def _below(t: Any, y: DissipativeState, args: _Problem, **options: Any) -> Array:
    del t, options
    return args.energy(y)[0] <= args.tolerance


@eqx.filter_jit
def _sample(
    problem: _Problem, params: Params, key: PRNGKeyArray, count: int, batch_size: int
) -> MinimaSamples:
    keys = jax.random.split(key, count)
    if batch_size == count:
        return jax.vmap(lambda k: problem.one(params, k))(keys)
    return lax.map(lambda k: problem.one(params, k), keys, batch_size=batch_size)


@eqx.filter_jit
def _geodesics(
    potential: Potential,
    params: Params,
    velocities: Params,
    time: Array,
    batch_size: int,
    max_solver_steps: int,
) -> tuple[Params, Bool[Array, " N"]]:
    flow = DissipativeFlow(0.0, Viscous(0.0))
    dtype = jax.tree.leaves(params)[0].dtype
    solver, controller = flow.integrator(dtype)
    time = time.astype(dtype)

    def one(velocity: Params) -> tuple[Params, Bool[Array, ""]]:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(flow.vector_field),
            solver,
            t0=jnp.zeros_like(time),
            t1=time,
            dt0=None,
            y0=DissipativeState(params, velocity),
            args=potential,
            stepsize_controller=controller,
            max_steps=max_solver_steps,
            throw=False,
        )
        assert solution.ys is not None
        end = jax.tree.map(lambda x: x[0], solution.ys)
        return end.position, solution.result == RESULTS.successful

    return lax.map(one, velocities, batch_size=batch_size)


@eqx.filter_jit
def _loss(potential: Potential, params: Params) -> Float[Array, ""]:
    return potential(params)


def _check_start(problem: _Problem, params: Params) -> None:
    """Say when the start is no minimum, where the values are known.

    Raises:
        ValueError: If `minimum` is above the loss at the start.
    """
    loss = _loss(problem.potential, params)
    if is_traced((loss, problem.minimum, problem.tolerance)):
        return
    excess = float(loss) - float(problem.minimum)
    # The rounding of a loss that cancels to its minimum.
    rounding = 100 * float(jnp.finfo(loss.dtype).eps) * max(1.0, abs(float(problem.minimum)))
    if excess < -rounding:
        raise ValueError(
            f"minimum must be at most the loss at params, {float(loss):g}; got "
            f"{float(problem.minimum):g}. It is the smallest loss that there is."
        )
    energy = float(problem.flow.gravity) * excess
    if energy > float(problem.tolerance):
        warnings.warn(
            f"params is not at a minimum: its loss is {excess:.3g} above `minimum`, an energy of "
            f"{energy:.3g} where the tolerance is {float(problem.tolerance):.3g}. Its particles "
            "fall first, and rest on whichever minima they reach.",
            UserWarning,
            stacklevel=3,
        )


def _viscous_law(friction: Any) -> AbstractFriction:
    """The friction law, with a viscous part above 0.

    Raises:
        ValueError: If it has none, so that not every particle would come to rest on the minima.
    """
    if not isinstance(friction, AbstractFriction):
        return Viscous(positive("friction", friction))
    law = check_friction(friction)
    parts = _parts(law)
    viscous = [part.coefficient for part in parts if isinstance(part, Viscous)]
    known = not is_traced(viscous)
    if not viscous or (known and not any(float(c) > 0 for c in viscous)):
        raise ValueError(
            "friction must have a viscous part above 0, which alone brings every particle to rest "
            f"on the minima: Viscous(1.0), or TotalFriction(Viscous(1.0), ...); got {friction!r}."
        )
    if any(isinstance(part, Coulomb) for part in parts):
        warnings.warn(
            "friction has a Coulomb part, with which particles creep in a band around the minima "
            "instead of coming to rest on them.",
            UserWarning,
            stacklevel=3,
        )
    return law


def _parts(law: AbstractFriction) -> tuple[AbstractFriction, ...]:
    if isinstance(law, TotalFriction):
        return tuple(part for inner in law.laws for part in _parts(inner))
    return (law,)
