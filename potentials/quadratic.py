"""A quadratic with any spectrum."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray
from jaxtyping import ArrayLike as ShapedArrayLike

from potentials import checks
from potentials.potential import AbstractPotential


class Quadratic(AbstractPotential):
    """The quadratic 0.5 sum_i spectrum_i w_i^2 of parameters w with shape (n,).

    Critical points: w = 0, and with it every w whose non-zero entries belong to a zero of the
    spectrum. The Hessian is diag(spectrum) everywhere, so the sharpness is max_i spectrum_i.
    Gradient descent gives exactly w_i(t) = (1 - eta spectrum_i)^t w_i(0), which is stable if and
    only if spectrum_i < 2/eta for all i; gradient flow gives exp(-eta spectrum_i t) w_i(0)
    (arXiv 2103.00065, section 2).

    Args:
        spectrum: eigenvalues of the Hessian, shape (n,), of any signs.

    Raises:
        ValueError: if `spectrum` is empty, not one-dimensional or not finite.
    """

    spectrum: Float[Array, " n"]

    def __init__(self, spectrum: ArrayLike | Sequence[float]):
        self.spectrum = checks.numbers("spectrum", spectrum)

    def __call__(self, params: Float[ShapedArrayLike, "..."]) -> Float[Array, ""]:
        """0.5 sum_i spectrum_i w_i^2 for `params` w of shape (n,)."""
        w = checks.parameters("Quadratic", params, self.spectrum.shape)
        return 0.5 * jnp.sum(self.spectrum.astype(w.dtype) * w**2)

    def init(self, key: PRNGKeyArray) -> Float[Array, " n"]:
        """Independent standard normal entries, shape (n,)."""
        return jax.random.normal(key, self.spectrum.shape)
