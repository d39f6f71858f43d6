"""Gradient glass against an exact count, and Alice's basin and decay against closed forms."""

import dataclasses
import math

import diffrax
import jax
import jax.numpy as jnp

import flows
from flows.glass.crossings import jump_density
from flows.glass.density import LOSS_CHANGE, rademacher
from potentials import MLP, SupervisedPotential, mse

from ..config.build import precision
from .checks import Measured, checks

_PAPER = "arXiv 2411.16914"
_EXAMPLES, _LENGTH, _PROBES = 400, 3e-3, 16
# h and rho keep their values.
_KEPT = 1 - 1e-15
_RHO = 2.0


def _bowl(params: jax.Array) -> jax.Array:
    return 4 * jnp.sum(params**2)


_CURVATURE = 8.0


def _alice(b1: float) -> flows.Alice:
    return flows.Alice(1e-3, b1=b1, b2=_KEPT, hessian="none", clip="none")


@checks(
    "density of gradient glass, first weights",
    paper=_PAPER,
    equation="squared jumps of the gradient per length",
    tolerance=0.25,
    cases={f"N = {_EXAMPLES}": ()},
)
@precision("float64")
def density() -> Measured:
    """Compare the estimate with an exact count of the boundaries along the same probes."""
    keys = jax.random.split(jax.random.key(1), 3)
    network = MLP((6, 16, 3), "relu", key=keys[2])
    inputs, targets = (
        jax.random.normal(key, (_EXAMPLES, size)) for key, size in zip(keys, (6, 3), strict=False)
    )
    potential = SupervisedPotential(network, inputs, targets, mse)
    found = flows.glass_density(potential, potential.params, _LENGTH, probes=_PROBES)
    exact = 0.0
    probes = rademacher(0, potential.params, _PROBES)
    for i in range(_PROBES):
        probe = jax.tree.map(lambda x, i=i: x[i], probes)
        counted = jump_density(potential, potential.params, probe, _LENGTH)
        exact += float(jnp.sum(jax.tree.leaves(counted)[0])) / _PROBES
    return Measured(float(jnp.sum(jax.tree.leaves(found.density)[0])), exact)


@checks(
    "half-length of the two-cycle that bounds Alice's basin",
    paper=_PAPER,
    equation="phi s^2/2, s = b/(phi lambda/2 - h)",
    tolerance=1e-6,
    cases={f"phi = {phi:g}": (phi,) for phi in (0.5, 1.0)},
)
@precision("float64")
def basin(phi: float) -> Measured:
    """Bisect the start from which the steps of Alice on a bowl neither shrink nor grow."""
    method = _alice(1 - phi)

    @jax.jit
    def end(start: jax.Array) -> jax.Array:
        state = flows.AliceFlow(method).init(_bowl, start)
        state = dataclasses.replace(state, density=jnp.full_like(start, _RHO))
        delta = method.displacement(state, 0.0)
        state = dataclasses.replace(
            state,
            params=start + method.share * delta,
            ahead=start + method.omega * delta,
            count=jnp.asarray(1),
        )
        state = jax.lax.fori_loop(0, 60, lambda _, s: method.step(s, _bowl), state)
        return jnp.abs(state.params[0])

    predicted = phi / 2 * (1.5 * LOSS_CHANGE * math.sqrt(_RHO) / (phi * _CURVATURE / 2)) ** 2
    low, high = 0.5 * predicted, 2 * predicted
    for _ in range(40):
        middle = 0.5 * (low + high)
        # One that diverges has left every number.
        shrinks = bool(end(jnp.asarray([middle])) < middle)
        low, high = (middle, high) if shrinks else (low, middle)
    return Measured(0.5 * (low + high), predicted)


@checks(
    "Alice's flow with glass only, x at t = 100",
    paper=_PAPER,
    equation="x0/(1 + phi (2 pi/(3 rho)) lambda^2 |x0| t)",
    tolerance=1e-6,
    cases={"lambda = 8": ()},
)
@precision("float64")
def decay() -> Measured:
    """Solve the flow on a bowl, where the decay is algebraic."""
    flow, start, time = flows.AliceFlow(_alice(0.9)), jnp.asarray([1.0]), 100.0
    state = dataclasses.replace(flow.init(_bowl, start), density=jnp.full_like(start, _RHO))
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(flow.vector_field),
        diffrax.Tsit5(),
        0.0,
        time,
        None,
        state,
        args=_bowl,
        stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-12),
    )
    assert solution.ys is not None
    rate = 0.1 * 2 * math.pi / (3 * _RHO) * _CURVATURE**2
    return Measured(float(solution.ys.params[-1, 0]), 1 / (1 + rate * time))
