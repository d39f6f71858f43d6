"""Small networks for studies of training dynamics; each maps one example to one prediction.

`SupervisedPotential` maps them over a batch, as it does with any other `equinox.Module`. The
networks here add `redraw`, by which a potential draws fresh weights from a key, and default choices
that have derivatives of every order (smooth activations, average pooling).
"""

import abc
import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from potentials.checks import PositiveInteger, Sizes, checked

Activation: TypeAlias = Literal["gelu", "identity", "relu", "softplus", "tanh"]
"""The name of an activation, a key of `ACTIVATIONS`."""


def _identity(x: Array) -> Array:
    return x


ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "gelu": jax.nn.gelu,
    "identity": _identity,
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}
"""Activations by name. All but relu have derivatives of every order; with identity a network is
deep linear; gelu is the tanh approximation."""


class AbstractNetwork(eqx.Module):
    """A model of one example that can draw fresh weights.

    Example:
        >>> import equinox as eqx
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from potentials import AbstractNetwork
        >>> class Linear(AbstractNetwork):
        ...     weight: jax.Array
        ...     def __call__(self, example):
        ...         return self.weight @ example
        ...     def redraw(self, key):
        ...         return Linear(jax.random.normal(key, self.weight.shape))
        >>> Linear(jnp.ones((1, 2)))(jnp.asarray([3.0, 4.0])).tolist()
        [7.0]
    """

    @abc.abstractmethod
    def __call__(self, example: Float[Array, "..."]) -> Float[Array, " outputs"]:
        """Return the prediction for one example (no batch axis).

        Raises:
            ValueError: if the example has another shape than the network takes.
        """

    @abc.abstractmethod
    def redraw(self, key: PRNGKeyArray) -> "AbstractNetwork":
        """Return the same network with fresh weights, of JAX's default float dtype."""


class MLP(AbstractNetwork):
    """A fully connected network, h_(l+1) = activation(W_l h_l + b_l), linear in its last layer.

    Weights and biases start uniform within +-1/sqrt(fan-in), the default of Equinox and PyTorch.

    Args:
        widths: numbers of units from the input to the output, two or more of them:
            (64, 32, 32, 10) has two hidden layers, (64, 10) is linear.
        activation: one of `ACTIVATIONS`, or a function of arrays, applied entrywise.
        bias: whether layers have biases.
        key: PRNG key of the weights.

    Raises:
        ValueError: if `widths` has fewer than two entries or one that is not a whole number >= 1,
            or `activation` is no known name.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from potentials import MLP, parameter_count
        >>> network = MLP((2, 3, 1), "gelu", key=jax.random.key(0))
        >>> network(jnp.ones(2)).shape, parameter_count(network)
        ((1,), 13)
    """

    layers: tuple[eqx.nn.Linear, ...]
    widths: tuple[int, ...] = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)
    bias: bool = eqx.field(static=True)

    @checked
    def __init__(
        self,
        widths: Sizes,
        activation: Activation | Callable[[Array], Array] = "tanh",
        bias: bool = True,
        *,
        key: PRNGKeyArray,
    ):
        if len(widths) < 2:
            raise ValueError(
                f"widths must hold at least the numbers of inputs and outputs, got {widths}."
            )
        keys = jax.random.split(key, len(widths) - 1)
        self.widths = tuple(widths)
        self.activation = _activation(activation)
        self.bias = bool(bias)
        self.layers = tuple(
            eqx.nn.Linear(n, m, use_bias=self.bias, key=k)
            for n, m, k in zip(widths[:-1], widths[1:], keys, strict=True)
        )

    def __call__(self, example: Float[Array, "..."]) -> Float[Array, " outputs"]:
        """Return outputs of shape (widths[-1],) for an example of widths[0] entries, any shape."""
        if example.size != self.widths[0]:
            raise ValueError(
                f"this MLP takes examples with widths[0] = {self.widths[0]} entries, got shape "
                f"{example.shape}."
            )
        x = example.reshape(-1)
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)

    def redraw(self, key: PRNGKeyArray) -> "MLP":
        """Return an MLP of the same widths, activation and bias with fresh weights."""
        return MLP(self.widths, self.activation, self.bias, key=key)


