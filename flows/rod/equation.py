"""The right-hand side of Rod Flow: the optimizer's map averaged over the ends of the rods.

For rods d_1 to d_r around a centre c and a map z -> z + F(z),

    Fbar = F(c) + sum_i [ (F(c + d_i) + F(c - d_i))/2 - F(c) ],
    D_i  = (F(c + d_i) - F(c - d_i))/2,
    JF   = the derivative of Fbar with respect to c along Fbar, with the rods held fixed,
    dc/dt = Fbar - JF/2,    dSigma/dt = (1/2) (Fbar Fbar^T + sum_i D_i D_i^T) - 2 Sigma.

For r = 1 this is the flow of arXiv 2602.01480 (2605.06821 with momentum): F(c) drops out, and
(1/2)(Fbar Fbar^T + D D^T) = (1/4)(F_+ F_+^T + F_- F_-^T).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree, Real

from ..core.arrays import ScalarLike
from ..core.compilation import traced_once
from ..core.cost import Cost
from ..core.optimizer import AbstractOptimizer
from ..core.potential import Potential
from ..core.trees import all_finite
from ..linear_algebra.low_rank_sums import inner_products
from ..linear_algebra.symmetric import positive_part
from ..optimizers.adaptive import AbstractSecondMomentMethod
from ..optimizers.phase_space import Point, increments, increments_in_time
from .averages import MIDDLE, AdaptiveMap, Surroundings, averaged
from .state import DenseRodState, Rods, RodState, flat_centre, flat_place, low_rank_state

Rank = int | Literal["auto"]

Increment = Callable[[Point, Float[Array, ""] | None], Point]
"""F(z, t), with None for the time where nothing depends on it."""

# What `rank="auto"` may keep.
MOST_RODS = 8

# Relative to the longest row of a factor: how long the others are at the start, and below which
# length rows count as zero in the tangent field.
SHORT = {"float32": 1e-3, "float64": 1e-6}


class RodSlope(eqx.Module):
    """How Rod Flow moves at a state, before that is written in one of the state's two forms.

    Attributes:
        velocity: dc/dt, (n,), followed by dnu/dt for an adaptive method, and by 1 for the time
            where the state holds it.
        mean: Fbar, (n,).
        spreads: D_i as rows, (r, n).
        stretch: The largest |D_i| / |d_i| of the rods that matter: eta times a curvature.
        values: At how many points the map was evaluated, and no derivative with it.
        derivatives: At how many points its derivative was.
        smooth: True if the map's derivative is finite where the map is.
        beyond_centre: JF - DF(c) Fbar, what the ends of the rods add to the derivative, (n,), if
            it was asked for; otherwise None.
    """

    velocity: Point
    mean: Point
    spreads: Rods
    stretch: Float[Array, ""]
    values: Int[Array, ""]
    derivatives: Int[Array, ""]
    smooth: Bool[Array, ""]
    beyond_centre: Point | None = None

    @property
    def sources(self) -> Float[Array, "source phase"]:
        """Rows Q, (r + 1, n), with dSigma/dt = Q^T Q - 2 Sigma."""
        half = jnp.asarray(0.5, self.mean.dtype)
        return jnp.sqrt(half) * jnp.concatenate([self.mean[None], self.spreads])


class RodEquation(eqx.Module):
    """The right-hand side of Rod Flow, which its vector field and its solver both evaluate.

    Attributes:
        optimizer: The map that is averaged.
        rank: How many rods there are, or "auto" for as many as carry `share` of trace(Sigma).
        share: The share that they carry, at least 0 and below 1.
        alternation: True if nu of an adaptive method differs at the ends of a rod.
    """

    optimizer: AbstractOptimizer
    rank: Rank = eqx.field(static=True)
    share: Float[Array, ""]
    alternation: bool = eqx.field(static=True, default=False)

    failures: ClassVar[tuple[str, ...]] = (
        "the directional derivative DF . F of the optimizer's map at the rods is not finite though "
        "the map is: the optimizer or the potential is not smooth there",
    )

    def count(self, size: int) -> int:
        """Return how many rods a state in a phase space of dimension `size` has.

        Raises:
            ValueError: If the rank is above that dimension.
        """
        if self.rank == "auto":
            return min(MOST_RODS, size)
        if self.rank > size:
            raise ValueError(
                "rank must be at most the dimension of the optimizer's phase space, "
                f"{size}; got {self.rank}."
            )
        return self.rank

    def rods(self, state: RodState, *, ordered: bool = False) -> Rods:
        """Return the rods d_i as rows, longest first, (rod, n); `ordered` as for `slope`."""
        count = self.count(flat_centre(state)[0].size)
        values, trace, rods = state.spectrum(count, ordered=ordered)
        if self.rank != "auto":
            return rods
        # Rod i + 1 is kept where i rods leave more than 1 - share; fully where twice as much.
        trace = jnp.where(trace > 0, trace, 1)
        left = jnp.concatenate([jnp.ones_like(values[:1]), 1 - jnp.cumsum(values[:-1]) / trace])
        left = jnp.concatenate([jnp.ones_like(left[:1]), left[:-1]])
        fade = jnp.clip(left / (1 - self.share.astype(left.dtype)) - 1, 0, 1)
        return jnp.sqrt(jnp.where(fade > 0, fade, 1))[:, None] * jnp.where(
            fade[:, None] > 0, rods, 0
        )

    def slope(
        self,
        state: RodState,
        potential: Potential,
        *,
        ordered: bool = False,
        beyond_centre: Point | Literal["ask"] | None = None,
    ) -> RodSlope:
        """Return how the centre moves and what feeds the covariance.

        Args:
            state: Where.
            potential: The loss.
            ordered: True if the rows of a factor are known to be orthogonal, longest first.
            beyond_centre: What the ends of the rods add to the derivative JF, if it is known well
                enough: then only that at the centre is evaluated. "ask" to have it in the result.
                Neither for a method with a second moment of its own.
        """
        centre, _ = flat_centre(state)
        rods = self.rods(state, ordered=ordered)
        if state.second_moment is None:
            increment = self.increment(state, potential)
            if beyond_centre is None or isinstance(beyond_centre, str):
                asked = beyond_centre is not None
                slope = rod_slope(increment, centre, rods, state.time, asked)
            else:
                slope = rod_slope_from_centre(increment, centre, rods, state.time, beyond_centre)
        else:
            used, _ = _used(rods)
            adaptive, around = self._adaptive(state, potential)
            slope = adaptive_slope(adaptive, centre, rods, used, around)
        if state.time is None:
            return slope
        passing = jnp.ones(1, slope.velocity.dtype)
        return eqx.tree_at(lambda s: s.velocity, slope, jnp.concatenate([slope.velocity, passing]))

    def increment(self, state: RodState, potential: Potential) -> Increment:
        """Return F as a function of the point and the time, for the nu of a state."""
        _, unravel = flat_centre(state)
        if state.second_moment is not None:
            adaptive, around = self._adaptive(state, potential)
            return lambda z, t: adaptive.increment(z, around._replace(time=t))
        if state.time is None:
            still = increments(self.optimizer, potential, unravel)
            return lambda z, t: still(z)
        moves = increments_in_time(self.optimizer, potential)

        def between(z: Point, t: Float[Array, ""] | None) -> Point:
            assert t is not None
            return ravel_pytree(moves(t + MIDDLE, unravel(z)))[0]

        return between

    def _adaptive(self, state: RodState, potential: Potential) -> tuple[AdaptiveMap, Surroundings]:
        """Return the map of an adaptive method, and what it depends on at a state."""
        assert isinstance(self.optimizer, AbstractSecondMomentMethod)
        _, unravel = flat_centre(state)
        nu, unravel_second_moment = ravel_pytree(state.second_moment)
        adaptive = AdaptiveMap(
            self.optimizer, potential, unravel, unravel_second_moment, self.alternation
        )
        return adaptive, Surroundings(nu, state.time)

    @traced_once
    def vector_field(
        self, t: Real[Array, ""] | float, state: RodState, potential: Potential
    ) -> RodState:
        """Return dc/dt, with dSigma/dt or the velocity of a factor of Sigma.

        A factor moves as Z' = (Z Z^T)^+ Z M (I - Pi/2) - Z with M = dSigma/dt + 2 Sigma and Pi the
        projection on the rows of Z, so that (Z^T Z)' is dSigma/dt projected on the matrices of
        that rank near Sigma. It is stiff while some rows are much shorter than others.
        """
        del t
        slope = self.slope(state, potential)
        place, sources = flat_place(state)[1](slope.velocity), slope.sources
        if isinstance(state, DenseRodState):
            feed = jnp.matmul(sources.T, sources, precision="highest")
            velocity, growth, passing = place
            return DenseRodState(velocity, feed - 2 * state.covariance, growth, passing)
        rows = state.factor
        gram = inner_products(rows, rows)
        short = SHORT[str(rows.dtype)] ** 2 * jnp.trace(gram)
        tiny = jnp.finfo(rows.dtype).tiny
        gram = gram + (short + tiny) * jnp.eye(rows.shape[0], dtype=rows.dtype)
        weights = jnp.linalg.solve(gram, inner_products(rows, sources))
        own = 0.5 * jnp.matmul(weights.T, rows, precision="highest")
        turned = jnp.matmul(weights, sources - own, precision="highest")
        return low_rank_state(place, turned - rows)

    def project(self, state: RodState, potential: Potential) -> tuple[RodState, Int[Array, ""]]:
        """Make Sigma symmetric and positive; a factor of it stays as it is.

        Returns:
            The state, and 1 where the optimizer's map has a value but no derivative, else 0.
        """
        if isinstance(state, DenseRodState):
            state = dataclasses.replace(state, covariance=positive_part(state.covariance))
        centre, _ = flat_centre(state)
        increment = self.increment(state, potential)
        move = increment(centre, state.time)
        change = jax.jvp(lambda z: increment(z, state.time), (centre,), (move,))[1]
        return state, (all_finite(state) & _is_rough(move, change)).astype(jnp.int32)

    @eqx.filter_jit
    def bends(
        self, state: RodState, potential: Potential
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return |(F(c + d) + F(c - d))/2 - F(c)| / |D| for the longest rod d, and for d/2.

        D = (F(c + d) - F(c - d))/2 in both; they are 0 where that is.
        """
        centre, _ = flat_centre(state)
        increment, rod = self.increment(state, potential), self.rods(state)[0]
        points = jnp.asarray([0, 1, -1, 0.5, -0.5], centre.dtype)
        values = lax.map(lambda x: increment(centre + x * rod, state.time), points)
        spread = jnp.linalg.norm(0.5 * (values[1] - values[2]))
        means = 0.5 * (values[1] + values[2]), 0.5 * (values[3] + values[4])
        bends = [jnp.linalg.norm(mean - values[0]) for mean in means]
        scale = jnp.where(spread > 0, spread, jnp.inf)
        return bends[0] / scale, bends[1] / scale

    def cost_of(self, values: ScalarLike, derivatives: ScalarLike) -> Cost:
        """Return what values and derivatives of the map cost."""
        gradients = self.optimizer.cost.gradients
        return Cost(gradients=gradients) * values + Cost(hvps=gradients) * derivatives

    @property
    def cost(self) -> Cost | None:
        """The map and a derivative at each end of the rods; None for "auto", where it varies."""
        if self.rank == "auto":
            return None
        points = 2 * self.rank + (self.rank > 1)
        return self.cost_of(points, points)


