"""The unit sphere, and the oblique manifold: one unit sphere for each row or column."""

from typing import ClassVar, Literal, TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .manifold import AbstractManifold, Groups, Leaf, Retraction, Transport
from .series import cos_root, sinc_root, squared_arc

Axes: TypeAlias = tuple[int, ...] | None
"""The axes along which the entries of one unit vector lie; None for all."""

Channels: TypeAlias = Literal["rows", "columns", "kernels"]
"""Which entries of a weight are one vector: those of an output channel, an input channel, both."""

_RETRACTIONS: tuple[Retraction, ...] = ("exponential", "normalisation")


def _dot(x: Leaf, y: Leaf, axes: Axes) -> Groups:
    return jnp.sum(x * y, axis=axes, keepdims=True)


def _normalised(point: Leaf, axes: Axes) -> Leaf:
    return point / jnp.sqrt(_dot(point, point, axes))


def _tangent(point: Leaf, vector: Leaf, axes: Axes) -> Leaf:
    return vector - _dot(point, vector, axes) * point


def _retract(point: Leaf, vector: Leaf, name: Retraction, axes: Axes) -> Leaf:
    if name == "normalisation":
        return _normalised(point + vector, axes)
    square = _dot(vector, vector, axes)
    # Of length 1 but for rounding errors, which would add up over many steps.
    return _normalised(cos_root(square) * point + sinc_root(square) * vector, axes)


def _transport(start: Leaf, end: Leaf, vector: Leaf, name: Transport, axes: Axes) -> Leaf:
    if name == "projection":
        return _tangent(end, vector, axes)
    along = _dot(end, vector, axes) / (1 + _dot(start, end, axes))
    return vector - along * (start + end)


def _squared_distance(first: Leaf, second: Leaf, axes: Axes) -> Float[Array, ""]:
    apart, across = first - second, first + second
    return jnp.sum(squared_arc(_dot(apart, apart, axes), _dot(across, across, axes)))


def _chart(point: Leaf, coordinates: Leaf, axes: Axes) -> Leaf:
    vector = _tangent(point, coordinates, axes)
    return point + vector - 0.5 * _dot(vector, vector, axes) * point


class Sphere(AbstractManifold):
    """The unit sphere |w| = 1 of arrays of any shape.

    exp_w(v) = cos|v| w + sin|v| v/|v|; the retraction "normalisation" is (w + v)/|w + v|. Both are
    of second order, and differ beyond the edge of stability.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Sphere
        >>> w, v = jnp.asarray([1.0, 0.0]), jnp.asarray([0.0, 1.0])
        >>> [round(float(x), 4) for x in Sphere().retract(w, v, "exponential")]
        [0.5403, 0.8415]
        >>> [round(float(x), 4) for x in Sphere().retract(w, v, "normalisation")]
        [0.7071, 0.7071]
    """

    retractions: ClassVar[tuple[Retraction, ...]] = _RETRACTIONS

    def check(self, point: Leaf, where: str) -> None:
        """Accept arrays of two entries or more.

        Raises:
            ValueError: If there are fewer.
        """
        if point.size < 2:
            raise ValueError(
                f"{where} must have at least two entries to move on a unit sphere; got shape "
                f"{point.shape}."
            )

    def nearest(self, point: Leaf) -> Leaf:
        """Return w/|w|; nan for zero, which has no nearest point."""
        return _normalised(point, None)

    def violation(self, point: Leaf) -> Float[Array, ""]:
        """Return | |w| - 1 |."""
        return jnp.abs(jnp.sqrt(jnp.sum(point * point)) - 1)

    def tangent(self, point: Leaf, vector: Leaf) -> Leaf:
        """Return z - (w.z) w."""
        return _tangent(point, vector, None)

    def gradient(self, point: Leaf, derivative: Leaf) -> Leaf:
        """Return the projection of the derivative."""
        return _tangent(point, derivative, None)

    def inner(self, first: Leaf, second: Leaf) -> Groups:
        """Return the sum of the products of the entries."""
        return _dot(first, second, None)

    def retract(self, point: Leaf, vector: Leaf, name: Retraction) -> Leaf:
        """Return R_w(v)."""
        return _retract(point, vector, name, None)

    def transport(self, start: Leaf, end: Leaf, vector: Leaf, name: Transport) -> Leaf:
        """Return the vector at the other point."""
        return _transport(start, end, vector, name, None)

    def squared_distance(self, first: Leaf, second: Leaf) -> Float[Array, ""]:
        """Return the squared angle between two points."""
        return _squared_distance(first, second, None)

    def chart(self, point: Leaf, coordinates: Leaf) -> Leaf:
        """Return w + v - |v|^2 w/2, with v the tangent part of the coordinates."""
        return _chart(point, coordinates, None)

    def effective(self, point: Leaf, coordinates: Leaf) -> Leaf:
        """Return the tangent part."""
        return self.tangent(point, coordinates)