class CNN(AbstractNetwork):
    """A small convolutional network for square images.

    Each block is a convolution (stride 1, zero padding that keeps the size), the activation and a
    pooling: over 2 x 2 windows, and in the last block down to 2 x 2 pixels, so that the number of
    parameters does not grow with the image. One linear layer makes the outputs. The default has
    2514 parameters for 8 x 8 grey images and 2730 for 32 x 32 colour images with 10 outputs.
    Weights and biases start uniform within +-1/sqrt(fan-in), as in `MLP`.

    Args:
        shape: (channels, height, width) of one image, height and width equal.
        outputs: number of outputs.
        channels: numbers of channels after each convolution; one block for each.
        activation: one of `ACTIVATIONS`, or a function of arrays, applied entrywise.
        kernel_size: side of the convolution kernels, odd.
        pooling: "average", or "max", which has no second derivatives at ties.
        bias: whether layers have biases.
        key: PRNG key of the weights.

    Raises:
        ValueError: if the image is not square or its side is not 2^(number of blocks) times a
            whole number, a size is not a whole number >= 1, the kernel size is even, or the name
            of an activation or a pooling is unknown.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from potentials import CNN
        >>> network = CNN((1, 4, 4), outputs=3, channels=(2,), key=jax.random.key(0))
        >>> network(jnp.ones((1, 4, 4))).shape
        (3,)
    """

    convolutions: tuple[eqx.nn.Conv2d, ...]
    linear: eqx.nn.Linear
    shape: tuple[int, ...] = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)
    kernel_size: int = eqx.field(static=True)
    pooling: Literal["average", "max"] = eqx.field(static=True)
    bias: bool = eqx.field(static=True)

    @checked
    def __init__(
        self,
        shape: Sizes,
        outputs: PositiveInteger,
        channels: Sizes = (12, 16),
        activation: Activation | Callable[[Array], Array] = "tanh",
        kernel_size: PositiveInteger = 3,
        pooling: Literal["average", "max"] = "average",
        bias: bool = True,
        *,
        key: PRNGKeyArray,
    ):
        self.shape = tuple(shape)
        self.outputs = outputs
        self.channels = tuple(channels)
        self.activation = _activation(activation)
        self.kernel_size = kernel_size
        self.pooling = pooling
        self.bias = bool(bias)
        self._check_sizes()
        *conv_keys, linear_key = jax.random.split(key, len(self.channels) + 1)
        self.convolutions = tuple(
            eqx.nn.Conv2d(n, m, self.kernel_size, padding="SAME", use_bias=self.bias, key=k)
            for n, m, k in zip(
                (self.shape[0], *self.channels[:-1]), self.channels, conv_keys, strict=True
            )
        )
        self.linear = eqx.nn.Linear(
            4 * self.channels[-1], self.outputs, use_bias=self.bias, key=linear_key
        )

    def __call__(self, example: Float[Array, "..."]) -> Float[Array, " outputs"]:
        """Return outputs of shape (outputs,) for an image of shape (channels, height, width)."""
        if example.shape != self.shape:
            raise ValueError(
                f"this CNN takes images of shape {self.shape} (channels first), got {example.shape}"
            )
        x = example
        for convolution in self.convolutions[:-1]:
            x = self._pool(self.activation(convolution(x)), x.shape[1] // 2)
        x = self._pool(self.activation(self.convolutions[-1](x)), 2)
        return self.linear(x.reshape(-1))

    def redraw(self, key: PRNGKeyArray) -> "CNN":
        """Return a CNN of the same sizes and choices with fresh weights."""
        return CNN(
            self.shape,
            self.outputs,
            self.channels,
            self.activation,
            self.kernel_size,
            self.pooling,
            self.bias,
            key=key,
        )

    def _check_sizes(self) -> None:
        if not self.channels:
            raise ValueError("channels must name at least one convolution, got an empty sequence.")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}.")
        if len(self.shape) != 3 or self.shape[1] != self.shape[2]:
            raise ValueError(
                f"shape must be (channels, side, side) of a square image, got {self.shape}."
            )
        # The last block leaves 2 x 2 pixels, every block before it halves the side.
        multiple = 2 ** len(self.channels)
        if self.shape[1] % multiple:
            raise ValueError(
                f"shape {self.shape}: with {len(self.channels)} convolutions the side must be a "
                f"multiple of {multiple}."
            )

    def _pool(self, x: Float[Array, "c s s"], side: int) -> Float[Array, "c t t"]:
        windows = x.reshape(x.shape[0], side, x.shape[1] // side, side, x.shape[2] // side)
        reduce = jnp.mean if self.pooling == "average" else jnp.max
        return reduce(windows, axis=(2, 4))


def parameter_count(model: PyTree) -> int:
    """Return P, how many numbers the float arrays of a model hold.

    Args:
        model: a model, its parameters, or any other pytree. Integers, functions and all other
            leaves that are no float arrays are not counted.

    Returns:
        P, a Python int.

    Example:
        >>> import jax
        >>> from potentials import MLP, parameter_count
        >>> parameter_count(MLP((64, 32, 32, 10), key=jax.random.key(0)))
        3466
    """
    return sum(
        math.prod(leaf.shape) for leaf in jax.tree.leaves(model) if eqx.is_inexact_array(leaf)
    )


def _activation(activation: Activation | Callable[[Array], Array]) -> Callable[[Array], Array]:
    return activation if callable(activation) else ACTIVATIONS[activation]
