"""A small attention block, whose tokens are the rows of an image."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

import potentials


class AttentionBlock(potentials.AbstractNetwork):
    """One block of self-attention and an MLP over the rows of an image, each with a bypass.

    Args:
        shape: (rows, pixels of a row).
        outputs: Number of outputs.
        width: Of the residual stream.
        heads: Of the attention; they divide the width.
        key: PRNG key of the weights.
    """

    embedding: eqx.nn.Linear
    places: Float[Array, "row width"]
    attention: eqx.nn.MultiheadAttention
    mlp: eqx.nn.MLP
    readout: eqx.nn.Linear
    shape: tuple[int, int] = eqx.field(static=True)
    heads: int = eqx.field(static=True)

    def __init__(
        self, shape: tuple[int, int], outputs: int, width: int, heads: int, *, key: PRNGKeyArray
    ):
        keys = jax.random.split(key, 5)
        self.shape, self.heads = shape, heads
        self.embedding = eqx.nn.Linear(shape[1], width, key=keys[0])
        self.places = jax.random.normal(keys[1], (shape[0], width)) / jnp.sqrt(1.0 * width)
        self.attention = eqx.nn.MultiheadAttention(heads, width, key=keys[2])
        self.mlp = eqx.nn.MLP(width, width, 2 * width, 1, jax.nn.gelu, key=keys[3])
        self.readout = eqx.nn.Linear(width, outputs, key=keys[4])

    def __call__(self, example: Float[Array, "..."]) -> Float[Array, " outputs"]:
        """Return the outputs for one image."""
        x = jax.vmap(self.embedding)(example.reshape(self.shape)) + self.places
        x = x + self.attention(x, x, x)
        x = x + jax.vmap(self.mlp)(x)
        return self.readout(jnp.mean(x, axis=0))

    def redraw(self, key: PRNGKeyArray) -> "AttentionBlock":
        """Return a block of the same sizes with fresh weights."""
        outputs, width = self.readout.weight.shape
        return AttentionBlock(self.shape, outputs, width, self.heads, key=key)
