"""Functions of a squared length that are smooth at zero, where their usual formulas are 0/0.

A flow is differentiated at tangent vectors of length zero: at its critical points. There a function
of |v| has no derivative that automatic differentiation finds, while these functions of |v|^2 do.
"""

from collections.abc import Callable
from typing import Final

import jax.numpy as jnp
from jaxtyping import Array, Float

# Below, the series; its first term left out is below 1e-21 there.
_SMALL: Final = 1e-2
# 2 / (n^2 binomial(2 n, n)): (2 arcsin(c / 2))^2 is their sum with c^(2 n).
_ARCS: Final = (1.0, 1 / 12, 1 / 90, 1 / 560, 1 / 3150, 1 / 16632, 1 / 84084, 1 / 411840)

Function = Callable[[Float[Array, "*axes"]], Float[Array, "*axes"]]


def _smooth(
    square: Float[Array, "*axes"], terms: tuple[float, ...], far: Function
) -> Float[Array, "*axes"]:
    """Return the polynomial where the square is small, and otherwise `far` of its root."""
    near = square < _SMALL
    # Neither branch may meet a number that makes its derivative infinite.
    small, root = jnp.where(near, square, 0), jnp.sqrt(jnp.where(near, 1, square))
    total = jnp.zeros_like(square)
    for term in reversed(terms):
        total = total * small + jnp.asarray(term, square.dtype)
    return jnp.where(near, total, far(root))


def _trigonometric(first: int, sign: int) -> tuple[float, ...]:
    """Return sign^n / (2 n + first)! for n = 0 to 5, the series of cos, sin(x)/x and their like."""
    terms, term = [], 1.0
    for n in range(6):
        terms.append(term)
        term *= sign / ((2 * n + first + 1) * (2 * n + first + 2))
    return tuple(terms)


def cos_root(square: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Return cos |v| of |v|^2."""
    return _smooth(square, _trigonometric(0, -1), jnp.cos)


def sinc_root(square: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Return sin |v| / |v| of |v|^2."""
    return _smooth(square, _trigonometric(1, -1), lambda x: jnp.sin(x) / x)


def cosh_root(square: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Return cosh |v| of |v|^2."""
    return _smooth(square, _trigonometric(0, 1), jnp.cosh)


def sinhc_root(square: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Return sinh |v| / |v| of |v|^2."""
    return _smooth(square, _trigonometric(1, 1), lambda x: jnp.sinh(x) / x)


def squared_arc(
    chord: Float[Array, "*axes"], opposite: Float[Array, "*axes"]
) -> Float[Array, "*axes"]:
    """Return the squared angle between two unit vectors, (2 arcsin(|x - y| / 2))^2.

    Args:
        chord: |x - y|^2.
        opposite: |x + y|^2, from which the angle keeps its digits where it is near pi.
    """
    # Not differentiable at opposite points, where the distance is not either.
    across = jnp.where(opposite > 0, jnp.sqrt(jnp.where(opposite > 0, opposite, 1)), 0)
    arcs = (0.0, *_ARCS)
    return _smooth(chord, arcs, lambda x: jnp.square(2 * jnp.arctan2(x, across)))


def squared_hyperbolic_arc(chord: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Return the squared distance (2 arcsinh(|x - y| / 2))^2 of |x - y|^2 on the hyperboloid.

    The formula with arccosh loses half of the digits.
    """
    arcs = (0.0, *((-1) ** n * term for n, term in enumerate(_ARCS)))
    return _smooth(chord, arcs, lambda x: jnp.square(2 * jnp.arcsinh(x / 2)))
