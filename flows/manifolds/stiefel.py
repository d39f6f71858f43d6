"""The Stiefel manifold of matrices with orthonormal columns, or rows."""

from typing import ClassVar, Final, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .manifold import AbstractManifold, Groups, Leaf, Retraction, Transport

Matrix = Float[Array, "rows columns"]

# Of Newton's method for the polar factor: up to a condition number of 1e7, the last one spare.
_ITERATIONS: Final = 12


def _symmetric(matrix: Matrix) -> Matrix:
    return 0.5 * (matrix + matrix.T)


def polar_factor(matrix: Matrix) -> Matrix:
    """Return A (A^T A)^(-1/2), the matrix with orthonormal columns that is nearest to A.

    It is found by Newton's method, Y <- (m Y + Y (Y^T Y)^-1 / m)/2 with the scale m that makes both
    terms of a size: products and inverses, whose derivatives exist where singular values are
    equal, as at a tangent vector of zero, and those of a singular value decomposition do not.

    Args:
        matrix: A, with at least as many rows as columns.

    Returns:
        A matrix like A; nan if the columns are linearly dependent up to rounding errors.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows.manifolds.stiefel import polar_factor
        >>> found = polar_factor(jnp.asarray([[3.0, 0.0], [0.0, 0.1], [4.0, 0.0]]))
        >>> [[round(float(x), 6) for x in row] for row in found]
        [[0.6, 0.0], [0.0, 1.0], [0.8, 0.0]]
    """

    def improved(y: Matrix, _: None) -> tuple[Matrix, Float[Array, ""]]:
        gram = y.T @ y
        inverse = jnp.linalg.inv(gram)
        size, inverse_size = jnp.trace(gram), jnp.trace(inverse)
        scale = (inverse_size / size) ** 0.25
        return 0.5 * (scale * y + y @ inverse / scale), size * inverse_size

    found, conditions = lax.scan(improved, matrix, length=_ITERATIONS)
    regular = conditions[0] * jnp.finfo(matrix.dtype).eps < 0.1
    return jnp.where(regular, found, jnp.nan)


def _orthonormalised(matrix: Matrix) -> Matrix:
    """Return the factor Q of the QR decomposition with a positive diagonal of R."""
    q, r = jnp.linalg.qr(matrix)
    return q * jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(q.dtype)[None, :]


def _exponential(x: Matrix, v: Matrix) -> Matrix:
    """Return the geodesic of the embedded metric (Edelman, Arias and Smith 1998, equation 2.27)."""
    count = x.shape[1]
    one, turn = jnp.eye(count, dtype=x.dtype), x.T @ v
    generator = jnp.block([[turn, -v.T @ v], [one, turn]])
    moved = jax.scipy.linalg.expm(generator)[:, :count] @ jax.scipy.linalg.expm(-turn)
    return x @ moved[:count] + v @ moved[count:]


