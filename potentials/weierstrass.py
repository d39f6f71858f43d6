"""Functions that are rough at every scale down to a finest one: truncated sums of waves."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from potentials.checks import (
    Number,
    PositiveInteger,
    ProperFraction,
    ScalarLike,
    checked,
    parameters,
)
from potentials.potential import AbstractPotential


class WeierstrassSine(AbstractPotential):
    """f_n(t) = sum over k = 1..n of sin(k^2 t) / k^2 of a parameter t with shape (1,).

    Riemann's example, truncated. Its derivative is the sum of cos(k^2 t), without the 1/k^2: up to
    n in size, changing over lengths of 1/n^2. It is odd, has the period 2 pi and slope n at 0. On
    [0, 2.1] f_100 has 1562 interior local minima, the test bed of arXiv 2505.19527.

    Args:
        terms: n, at least 1.

    Raises:
        ValueError: if `terms` is no whole number of at least 1.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from potentials import WeierstrassSine
        >>> rough = WeierstrassSine(terms=10)
        >>> float(rough(jnp.zeros(1))), jax.grad(rough)(jnp.zeros(1)).tolist()
        (0.0, [10.0])
    """

    # The squares k^2 as an array, not n: a leaf neither recompiles nor blocks `jax.vmap`.
    frequencies: Float[Array, " n"]

    @checked
    def __init__(self, terms: PositiveInteger = 100):
        self.frequencies = jnp.arange(1, terms + 1, dtype=jnp.result_type(float)) ** 2

    def __call__(self, params: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """The sum of sin(k^2 t) / k^2 for `params` t of shape (1,)."""
        t = parameters("WeierstrassSine", params, (1,))[0]
        frequencies = self.frequencies.astype(t.dtype)
        return jnp.sum(jnp.sin(frequencies * t) / frequencies)

    def init(self, key: PRNGKeyArray) -> Float[Array, " 1"]:
        """Draw t uniform within (0, 2.1), shape (1,)."""
        return 2.1 * jax.random.uniform(key, (1,))


class Weierstrass(AbstractPotential):
    """W(t) = sum over k = 0..n-1 of a^k cos(b^k pi t) of a parameter t with shape (1,).

    Weierstrass's function for n -> infinity, which has no derivative anywhere if a b >= 1
    (Hardy, Trans. AMS 17, 1916). Truncated it is smooth, with slopes up to
    pi ((a b)^n - 1) / (a b - 1) and curvatures up to pi^2 ((a b^2)^n - 1) / (a b^2 - 1). It is
    even; for whole b its period is 2, its maximum W(0) = (1 - a^n) / (1 - a), and for odd b the
    minimum is -W(0), at t = 1.

    Args:
        a: decay of the amplitudes, between 0 and 1.
        b: growth of the frequencies, above 1.
        terms: n, at least 1.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import Weierstrass
        >>> rough = Weierstrass(a=0.5, b=3.0, terms=2)
        >>> [float(rough(jnp.asarray([t]))) for t in (0.0, 1.0)]
        [1.5, -1.5]
    """

    a: Float[Array, ""]
    b: Float[Array, ""]
    orders: Float[Array, " n"]

    @checked
    def __init__(
        self,
        a: ProperFraction = 0.5,
        b: Annotated[ScalarLike, Number(above=1.0)] = 3.0,
        terms: PositiveInteger = 8,
    ):
        self.a, self.b = jnp.asarray(a), jnp.asarray(b)
        self.orders = jnp.arange(terms, dtype=jnp.result_type(float))

    def __call__(self, params: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """The sum of a^k cos(b^k pi t) for `params` t of shape (1,)."""
        t = parameters("Weierstrass", params, (1,))[0]
        orders = self.orders.astype(t.dtype)
        amplitudes = self.a.astype(t.dtype) ** orders
        return jnp.sum(amplitudes * jnp.cos(jnp.pi * self.b.astype(t.dtype) ** orders * t))

    def init(self, key: PRNGKeyArray) -> Float[Array, " 1"]:
        """Draw t uniform within a period, (-1, 1), shape (1,)."""
        return jax.random.uniform(key, (1,), minval=-1.0, maxval=1.0)
