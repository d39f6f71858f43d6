"""How Rod Flow moves: the optimizer's map averaged over the rods, and what it does to them.

For rods d_1 to d_r around a centre c and a map z -> z + F(z),

    Fbar = F(c) + sum_i [ (F(c + d_i) + F(c - d_i))/2 - F(c) ],
    D_i  = (F(c + d_i) - F(c - d_i))/2,
    JF   = the derivative of Fbar with c along Fbar, the rods held fixed,
    dc/dt = Fbar - JF/2,    dSigma/dt = (1/2) (Fbar Fbar^T + sum_i D_i D_i^T) - 2 Sigma.

For r = 1 it is the flow of arXiv 2602.01480 (2605.06821 with momentum): F(c) drops out, and
(1/2)(Fbar Fbar^T + D D^T) = (1/4)(F_+ F_+^T + F_- F_-^T).
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .phase_space import Point
from .rod_state import Rods

# Up to this size of phase space what the derivative shares with the map is kept from the map's
# evaluation, which saves a third of the work; beyond, it would take too much memory.
_KEPT_SIZE = 100_000


class RodSlope(eqx.Module):
    """How the flow moves at a state.

    Attributes:
        velocity: dc/dt, (n,).
        sources: Rows Q, (r + 1, n), with dSigma/dt = Q^T Q - 2 Sigma.
        stretch: The largest |D_i| / |d_i| of the rods that matter: eta times a curvature.
        points: At how many points the map and its derivative were evaluated.
    """

    velocity: Point
    sources: Float[Array, "source phase"]
    stretch: Float[Array, ""]
    points: Int[Array, ""]


def rod_slope(increment: Callable[[Point], Point], centre: Point, rods: Rods) -> RodSlope:
    """Return how the flow moves.

    The points are evaluated one after the other: on a CPU a batch of gradients is slower than its
    members, and takes more memory everywhere. Among several, rods of length zero are passed over.

    Args:
        increment: F.
        centre: c.
        rods: d_i as rows.
    """
    count = rods.shape[0]
    squares = jnp.sum(rods**2, axis=1)
    # One rod stands for the whole map, also where it has no length.
    used = (squares > 0) | (count == 1)

    def averaged(z: Point) -> tuple[Point, Rods]:
        """Return Fbar and the D_i for the rods around another centre."""

        def end(carry: tuple[Point, Rods], which: Array) -> tuple[tuple[Point, Rods], None]:
            def evaluate(carry: tuple[Point, Rods]) -> tuple[Point, Rods]:
                mean, spreads = carry
                rod = which // 2
                sign = (1 - 2 * (which % 2)).astype(z.dtype)
                half = 0.5 * increment(z + sign * rods[rod])
                return mean + half, spreads.at[rod].add(sign * half)

            return lax.cond(used[which // 2], evaluate, lambda carry: carry, carry), None

        start = (jnp.zeros_like(z), jnp.zeros_like(rods))
        if count > 1:
            excess = 1 - jnp.sum(used.astype(z.dtype))
            start = (excess * increment(z), start[1])
        ends = jnp.arange(2 * count, dtype=jnp.int32)
        return lax.scan(end, start, ends)[0]

    if centre.size <= _KEPT_SIZE:
        mean, derivative, spreads = jax.linearize(averaged, centre, has_aux=True)
        change = derivative(mean)
    else:
        mean, spreads = averaged(centre)
        change = jax.jvp(lambda z: averaged(z)[0], (centre,), (mean,))[1]
    # Rods much shorter than the longest tell little but the rounding of D_i.
    long = squares > 1e-6 * jnp.max(squares)
    stretches = jnp.sqrt(jnp.sum(spreads**2, axis=1) / jnp.where(long, squares, 1))
    points = 2 * jnp.sum(used.astype(jnp.int32)) + int(count > 1)
    return RodSlope(
        velocity=mean - 0.5 * change,
        sources=jnp.sqrt(jnp.asarray(0.5, mean.dtype)) * jnp.concatenate([mean[None], spreads]),
        stretch=jnp.max(jnp.where(long, stretches, 0)),
        points=points,
    )
