"""A quadratic with any spectrum."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from potentials.checks import Vector, parameters
from potentials.potential import AbstractPotential


class Quadratic(AbstractPotential):
    """The quadratic 0.5 sum_i spectrum_i w_i^2 of parameters w with shape (n,).

    Critical points: w = 0, and with it every w whose non-zero entries belong to a zero of the
    spectrum. The Hessian is diag(spectrum) everywhere, so the sharpness is max_i spectrum_i.
    Gradient descent gives exactly w_i(t) = (1 - eta spectrum_i)^t w_i(0), which is stable if and
    only if |1 - eta spectrum_i| <= 1 for all i; gradient flow gives exp(-eta spectrum_i t) w_i(0)
    (arXiv 2103.00065, section 2).

    Args:
        spectrum: eigenvalues of the Hessian, shape (n,), of any signs.

    Raises:
        ValueError: if `spectrum` is empty, not one-dimensional or not finite.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from potentials import Quadratic
        >>> bowl = Quadratic([3.0, 1.0])
        >>> float(bowl(jnp.ones(2)))
        2.0
        >>> jax.grad(bowl)(jnp.ones(2)).tolist()
        [3.0, 1.0]
    """

    spectrum: Float[Array, " n"] = eqx.field(converter=partial(Vector(), "spectrum"))

    def __call__(self, params: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """0.5 sum_i spectrum_i w_i^2 for `params` w of shape (n,)."""
        w = parameters("Quadratic", params, self.spectrum.shape)
        return 0.5 * jnp.sum(self.spectrum.astype(w.dtype) * w**2)

    def init(self, key: PRNGKeyArray) -> Float[Array, " n"]:
        """Draw independent standard normal entries, shape (n,)."""
        return jax.random.normal(key, self.spectrum.shape)