def rod_slope(
    increment: Increment,
    centre: Point,
    rods: Rods,
    time: Float[Array, ""] | None = None,
    asked: bool = False,
) -> RodSlope:
    """Return how the centre and the covariance move, for a map and given rods.

    The points are evaluated one after the other: on a CPU a batch of gradients is slower than its
    members, and it takes more memory everywhere. The derivative evaluates them a second time, since
    its direction is known only after all of them: what it could share would have to be kept for
    each, and copying that takes longer. Among several, rods of length zero are passed over, and so
    is the centre where its weight is zero.

    Args:
        increment: F(z, t).
        centre: c.
        rods: d_i as rows.
        time: t, if F depends on it.
        asked: True if the result is to hold what the ends add to the derivative at the centre.
    """
    used, excess = _used(rods)
    ends = 2 * jnp.sum(used, dtype=jnp.int32)
    # The centre has no weight where there is one rod.
    several = rods.shape[0] > 1
    mean, spreads = _averaged(increment, centre, rods, time, with_centre=several)

    def changes(carry: Any, point: Point, weight: Array, rod: Array, sign: Array) -> Any:
        change = _derivative(increment, point, time, mean)
        if not asked:
            return carry + weight * change
        total, at_centre = carry
        total = jnp.where(weight == 0, total, total + weight * change)
        return total, jnp.where(sign == 0, change, at_centre)

    like = (mean, mean) if asked else mean
    found = _over_points(changes, like, centre, rods, with_centre=several or asked, always=asked)
    middle = (excess != 0).astype(jnp.int32) if several else jnp.zeros_like(ends)
    derivatives = ends + (1 if asked else middle)
    change, at_centre = found if asked else (found, None)
    slope = _slope(mean, spreads, change, rods, ends + middle, derivatives)
    if at_centre is None:
        return slope
    smooth = slope.smooth & ~_is_rough(mean, at_centre)
    return dataclasses.replace(slope, smooth=smooth, beyond_centre=change - at_centre)


