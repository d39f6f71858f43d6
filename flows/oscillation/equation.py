"""The right-hand side of the parity flow: the logarithm of the doubled map, as a series.

Any sequence is w_t = c_t + (-1)^t d_t, and an optimizer z' = z + F(z, t) moves the two parts by

    Phi:  c' = c + (F_+ + F_-)/2,    d' = -d - (F_+ - F_-)/2,    F_+- = F(c +- d, t),

exactly, from any split of its start. Where d holds all that flips from step to step, both parts are
slow, Phi is near the identity on them, and the flow whose map at time 1 is Phi is its logarithm:
with f = Phi - 1 and its forward differences along z, Phi z, Phi^2 z, ...

    dz/dt = f - (1/2) df + (1/3) d^2 f - ... = sum_j a_j f(Phi^j z),    z = (c, d).

Order p keeps p terms and costs 2 p evaluations of F. Its error is of order p in the slowness.
"""

import dataclasses
from collections.abc import Callable
from math import comb
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Real

from ..core.cost import Cost
from ..core.optimizer import AbstractOptimizer
from ..core.potential import Potential
from ..core.trees import add_scaled, dot, norm, scaled, squared_norm
from ..optimizers.phase_space import Point, increments_in_time
from .state import ParityState, PolarParityState

MOST_ORDER = 4

# What an odd function of d loses by cancellation is u/|d|, what its linear part leaves out is
# of the order of |d|^2: the two are equal here, relative to the size of the centre.
_LINEAR_BELOW = 1 / 3

# The logarithm of the fastest growth by rounding: far faster than any step resolves.
_LARGEST_SOURCE = 10.0

Increment = Callable[[Array, Point], Point]
Unravel = Callable[[Array], Point]
Halves = tuple[Point, Point]
Sums = tuple[Float[Array, "row phase"], ...]


def weights(order: int) -> np.ndarray:
    """Return a_0 to a_{p-1}, with which f(z), f(Phi z), ... make the flow of order p."""
    return np.array(
        [(-1) ** j * sum(comb(k - 1, j) / k for k in range(j + 1, order + 1)) for j in range(order)]
    )


def neglected_weights(order: int) -> np.ndarray:
    """Return the weights (p + 1,) of the first term that order p leaves out, d^p f / (p + 1)."""
    return np.array([(-1) ** (order - j) * comb(order, j) for j in range(order + 1)]) / (order + 1)


def stiffest_rate(order: int, multiplier: float) -> float:
    """Return the rate of the flow of order p along what Phi multiplies by a number per step."""
    return -sum((1 - multiplier) ** k / k for k in range(1, order + 1))


