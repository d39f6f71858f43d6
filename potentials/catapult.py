"""The two-layer linear network on one example that catapults (arXiv 2003.02218)."""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from potentials.checks import parameters, positive_integer
from potentials.potential import AbstractPotential


class Layers(NamedTuple):
    """Parameters of `Catapult`, whose function is f = u . v / sqrt(width).

    Attributes:
        u: the weights of the first layer, shape (width,).
        v: the weights of the second layer, shape (width,).

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import Catapult, Layers
        >>> float(Catapult(4).function(Layers(u=jnp.ones(4), v=2.0 * jnp.ones(4))))
        4.0
    """

    u: Float[Array, " width"]
    v: Float[Array, " width"]


class Catapult(AbstractPotential):
    """The loss f^2/2 of f = u . v / sqrt(n), of parameters `Layers(u, v)`, each of shape (n,).

    Critical points: every (u, v) with f = 0, all of them minima of loss 0. The Hessian there is
    grad f grad f^T, so the sharpness is the neural tangent kernel lam = (|u|^2 + |v|^2)/n.

    Gradient descent with learning rate eta closes on (f, lam), exactly:
    f' = f (1 - eta lam + eta^2 f^2/n),  lam' = lam + (eta f^2/n)(eta lam - 4).
    From 2/eta < lam < 4/eta the loss first grows to order n while lam falls, then converges at a
    lam below 2/eta: the catapult (arXiv 2003.02218).

    Args:
        width: n, number of hidden units, at least 1.

    Raises:
        ValueError: if `width` is not a whole number >= 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import Catapult, Layers
        >>> catapult = Catapult(width=4)
        >>> params = Layers(u=jnp.ones(4), v=jnp.ones(4))
        >>> float(catapult(params)), float(catapult.kernel(params))
        (2.0, 2.0)
    """

    width: int = eqx.field(static=True, converter=partial(positive_integer, "width"))

    def __call__(self, params: Layers) -> Float[Array, ""]:
        """f^2/2 for `params` (u, v), each of shape (width,)."""
        return 0.5 * self.function(params) ** 2

    def init(self, key: PRNGKeyArray) -> Layers:
        """Draw standard normal entries, so that lam is about 2 and f about normal."""
        u_key, v_key = jax.random.split(key)
        return Layers(
            u=jax.random.normal(u_key, (self.width,)), v=jax.random.normal(v_key, (self.width,))
        )

    def function(self, params: Layers) -> Float[Array, ""]:
        """The network's output f = u . v / sqrt(width)."""
        u, v = self._layers(params)
        return jnp.dot(u, v) / self.width**0.5

    def kernel(self, params: Layers) -> Float[Array, ""]:
        """The neural tangent kernel lam = |grad f|^2 = (|u|^2 + |v|^2)/width."""
        u, v = self._layers(params)
        return (jnp.dot(u, u) + jnp.dot(v, v)) / self.width

    def _layers(self, params: Layers) -> tuple[Array, Array]:
        if not isinstance(params, Layers):
            raise ValueError(f"Catapult takes params as Layers(u, v), got {type(params).__name__}.")
        u = parameters("Catapult", params.u, (self.width,), "u")
        v = parameters("Catapult", params.v, (self.width,), "v")
        return u, v