def rod_slope_from_centre(
    increment: Increment,
    centre: Point,
    rods: Rods,
    time: Float[Array, ""] | None,
    beyond_centre: Point,
) -> RodSlope:
    """Return the same as `rod_slope` where what the ends add to the derivative is known.

    The derivative is evaluated at the centre alone, together with the map.

    Args:
        increment: F(z, t).
        centre: c.
        rods: d_i as rows.
        time: t, if F depends on it.
        beyond_centre: JF - DF(c) Fbar, (n,).
    """
    used, excess = _used(rods)
    mean, spreads = _averaged(increment, centre, rods, time, with_centre=False)
    if rods.shape[0] == 1:
        # The value has no weight, and what it leaves for the derivative would fill memory.
        change = _derivative(increment, centre, time, mean)
    elif time is None:
        value, along = jax.linearize(lambda z: increment(z, None), centre)
        mean = mean + excess * value
        change = along(mean)
    else:
        value, along = jax.linearize(increment, centre, time)
        mean = mean + excess * value
        change = along(mean, jnp.ones_like(time))
    change = change + beyond_centre
    ends = 2 * jnp.sum(used, dtype=jnp.int32)
    slope = _slope(mean, spreads, change, rods, ends, jnp.ones_like(ends))
    return dataclasses.replace(slope, beyond_centre=beyond_centre)


