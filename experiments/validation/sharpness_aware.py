"""Sharpness-aware minimisation: its flow, its two-cycle below the edge, and its own threshold."""

import math
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

import flows
import potentials

from ..config.build import precision
from .checks import Measured, checks
from .motion import SUBSTEP, flow_step, optimizer_step, repeated

_ETA = 0.1
_RADIUS = 0.05
_STEPS = 4000
_ROD_STEPS = 400
# eta lambda.
_CASES = {f"eta lambda = {product:g}": (product,) for product in (0.5, 1.0, 1.5)}
_SMOOTHING = 1e-3
_START = 0.3
_VALLEY = {"eta": 0.3, "epsilon": 0.01, "zeta": 1.0}


def _sam(smoothing: float = 0.0) -> flows.SAM:
    return flows.SAM(flows.GradientDescent(_ETA), _RADIUS, smoothing)


def _bowl(product: float) -> potentials.Quadratic:
    return potentials.Quadratic(jnp.asarray([product / _ETA, 0.4 * product / _ETA]))


def _length(product: float) -> float:
    """Return |g| on the cycle: eta rho lambda^2 / (2 - eta lambda)."""
    return product**2 * _RADIUS / (_ETA * (2 - product))


@eqx.filter_jit
def _end(of: flows.SAM, bowl: potentials.Quadratic) -> Float[Array, " parameter"]:
    start = of.init(_START * jnp.ones(2))
    return of.params(repeated(optimizer_step(of, bowl), start, _STEPS))


@eqx.filter_jit
def _variance(flow: flows.RodFlow, bowl: potentials.Quadratic) -> Float[Array, ""]:
    start = flow.init(bowl, _START * jnp.ones(2))
    end = repeated(flow_step(flow, bowl), start, round(_ROD_STEPS / SUBSTEP))
    assert isinstance(end, flows.DenseRodState)
    return jnp.trace(end.covariance)


@eqx.filter_jit
def _distance(
    flow: flows.SharpnessAwareFlow, bowl: potentials.Quadratic, time: Float[Array, ""]
) -> Float[Array, ""]:
    def field(t: Any, state: Any, args: Any) -> Any:
        return flow.vector_field(t, state, args)

    solved = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Tsit5(),
        0.0,
        time,
        0.01,
        flow.init(bowl, jnp.asarray([0.6, 0.8])),
        args=bowl,
        stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-11),
    )
    assert solved.ys is not None
    return jnp.linalg.norm(flow.params(solved.ys)[0])


@checks(
    "two-cycle of SAM",
    paper="arXiv 2309.12488",
    equation="half-length eta lambda rho / (2 - eta lambda)",
    tolerance=1e-9,
    cases=_CASES,
)
def cycle(product: float) -> Measured:
    """Run SAM on a quadratic until its iterates repeat."""
    with precision("float64"):
        half = jnp.linalg.norm(_end(_sam(), _bowl(product)))
        return Measured(float(half), product * _RADIUS / (2 - product))


@checks(
    "threshold of SAM on its two-cycle",
    paper="arXiv 2309.12488",
    equation="lambda* = (|g|/(2 rho)) (sqrt(1 + 8 rho/(eta |g|)) - 1) = lambda",
    tolerance=1e-9,
    cases=_CASES,
)
def threshold(product: float) -> Measured:
    """Ask for the critical sharpness where SAM ends, which is the quadratic's own sharpness."""
    with precision("float64"):
        of, bowl = _sam(), _bowl(product)
        found = flows.critical_sharpness(of, of.init(_end(of, bowl)), bowl)
        return Measured(float(found), product / _ETA)


@checks(
    "two-cycle of SAM's rod flow, with smoothing s",
    paper="arXiv 2602.01480",
    equation="lambda^2 Sigma + s^2 = |g|^2 of the two-cycle",
    tolerance=1e-7,
    cases=_CASES,
)
def rod(product: float) -> Measured:
    """Run the flow with one rod until it rests."""
    with precision("float64"):
        flow, bowl = flows.RodFlow(_sam(_SMOOTHING), alignment=False), _bowl(product)
        variance = (_length(product) ** 2 - _SMOOTHING**2) * (_ETA / product) ** 2
        return Measured(float(_variance(flow, bowl)), variance)


@checks(
    "SAM's flow on lambda |w|^2 / 2, half-way to its arrival",
    paper="arXiv 2010.01412",
    equation="|w| = (|w_0| + rho) exp(-eta lambda t) - rho",
    tolerance=1e-6,
    cases=_CASES,
)
def arrival(product: float) -> Measured:
    """Run the flow from distance 1, for half of the time ln(1 + 1/rho) / (eta lambda)."""
    with precision("float64"):
        flow = flows.SharpnessAwareFlow(_sam(), smoothing=1e-6)
        half = 0.5 * math.log(1 + 1 / _RADIUS) / product
        bowl = potentials.Quadratic(product / _ETA * jnp.ones(2))
        distance = _distance(flow, bowl, jnp.asarray(half))
        return Measured(float(distance), (1 + _RADIUS) * math.exp(-product * half) - _RADIUS)


@checks(
    "height of SAM in the sharp valley",
    paper="arXiv 2309.12488",
    equation="lambda*(mean |g|) + (3/2) epsilon eta zeta (3 zeta - 1)",
    tolerance=2e-3,
    cases={f"rho = {radius:g}": (radius,) for radius in (0.001, 0.01, 0.05)},
)
def valley(radius: float) -> Measured:
    """Run SAM along the valley until it is at its threshold, and average over its iterates."""
    eta, epsilon, zeta = _VALLEY.values()
    with precision("float64"):
        of = flows.SAM(flows.GradientDescent(eta), radius)
        potential = potentials.SharpValley(epsilon, zeta)
        first, last = 8000, 200
        run = flows.iterate(
            of, potential, jnp.asarray([0.02, 4.0]), first, save_every=first, measurements=()
        )
        end = flows.iterate(of, potential, run.params[-1], last)
        length = float(jnp.mean(end.observables["gradient_norm"]))
        edge = length / (2 * radius) * (math.sqrt(1 + 8 * radius / (eta * length)) - 1)
        predicted = edge + 1.5 * epsilon * eta * zeta * (3 * zeta - 1)
        return Measured(float(jnp.mean(end.params[:, 1])), predicted)
