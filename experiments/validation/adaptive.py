"""Thresholds of optax's transformations, and the two-cycles of adaptive methods at their edges."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

import flows
from flows.optimizers.adaptive import AdaptiveState

from ..config.build import precision
from .checks import Measured, checks
from .motion import optimizer_step, repeated

_ETA = 0.1
_B1 = 0.9
_ADAM = (1 + _B1) / (1 - _B1)

# eta times the critical lambda_max(P^-1 H), P without the learning rate.
_TRANSFORMATIONS: dict[str, tuple[Callable[[], optax.GradientTransformation], float]] = {
    "sgd": (lambda: optax.sgd(_ETA), 2),
    "momentum": (lambda: optax.sgd(_ETA, _B1), 2 * (1 + _B1)),
    "nesterov": (lambda: optax.sgd(_ETA, _B1, nesterov=True), 2 * (1 + _B1) / (1 + 2 * _B1)),
    "rmsprop": (lambda: optax.rmsprop(_ETA), 2),
    "rmsprop with momentum": (lambda: optax.rmsprop(_ETA, momentum=_B1), 2 * (1 + _B1)),
    "adagrad": (lambda: optax.adagrad(_ETA), 2),
    "adadelta": (lambda: optax.adadelta(_ETA), 2),
    "acprop": (lambda: optax.contrib.acprop(_ETA), 2),
    "adam": (lambda: optax.adam(_ETA), 2 * _ADAM),
    "amsgrad": (lambda: optax.amsgrad(_ETA), 2 * _ADAM),
    "adabelief": (lambda: optax.adabelief(_ETA), 2 * _ADAM),
    "yogi": (lambda: optax.yogi(_ETA), 2 * _ADAM),
    "radam": (lambda: optax.radam(_ETA), 2 * _ADAM),
    "adamax": (lambda: optax.adamax(_ETA), 2 * _ADAM),
    "adopt": (lambda: optax.contrib.adopt(_ETA), 2 * _ADAM),
    "nadam": (lambda: optax.nadam(_ETA), 2 * _ADAM / (1 + 2 * _B1)),
    "adamw, decay 0.5": (lambda: optax.adamw(_ETA, weight_decay=0.5), (2 - 0.5 * _ETA) * _ADAM),
    "optimistic gradient descent": (
        lambda: optax.optimistic_gradient_descent(_ETA, 1.0, 1.0),
        2 / 3,
    ),
    "adan": (lambda: optax.adan(_ETA), 2 / (0.02 / 1.98 + 2 * 0.08**2 / 1.92)),
    "ademamix": (lambda: optax.contrib.ademamix(_ETA), 2 / (1 / _ADAM + 5 * 1e-4 / 1.9999)),
    "schedule-free sgd": (lambda: optax.contrib.schedule_free_sgd(_ETA), 2 / (1 - _B1)),
}


@checks(
    "critical sharpness of optax",
    paper="arXiv 2207.14484",
    equation="2 / sum_k (-1)^k q_k",
    tolerance=1e-6,
    cases={name: (name,) for name in _TRANSFORMATIONS},
)
def optax_threshold(name: str) -> Measured:
    """Linearise the transformation's own map."""
    make, predicted = _TRANSFORMATIONS[name]
    with precision("float64"):
        return Measured(_ETA * float(flows.critical_sharpness(make())), float(predicted))


_METHODS: dict[str, Callable[[float, float], Any]] = {
    "RMSProp": lambda eta, b2: flows.RMSProp(eta, b2, 0.0),
    "NAdam": lambda eta, b2: flows.NAdam(eta, 0.9, b2, 0.0, bias_correction=False),
    "Adam": lambda eta, b2: flows.Adam(eta, 0.9, b2, 0.0, bias_correction=False),
    "Adam, b1 = 0.1": lambda eta, b2: flows.Adam(eta, 0.1, b2, 0.0, bias_correction=False),
}


def _double_well(w: Float[Array, " parameter"]) -> Float[Array, ""]:
    return jnp.sum(0.5 * w**2 - 0.25 * w**4)


def _bowl(w: Float[Array, " parameter"]) -> Float[Array, ""]:
    return 0.5 * jnp.sum(w**2)


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
        step, near = optimizer_step(of, _double_well), _on_the_cycle(of)
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
        start = _on_the_cycle(of)
        flat, unravel = ravel_pytree(start)
        odd = dataclasses.replace(
            jax.tree.map(lambda x: -jnp.ones_like(x), start),
            second_moment=jax.tree.map(jnp.ones_like, start.second_moment),
        )

        def mirrored(z: Float[Array, " phase"]) -> Float[Array, " phase"]:
            return ravel_pytree(jax.tree.map(jnp.multiply, odd, of.step(unravel(z), _bowl)))[0]

        multipliers = np.linalg.eigvals(np.asarray(jax.jacfwd(mirrored)(flat)))
        return Measured(float(np.max(np.abs(multipliers))), _MULTIPLIERS[name])


def _on_the_cycle(of: Any) -> AdaptiveState:
    """Return the state of a method at the upper end of its two-cycle on w^2/2, where g = w."""
    w = 1 / of.critical_sharpness * jnp.ones(1)
    state = dataclasses.replace(of.init(w), second_moment=w**2)
    if state.momentum is None:
        return state
    return dataclasses.replace(state, momentum=-(1 - of.b1) * w / (1 + of.b1))
