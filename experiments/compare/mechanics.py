"""Particles of dissipative mechanics beside what is known of them: a limit, and an angle."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

import flows
from flows import Potential

SAVES = 101
"""How many points of a path are stored, at equal times from its start to its end."""
RTOL, ATOL = 1e-9, 1e-12
"""Tolerances of the solver of paths."""
MAX_SOLVER_STEPS = 10**5
"""More than any path takes that a solver can follow, or any particle that comes to rest."""


class OverdampedPaths(NamedTuple):
    """Paths of the mechanics for several frictions, and that of their limit.

    Attributes:
        limit: The limit's path.
        paths: Those of the mechanics.
        limit_whole: True if the solver followed the limit to its end.
        whole: The same for each friction.
    """

    limit: Float[Array, "time parameter"]
    paths: Float[Array, "friction time parameter"]
    limit_whole: Bool[Array, ""]
    whole: Bool[Array, " friction"]


@eqx.filter_jit
def overdamped_paths(
    potential: Potential,
    gravity: Float[Array, ""],
    start: Float[Array, " parameter"],
    velocity: Float[Array, " parameter"],
    horizon: Float[Array, ""],
    frictions: Float[Array, " friction"],
) -> OverdampedPaths:
    """Integrate dissipative mechanics up to the time friction * horizon, and its overdamped limit.

    In the time s = t / friction the limit is dw/ds = -gravity g / (1 + |g|^2), with the gradient g:
    the equation of motion of arXiv 2605.15459 with the inertia as the small term.

    Args:
        potential: The loss.
        gravity: Weight of the loss in the energy.
        start: Where all particles start.
        velocity: Their initial velocity.
        horizon: s at the end.
        frictions: Viscous coefficients.
    """

    def solve(field: Callable[..., Any], state: Any, factor: Array) -> diffrax.Solution:
        # Friction makes the velocity stiff: over a given time s an explicit solver's steps are as
        # the square of the friction, while an implicit one takes fewer for a larger friction.
        end = factor * horizon
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Kvaerno5(),
            t0=0.0,
            t1=end,
            dt0=None,
            y0=state,
            args=potential,
            stepsize_controller=diffrax.PIDController(rtol=RTOL, atol=ATOL),
            saveat=diffrax.SaveAt(ts=end * jnp.linspace(0.0, 1.0, SAVES)),
            max_steps=MAX_SOLVER_STEPS,
            throw=False,
        )

    def limit(s: Any, w: Array, args: Potential) -> Array:
        gradient = jax.grad(args)(w)
        return -gravity * gradient / (1 + gradient @ gradient)

    def is_whole(solution: diffrax.Solution, path: Array) -> Array:
        return (solution.result == diffrax.RESULTS.successful) & jnp.isfinite(path).all()

    def one(friction: Array) -> tuple[Array, Array]:
        flow = flows.DissipativeFlow(gravity, flows.Viscous(friction))
        solution = solve(flow.vector_field, flows.DissipativeState(start, velocity), friction)
        assert solution.ys is not None
        return solution.ys.position, is_whole(solution, solution.ys.position)

    limiting = solve(limit, start, jnp.ones_like(horizon))
    assert limiting.ys is not None
    paths, whole = jax.vmap(one)(frictions)
    return OverdampedPaths(limiting.ys, paths, is_whole(limiting, limiting.ys), whole)


@eqx.filter_jit
def turned_angles(
    flow: flows.DissipativeFlow,
    potential: Potential,
    start: Float[Array, " 2"],
    velocities: Float[Array, "sample 2"],
    times: Float[Array, " sample"],
) -> Float[Array, " sample"]:
    """Return the angles by which particles turn around the origin, turns counted.

    Each is integrated beside its particle, phi' = (x v - y u) / (x^2 + y^2), so that no turn can be
    missed.

    Args:
        flow: The mechanics.
        potential: A loss of two parameters.
        start: Where all particles start.
        velocities: Their initial velocities.
        times: Until when each is followed.

    Returns:
        The angles in radians; nan where the integration failed.
    """
    solver, controller = flow.integrator(start.dtype)

    def field(t: Any, state: Any, args: Potential) -> Any:
        particle, _ = state
        (x, y), (u, v) = particle.position, particle.velocity
        return flow.vector_field(t, particle, args), (x * v - y * u) / (x**2 + y**2)

    def one(velocity: Array, time: Array) -> Array:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            solver,
            t0=jnp.zeros_like(time),
            t1=time,
            dt0=None,
            y0=(flows.DissipativeState(start, velocity), jnp.zeros((), start.dtype)),
            args=potential,
            stepsize_controller=controller,
            max_steps=MAX_SOLVER_STEPS,
            throw=False,
        )
        assert solution.ys is not None
        return jnp.where(solution.result == flows.RESULTS.successful, solution.ys[1][0], jnp.nan)

    return jax.vmap(one)(velocities, times)
