"""A transformer that learns to add modulo 7 with clipped gradients, and a flow that models it.

All that is the user's own is in this file: the loss, the optimizer and its flow.

- `ModularAddition` is the loss: cross-entropy of a transformer of one block that reads "a b =" and
  answers (a + b) mod n, over all n^2 questions.
- `ClippedGradientDescent` moves by -eta g min(1, c / |g|): gradient descent, but never by more
  than eta c in one step. It is `optax.chain(optax.clip_by_global_norm(c), optax.sgd(eta))`.
- `ClippedGradientFlow` is its limit of small steps, dw/dt = -eta g min(1, c / |g|), whose speed
  is never above eta c, and which is gradient flow wherever |g| <= c.

Run it by itself, `python examples/transformer.py`, for a table of what it measures; or from a
config, `eosflows run examples/transformer.toml --import examples/transformer.py`, for a store.
"""

from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

import experiments
import flows

Params = PyTree[Float[Array, "..."]]


class Transformer(eqx.Module):
    """One block of attention and an MLP, between an embedding and the logits.

    Attributes:
        tokens: Embedding of each token (vocabulary, width).
        places: Embedding of each of the three places (3, width).
        attention: Self-attention over the places.
        mlp: The feed-forward part, applied at each place.
        answer: From the last place to the logits.
    """

    tokens: Float[Array, "token width"]
    places: Float[Array, "3 width"]
    attention: eqx.nn.MultiheadAttention
    mlp: eqx.nn.MLP
    answer: eqx.nn.Linear

    def __init__(self, modulus: int, width: int, heads: int, key: PRNGKeyArray):
        keys = jax.random.split(key, 5)
        self.tokens = jax.random.normal(keys[0], (modulus + 1, width))
        self.places = jax.random.normal(keys[1], (3, width))
        self.attention = eqx.nn.MultiheadAttention(heads, width, key=keys[2])
        self.mlp = eqx.nn.MLP(width, width, 2 * width, 1, jax.nn.gelu, key=keys[3])
        self.answer = eqx.nn.Linear(width, modulus, key=keys[4])

    def __call__(self, question: Int[Array, "3"]) -> Float[Array, " answer"]:
        """Return the logits of the answers to one question."""
        x = self.tokens[question] + self.places
        x = x + self.attention(x, x, x)
        x = x + jax.vmap(self.mlp)(x)
        return self.answer(x[-1])


class ModularAddition(eqx.Module):
    """Cross-entropy of a transformer over all questions a + b mod n; params are its arrays.

    Attributes:
        questions: Every "a b =" (n^2, 3).
        answers: (a + b) mod n, (n^2,).
        network: What of the transformer is no array.
        modulus: n, at least 2.
        width: Width of the residual stream.
        heads: Heads of the attention; they divide the width.
    """

    questions: Int[Array, "question 3"]
    answers: Int[Array, " question"]
    network: Transformer
    modulus: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    heads: int = eqx.field(static=True)

    def __init__(self, modulus: int = 7, width: int = 16, heads: int = 2):
        a, b = (x.reshape(-1) for x in jnp.meshgrid(jnp.arange(modulus), jnp.arange(modulus)))
        self.questions = jnp.stack([a, b, jnp.full_like(a, modulus)], axis=1)
        self.answers = (a + b) % modulus
        self.modulus, self.width, self.heads = modulus, width, heads
        self.network = eqx.partition(self._drawn(jax.random.key(0)), eqx.is_inexact_array)[1]

    def _drawn(self, key: PRNGKeyArray) -> Transformer:
        return Transformer(self.modulus, self.width, self.heads, key)

    def init(self, key: PRNGKeyArray) -> Params:
        """Draw a start."""
        return eqx.filter(self._drawn(key), eqx.is_inexact_array)

    def logits(self, params: Params) -> Float[Array, "question answer"]:
        """Return the transformer's answers to all questions."""
        return jax.vmap(eqx.combine(params, self.network))(self.questions)

    def __call__(self, params: Params) -> Float[Array, ""]:
        """Return the mean cross-entropy."""
        log_likelihood = jax.nn.log_softmax(self.logits(params))
        return -jnp.mean(jnp.take_along_axis(log_likelihood, self.answers[:, None], axis=1))

    def accuracy(self, params: Params) -> Float[Array, ""]:
        """Return the share of the questions that are answered correctly."""
        right = jnp.argmax(self.logits(params), axis=1) == self.answers
        return jnp.mean(right.astype(jnp.result_type(float)))


def clipped(gradient: Params, bound: Float[Array, ""]) -> Params:
    """Return a gradient, shortened to the length `bound` if it is longer."""
    flat, unravel = ravel_pytree(gradient)
    length = jnp.linalg.norm(flat)
    share = jnp.where(length > bound, bound.astype(flat.dtype) / jnp.maximum(length, 1e-30), 1)
    return unravel(share * flat)


