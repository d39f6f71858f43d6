"""The metric in which an optimizer descends: its preconditioner, as an operator on flat vectors.

A preconditioned step is w' = w - eta P^-1 g. In the coordinates P^(1/2) w it is a step of gradient
descent, so that what decides about stability are the eigenpairs of H u = lambda P u, with
U^T P U = 1.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core.arrays import Vector, divisor

Vectors = Float[Array, "*batch parameter"]


class AbstractMetric(eqx.Module):
    """A symmetric positive definite matrix P, known by what it does to vectors.

    Each method takes flat vectors of parameters, (P,), or a batch of them along the leading axes.
    """

    @abc.abstractmethod
    def apply(self, vectors: Vectors) -> Vectors:
        """Return P v."""

    @abc.abstractmethod
    def inverse(self, vectors: Vectors) -> Vectors:
        """Return P^-1 v."""

    @abc.abstractmethod
    def sqrt(self, vectors: Vectors) -> Vectors:
        """Return P^(1/2) v, with the symmetric root."""

    @abc.abstractmethod
    def inverse_sqrt(self, vectors: Vectors) -> Vectors:
        """Return P^(-1/2) v."""


class IdentityMetric(AbstractMetric):
    """The metric of gradient descent, P = 1: each method returns its argument.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows.curvature.metric import IdentityMetric
        >>> IdentityMetric().sqrt(jnp.asarray([1.0, 2.0]))
        Array([1., 2.], dtype=float64)
    """

    def apply(self, vectors: Vectors) -> Vectors:
        """Return v."""
        return vectors

    def inverse(self, vectors: Vectors) -> Vectors:
        """Return v."""
        return vectors

    def sqrt(self, vectors: Vectors) -> Vectors:
        """Return v."""
        return vectors

    def inverse_sqrt(self, vectors: Vectors) -> Vectors:
        """Return v."""
        return vectors


class DiagonalMetric(AbstractMetric):
    """A metric that rescales each parameter, P = diag(d), as RMSProp and Adam do.

    Attributes:
        diagonal: d, (P,), in the order of `ravel_pytree(params)` and in its dtype; a parameter with
            0 is not rescaled, as `divisor` says.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows.curvature.metric import DiagonalMetric
        >>> metric = DiagonalMetric(jnp.asarray([4.0, 0.25]))
        >>> metric.inverse(jnp.ones(2))
        Array([0.25, 4.  ], dtype=float64)
        >>> metric.sqrt(metric.sqrt(jnp.ones(2))) == metric.apply(jnp.ones(2))
        Array([ True,  True], dtype=bool)
    """

    diagonal: Vector

    def apply(self, vectors: Vectors) -> Vectors:
        """Return d v, entry by entry."""
        return vectors * jnp.broadcast_to(divisor(self.diagonal), vectors.shape)

    def inverse(self, vectors: Vectors) -> Vectors:
        """Return v / d."""
        return vectors / jnp.broadcast_to(divisor(self.diagonal), vectors.shape)

    def sqrt(self, vectors: Vectors) -> Vectors:
        """Return the product of v and the root of d."""
        return vectors * jnp.broadcast_to(jnp.sqrt(divisor(self.diagonal)), vectors.shape)

    def inverse_sqrt(self, vectors: Vectors) -> Vectors:
        """Return v over the root of d."""
        return vectors / jnp.broadcast_to(jnp.sqrt(divisor(self.diagonal)), vectors.shape)