class Stiefel(AbstractManifold):
    """Matrices with orthonormal columns, X^T X = I, or orthonormal rows, in the embedded metric.

    P_X Z = Z - X sym(X^T Z). The retraction "polar", (X + V)((X + V)^T (X + V))^(-1/2), is of
    second order; "qr" is of first order: a corrected flow gains nothing with it. "exponential" is
    the geodesic. Parallel transport has no formula: projection takes its place.

    An array with more axes is a matrix with the entries of each row, or column, in one line: so the
    weights of a convolution, (outputs, inputs, height, width), may have orthonormal output channels
    ("rows") or input channels ("columns").

    Attributes:
        orthonormal: "columns" or "rows".

    Raises:
        ValueError: If `orthonormal` is another word.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Stiefel
        >>> x = Stiefel().nearest(jnp.asarray([[2.0, 1.0], [0.0, 2.0], [0.0, 0.0]]))
        >>> (x.T @ x).round(12).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    orthonormal: Literal["columns", "rows"] = eqx.field(static=True, default="columns")

    retractions: ClassVar[tuple[Retraction, ...]] = ("polar", "qr", "exponential")

    def __post_init__(self):
        if self.orthonormal not in ("columns", "rows"):
            raise ValueError(f'orthonormal must be "columns" or "rows"; got {self.orthonormal!r}.')

    def check(self, point: Leaf, where: str) -> None:
        """Accept arrays of two axes or more whose orthonormal lines are long enough.

        Raises:
            ValueError: If the array is no matrix, or has more lines than entries in each.
        """
        if point.ndim < 2:
            raise ValueError(
                f"{where} must be a matrix to have orthonormal {self.orthonormal}; got shape "
                f"{point.shape}."
            )
        length, count = self._shape(point)
        if count > length:
            raise ValueError(
                f"{where} must have at most as many {self.orthonormal} as each of them has entries "
                f"if they shall be orthonormal; got shape {point.shape}, {count} {self.orthonormal}"
                f" of {length} entries."
            )

    def nearest(self, point: Leaf) -> Leaf:
        """Return the polar factor; nan if lines are linearly dependent."""
        return self._back(polar_factor(self._matrix(point)), point)

    def violation(self, point: Leaf) -> Float[Array, ""]:
        """Return the largest entry of |X^T X - I|."""
        x = self._matrix(point)
        return jnp.max(jnp.abs(x.T @ x - jnp.eye(x.shape[1], dtype=x.dtype)))

    def tangent(self, point: Leaf, vector: Leaf) -> Leaf:
        """Return Z - X sym(X^T Z)."""
        x, z = self._matrix(point), self._matrix(vector)
        return self._back(z - x @ _symmetric(x.T @ z), point)

    def gradient(self, point: Leaf, derivative: Leaf) -> Leaf:
        """Return the projection of the derivative."""
        return self.tangent(point, derivative)

    def inner(self, first: Leaf, second: Leaf) -> Groups:
        """Return the sum of the products of the entries."""
        return jnp.sum(first * second, keepdims=True)

    def retract(self, point: Leaf, vector: Leaf, name: Retraction) -> Leaf:
        """Return R_X(V)."""
        x, v = self._matrix(point), self._matrix(vector)
        if name == "qr":
            return self._back(_orthonormalised(x + v), point)
        return self._back(
            polar_factor(_exponential(x, v) if name == "exponential" else x + v), point
        )

    def transport(self, start: Leaf, end: Leaf, vector: Leaf, name: Transport) -> Leaf:
        """Return the projection onto the tangent space at the other point."""
        del start, name
        return self.tangent(end, vector)

    def squared_distance(self, first: Leaf, second: Leaf) -> Float[Array, ""]:
        """Return the square of the chord |X - Y|: the geodesic has no formula, and is longer."""
        return jnp.sum(jnp.square(first - second))

    def chart(self, point: Leaf, coordinates: Leaf) -> Leaf:
        """Return X + V - X V^T V/2, with V the tangent part of the coordinates."""
        vector = self.tangent(point, coordinates)
        x, v = self._matrix(point), self._matrix(vector)
        return self._back(x + v - 0.5 * x @ (v.T @ v), point)

    def effective(self, point: Leaf, coordinates: Leaf) -> Leaf:
        """Return the tangent part."""
        return self.tangent(point, coordinates)

    def _shape(self, point: Leaf) -> tuple[int, int]:
        """Return how long a line is, and how many there are."""
        count = point.shape[0 if self.orthonormal == "rows" else 1]
        return point.size // max(count, 1), count

    def _matrix(self, leaf: Leaf) -> Matrix:
        """Return an array as a matrix whose columns shall be orthonormal."""
        if self.orthonormal == "rows":
            return leaf.reshape(leaf.shape[0], -1).T
        return jnp.moveaxis(leaf, 1, -1).reshape(-1, leaf.shape[1])

    def _back(self, matrix: Matrix, like: Leaf) -> Leaf:
        """Return such a matrix as an array of the shape of another."""
        if self.orthonormal == "rows":
            return matrix.T.reshape(like.shape)
        moved = (like.shape[0], *like.shape[2:], like.shape[1])
        return jnp.moveaxis(matrix.reshape(moved), -1, 1)
