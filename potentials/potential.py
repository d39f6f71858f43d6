"""The interface that every potential of this package has."""

import abc

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree


class AbstractPotential(eqx.Module):
    """A loss as a function of its parameters, with a way to draw a start.

    Flows and optimizers only call the potential, so any function `params -> scalar` works in its
    place. A subclass is a frozen pytree whose numbers are array leaves: a new value neither
    recompiles a program nor blocks `jax.vmap`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxtyping import Array
        >>> from potentials import AbstractPotential
        >>> class Cosine(AbstractPotential):
        ...     height: Array
        ...     def __call__(self, params):
        ...         return self.height * (1.0 - jnp.cos(params[0]))
        ...     def init(self, key):
        ...         return jax.random.uniform(key, (1,))
        >>> float(Cosine(jnp.asarray(3.0))(jnp.asarray([jnp.pi])))
        6.0
    """

    @abc.abstractmethod
    def __call__(self, params: PyTree[Array]) -> Float[Array, ""]:
        """Return the loss at `params`, in the dtype of the parameters.

        Args:
            params: a pytree of float arrays, of the structure and shapes that `init` gives.

        Returns:
            A scalar, differentiable in `params` to third order.

        Raises:
            ValueError: if a leaf has another shape than the potential takes.
        """

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray) -> PyTree[Array]:
        """Draw parameters to start from.

        Args:
            key: a PRNG key, as `jax.random.key(seed)` gives it.

        Returns:
            A pytree of arrays of JAX's default float dtype.
        """
