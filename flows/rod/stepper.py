"""Steps of Rod Flow in which the covariance is only ever held as a factor of a few rows.

A Runge-Kutta stage is a linear combination of states and slopes. For the centre it is one of
vectors. For the covariance, sum_k w_k Sigma_k with Sigma' = Q^T Q - 2 Sigma is a sum of products
of rows with weights that may be negative; its best positive approximation of the factor's rank is
the stage. So the covariance is positive by construction, whatever the step.
"""

from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..core.arrays import ScalarLike
from ..linear_algebra.low_rank_sums import Rows, size_along, truncated
from ..optimizers.phase_space import Point
from ..solvers.chebyshev import chebyshev_step, stages_for
from .equation import RodSlope
from .state import LowRankRodState, flat_place, low_rank_state

_SAFETY = 1.1


class RodPoint(eqx.Module):
    """A low-rank state with its centre as a vector.

    Attributes:
        centre: c, (n,), followed by nu and the time where the state holds them.
        factor: Z, (rows, n).
    """

    centre: Point
    factor: Rows


Term = tuple[Array, RodPoint]
SlopeTerm = tuple[Array, RodSlope, RodPoint]
Field = Callable[[RodPoint], RodSlope]
BeyondCentre = Callable[[Array], Point]
"""An estimate of the slopes' `beyond_centre`, at a time after the start of the step."""


def _centre(states: Sequence[Term], slopes: Sequence[SlopeTerm]) -> Point:
    terms = [w * y.centre for w, y in states] + [w * f.velocity for w, f, _ in slopes]
    return sum(terms[1:], terms[0])


def _covariance(
    states: Sequence[Term], slopes: Sequence[SlopeTerm]
) -> tuple[list[Rows], list[Array]]:
    """Return blocks and weights of sum_k w_k Sigma_k + sum_k w_k dSigma_k/dt."""
    # The same factor often belongs to a state and to its slope: its weights are added up.
    factors: dict[int, tuple[Rows, Array]] = {}
    for weight, point in [*states, *((-2 * w, y) for w, _, y in slopes)]:
        _, before = factors.get(id(point.factor), (point.factor, jnp.zeros_like(weight)))
        factors[id(point.factor)] = (point.factor, before + weight)
    # The mean and the spreads are separate blocks: one block would be a copy of both.
    sources = [(rows, 0.5 * w) for w, f, _ in slopes for rows in (f.mean[None], f.spreads)]
    blocks, weights = zip(*factors.values(), *sources, strict=True)
    return list(blocks), list(weights)


def combined(states: Sequence[Term], slopes: Sequence[SlopeTerm]) -> RodPoint:
    """Return a linear combination of states, and of slopes (each with the state it belongs to)."""
    count = states[0][1].factor.shape[0]
    return RodPoint(_centre(states, slopes), truncated(*_covariance(states, slopes), count))


def error_of(states: Sequence[Term], slopes: Sequence[SlopeTerm], end: RodPoint) -> RodPoint:
    """Return a linear combination that estimates an error, as errors of the centre and the rods.

    An error E of Sigma is an error of the rods of relative size |E| / (2 |Sigma|). What truncation
    removes is orthogonal to the rods that are kept, and is no error of theirs: only the part of E
    along them counts.
    """
    factor = end.factor
    size = jnp.sqrt(jnp.sum(jnp.sum(factor**2, axis=1) ** 2))
    error = size_along(*_covariance(states, slopes), factor)
    relative = jnp.where(size > 0, 0.5 * error / jnp.where(size > 0, size, 1), 0)
    return RodPoint(_centre(states, slopes), relative * jnp.abs(factor))


class Stepped(eqx.Module):
    """A step that was taken.

    Attributes:
        point: Where it leads.
        slope: The slope there.
        error: Estimate of its error.
        values: At how many points the map was evaluated, and no derivative with it.
        derivatives: At how many points its derivative was.
        stable: True if it had enough stages for its length; otherwise its error is infinite.
    """

    point: RodPoint
    slope: RodSlope
    error: RodPoint
    values: Int[Array, ""]
    derivatives: Int[Array, ""]
    stable: Bool[Array, ""]


def bogacki_shampine(field: Field, step: Array, y0: RodPoint, f0: RodSlope) -> Stepped:
    """Take a step of the Runge-Kutta method of order 3(2) of Bogacki and Shampine (1989)."""

    def weight(value: float) -> Array:
        return jnp.asarray(value, step.dtype)

    one = weight(1.0)
    y1 = combined([(one, y0)], [(0.5 * step, f0, y0)])
    f1 = field(y1)
    y2 = combined([(one, y0)], [(0.75 * step, f1, y1)])
    f2 = field(y2)
    thirds = [(step * weight(w), f, y) for w, f, y in ((2 / 9, f0, y0), (1 / 3, f1, y1))]
    y3 = combined([(one, y0)], [*thirds, (step * weight(4 / 9), f2, y2)])
    f3 = field(y3)
    weights = (-5 / 72, 1 / 12, 1 / 9, -1 / 8)
    slopes = zip(weights, (f0, f1, f2, f3), (y0, y1, y2, y3), strict=True)
    error = error_of([(0 * one, y0)], [(step * weight(w), f, y) for w, f, y in slopes], y3)
    values, derivatives = f1.values + f2.values, f1.derivatives + f2.derivatives
    values, derivatives = values + f3.values, derivatives + f3.derivatives
    return Stepped(y3, f3, error, values, derivatives, jnp.asarray(True))


