"""The problem that the rows measure on."""

import equinox as eqx
import jax
from jax import lax
from jaxtyping import Array, PyTree

from flows.core.potential import Potential
from potentials import MLP, SupervisedPotential, load_digits, mse

LEARNING_RATE = 0.18


def demo_network() -> tuple[SupervisedPotential, PyTree[Array]]:
    """Return potential and start of the demo `digits-mlp`: 3466 parameters, 500 digits, float32."""
    return digits_network((64, 32, 32, 10), examples=500)


def digits_network(
    widths: tuple[int, ...], examples: int
) -> tuple[SupervisedPotential, PyTree[Array]]:
    """Return the squared loss of a tanh network on digits, and a random start.

    Args:
        widths: The numbers of units from the 64 inputs to the 10 outputs.
        examples: How many images the loss is averaged over.
    """
    data = load_digits(examples)
    key = jax.random.key(0)
    potential = SupervisedPotential(MLP(widths, key=key), data.inputs, data.targets, mse)
    return potential, potential.init(key)


@eqx.filter_jit
def descend(
    potential: Potential,
    params: PyTree[Array],
    steps: int,
    learning_rate: float = LEARNING_RATE,
) -> PyTree[Array]:
    """Return the last iterate of bare compiled gradient descent, the unit of cost of the rows.

    Args:
        potential: The loss.
        params: The start.
        steps: How many steps to make.
        learning_rate: That of the steps.
    """

    def step(params: PyTree[Array], _: None) -> tuple[PyTree[Array], None]:
        gradient = jax.grad(potential)(params)
        return jax.tree.map(lambda w, g: w - learning_rate * g, params, gradient), None

    return lax.scan(step, params, length=steps)[0]
