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
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..core.trees import all_finite
from ..optimizers.phase_space import Point
from .state import Rods


class RodSlope(eqx.Module):
    """How the flow moves at a state.

    Attributes:
        velocity: dc/dt, (n,).
        mean: Fbar, (n,).
        spreads: D_i as rows, (r, n).
        stretch: The largest |D_i| / |d_i| of the rods that matter: eta times a curvature.
        points: At how many points the map and its derivative were evaluated.
        smooth: Whether the map's derivative is finite where the map is.
    """

    velocity: Point
    mean: Point
    spreads: Rods
    stretch: Float[Array, ""]
    points: Int[Array, ""]
    smooth: Bool[Array, ""]

    @property
    def sources(self) -> Float[Array, "source phase"]:
        """Rows Q, (r + 1, n), with dSigma/dt = Q^T Q - 2 Sigma."""
        half = jnp.asarray(0.5, self.mean.dtype)
        return jnp.sqrt(half) * jnp.concatenate([self.mean[None], self.spreads])


def rod_slope(increment: Callable[[Point], Point], centre: Point, rods: Rods) -> RodSlope:
    """Return how the flow moves.

    The points are evaluated one after the other: on a CPU a batch of gradients is slower than its
    members, and takes more memory everywhere. The derivative evaluates them anew, since its
    direction is known only after all of them: what it could share would have to be kept for each,
    and copying that takes longer. Among several, rods of length zero are passed over, and so is
    the centre where its weight is zero.

    Args:
        increment: F.
        centre: c.
        rods: d_i as rows.
    """
    count = rods.shape[0]
    squares = jnp.sum(rods**2, axis=1)
    # One rod stands for the whole map, also where it has no length.
    used = (squares > 0) | (count == 1)
    excess = 1 - jnp.sum(used.astype(centre.dtype))

    # One rod has no weight left for the centre, which is point 0.
    first = int(count == 1)

    def over_points(add: Callable[..., Any], like: Any) -> Any:
        """Sum over the points: `add(carry, point, weight, rod, sign)`, at the centre of sign 0.

        Args:
            add: From a carry to the next one.
            like: Arrays in whose place the carry, zero at first, may be put: XLA keeps zeros that
                it could make anew in memory for as long as the run takes.
        """

        def visit(carry: Any, which: Array) -> tuple[Any, None]:
            carry = jax.tree.map(lambda c: jnp.where(which == first, 0, c), carry)
            rod = jnp.maximum(which - 1, 0) // 2
            at_centre = which == 0
            sign = jnp.where(at_centre, 0, 1 - 2 * (which % 2)).astype(centre.dtype)
            weight = jnp.where(at_centre, excess, 0.5 * used[rod].astype(centre.dtype))

            def evaluate(carry: Any) -> Any:
                # Otherwise XLA computes the point anew wherever the map reads parameters.
                point = lax.optimization_barrier(centre + sign * rods[rod])
                return add(carry, point, weight, rod, sign)

            return lax.cond(weight != 0, evaluate, lambda carry: carry, carry), None

        points = jnp.arange(first, 2 * count + 1, dtype=jnp.int32)
        return lax.scan(visit, like, points)[0]

    def values(carry: Any, point: Point, weight: Array, rod: Array, sign: Array) -> Any:
        mean, spreads = carry
        value = increment(point)
        # No scatter, which takes as long as the map itself on a CPU.
        row = spreads[rod] + 0.5 * sign * value
        return mean + weight * value, lax.dynamic_update_index_in_dim(spreads, row, rod, 0)

    mean, spreads = over_points(values, (centre, rods))

    def changes(carry: Point, point: Point, weight: Array, *_: Array) -> Point:
        return carry + weight * jax.jvp(increment, (point,), (mean,))[1]

    change = over_points(changes, mean)
    # Rods much shorter than the longest tell little but the rounding of D_i.
    long = squares > 1e-6 * jnp.max(squares)
    stretches = jnp.sqrt(jnp.sum(spreads**2, axis=1) / jnp.where(long, squares, 1))
    points = 2 * jnp.sum(used, dtype=jnp.int32)
    if count > 1:
        points = points + (excess != 0).astype(jnp.int32)
    return RodSlope(
        velocity=mean - 0.5 * change,
        mean=mean,
        spreads=spreads,
        stretch=jnp.max(jnp.where(long, stretches, 0)),
        points=points,
        smooth=~is_rough(mean, change),
    )


def is_rough(move: Point, change: Point) -> Bool[Array, ""]:
    """Return whether the map's derivative `change` is not finite though its value `move` is.

    An overflow does not count: a step is then too long, and rejected.
    """
    moderate = jnp.max(jnp.abs(move)) < jnp.sqrt(jnp.finfo(move.dtype).max)
    return moderate & ~all_finite(change)
