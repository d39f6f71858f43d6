"""Thresholds of optax's transformations, and the two-cycles of adaptive methods at their edges."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

import flows

from ..config.build import precision
from ..studies.cycles import Method, multipliers, on_the_cycle
from ..studies.transformations import with_a_threshold
from .checks import Measured, checks
from .motion import optimizer_step, repeated

_ETA = 0.1
# An entry of a gradient; muon adds 1e-8 to its length.
_SMALL = 1e-3


@checks(
    "critical sharpness of optax",
    paper="arXiv 2207.14484",
    equation="2 / sum_k (-1)^k q_k",
    tolerance=1e-6,
    cases={name: (name,) for name in with_a_threshold()},
)
def optax_threshold(name: str) -> Measured:
    """Linearise the transformation's own map."""
    one = with_a_threshold()[name]
    with precision("float64"):
        return Measured(_ETA * float(flows.critical_sharpness(one.make(_ETA))), one.threshold)


def _orthogonalised() -> float:
    """Return the singular value that Newton and Schulz give both of a multiple of a rotation."""
    x = 0.5**0.5
    for _ in range(5):
        x = 3.4445 * x - 4.775 * x**3 + 2.0315 * x**5
    return x


_JUMPS: dict[str, tuple[Callable[[float], optax.GradientTransformation], float]] = {
    "lion": (lambda eta: optax.lion(eta), 1.0),
    "sign_sgd": (lambda eta: optax.sign_sgd(eta), 1.0),
    "muon": (lambda eta: optax.contrib.muon(eta), _orthogonalised()),
}


@checks(
    "jump of a step where the gradient passes zero",
    paper="arXiv 2207.14484 (no threshold)",
    equation="2 eta per entry; of muon times the polynomial of its iteration",
    tolerance=1e-4,
    cases={name: (name,) for name in _JUMPS},
)
def jump(name: str) -> Measured:
    """Step along a rotation, for two small gradients that are opposite.

    The step does not vanish with the gradient: such a method never rests at a minimum, whatever
    the curvature, and `critical_sharpness` refuses it.
    """
    make, size = _JUMPS[name]
    with precision("float64"):
        # A multiple of a rotation, whose entries are of one size too.
        rotation = jnp.asarray([[1.0, 1.0], [-1.0, 1.0]])
        unit = rotation if name != "muon" else rotation / jnp.sqrt(2.0)
        of, start = flows.OptaxOptimizer(make(_ETA)), jnp.zeros((2, 2))
        state = of.init(start)

        def moved(sign: float) -> Float[Array, "2 2"]:
            return of.params(of.step(state, lambda w: sign * _SMALL * jnp.sum(rotation * w)))

        try:
            flows.critical_sharpness(of)
        except ValueError:
            jumped = jnp.sum((moved(-1.0) - moved(1.0)) * unit) / jnp.sum(unit**2)
            return Measured(float(jumped) / _ETA, 2 * size)
        raise ValueError(f"critical_sharpness must refuse {name}, whose step jumps at rest.")


@checks(
    "multiplier on a steep quadratic",
    paper="arXiv 2207.14484 (no threshold)",
    equation="1/2, as the rate is L/|g|^2",
    tolerance=1e-9,
    cases={"polyak_sgd": ()},
)
def polyak() -> Measured:
    """Take a step at a curvature of 1e6; `critical_sharpness` is infinite."""
    with precision("float64"):
        of = flows.OptaxOptimizer(optax.polyak_sgd(_ETA))
        if jnp.isfinite(of.critical_sharpness):
            raise ValueError("critical_sharpness must be infinite for polyak_sgd.")
        after = of.step(of.init(jnp.ones(1)), lambda w: 0.5e6 * jnp.sum(w**2))
        return Measured(float(after.params[0]), 0.5)


_METHODS: dict[str, Callable[[float, float], Method]] = {
    "RMSProp": lambda eta, b2: flows.RMSProp(eta, b2, 0.0),
    "NAdam": lambda eta, b2: flows.NAdam(eta, 0.9, b2, 0.0, bias_correction=False),
    "Adam": lambda eta, b2: flows.Adam(eta, 0.9, b2, 0.0, bias_correction=False),
    "Adam, b1 = 0.1": lambda eta, b2: flows.Adam(eta, 0.1, b2, 0.0, bias_correction=False),
}


def _double_well(w: Float[Array, " parameter"]) -> Float[Array, ""]:
    return jnp.sum(0.5 * w**2 - 0.25 * w**4)


@checks(
    "amplitude of the two-cycle",
    paper="this project's own",
    equation="a = 1 / critical sharpness, whatever the loss",
    tolerance=1e-9,
    cases={name: (name,) for name in ("RMSProp", "NAdam", "Adam, b1 = 0.1")},
)
def adaptive_two_cycle(name: str) -> Measured:
    """Run a method on w^2/2 - w^4/4, from near the cycle of w^2/2, until its iterates repeat.

    From far away NAdam does not settle.
    """
    with precision("float64"):
        of = _METHODS[name](0.2, 0.9)
        step, near = optimizer_step(of, _double_well), on_the_cycle(of)
        near = dataclasses.replace(near, params=1.01 * near.params)
        end = repeated(step, near, 3000)
        product = -jnp.sum(of.params(end) * of.params(step(end)))
        return Measured(float(jnp.sqrt(product)), 1 / float(of.critical_sharpness))


# Multipliers per step, for b2 = 0.99.
_MULTIPLIERS = {
    "RMSProp": 0.99**0.5,
    "NAdam": 0.998327,
    "Adam": 1.143679,
}


@checks(
    "multiplier of the two-cycle",
    paper="this project's own",
    equation="sqrt(b2) for RMSProp; Adam's is above 1, so that it bursts",
    tolerance=1e-6,
    cases={name: (name,) for name in _MULTIPLIERS},
)
def two_cycle_multiplier(name: str) -> Measured:
    """Linearise a step from the two-cycle, mirrored, so that the cycle is a fixed point."""
    with precision("float64"):
        of = _METHODS[name](_ETA, 0.99)
        return Measured(float(abs(multipliers(of)[0][0])), _MULTIPLIERS[name])
