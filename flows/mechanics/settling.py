"""Particles that are thrown at random and followed until they are at rest."""

from collections.abc import Mapping
from typing import Any, Final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from ..core.arrays import PRNGKeyLike, RealScalarLike, ScalarLike
from ..core.potential import Potential
from ..core.results import RESULTS, choose
from ..core.trees import Params, squared_norm
from ..core.validation import as_params, cast, positive, positive_integer, prng_key
from ..solvers.controllers import GuardedController
from ..solvers.counting import evaluations_at_start, evaluations_per_step
from .flow import DissipativeFlow, DissipativeState

# Stop a little below the tolerance, so that rounding cannot leave a stopped particle above it.
_MARGIN: Final = 1e-6


class MinimaSamples(eqx.Module):
    """What `sample_minima` returns: all samples, at rest or not, leading axis the sample.

    Attributes:
        params: Where each particle ended, leading axis the sample (N, ...).
        stopping_time: When it came to rest, in the flow's time (N,); `max_time` if it did not, or
            when its integration failed.
        loss: The loss there (N,).
        energy: Energy above the minimum there, v^T G v / 2 + gravity (loss - minimum) (N,).
        converged: True if it came to rest: its energy is below the tolerance (N,).
        result: How each integration ended, an item of `RESULTS` for each sample.
        stats: By name, for each sample (N,): `solver_steps`, `rejected_steps`,
            `gradient_equivalents` (a gradient counts 1, a Hessian-vector product 2), the few
            evaluations that locate the moment of rest not counted.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flows import sample_minima
        >>> from potentials import Ring
        >>> samples = sample_minima(Ring(), jnp.asarray([1.0, 0.0]), jax.random.key(0), 3)
        >>> samples.converged.tolist(), bool(jnp.all(samples.energy <= 1e-8))
        ([True, True, True], True)
        >>> sorted(samples.stats)
        ['gradient_equivalents', 'rejected_steps', 'solver_steps']
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
        """How many samples are at rest, and what happened to the others, in a sentence."""
        converged = np.asarray(self.converged)
        late = ~converged & np.asarray(self.result == RESULTS.successful)
        parts = [f"{converged.sum()} of {converged.size} samples are at rest"]
        if late.any():
            parts.append(f"{late.sum()} still moved at max_time")
        lower = ~converged & np.asarray(self.result == RESULTS.event_occurred)
        if lower.any():
            parts.append(f"the loss of {lower.sum()} went below `minimum`")
        failed = converged.size - converged.sum() - late.sum() - lower.sum()
        if failed:
            parts.append(f"the integration of {failed} failed, see `result`")
        return "; ".join(parts)


def random_velocities(
    params: PyTree, key: PRNGKeyLike, num_samples: int, speed: ScalarLike
) -> Params:
    """Return the velocities that `sample_minima` throws its particles with.

    Args:
        params: Where they start, any pytree of floats.
        key: PRNG key; particle i has the i-th of `jax.random.split(key, num_samples)`.
        num_samples: How many particles N.
        speed: Standard deviation of each entry, above 0.

    Returns:
        A pytree like `params` with a leading axis N, of independent normal entries.

    Raises:
        ValueError: If an argument is wrong; the message names it.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flows import random_velocities
        >>> random_velocities({"w": jnp.zeros((2, 2))}, jax.random.key(0), 5, 1.0)["w"].shape
        (5, 2, 2)
    """
    params, speed = as_params(params), positive("speed", speed)
    keys = jax.random.split(prng_key("key", key), positive_integer("num_samples", num_samples))
    return normal_velocities(params, keys, cast("speed", speed, jax.tree.leaves(params)[0].dtype))


def normal_velocities(params: Params, keys: Array, speed: Float[Array, ""]) -> Params:
    """Return normal velocities of this standard deviation, each drawn from its own key.

    One after the other: of a batch of keys, some generators (`rbg`) use only the first.
    """
    flat, unravel = ravel_pytree(params)
    return lax.map(
        lambda key: unravel(speed * jax.random.normal(key, flat.shape, flat.dtype)), keys
    )


class SettlingProblem(eqx.Module):
    """How particles are integrated and stopped.

    Attributes:
        flow: Their law of motion.
        potential: The loss.
        tolerance: Energy above the minimum at which a particle is at rest.
        max_time: The time at which a particle that still moves is given up.
        minimum: The smallest loss.
        solver: An ODE solver with an error estimate.
        controller: How its steps adapt.
        max_solver_steps: Bound on the solver steps of one particle.
    """

    flow: DissipativeFlow
    potential: Potential
    tolerance: Float[Array, ""]
    max_time: Float[Array, ""]
    minimum: Float[Array, ""]
    solver: diffrax.AbstractSolver
    controller: GuardedController
    max_solver_steps: int = eqx.field(static=True)

    def energy(self, state: DissipativeState) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return the energy above the minimum, and the loss, in one forward pass."""
        loss, slope = jax.jvp(self.potential, (state.position,), (state.velocity,))
        kinetic = (squared_norm(state.velocity) + slope**2) / 2
        return kinetic + self.flow.gravity.astype(loss.dtype) * (loss - self.minimum), loss

    def rests(self, energy: Float[Array, ""], loss: Float[Array, ""]) -> Bool[Array, ""]:
        """Return True if a particle is at rest: its energy is small, and its loss not too low.

        Where the loss falls below `minimum`, a moving particle has little energy too.
        """
        gravity, eps = self.flow.gravity.astype(loss.dtype), jnp.finfo(loss.dtype).eps
        excess = gravity * (loss - self.minimum)
        lowest = -(self.tolerance + 100 * eps * gravity * jnp.maximum(1, jnp.abs(self.minimum)))
        return (energy <= self.tolerance) & (excess >= lowest)

    @property
    def event(self) -> diffrax.Event:
        """The moment of rest; in float32, which has too few digits for it, the end of its step."""
        if self.tolerance.dtype == jnp.float64:
            # The sign of the slope is given, since the batch's other particles have no root.
            finder = optimistix.Bisection(rtol=0.0, atol=_MARGIN / 10, flip=True)
            return diffrax.Event(_log_excess, finder)
        return diffrax.Event(_below)

    def one(self, params: Params, velocity: Params) -> MinimaSamples:
        """Integrate one particle."""
        start = DissipativeState(params, velocity)
        # An event is a change of sign. A particle that is at rest from the start has none, and is
        # integrated over no time at all.
        resting = self.rests(*self.energy(start))
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(_field),
            self.solver,
            t0=jnp.zeros_like(self.max_time),
            t1=jnp.where(resting, 0, self.max_time),
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
        state = jax.tree.map(lambda x, y: jnp.where(resting, x, y[0]), start, solution.ys)
        result = choose(resting, RESULTS.event_occurred, solution.result)
        energy, loss = self.energy(state)
        return MinimaSamples(
            params=state.position,
            stopping_time=jnp.where(resting, 0, solution.ts[0]),
            loss=loss,
            energy=energy,
            converged=(result == RESULTS.event_occurred) & self.rests(energy, loss),
            result=result,
            stats=jax.tree.map(lambda x: jnp.where(resting, 0, x), self.stats(solution.stats)),
        )

    def stats(self, counted: Mapping[str, Any]) -> dict[str, Array]:
        """Return what a particle cost; without the gradients where their number is not known."""
        steps = counted["num_steps"]
        stats = {"solver_steps": steps, "rejected_steps": counted["num_rejected_steps"]}
        per_step = evaluations_per_step(self.solver)
        if per_step is not None:
            first = evaluations_at_start(self.solver, self.controller, None)
            cost = (self.flow.cost * (steps * per_step + first)).gradient_equivalents
            # The energy, a forward derivative, after each accepted step.
            stats["gradient_equivalents"] = cost + counted["num_accepted_steps"]
        return stats


def _field(t: RealScalarLike, state: DissipativeState, args: SettlingProblem) -> DissipativeState:
    return args.flow.vector_field(jnp.asarray(t), state, args.potential)


def _log_excess(t: Array, y: DissipativeState, args: SettlingProblem, **options: object) -> Array:
    """Return log(energy / tolerance), which falls about linearly, to 0 at the moment of rest."""
    del t, options
    energy, _ = args.energy(y)
    floor = jnp.asarray(jnp.finfo(energy.dtype).tiny, energy.dtype)
    return jnp.log(jnp.maximum(energy, floor) / args.tolerance) + _MARGIN


def _below(t: Array, y: DissipativeState, args: SettlingProblem, **options: object) -> Array:
    del t, options
    return args.energy(y)[0] <= args.tolerance