class State(eqx.Module):
    """Where the optimizer, or its flow, is.

    Attributes:
        params: The parameters.
    """

    params: Params


class ClippedGradientDescent(flows.AbstractOptimizer):
    """Gradient descent with clipped gradients, w' = w - eta g min(1, c / |g|).

    Attributes:
        learning_rate: eta.
        bound: c, the longest gradient that is not shortened.
    """

    learning_rate: Float[Array, ""] = eqx.field(converter=jnp.asarray)
    bound: Float[Array, ""] = eqx.field(converter=jnp.asarray)

    def init(self, params: Params) -> State:
        """Return the state at `params`."""
        return State(params)

    def step(self, state: State, potential: flows.Potential) -> State:
        """Return the state after one step."""
        move = clipped(jax.grad(potential)(state.params), self.bound)
        rate = self.learning_rate
        return State(jax.tree.map(lambda w, g: w - rate.astype(w.dtype) * g, state.params, move))

    def params(self, state: State) -> Params:
        """Return the iterate."""
        return state.params

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 / eta: near a minimum nothing is clipped."""
        return 2 / self.learning_rate

    @property
    def cost(self) -> flows.Cost:
        """One gradient."""
        return flows.Cost(gradients=1)


class ClippedGradientFlow(flows.AbstractFlow):
    """The limit of clipped gradient descent for small steps, dw/dt = -eta g min(1, c / |g|).

    Attributes:
        optimizer: The optimizer that is modelled.
    """

    optimizer: ClippedGradientDescent

    variables: ClassVar[Mapping[str, flows.Variable]] = {
        "speed": flows.Variable("parameter", "distance travelled per step, at most eta c"),
        "predicted_loss": flows.Variable("loss", "loss that the flow predicts"),
    }
    cost: ClassVar[flows.Cost] = flows.Cost(gradients=1)

    def init(self, potential: flows.Potential, params: Params) -> State:
        """Return the state at `params`."""
        return State(params)

    def vector_field(self, t: Float[Array, ""], state: State, args: flows.Potential) -> State:
        """Return -eta g min(1, c / |g|)."""
        move = clipped(jax.grad(args)(state.params), self.optimizer.bound)
        rate = self.optimizer.learning_rate
        return State(jax.tree.map(lambda g: -rate.astype(g.dtype) * g, move))

    def params(self, state: State) -> Params:
        """Return the parameters."""
        return state.params

    def observables(self, state: State, potential: flows.Potential) -> dict[str, Array]:
        """Return the speed and the loss."""
        velocity, _ = ravel_pytree(self.vector_field(jnp.zeros(()), state, potential).params)
        return {"speed": jnp.linalg.norm(velocity), "predicted_loss": potential(state.params)}


def main(steps: int = 200, learning_rate: float = 0.3, bound: float = 1.0) -> dict[str, float]:
    """Train the transformer, run two flows beside it, and return what was measured.

    Args:
        steps: Steps of the optimizer.
        learning_rate: eta.
        bound: c.
    """
    loss = ModularAddition()
    start = loss.init(jax.random.key(0))
    optimizer = ClippedGradientDescent(learning_rate, bound)
    measurements = (
        flows.LossAndGradient(),
        flows.Curvature(1, every=10),
        flows.ScalarMeasurement("accuracy", lambda potential, params: potential.accuracy(params)),
    )
    discrete = flows.iterate(optimizer, loss, start, steps, measurements=measurements)
    own = flows.simulate(ClippedGradientFlow(optimizer), loss, start, steps)
    plain = flows.GradientFlow(flows.GradientDescent(learning_rate))
    unclipped = flows.simulate(plain, loss, start, steps)
    # Clipping divides the learning rate by |g| / c, and so multiplies the threshold.
    excess = jnp.maximum(discrete.observables["gradient_norm"] / bound, 1)
    threshold = 2 * excess / learning_rate
    return {
        "final loss": float(discrete.observables["loss"][-1]),
        "final accuracy": float(discrete.observables["accuracy"][-1]),
        "largest sharpness, over its threshold": float(
            jnp.nanmax(discrete.observables["sharpness"] / threshold)
        ),
        "largest speed of the clipped flow, over eta c": float(
            jnp.max(own.observables["speed"]) / (learning_rate * bound)
        ),
        "tracking error of the clipped flow": float(flows.tracking_error(own, discrete)),
        "tracking error of gradient flow": float(flows.tracking_error(unclipped, discrete)),
    }


experiments.register_potential("modular_addition", ModularAddition, network=True)
experiments.register_optimizer(
    "clipped_gradient_descent", ClippedGradientDescent, critical_label="2/eta"
)
experiments.register_flow("clipped_gradient", ClippedGradientFlow)

if __name__ == "__main__":
    for quantity, value in main().items():
        print(f"{quantity:48} {value:.4g}")