def _used(rods: Rods) -> tuple[Bool[Array, " rod"], Float[Array, ""]]:
    """Return which rods have ends of their own, and the weight of the centre."""
    # A single rod is used even where it has no length: its two ends are the only points.
    used = (jnp.sum(rods**2, axis=1) > 0) | (rods.shape[0] == 1)
    return used, 1 - jnp.sum(used.astype(rods.dtype))


def _derivative(
    increment: Increment, point: Point, time: Float[Array, ""] | None, direction: Point
) -> Point:
    """Return the derivative of a map at a point along a direction, and along the time."""
    if time is None:
        return jax.jvp(lambda z: increment(z, None), (point,), (direction,))[1]
    return jax.jvp(increment, (point, time), (direction, jnp.ones_like(time)))[1]


def _averaged(
    increment: Increment,
    centre: Point,
    rods: Rods,
    time: Float[Array, ""] | None,
    *,
    with_centre: bool,
) -> tuple[Point, Rods]:
    """Return Fbar, with or without the part of the centre, and the D_i."""

    def values(
        carry: tuple[Point, Rods], point: Point, weight: Array, rod: Array, sign: Array
    ) -> tuple[Point, Rods]:
        mean, spreads = carry
        value = increment(point, time)
        # No scatter, which takes as long as the map itself on a CPU.
        row = spreads[rod] + 0.5 * sign * value
        return mean + weight * value, lax.dynamic_update_index_in_dim(spreads, row, rod, 0)

    return _over_points(values, (centre, rods), centre, rods, with_centre=with_centre)


