"""The abstraction of a manifold: a surface that parameters stay on."""

import abc
from typing import Literal, TypeAlias

import equinox as eqx
from jaxtyping import Array, Float

Leaf: TypeAlias = Float[Array, "..."]
"""One array of parameters: a point of a manifold, or a vector at one."""

Groups: TypeAlias = Float[Array, "..."]
"""A number for each group of a leaf's entries, with axes of length 1 so that it multiplies it."""

Retraction: TypeAlias = Literal["exponential", "normalisation", "polar", "qr"]
"""How a tangent vector becomes a step on a manifold."""

Transport: TypeAlias = Literal["parallel", "projection"]
"""How a tangent vector is carried to another point."""


class AbstractManifold(eqx.Module):
    """A Riemannian manifold of arrays, each a point of it; a final subclass has no array fields.

    The metric is the one of the space around it, Euclidean or Lorentzian. All methods may be
    differentiated, at tangent vectors of length zero too. `Product` puts the leaves of parameters
    on manifolds like this one.

    Attributes:
        retractions: The names that `retract` takes; the first is the default, a retraction of
            second order: R_w(v) = exp_w(v) + O(|v|^3).

    Example:
        >>> from flows import AbstractManifold, Sphere, Stiefel
        >>> isinstance(Sphere(), AbstractManifold), Sphere.retractions, Stiefel.retractions
        (True, ('exponential', 'normalisation'), ('polar', 'qr', 'exponential'))
    """

    retractions: eqx.AbstractClassVar[tuple[Retraction, ...]]

    @abc.abstractmethod
    def check(self, point: Leaf, where: str) -> None:
        """Check the shape of what shall be a point.

        Args:
            point: The array, whose values are not looked at.
            where: What it is called, for the message.

        Raises:
            ValueError: If no point has this shape.
        """

    @abc.abstractmethod
    def nearest(self, point: Leaf) -> Leaf:
        """Return the point of the manifold that an array is put to; nan if none is distinguished.

        An array on the manifold stays where it is.
        """

    @abc.abstractmethod
    def violation(self, point: Leaf) -> Float[Array, ""]:
        """Return by how much the array misses the manifold's equation, 0 on it."""

    @abc.abstractmethod
    def tangent(self, point: Leaf, vector: Leaf) -> Leaf:
        """Return the orthogonal projection of a vector onto the tangent space at a point."""

    @abc.abstractmethod
    def gradient(self, point: Leaf, derivative: Leaf) -> Leaf:
        """Return the Riemannian gradient, given the partial derivatives of the loss."""

    @abc.abstractmethod
    def inner(self, first: Leaf, second: Leaf) -> Groups:
        """Return the inner product of tangent vectors at a point, for each group by itself."""

    @abc.abstractmethod
    def retract(self, point: Leaf, vector: Leaf, name: Retraction) -> Leaf:
        """Return R_w(v), the point that a tangent vector leads to, by one of `retractions`."""

    @abc.abstractmethod
    def transport(self, start: Leaf, end: Leaf, vector: Leaf, name: Transport) -> Leaf:
        """Return a tangent vector at `start` carried to `end`.

        Args:
            start: Where the vector is.
            end: Where it shall be.
            vector: The vector.
            name: "parallel" along the shortest geodesic, where that is known, or "projection"
                onto the tangent space at `end`.
        """

    @abc.abstractmethod
    def squared_distance(self, first: Leaf, second: Leaf) -> Float[Array, ""]:
        """Return the square of the length of the shortest path between two points."""

    @abc.abstractmethod
    def chart(self, point: Leaf, coordinates: Leaf) -> Leaf:
        """Return the point with the given normal coordinates, up to terms of third order.

        The coordinates are an array like the point, in which the tangent vectors are orthonormal;
        those that belong to no tangent vector do nothing. So the Riemannian Hessian at a point is
        the Hessian of L(chart(point, u)) at u = 0, on the space that `effective` projects to.
        """

    @abc.abstractmethod
    def effective(self, point: Leaf, coordinates: Leaf) -> Leaf:
        """Return the coordinates of `chart` without those that do nothing, which are orthogonal."""
