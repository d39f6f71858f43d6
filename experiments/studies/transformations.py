"""optax's transformations, and at which preconditioned sharpness each turns unstable.

The threshold of an update -sum_k q_k P^-1 g_(t-k) is 2 / sum_k (-1)^k q_k (arXiv 2207.14484), here
for the q_k of each definition, eta times it, with P without the learning rate.
"""

from collections.abc import Callable
from typing import NamedTuple

from ..system.lazy import optax

_B1 = 0.9
_ADAM = (1 + _B1) / (1 - _B1)
_NESTEROV = 2 * (1 + _B1) / (1 + 2 * _B1)


class Transformation(NamedTuple):
    """A transformation of optax, and its threshold.

    Attributes:
        make: Makes it with a learning rate.
        threshold: eta * critical sharpness; inf if no curvature makes it unstable, and nan if it
            never rests at a minimum.
        family: What it remembers.
        reason: Why there is no threshold; empty if there is one.
    """

    make: "Callable[[float], optax.GradientTransformation]"
    threshold: float
    family: str
    reason: str = ""


FAMILIES = {
    "gradient": "no momentum",
    "momentum": "momentum",
    "adaptive": "adaptive",
    "adaptive_momentum": "adaptive, momentum",
    "long_memory": "adaptive, several memories",
    "none": "no threshold",
}
"""Families by name, and what they are called in a figure."""

_JUMPS = "jumps where the gradient passes zero"
_SCALES = "its rate falls as the curvature grows"

# Keyword arguments only where the value is not optax's default.
TRANSFORMATIONS = {
    "sgd": Transformation(lambda eta: optax.sgd(eta), 2.0, "gradient"),
    "optimistic gradient descent": Transformation(
        lambda eta: optax.optimistic_gradient_descent(eta, 1.0, 1.0), 2 / 3, "gradient"
    ),
    "momentum": Transformation(lambda eta: optax.sgd(eta, _B1), 2 * (1 + _B1), "momentum"),
    "nesterov": Transformation(
        lambda eta: optax.sgd(eta, _B1, nesterov=True), _NESTEROV, "momentum"
    ),
    "schedule-free sgd": Transformation(
        lambda eta: optax.contrib.schedule_free_sgd(eta), 2 / (1 - _B1), "momentum"
    ),
    "rmsprop": Transformation(lambda eta: optax.rmsprop(eta), 2.0, "adaptive"),
    "adagrad": Transformation(lambda eta: optax.adagrad(eta), 2.0, "adaptive"),
    "adadelta": Transformation(lambda eta: optax.adadelta(eta), 2.0, "adaptive"),
    "acprop": Transformation(lambda eta: optax.contrib.acprop(eta), 2.0, "adaptive"),
    "rmsprop with momentum": Transformation(
        lambda eta: optax.rmsprop(eta, momentum=_B1), 2 * (1 + _B1), "adaptive_momentum"
    ),
    "rmsprop with nesterov": Transformation(
        lambda eta: optax.rmsprop(eta, momentum=_B1, nesterov=True), _NESTEROV, "adaptive_momentum"
    ),
    "adam": Transformation(lambda eta: optax.adam(eta), 2 * _ADAM, "adaptive_momentum"),
    "amsgrad": Transformation(lambda eta: optax.amsgrad(eta), 2 * _ADAM, "adaptive_momentum"),
    "adabelief": Transformation(lambda eta: optax.adabelief(eta), 2 * _ADAM, "adaptive_momentum"),
    "yogi": Transformation(lambda eta: optax.yogi(eta), 2 * _ADAM, "adaptive_momentum"),
    "radam": Transformation(lambda eta: optax.radam(eta), 2 * _ADAM, "adaptive_momentum"),
    "adamax": Transformation(lambda eta: optax.adamax(eta), 2 * _ADAM, "adaptive_momentum"),
    "adopt": Transformation(lambda eta: optax.contrib.adopt(eta), 2 * _ADAM, "adaptive_momentum"),
    "adamw, eta decay 0.05": Transformation(
        lambda eta: optax.adamw(eta, weight_decay=0.05 / eta),
        (2 - 0.05) * _ADAM,
        "adaptive_momentum",
    ),
    "nadam": Transformation(
        lambda eta: optax.nadam(eta), 2 * _ADAM / (1 + 2 * _B1), "adaptive_momentum"
    ),
    # mu' = b1 mu + g/P, without 1 - b1.
    "novograd": Transformation(lambda eta: optax.novograd(eta), 2 * (1 + _B1), "adaptive_momentum"),
    "schedule-free adamw": Transformation(
        lambda eta: optax.contrib.schedule_free_adamw(eta), 2 / (1 - _B1), "adaptive_momentum"
    ),
    "optimistic adam": Transformation(
        lambda eta: optax.optimistic_adam_v2(eta, nesterov=False), 2 * _ADAM / 3, "long_memory"
    ),
    "optimistic nadam": Transformation(
        lambda eta: optax.optimistic_adam_v2(eta), 2 * _ADAM / (1 + 2 * _B1) / 3, "long_memory"
    ),
    "adan": Transformation(
        lambda eta: optax.adan(eta), 2 / (0.02 / 1.98 + 2 * 0.08**2 / 1.92), "long_memory"
    ),
    "ademamix": Transformation(
        lambda eta: optax.contrib.ademamix(eta), 2 / (1 / _ADAM + 5 * 1e-4 / 1.9999), "long_memory"
    ),
    "simplified ademamix, alpha 0": Transformation(
        lambda eta: optax.contrib.simplified_ademamix(eta, b1=0.99, alpha=0.0), 3.98, "long_memory"
    ),
    "simplified ademamix, alpha 1": Transformation(
        lambda eta: optax.contrib.simplified_ademamix(eta, b1=0.99, alpha=1.0),
        3.98 / 2.99,
        "long_memory",
    ),
    "lion": Transformation(lambda eta: optax.lion(eta), float("nan"), "none", _JUMPS),
    "sign_sgd": Transformation(lambda eta: optax.sign_sgd(eta), float("nan"), "none", _JUMPS),
    "muon": Transformation(lambda eta: optax.contrib.muon(eta), float("nan"), "none", _JUMPS),
    "polyak_sgd": Transformation(
        lambda eta: optax.polyak_sgd(eta),
        float("inf"),
        "none",
        _SCALES,
    ),
}
"""Every transformation whose threshold is known, by its name."""


def with_a_threshold() -> dict[str, Transformation]:
    """Return those with a finite threshold."""
    return {name: one for name, one in TRANSFORMATIONS.items() if not one.reason}