def stabilised(
    field: Callable[[RodPoint, Point | None], RodSlope],
    step: Array,
    y0: RodPoint,
    f0: RodSlope,
    most_stages: int,
    beyond_centre: BeyondCentre | None = None,
) -> Stepped:
    """Take a step of Runge-Kutta-Chebyshev, for maps whose derivative is symmetric.

    The centre's rate along a direction of curvature a / eta is a + a^2/2, 4 at the edge a = 2;
    where it is larger, the rods' stretch shows it.

    Args:
        field: The slope, from a known `beyond_centre` or exact.
        step: The length of the step.
        y0: Where it starts.
        f0: The slope there.
        most_stages: The bound on stages that the program is compiled for.
        beyond_centre: What the stages between the ends of the step suppose; None if they are exact.
    """
    stretch = jnp.maximum(f0.stretch, 2)
    wanted = stages_for(step, _SAFETY * (stretch + 0.5 * stretch**2))
    stages = jnp.clip(wanted, 2, most_stages).astype(jnp.int32)

    def combine(weights: Array, y: RodPoint, *others: Any) -> RodPoint:
        # The two combinations that `chebyshev_step` asks for.
        if len(others) == 1:
            return combined([(weights[0], y)], [(weights[1], others[0], y)])
        current, before, slope, first = others
        states = [(weights[0], y), (weights[1], current), (weights[2], before)]
        return combined(states, [(weights[3], slope, current), (weights[4], first, y)])

    zero = jnp.zeros_like(step)
    between = (lambda t: None) if beyond_centre is None else beyond_centre

    def stage(t: Array, y: RodPoint) -> RodSlope:
        return field(y, between(t))

    y1 = chebyshev_step(stage, zero, step, y0, f0, stages, most_stages, combine)
    f1 = field(y1, None)
    share, part = 0.8 * jnp.ones_like(step), 0.4 * step
    error = error_of([(share, y0), (-share, y1)], [(part, f0, y0), (part, f1, y1)], y1)
    values, derivatives = stages * f1.values, stages * f1.derivatives
    if beyond_centre is not None and f1.beyond_centre is not None:
        # What the stages supposed was right at the start: half of what it is off by at the end,
        # for half of the step, is the most that it has moved the centre by.
        missed = 0.25 * step * (f1.beyond_centre - beyond_centre(step))
        rest = jnp.zeros(error.centre.size - missed.size, missed.dtype)
        error = RodPoint(error.centre + jnp.concatenate([missed, rest]), error.factor)
        # A stage evaluates the map at the ends of the rods, and both at the centre.
        ends = f1.values - f1.values % 2
        values, derivatives = f1.values + (stages - 1) * ends, f1.derivatives + stages - 1
    stable = wanted <= most_stages
    error = jax.tree.map(lambda e: jnp.where(stable, e, jnp.inf), error)
    return Stepped(y1, f1, error, values, derivatives, stable)


class RodInterpolation(diffrax.AbstractLocalInterpolation):
    """Cubic Hermite interpolation of a step, of the covariance rather than of its factor.

    The rows of the factors at the two ends need not correspond.

    Attributes:
        t0: Start of the step.
        t1: End of the step.
        y0: The state at the start.
        y1: The state at the end.
        slopes: How the flow moves at both.
    """

    t0: Float[Array, ""]
    t1: Float[Array, ""]
    y0: LowRankRodState
    y1: LowRankRodState
    slopes: tuple[RodSlope, RodSlope]

    def evaluate(
        self, t0: ScalarLike, t1: ScalarLike | None = None, left: bool = True
    ) -> LowRankRodState:
        """Return the state at `t0`, or how much it changes from `t0` to `t1`."""
        if t1 is not None:
            return jax.tree.map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        (start, unravel), (end, _) = flat_place(self.y0), flat_place(self.y1)
        y0, y1 = RodPoint(start, self.y0.factor), RodPoint(end, self.y1.factor)
        length = self.t1 - self.t0
        x = (jnp.asarray(t0) - self.t0) / jnp.where(length == 0, jnp.ones_like(length), length)
        rise = x**2 * (3 - 2 * x)
        first, last = length * x * (1 - x) ** 2, length * x**2 * (x - 1)
        slopes = [(first, self.slopes[0], y0), (last, self.slopes[1], y1)]
        point = combined([(1 - rise, y0), (rise, y1)], slopes)
        return low_rank_state(unravel(point.centre), point.factor)
