"""The two-cycle on the quartic S w^2 / 2 - Q w^4 / 4: w^2 = (S - threshold) / Q on it.

Every optimizer here has it above its threshold; its rod flow has the fixed point w = 0 with that
variance.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

import flows
import potentials

from ..config.build import precision
from .checks import Measured, checks
from .motion import SUBSTEP, flow_step, optimizer_step, repeated
from .optimizers import NAMES, Optimizer, optimizer, rod_flow

# S - threshold: for gradient descent the three of arXiv 2602.01480, close to it and far above.
_EXCESSES = {"gradient descent": (0.01, 0.1, 0.5), "heavy ball": (0.1,), "Nesterov": (0.1,)}
_CASES = {
    f"{name}, S = threshold + {excess:g}": (name, excess)
    for name in NAMES
    for excess in _EXCESSES[name]
}
_QUARTIC = 1.0
_START = 0.05
# Momentum delays the growth of the oscillation from the start by up to ten times.
_STEPS = 20_000
_ROD_STEPS = 4_000


@checks(
    "two-cycle of the quartic",
    paper="arXiv 2602.01480",
    equation="w^2 = (S - threshold) / Q",
    tolerance=1e-6,
    cases=_CASES,
)
def discrete_two_cycle(name: str, excess: float) -> Measured:
    """Run the optimizer until its iterates repeat, and square them."""
    with precision("float64"):
        of = optimizer(name)
        curvature = float(of.critical_sharpness) + excess
        return Measured(float(cycle(of, _quartic(curvature))), excess / _QUARTIC)


@checks(
    "two-cycle of the rod flow",
    paper="arXiv 2602.01480",
    equation="w^2 = (S - threshold) / Q",
    tolerance=1e-6,
    cases=_CASES,
)
def rod_two_cycle(name: str, excess: float) -> Measured:
    """Run the rod flow until it rests, and read its variance in the parameter."""
    with precision("float64"):
        of = optimizer(name)
        curvature = float(of.critical_sharpness) + excess
        return Measured(float(variance(of, _quartic(curvature))), excess / _QUARTIC)


def _quartic(curvature: float) -> potentials.Quartic:
    return potentials.Quartic(curvature, _QUARTIC)


@eqx.filter_jit
def cycle(of: flows.AbstractOptimizer, potential: potentials.Quartic) -> Float[Array, ""]:
    """Return minus the product of the last two iterates: w^2, if one is the other's negative."""
    step = optimizer_step(of, potential)
    state = repeated(step, of.init(jnp.array([_START])), _STEPS)
    return -jnp.sum(of.params(state) * of.params(step(state)))


@eqx.filter_jit
def variance(of: Optimizer, potential: potentials.Quartic) -> Float[Array, ""]:
    """Return the variance of the parameter that the rod flow of an optimizer rests at."""
    flow = rod_flow(of)
    start = flow.init(potential, jnp.array([_START]))
    end = repeated(flow_step(flow, potential), start, round(_ROD_STEPS / SUBSTEP))
    assert isinstance(end, flows.DenseRodState)
    # Optimizer states begin with the parameters, in the order of `ravel_pytree`.
    return end.covariance[0, 0]
