"""The slope of Rod Flow for adaptive methods, whose second moment nu is followed beside the rods.

The rods are those of w, or of w and the momentum m; nu, the average of squared gradients that a
step divides by, is a smooth companion (arXiv 2605.06821). With s = g^2, or |g|^2 where all
parameters share one nu,

    dnu/dt = rho (sbar - nu),    rho = (1 - b2) / b2,

where sbar is s averaged over the ends of the rods, as Fbar is. In fact nu alternates with the
iterates: with `alternation`, which is ours, the ends of a rod have

    nu_+- = nu +- kappa (s_+ - s_-)/2,    kappa = (1 - b2) / (1 + b2).

The map depends on nu and, through bias corrections and schedules, on the count of steps, which at
the middle of a rod is t + 1/2. Both move along while the centre does, so that the correction of the
centre is half of (d/dz Fbar . Fbar + d/dnu Fbar . dnu/dt + d/dt Fbar).
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from ..core.potential import Potential
from ..core.trees import Params
from ..optimizers.adaptive import (
    AbstractSecondMomentMethod,
    AdaptiveState,
    change_for,
)
from ..optimizers.phase_space import Point
from ..optimizers.second_moment import Average, FlatAverage

# How far the middle of a rod is behind its younger end, in steps.
MIDDLE = 0.5


class Surroundings(NamedTuple):
    """What the map of an adaptive method depends on besides the point z.

    Attributes:
        second_moment: nu, flat.
        time: t, in steps; None where the map does not depend on it.
    """

    second_moment: FlatAverage
    time: Float[Array, ""] | None


class RodMean(NamedTuple):
    """What a rod, or the centre, adds to the averages.

    Attributes:
        mean: Of F over the ends, (n,).
        spread: Half the difference of F, (n,).
        source: The mean of s, flat like nu.
    """

    mean: Point
    spread: Point
    source: FlatAverage


class AdaptiveMap(eqx.Module):
    """The map of an adaptive method on points z = w, or (w, m), for a given nu.

    Attributes:
        method: The optimizer.
        potential: The loss.
        unravel: From a vector (n,) to an `AdaptiveState` without nu and count.
        unravel_second_moment: From a vector to nu.
        alternation: True if the ends of a rod have a nu of their own.
    """

    method: AbstractSecondMomentMethod
    potential: Potential
    unravel: Callable[[Point], AdaptiveState] = eqx.field(static=True)
    unravel_second_moment: Callable[[FlatAverage], Average] = eqx.field(static=True)
    alternation: bool = eqx.field(static=True)

    def increment(self, z: Point, around: Surroundings) -> Point:
        """Return F."""
        return self._increment(z, self._gradient(z), around)

    def at_centre(self, z: Point, around: Surroundings) -> RodMean:
        """Return F and s at a point, as for a rod without length."""
        gradient = self._gradient(z)
        mean = self._increment(z, gradient, around)
        return RodMean(mean, jnp.zeros_like(mean), self._source(gradient))

    def of_rod(self, centre: Point, rod: Point, around: Surroundings) -> RodMean:
        """Return the averages over the two ends of a rod."""
        ends = centre + rod, centre - rod
        # Two gradients, one after the other: a batch of them is slower on a CPU.
        gradients = lax.map(self._gradient, jnp.stack(ends))
        plus, minus = (jax.tree.map(lambda x, i=i: x[i], gradients) for i in range(2))
        sources = self._source(plus), self._source(minus)
        nu = around.second_moment
        tilt = jnp.zeros_like(nu)
        if self.alternation:
            b2 = self.method.average.b2.astype(nu.dtype)
            tilt = 0.5 * (1 - b2) / (1 + b2) * (sources[0] - sources[1])
        forward = self._increment(ends[0], plus, Surroundings(nu + tilt, around.time))
        backward = self._increment(ends[1], minus, Surroundings(nu - tilt, around.time))
        return RodMean(
            0.5 * (forward + backward),
            0.5 * (forward - backward),
            0.5 * (sources[0] + sources[1]),
        )

    def rate(self, source: FlatAverage, nu: FlatAverage) -> FlatAverage:
        """Return dnu/dt."""
        b2 = self.method.average.b2.astype(nu.dtype)
        return (1 - b2) / b2 * (source - nu)

    def _gradient(self, z: Point) -> Params:
        return jax.grad(self.potential)(self.unravel(z).params)

    def _source(self, gradient: Params) -> FlatAverage:
        return ravel_pytree(self.method.average.source(gradient))[0]

    def _increment(self, z: Point, gradient: Params, around: Surroundings) -> Point:
        count = None if around.time is None else around.time + MIDDLE
        state = dataclasses.replace(self.unravel(z), count=count)
        nu = self.unravel_second_moment(around.second_moment)
        return ravel_pytree(change_for(self.method, state, gradient, nu))[0]


class AveragedMap(NamedTuple):
    """The map of an adaptive method averaged over rods, and how the average changes.

    Attributes:
        mean: Fbar, (n,).
        spreads: D_i as rows, (r, n).
        second_moment: dnu/dt, flat.
        change: The derivative of Fbar along the motion of the centre, nu and the time, (n,).
    """

    mean: Point
    spreads: Float[Array, "rod phase"]
    second_moment: FlatAverage
    change: Point


def averaged(
    adaptive: AdaptiveMap,
    centre: Point,
    rods: Float[Array, "rod phase"],
    used: Bool[Array, " rod"],
    around: Surroundings,
) -> AveragedMap:
    """Average an adaptive method's map over rods, one after the other.

    Args:
        adaptive: The map.
        centre: c.
        rods: d_i as rows.
        used: Which of them have a length.
        around: nu and the time.
    """
    excess = 1 - jnp.sum(used.astype(centre.dtype))

    def over_rods(
        visit: Callable[[Point], RodMean], middle: Callable[[], RodMean], like: RodMean
    ) -> tuple[RodMean, Float[Array, "rod phase"]]:
        """Sum over rods, with the centre for as many as there are more than one."""

        def one(total: RodMean, which: tuple[Point, Array]) -> tuple[RodMean, Point]:
            rod, counts = which

            def add() -> tuple[RodMean, Point]:
                part = visit(rod)
                return jax.tree.map(jnp.add, total, part), part.spread

            return lax.cond(counts, add, lambda: (total, jnp.zeros_like(rod)))

        total, spreads = lax.scan(one, like, (rods, used))
        if rods.shape[0] == 1:
            return total, spreads

        def add_middle() -> RodMean:
            return jax.tree.map(lambda x, y: x + excess * y, total, middle())

        return lax.cond(excess != 0, add_middle, lambda: total), spreads

    nothing = jnp.zeros_like(centre)
    zero = RodMean(nothing, nothing, jnp.zeros_like(around.second_moment))
    total, spreads = over_rods(
        lambda rod: adaptive.of_rod(centre, rod, around),
        lambda: adaptive.at_centre(centre, around),
        zero,
    )
    rate = adaptive.rate(total.source, around.second_moment)
    passing = None if around.time is None else jnp.ones_like(around.time)
    motion = total.mean, Surroundings(rate, passing)

    def changed(rod: Point) -> RodMean:
        return jax.jvp(lambda z, s: adaptive.of_rod(z, rod, s), (centre, around), motion)[1]

    def changed_middle() -> RodMean:
        return jax.jvp(adaptive.at_centre, (centre, around), motion)[1]

    change, _ = over_rods(changed, changed_middle, zero)
    return AveragedMap(total.mean, spreads, rate, change.mean)