class Oblique(AbstractManifold):
    """A unit sphere for each row, column or kernel of an array: a product of spheres.

    Weights of a layer have the shape (outputs, inputs, ...), as in Equinox and PyTorch. Their rows
    are grouped by output channels, their columns by input channels, and the kernels of a
    convolution by both (arXiv 1905.09054).

    Attributes:
        channels: "rows", w[i] of length 1; "columns", w[:, j]; or "kernels", w[i, j].

    Raises:
        ValueError: If `channels` is another word.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Oblique
        >>> Oblique("columns").nearest(jnp.asarray([[2.0, 0.0], [0.0, 4.0]])).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    channels: Channels = eqx.field(static=True, default="rows")

    retractions: ClassVar[tuple[Retraction, ...]] = _RETRACTIONS

    def __post_init__(self):
        if self.channels not in ("rows", "columns", "kernels"):
            raise ValueError(
                f'channels must be "rows", "columns" or "kernels"; got {self.channels!r}.'
            )

    def check(self, point: Leaf, where: str) -> None:
        """Accept arrays with the axes of the groups, and two entries or more in each.

        Raises:
            ValueError: If there are too few axes or entries.
        """
        least = 3 if self.channels == "kernels" else 2
        if point.ndim < least:
            raise ValueError(
                f"{where} must have at least {least} axes to have unit {self.channels}; got shape "
                f"{point.shape}."
            )
        entries = [point.shape[axis] for axis in self._axes(point)]
        if all(entry < 2 for entry in entries):
            raise ValueError(
                f"{where} must have at least two entries in each of its {self.channels}, to move "
                f"on unit spheres; got shape {point.shape}."
            )

    def nearest(self, point: Leaf) -> Leaf:
        """Return each group divided by its length; nan for one that is zero."""
        return _normalised(point, self._axes(point))

    def violation(self, point: Leaf) -> Float[Array, ""]:
        """Return the largest of | |w_i| - 1 |."""
        return jnp.max(jnp.abs(jnp.sqrt(_dot(point, point, self._axes(point))) - 1))

    def tangent(self, point: Leaf, vector: Leaf) -> Leaf:
        """Return z_i - (w_i.z_i) w_i."""
        return _tangent(point, vector, self._axes(point))

    def gradient(self, point: Leaf, derivative: Leaf) -> Leaf:
        """Return the projection of the derivative."""
        return _tangent(point, derivative, self._axes(point))

    def inner(self, first: Leaf, second: Leaf) -> Groups:
        """Return the inner product of each group."""
        return _dot(first, second, self._axes(first))

    def retract(self, point: Leaf, vector: Leaf, name: Retraction) -> Leaf:
        """Return R_w(v), each group on its own sphere."""
        return _retract(point, vector, name, self._axes(point))

    def transport(self, start: Leaf, end: Leaf, vector: Leaf, name: Transport) -> Leaf:
        """Return the vector at the other point."""
        return _transport(start, end, vector, name, self._axes(start))

    def squared_distance(self, first: Leaf, second: Leaf) -> Float[Array, ""]:
        """Return the sum of the squared angles."""
        return _squared_distance(first, second, self._axes(first))

    def chart(self, point: Leaf, coordinates: Leaf) -> Leaf:
        """Return w_i + v_i - |v_i|^2 w_i/2."""
        return _chart(point, coordinates, self._axes(point))

    def effective(self, point: Leaf, coordinates: Leaf) -> Leaf:
        """Return the tangent part."""
        return self.tangent(point, coordinates)

    def _axes(self, point: Leaf) -> tuple[int, ...]:
        kept = {"rows": (0,), "columns": (1,), "kernels": (0, 1)}[self.channels]
        return tuple(axis for axis in range(point.ndim) if axis not in kept)
