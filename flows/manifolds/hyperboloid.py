"""Hyperbolic space as the upper sheet of the hyperboloid in Minkowski space."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from .manifold import AbstractManifold, Groups, Leaf, Retraction, Transport
from .series import cosh_root, sinhc_root, squared_hyperbolic_arc


def _lorentz(x: Leaf, y: Leaf) -> Groups:
    """Return <x, y> = -x_0 y_0 + x_1 y_1 + ... along the last axis."""
    return jnp.sum(x * _flipped(y), axis=-1, keepdims=True)


def _flipped(x: Leaf) -> Leaf:
    return x.at[..., 0].multiply(-1)


def _origin(like: Leaf) -> Leaf:
    return jnp.zeros_like(like).at[..., 0].set(1)


class Hyperboloid(AbstractManifold):
    """Hyperbolic space of curvature -1: <x, x> = -1 and x_0 > 0 along the last axis.

    Here <x, y> = -x_0 y_0 + x_1 y_1 + ... . An array of shape (n + 1,) is a point of the space of n
    dimensions, one of shape (k, n + 1) k of them. The gradient is P J e, with J = diag(-1, 1, ...)
    and P u = u + <x, u> x; exp_x(v) = cosh|v| x + sinh|v| v/|v|.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Hyperboloid
        >>> origin = jnp.asarray([1.0, 0.0, 0.0])
        >>> point = Hyperboloid().retract(origin, jnp.asarray([0.0, 3.0, 0.0]), "exponential")
        >>> round(float(Hyperboloid().squared_distance(origin, point)), 10)
        9.0
    """

    retractions: ClassVar[tuple[Retraction, ...]] = ("exponential",)

    def check(self, point: Leaf, where: str) -> None:
        """Accept arrays with two entries or more along the last axis.

        Raises:
            ValueError: If there are fewer.
        """
        if point.ndim < 1 or point.shape[-1] < 2:
            raise ValueError(
                f"{where} must have at least two entries along its last axis to be points of a "
                f"hyperboloid; got shape {point.shape}."
            )

    def nearest(self, point: Leaf) -> Leaf:
        """Return the point with x_0 = sqrt(1 + x_1^2 + ...); nan where x_0 is not above 0."""
        height = jnp.sqrt(1 + jnp.sum(jnp.square(point[..., 1:]), axis=-1))
        return point.at[..., 0].set(jnp.where(point[..., 0] > 0, height, jnp.nan))

    def violation(self, point: Leaf) -> Float[Array, ""]:
        """Return the largest relative error of x_0."""
        height = jnp.sqrt(1 + jnp.sum(jnp.square(point[..., 1:]), axis=-1))
        return jnp.max(jnp.abs(point[..., 0] / height - 1))

    def tangent(self, point: Leaf, vector: Leaf) -> Leaf:
        """Return u + <x, u> x."""
        return vector + _lorentz(point, vector) * point

    def gradient(self, point: Leaf, derivative: Leaf) -> Leaf:
        """Return P J e."""
        return self.tangent(point, _flipped(derivative))

    def inner(self, first: Leaf, second: Leaf) -> Groups:
        """Return <u, v> of each point, positive definite on tangent vectors."""
        return _lorentz(first, second)

    def retract(self, point: Leaf, vector: Leaf, name: Retraction) -> Leaf:
        """Return exp_x(v)."""
        del name
        square = _lorentz(vector, vector)
        # On the hyperboloid but for rounding errors, which would add up over many steps.
        return self.nearest(cosh_root(square) * point + sinhc_root(square) * vector)

    def transport(self, start: Leaf, end: Leaf, vector: Leaf, name: Transport) -> Leaf:
        """Return the vector at the other point."""
        if name == "projection":
            return self.tangent(end, vector)
        along = _lorentz(end, vector) / (1 - _lorentz(start, end))
        return vector + along * (start + end)

    def squared_distance(self, first: Leaf, second: Leaf) -> Float[Array, ""]:
        """Return the sum of the squared distances 4 arcsinh(|x - y|/2)^2."""
        apart = first - second
        return jnp.sum(squared_hyperbolic_arc(_lorentz(apart, apart)))

    def chart(self, point: Leaf, coordinates: Leaf) -> Leaf:
        """Return x + v + |v|^2 x/2, with v the coordinates carried here from the lowest point."""
        origin = _origin(point)
        at_origin = self.effective(point, coordinates)
        vector = self.transport(origin, point, at_origin, "parallel")
        return point + vector + 0.5 * _lorentz(vector, vector) * point

    def effective(self, point: Leaf, coordinates: Leaf) -> Leaf:
        """Return the coordinates with 0 for the first of each point."""
        del point
        return coordinates.at[..., 0].set(0)
