"""The curvature above which a small oscillation grows: of each optimizer, and of its rod flow.

On a quadratic of curvature S both are homogeneous in the oscillation, so that how it grows does not
depend on its size. S is bisected on the sign of that growth, all in one compiled program.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

import flows
import potentials
from flows.core.schedules import late

from ..config.build import precision
from .checks import Measured, checks
from .motion import SUBSTEP, State, flow_step, optimizer_step, repeated
from .optimizers import NAMES, Optimizer, optimizer, rod_flow

# learning_rate * S: the thresholds lie between 4/3 and 4, whatever the momentum.
_BRACKET = (0.1, 10.0)
_HALVINGS = 40
# Until slower modes have decayed beside the one that grows or persists: near the threshold 0.9 per
# step of the heavy ball, exp(-0.19) per step of its rod flow.
_STEPS = 400
_ROD_STEPS = 100

_EQUATION = "2/eta; 2(1 + beta)/eta; 2(1 + beta)/((1 + 2 beta) eta)"

Growth: TypeAlias = Callable[[Optimizer, potentials.Quadratic], Float[Array, ""]]
"""From an optimizer and a quadratic: the logarithm by which an oscillation grows per step."""


@checks(
    "threshold of the discrete map",
    paper="arXiv 2103.00065",
    equation=_EQUATION,
    tolerance=1e-3,
    cases={name: (name,) for name in NAMES},
)
def discrete_threshold(name: str) -> Measured:
    """Bisect on how a perturbation of a quadratic's minimum grows."""
    with precision("float64"):
        return _compared(optimizer(name), iterates_growth)


@checks(
    "threshold of the rod flow",
    paper="arXiv 2605.06821",
    equation=_EQUATION,
    tolerance=1e-3,
    cases={name: (name,) for name in NAMES},
)
def rod_threshold(name: str) -> Measured:
    """Bisect on how the covariance of a rod around a quadratic's minimum grows."""
    with precision("float64"):
        return _compared(optimizer(name), covariance_growth)


def _compared(of: Optimizer, growth: Growth) -> Measured:
    return Measured(float(threshold(of, growth)), float(of.critical_sharpness))


@eqx.filter_jit
def threshold(of: Optimizer, growth: Growth) -> Float[Array, ""]:
    """Bisect the curvature of a quadratic between decay and growth.

    Args:
        of: The optimizer.
        growth: `iterates_growth`, or `covariance_growth`.

    Returns:
        The curvature at which nothing grows or decays.
    """

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        grows = growth(of, potentials.Quadratic(middle[None])) > 0
        return jnp.where(grows, low, middle), jnp.where(grows, middle, high)

    low, high = (bound / late("learning_rate", of.learning_rate) for bound in _BRACKET)
    low, high = lax.fori_loop(0, _HALVINGS, halve, (low, high))
    return (low + high) / 2


def iterates_growth(of: Optimizer, potential: potentials.Quadratic) -> Float[Array, ""]:
    """Return the logarithm by which the state's norm grows per step of the optimizer."""

    def size(state: Any) -> Float[Array, ""]:
        return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(state)))

    start = of.init(jnp.ones_like(potential.spectrum))
    return _growth(optimizer_step(of, potential), start, size, _STEPS) / _STEPS


def covariance_growth(of: Optimizer, potential: potentials.Quadratic) -> Float[Array, ""]:
    """Return the logarithm by which trace(Sigma) grows per step, with the centre at the minimum."""
    flow = rod_flow(of)
    start = flow.init(potential, jnp.ones_like(potential.spectrum))
    assert isinstance(start, flows.DenseRodState)
    start = flows.DenseRodState(jax.tree.map(jnp.zeros_like, start.centre), start.covariance)
    moves = round(_ROD_STEPS / SUBSTEP)

    def size(state: flows.DenseRodState) -> Float[Array, ""]:
        return jnp.trace(state.covariance)

    return _growth(flow_step(flow, potential), start, size, moves) / _ROD_STEPS


def _growth(
    move: Callable[[State], State],
    start: State,
    size: Callable[[State], Float[Array, ""]],
    moves: int,
) -> Float[Array, ""]:
    """Return the logarithm of the growth over that many moves, after as many that do not count."""

    def scaled(carry: tuple[State, Array]) -> tuple[State, Array]:
        # To size one at each move, so that nothing over- or underflows.
        state, total = carry
        state = move(state)
        grown = size(state)
        return jax.tree.map(lambda leaf: leaf / grown, state), total + jnp.log(grown)

    zero = jnp.zeros_like(size(start))
    state, _ = repeated(scaled, (start, zero), moves)
    return repeated(scaled, (state, zero), moves)[1]