def _over_points(
    add: Callable[..., Any],
    like: PyTree[Array],
    centre: Point,
    rods: Rods,
    *,
    with_centre: bool,
    always: bool = False,
) -> Any:
    """Sum over the centre and the ends of the rods.

    Args:
        add: From a carry to the next one: `add(carry, point, weight, rod, sign)`, with sign 0 at
            the centre.
        like: Arrays whose memory the carry, zero at first, may take over: XLA keeps constant zeros
            in memory for as long as the run takes.
        centre: c, which is point 0.
        rods: d_i as rows.
        with_centre: True if it is visited, before the ends.
        always: True if that holds where its weight is zero too.
    """
    used, excess = _used(rods)
    first = int(not with_centre)

    def visit(carry: Any, which: Array) -> tuple[Any, None]:
        carry = jax.tree.map(lambda c: jnp.where(which == first, 0, c), carry)
        rod = jnp.maximum(which - 1, 0) // 2
        at_centre = which == 0
        sign = jnp.where(at_centre, 0, 1 - 2 * (which % 2)).astype(centre.dtype)
        weight = jnp.where(at_centre, excess, 0.5 * used[rod].astype(centre.dtype))

        def evaluate(carry: Any) -> Any:
            # Otherwise XLA computes the point again wherever the map reads parameters.
            point = lax.optimization_barrier(centre + sign * rods[rod])
            return add(carry, point, weight, rod, sign)

        due = (weight != 0) | (at_centre & always)
        return lax.cond(due, evaluate, lambda carry: carry, carry), None

    points = jnp.arange(first, 2 * rods.shape[0] + 1, dtype=jnp.int32)
    return lax.scan(visit, like, points)[0]


def adaptive_slope(
    adaptive: AdaptiveMap,
    centre: Point,
    rods: Rods,
    used: Bool[Array, " rod"],
    around: Surroundings,
) -> RodSlope:
    """Return the slope for an adaptive method, with dnu/dt after dc/dt; see `averages`."""
    found = averaged(adaptive, centre, rods, used, around)
    points = 2 * jnp.sum(used, dtype=jnp.int32)
    if rods.shape[0] > 1:
        points = points + (points != 2).astype(jnp.int32)
    slope = _slope(found.mean, found.spreads, found.change, rods, points, points)
    velocity = jnp.concatenate([slope.velocity, found.second_moment])
    return eqx.tree_at(lambda s: s.velocity, slope, velocity)


def _slope(
    mean: Point,
    spreads: Rods,
    change: Point,
    rods: Rods,
    values: Int[Array, ""],
    derivatives: Int[Array, ""],
) -> RodSlope:
    squares = jnp.sum(rods**2, axis=1)
    # The D_i of rods that are much shorter than the longest are mostly rounding errors.
    long = squares > 1e-6 * jnp.max(squares)
    stretches = jnp.sqrt(jnp.sum(spreads**2, axis=1) / jnp.where(long, squares, 1))
    return RodSlope(
        velocity=mean - 0.5 * change,
        mean=mean,
        spreads=spreads,
        stretch=jnp.max(jnp.where(long, stretches, 0)),
        values=values,
        derivatives=derivatives,
        smooth=~_is_rough(mean, change),
    )


def _is_rough(move: Point, change: Point) -> Bool[Array, ""]:
    """Return True if the map's derivative `change` is not finite though its value `move` is.

    An overflow does not count: the step is then too long, and is rejected.
    """
    moderate = jnp.max(jnp.abs(move)) < jnp.sqrt(jnp.finfo(move.dtype).max)
    return moderate & ~all_finite(change)
