"""The problem that the rows measure on."""

from functools import partial
from typing import Any

import jax
from jax import lax

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


@partial(jax.jit, static_argnums=2)
def descend(potential: Any, params: Any, steps: int) -> Any:
    """Return where bare compiled gradient descent leads: the unit of cost of the rows."""

    def step(params: Any, _: None) -> tuple[Any, None]:
        gradient = jax.grad(potential)(params)
        return jax.tree.map(lambda w, g: w - LEARNING_RATE * g, params, gradient), None

    return lax.scan(step, params, length=steps)[0]
