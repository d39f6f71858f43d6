"""Flat space, for the leaves that no surface holds."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from .manifold import AbstractManifold, Groups, Leaf, Retraction, Transport


class Euclidean(AbstractManifold):
    """Flat space: arrays of any shape, w' = w + v.

    In a `Product` it is where every leaf lives that is not put elsewhere.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Euclidean
        >>> Euclidean().retract(jnp.ones(2), jnp.asarray([1.0, 0.0]), "exponential").tolist()
        [2.0, 1.0]
    """

    retractions: ClassVar[tuple[Retraction, ...]] = ("exponential",)

    def check(self, point: Leaf, where: str) -> None:
        """Accept every shape."""
        del point, where

    def nearest(self, point: Leaf) -> Leaf:
        """Return the array itself."""
        return point

    def violation(self, point: Leaf) -> Float[Array, ""]:
        """Return 0."""
        return jnp.zeros((), point.dtype)

    def tangent(self, point: Leaf, vector: Leaf) -> Leaf:
        """Return the vector itself."""
        del point
        return vector

    def gradient(self, point: Leaf, derivative: Leaf) -> Leaf:
        """Return the derivative itself."""
        del point
        return derivative

    def inner(self, first: Leaf, second: Leaf) -> Groups:
        """Return the sum of the products of the entries."""
        return jnp.sum(first * second, keepdims=True)

    def retract(self, point: Leaf, vector: Leaf, name: Retraction) -> Leaf:
        """Return w + v."""
        del name
        return point + vector

    def transport(self, start: Leaf, end: Leaf, vector: Leaf, name: Transport) -> Leaf:
        """Return the vector itself."""
        del start, end, name
        return vector

    def squared_distance(self, first: Leaf, second: Leaf) -> Float[Array, ""]:
        """Return |x - y|^2."""
        return jnp.sum(jnp.square(first - second))

    def chart(self, point: Leaf, coordinates: Leaf) -> Leaf:
        """Return w + u."""
        return point + coordinates

    def effective(self, point: Leaf, coordinates: Leaf) -> Leaf:
        """Return all coordinates."""
        del point
        return coordinates
