"""The interface that every potential of this package has."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray


class AbstractPotential(eqx.Module):
    """A loss as a function of its parameters, with a way to draw a start.

    Flows and optimizers need the call only, so that any function `params -> scalar` may stand in
    a potential's place. A subclass is a frozen pytree: what is numeric in it is an array leaf, so
    that a new value neither recompiles nor blocks `jax.vmap`.
    """

    @abc.abstractmethod
    def __call__(self, params: Any) -> Float[Array, ""]:
        """The loss at `params`, a pytree of float arrays; the loss has their dtype.

        Args:
            params: a pytree of float arrays, of the structure and shapes that `init` gives.

        Returns:
            A scalar, differentiable in `params` to third order.

        Raises:
            ValueError: if a leaf has another shape than the potential takes.
        """

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray) -> Any:
        """Draw parameters to start from.

        Args:
            key: a PRNG key, as `jax.random.key(seed)` gives it.

        Returns:
            A pytree of arrays of JAX's default float dtype.
        """
