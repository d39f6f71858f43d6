"""The problem that the rows measure on."""

from typing import Any

import jax

from potentials import MLP, SupervisedPotential, load_digits, mse

LEARNING_RATE = 0.18


def demo_network() -> tuple[Any, Any]:
    """Return potential and start of the demo `digits-mlp`: 3466 parameters, 500 digits, float32."""
    return digits_network((64, 32, 32, 10), examples=500)


def digits_network(widths: tuple[int, ...], examples: int) -> tuple[Any, Any]:
    """Return the squared loss of a tanh network on digits, and a random start."""
    data = load_digits(examples)
    key = jax.random.key(0)
    potential = SupervisedPotential(MLP(widths, key=key), data.inputs, data.targets, mse)
    return potential, potential.init(key)