class ParityEquation(eqx.Module):
    """The right-hand side of the parity flow, in both forms of its state.

    Attributes:
        optimizer: The map that is doubled.
        order: p, how many terms of the series are kept, 1 to 4.
        noise: u, the unit roundoff of the discrete run whose rounding errors feed the oscillation;
            None for no source.
    """

    optimizer: AbstractOptimizer
    order: int = eqx.field(static=True)
    noise: float | None = eqx.field(static=True)

    def vector_field(
        self,
        t: Real[Array, ""] | float,
        state: ParityState | PolarParityState,
        potential: Potential,
    ) -> ParityState | PolarParityState:
        """Return the time derivative of a state."""
        if isinstance(state, PolarParityState):
            # As one of length 1, so that errors of the solver do not stretch it.
            direction = scaled(1 / norm(state.direction), state.direction)
            state = dataclasses.replace(state, direction=direction)
        _, unravel = ravel_pytree(state.centre)
        sums = self.combined(t, state, potential, weights(self.order)[None])
        centre, difference = (unravel(part[0]) for part in sums)
        passing = jnp.ones_like(state.time)
        if isinstance(state, ParityState):
            return ParityState(centre, difference, passing)
        # d moves by e^l times `difference`; rounding adds half its variance to the growth of l.
        along = dot(state.direction, difference)
        turning = add_scaled(difference, -along, state.direction)
        return PolarParityState(centre, turning, along + self._source(state), passing)

    def moves(self, t: Array, point: Halves, unravel: Unravel, potential: Potential) -> Halves:
        """Return f = Phi - 1 at a point in c and d, flat.

        Args:
            t: The time, in steps.
            point: c and d, (phase,) each.
            unravel: From a flat vector to the optimizer's state without its counters.
            potential: The loss.
        """
        moves = increments_in_time(self.optimizer, potential)
        increment: Increment = lambda time, z: ravel_pytree(moves(time, unravel(z)))[0]  # noqa: E731
        return _doubled_move(_halves(increment), t, point)

    def combined(
        self,
        t: Real[Array, ""] | float,
        state: ParityState | PolarParityState,
        potential: Potential,
        coefficients: Float[np.ndarray, "row map"],
    ) -> Sums:
        """Return sums of f(Phi^j z), a row for each row of coefficients.

        Args:
            t: The time, in steps.
            state: z.
            potential: The loss.
            coefficients: Of f(z), f(Phi z), ... in each sum.

        Returns:
            The sums' parts in c and in d, flat (row, phase); that in d is in units of the length of
            d for a `PolarParityState`.
        """
        centre, unravel = ravel_pytree(state.centre)
        moves = increments_in_time(self.optimizer, potential)

        def increment(time: Array, z: Point) -> Point:
            return ravel_pytree(moves(time, unravel(z)))[0]

        # On flat vectors: the sums are then a few operations, not as many for each leaf.
        if isinstance(state, ParityState):
            difference, halves = ravel_pytree(state.half_difference)[0], _halves(increment)
        else:
            difference = ravel_pytree(state.direction)[0]
            halves = _polar_halves(increment, state.log_length)

        def doubled(carry: tuple[Array, Halves, Sums], row: Array) -> tuple[Any, None]:
            time, (centre, difference), sums = carry
            move = _doubled_move(halves, time, (centre, difference))
            sums = tuple(s + row[:, None] * m[None] for s, m in zip(sums, move, strict=True))
            return (time + 1, (centre + move[0], difference + move[1]), sums), None

        zero = jnp.zeros((coefficients.shape[0], centre.size), centre.dtype)
        carry = (jnp.asarray(t, centre.dtype), (centre, difference), (zero, zero))
        (_, _, sums), _ = lax.scan(doubled, carry, jnp.asarray(coefficients.T, centre.dtype))
        return sums

    def _source(self, state: PolarParityState) -> Float[Array, ""]:
        """Return s^2 / (2 |d|^2), s^2 = u^2 sum_i (n_i c_i)^2 / 12 a step's rounding along n."""
        if self.noise is None:
            return jnp.zeros_like(state.log_length)
        along = jax.tree.map(jnp.multiply, state.direction, state.centre)
        # As one power, which overflows only where the source would leave no such length alone.
        logarithm = jnp.log(self.noise**2 / 24 * squared_norm(along)) - 2 * state.log_length
        return jnp.exp(jnp.minimum(logarithm, _LARGEST_SOURCE))

    @property
    def cost(self) -> Cost:
        """What an evaluation costs: the optimizer's step at 2 p points.

        In the polar form the map's derivative at p points comes on top of it while d is short,
        which is not counted.
        """
        return self.optimizer.cost * (2 * self.order)


def _doubled_move(halves: Callable[..., Halves], t: Array, point: Halves) -> Halves:
    """Return f = Phi - 1 in terms of F, without the cancellation of Phi z - z."""
    mean, half = halves(t, *point)
    return mean, -2 * point[1] - half


def _halves(increment: Increment) -> Callable[[Array, Point, Point], Halves]:
    """Return the function (t, c, d) -> (F_+ + F_-)/2, (F_+ - F_-)/2."""

    def halves(t: Array, centre: Point, difference: Point) -> Halves:
        # One after the other: a batch of two gradients is slower on a CPU, and takes more memory;
        # so do stacked results, which begin as zeros. What the loop begins with is not used.
        def end(ends: Halves, sign: Array) -> tuple[Halves, None]:
            return (ends[1], increment(t, centre + sign * difference)), None

        signs = jnp.asarray([1, -1], centre.dtype)
        (plus, minus), _ = lax.scan(end, (centre, difference), signs)
        return 0.5 * (plus + minus), 0.5 * (plus - minus)

    return halves


def _polar_halves(
    increment: Increment, log_length: Float[Array, ""]
) -> Callable[[Array, Point, Point], Halves]:
    """Return the same with d = e^l n, as a function (t, c, n), and the odd part in units of e^l."""

    def halves(t: Array, centre: Point, direction: Point) -> Halves:
        length = jnp.exp(log_length)
        # The mean loses nothing by cancellation, and what is of second order in d counts in it: it
        # is what pushes the centre back from the edge.
        mean, half = _halves(increment)(t, centre, length * direction)

        def by_derivative() -> Point:
            return jax.jvp(lambda z: increment(t, z), (centre,), (direction,))[1]

        below = jnp.finfo(centre.dtype).eps ** _LINEAR_BELOW * jnp.linalg.norm(centre)
        short = length * jnp.linalg.norm(direction) < below
        return mean, lax.cond(short, by_derivative, lambda: half / jnp.where(length > 0, length, 1))

    return halves
