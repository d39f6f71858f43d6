"""Thresholds and two-cycles of descent on manifolds, beside what theory says of them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import flows
from flows.manifolds.method import AbstractRiemannianMethod

from ..config.build import precision
from .checks import Measured, checks
from .motion import optimizer_step, repeated

_THEORY = "this project's own"
_SPECTRUM = (1.0, 2.0, 3.5, 6.0)

Vector = Float[Array, "..."]


def _angle(point: Vector) -> Array:
    return jnp.arctan2(point[1], point[0])


def _circle(w: Vector) -> Array:
    """Half of the squared sine of the angle: the sharpness at its minimum is 1."""
    return 0.5 * w[1] ** 2


def _rayleigh(w: Vector) -> Array:
    return 0.5 * jnp.sum(jnp.asarray(_SPECTRUM, w.dtype) * w**2)


def _trace(x: Vector) -> Array:
    return 0.5 * jnp.sum(jnp.asarray(_SPECTRUM, x.dtype)[:, None] * x**2)


def _settled(optimizer: AbstractRiemannianMethod, loss: Callable, start: Vector) -> Vector:
    """Return where an optimizer is after many steps."""
    step = jax.jit(lambda s: repeated(optimizer_step(optimizer, loss), s, 3000))
    return optimizer.params(step(optimizer.init(start)))


# On the sphere across the bottom of Rayleigh's quotient, and on the Stiefel manifold from the span
# of the lowest two directions to the highest.
_SPHERE = (_rayleigh, np.eye(4)[0], np.eye(4)[3], _SPECTRUM[3] - _SPECTRUM[0])
_TURNED = np.outer(np.eye(4)[3], np.eye(2)[0])
_STIEFEL = (_trace, np.eye(4)[:, :2], _TURNED, _SPECTRUM[3] - _SPECTRUM[0])


@checks(
    "threshold of Riemannian gradient descent",
    paper=_THEORY,
    equation="eta = 2 / Riemannian sharpness, whatever the retraction",
    tolerance=1e-9,
    cases={
        "exponential": (flows.Sphere(), "exponential", *_SPHERE),
        "normalisation": (flows.Sphere(), "normalisation", *_SPHERE),
        "polar": (flows.Stiefel(), "polar", *_STIEFEL),
        "QR": (flows.Stiefel(), "qr", *_STIEFEL),
    },
)
def riemannian_threshold(
    manifold: flows.AbstractManifold,
    retraction: str,
    loss: Callable,
    minimum: np.ndarray,
    mode: np.ndarray,
    sharpness: float,
) -> Measured:
    """Find the rate at which a small step along the top mode is reversed, from the map itself."""
    with precision("float64"):
        point, along = jnp.asarray(minimum), jnp.asarray(mode)

        def multiplier(rate: float) -> Array:
            method = flows.RiemannianGradientDescent(rate, manifold, retraction)

            def moved(t: Array) -> Array:
                state = method.init(manifold.retract(point, t * along, manifold.retractions[0]))
                return jnp.sum(method.step(state, loss).params * along)

            return jax.jit(jax.jacfwd(moved))(jnp.zeros(()))

        # At a critical point it is linear in the rate.
        first, second = float(multiplier(0.1)), float(multiplier(0.2))
        return Measured(0.1 + 0.1 * (-1 - first) / (second - first), 2 / sharpness)


_BEYOND = 3.0


@checks(
    "two-cycle on the circle",
    paper=_THEORY,
    equation="normalisation: cos 2a = 2/(eta s); exponential: sin(2a)/2a = 2/(eta s)",
    tolerance=1e-9,
    cases={"normalisation": ("normalisation",), "exponential": ("exponential",)},
)
def circle_two_cycle(retraction: str) -> Measured:
    """Descend the squared sine beyond the edge, and read 2/(eta s) from where it settles."""
    with precision("float64"):
        method = flows.RiemannianGradientDescent(_BEYOND, flows.Sphere(), retraction)
        start = jnp.asarray([np.cos(0.3), np.sin(0.3)])
        twice = 2 * abs(_angle(_settled(method, _circle, start)))
        found = jnp.cos(twice) if retraction == "normalisation" else jnp.sin(twice) / twice
        return Measured(float(found), 2 / _BEYOND)


@checks(
    "two-cycle of Riemannian SAM",
    paper="NeurIPS 2023, Riemannian SAM; cycle: this project's own",
    equation="eta rho/(2 - eta) on d^2/2; circle: 2a = (eta/2) sin(2a + 2 rho)",
    tolerance=1e-9,
    cases={"hyperbolic plane": (flows.Hyperboloid(),), "circle": (flows.Sphere(),)},
)
def sam_two_cycle(manifold: flows.AbstractManifold) -> Measured:
    """Let it settle around a minimum."""
    rate, rho = 0.5, 0.3
    with precision("float64"):
        method = flows.RiemannianSAM(rate, radius=rho, manifold=manifold)
        if isinstance(manifold, flows.Sphere):
            start = jnp.asarray([np.cos(0.3), np.sin(0.3)])
            twice = 2 * abs(_angle(_settled(method, _circle, start)))
            return Measured(float(twice), float(rate / 2 * jnp.sin(twice + 2 * rho)))
        lowest = jnp.asarray([1.0, 0.0, 0.0])
        start = jnp.asarray([np.cosh(1.0), np.sinh(1.0), 0.0])
        end = _settled(method, lambda w: 0.5 * manifold.squared_distance(w, lowest), start)
        return Measured(float(abs(jnp.arcsinh(end[1]))), rate * rho / (2 - rate))


@checks(
    "edge of a mean in the hyperbolic plane",
    paper=_THEORY,
    equation="eta = 2 tanh(r)/r for two points at +-r",
    tolerance=1e-9,
    cases={f"r = {r:g}": (r,) for r in (0.5, 2.0)},
)
def hyperbolic_edge(r: float) -> Measured:
    """Measure the Riemannian sharpness of half the mean squared distance."""
    space = flows.Hyperboloid()
    with precision("float64"):
        points = jnp.asarray([[np.cosh(r), s * np.sinh(r), 0.0] for s in (1, -1)])

        def loss(w: Vector) -> Array:
            return 0.25 * sum((space.squared_distance(w, x) for x in points), jnp.zeros(()))

        curvature, lowest = flows.RiemannianCurvature(space), jnp.asarray([1.0, 0.0, 0.0])
        begun = curvature.init(loss, lowest)
        values, _, _ = curvature.measure(loss, lowest, begun, jnp.asarray(0))
        return Measured(2 / float(values["riemannian_sharpness"]), float(2 * np.tanh(r) / r))


@checks(
    "longest step of fine-grained SGD",
    paper="arXiv 1905.09054",
    equation="(sqrt(2) - 1) eta for one group, sqrt(B) times that for B",
    tolerance=1e-9,
    cases={"one group": (1,), "five groups": (5,)},
)
def fine_grained_step(groups: int) -> Measured:
    """Take steps on slopes of many sizes, that of the longest among them."""
    rate, manifold = 0.3, flows.Oblique()
    with precision("float64"):
        method = flows.FineGrainedSGD(rate, manifold)
        point = jnp.zeros((groups, 3)).at[:, 0].set(1.0)

        def length(slope: Array) -> Array:
            velocity = method.velocity(point, lambda w: slope * jnp.sum(w[:, 1]))
            return rate * jnp.linalg.norm(velocity)

        slopes = jnp.append(jnp.geomspace(1e-2, 1e2, 201), jnp.sqrt(2.0) - 1)
        longest = float(jnp.max(jax.jit(jax.vmap(length))(slopes)))
        return Measured(longest, float(rate * (np.sqrt(2) - 1) * np.sqrt(groups)))


@checks(
    "flow on a manifold",
    paper=_THEORY,
    equation="Rayleigh: exp(-eta A t) w, normalised",
    tolerance=1e-7,
    cases={"sphere": ()},
)
def rayleigh_flow() -> Measured:
    """Simulate Rayleigh's flow, and compare how far the highest direction has decayed."""
    with precision("float64"):
        rate, steps, start = 0.1, 10, jnp.full(4, 0.5)
        flow = flows.RiemannianFlow(flows.RiemannianGradientDescent(rate, flows.Sphere()))
        end = flows.simulate(flow, _rayleigh, start, steps, measurements=()).params[-1]
        return Measured(
            float(end[3] / end[0]), float(np.exp(-rate * steps * (_SPECTRUM[3] - _SPECTRUM[0])))
        )
