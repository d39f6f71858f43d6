"""The two-layer linear network on one example that catapults (arXiv 2003.02218)."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from potentials import checks
from potentials.potential import AbstractPotential


class Layers(NamedTuple):
    """Parameters of `Catapult`: the network's function is u . v / sqrt(width)."""

    u: Float[Array, " width"]
    v: Float[Array, " width"]


class Catapult(AbstractPotential):
    """The loss f^2/2 of f = u . v / sqrt(n), of parameters `Layers(u, v)`, each of shape (n,).

    Critical points: every (u, v) with f = 0, all of them minima of loss 0. The Hessian there is
    grad f grad f^T, so the sharpness is the neural tangent kernel lam = (|u|^2 + |v|^2)/n.

    Gradient descent with learning rate eta closes on (f, lam), exactly:
    f' = f (1 - eta lam + eta^2 f^2/n),  lam' = lam + (eta f^2/n)(eta lam - 4).
    From 2/eta < lam < 4/eta the loss first grows to order n while lam falls, then converges at a
    lam below 2/eta: the catapult.

    Args:
        width: n, number of hidden units, at least 1.

    Raises:
        ValueError: if `width` is not a whole number >= 1.
    """

    width: int = eqx.field(static=True)

    def __init__(self, width: int):
        self.width = checks.count("width", width)

    def __call__(self, params: Layers) -> Float[Array, ""]:
        """f^2/2 for `params` (u, v), each of shape (width,)."""
        return 0.5 * self.function(params) ** 2

    def init(self, key: PRNGKeyArray) -> Layers:
        """Standard normal entries, so that lam is about 2 and f about normal."""
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
        u = checks.parameters("Catapult", params.u, (self.width,), "u")
        v = checks.parameters("Catapult", params.v, (self.width,), "v")
        return u, v
