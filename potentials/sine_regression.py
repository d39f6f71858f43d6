"""Fit the frequency of a sine: the smallest regression whose landscape is full of minima."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from potentials.checks import Finite, TwoOrMore, checked, parameters
from potentials.potential import AbstractPotential


class SineRegression(AbstractPotential):
    """The mean of (sin(w x_i + b) - sin(w0 x_i + b0))^2 / 2 over inputs x_i; params (w, b).

    The inputs are `examples` evenly spaced points of [-1, 1]. The loss is 0 at (w0, b0 + 2 pi m)
    and at (-w0, pi - b0 + 2 pi m); it is 2 pi periodic in b. Along w other local minima lie a
    few units apart, of a loss near 1/2, and only the well of the right frequency leads to 0. At
    (w0, b0) the Hessian is the mean of cos(w0 x + b0)^2 [[x^2, x], [x, 1]].

    Args:
        frequency: w0.
        phase: b0.
        examples: how many inputs, at least 2.

    Raises:
        ValueError: if an argument is not finite, or `examples` is below 2.

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import SineRegression
        >>> fit = SineRegression(frequency=3.0, phase=0.5)
        >>> float(fit(jnp.asarray([3.0, 0.5])))
        0.0
        >>> bool(fit(jnp.asarray([9.0, 0.5])) > 0.4)
        True
    """

    frequency: Float[Array, ""]
    phase: Float[Array, ""]
    inputs: Float[Array, " example"]

    @checked
    def __init__(self, frequency: Finite = 12.0, phase: Finite = 0.5, examples: TwoOrMore = 64):
        self.frequency, self.phase = jnp.asarray(frequency), jnp.asarray(phase)
        self.inputs = jnp.linspace(-1.0, 1.0, examples)

    def __call__(self, params: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """Half the mean squared error of `params` (w, b) of shape (2,)."""
        w, b = parameters("SineRegression", params, (2,))
        x, frequency, phase = (a.astype(w.dtype) for a in (self.inputs, self.frequency, self.phase))
        return 0.5 * jnp.mean((jnp.sin(w * x + b) - jnp.sin(frequency * x + phase)) ** 2)

    def init(self, key: PRNGKeyArray) -> Float[Array, " 2"]:
        """Draw w uniform between 0 and twice the frequency, b uniform in (-pi, pi); shape (2,)."""
        w, b = jax.random.uniform(key, (2,))
        return jnp.stack([2.0 * self.frequency * w, jnp.pi * (2.0 * b - 1.0)])
