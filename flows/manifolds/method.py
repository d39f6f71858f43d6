"""Descent on a manifold: what optimizers that stay on a surface have in common."""

import abc
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from ..core.constrained import AbstractConstrained
from ..core.optimizer import AbstractOptimizer
from ..core.potential import Potential
from ..core.schedules import Rate, advanced, at, counter
from ..core.trees import Params, scaled
from .manifold import Retraction, Transport
from .product import Product


class RiemannianState(eqx.Module):
    """State of descent on a manifold, and of its flow.

    Attributes:
        params: The iterate w_t, a point of the manifold; for a flow near it, up to the error of
            the solver.
        count: How many steps were taken, with a schedule; otherwise None.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import RiemannianGradientDescent, Sphere
        >>> state = RiemannianGradientDescent(0.1, Sphere()).init(jnp.asarray([0.0, 1.0]))
        >>> state.params.tolist(), state.count
        ([0.0, 1.0], None)
    """

    params: Params
    count: Real[Array, ""] | None = None


class AbstractRiemannianMethod(AbstractOptimizer, AbstractConstrained):
    """An optimizer w' = R_w(eta V(w)) with a field V of tangent vectors and a retraction R.

    Attributes:
        learning_rate: eta, a number or a `Schedule`.
        manifold: Where the parameters live.
        retraction: The name of R; None for each manifold's default.

    Example:
        >>> from flows import GradientDescent, RiemannianGradientDescent, Sphere
        >>> from flows.manifolds.method import AbstractRiemannianMethod
        >>> isinstance(RiemannianGradientDescent(0.1, Sphere()), AbstractRiemannianMethod)
        True
        >>> isinstance(GradientDescent(0.1), AbstractRiemannianMethod)
        False
    """

    learning_rate: eqx.AbstractVar[Rate]
    manifold: eqx.AbstractVar[Product]
    retraction: eqx.AbstractVar[Retraction | None]

    @abc.abstractmethod
    def velocity(self, point: Params, potential: Potential) -> Params:
        """Return V(w), a tangent vector at a point of the manifold."""


def retraction(value: object) -> Retraction | None:
    """Check the name of a retraction; None is each manifold's default.

    Raises:
        ValueError: If there is no such retraction.
    """
    return _one_of("retraction", value, (None, *get_args(Retraction)))


def transport(value: object) -> Transport:
    """Check the name of a transport.

    Raises:
        ValueError: If there is no such transport.
    """
    return _one_of("transport", value, get_args(Transport))


def check_retraction(method: AbstractRiemannianMethod) -> None:
    """Check that a manifold of a method has its retraction.

    Raises:
        ValueError: If none has.
    """
    parts = method.manifold.parts
    if method.retraction is None or not isinstance(parts, tuple):
        return
    known = {name: None for _, manifold in parts for name in manifold.retractions}
    if method.retraction not in known:
        names = " or ".join(f'"{name}"' for name in known)
        raise ValueError(
            f"retraction must be one of its manifold, {names}; got {method.retraction!r}."
        )


def start(method: AbstractRiemannianMethod, params: Params) -> RiemannianState:
    """Return the state at the parameters, put on the manifold."""
    return RiemannianState(method.manifold.admitted(params), counter(method))


def step(
    method: AbstractRiemannianMethod, state: RiemannianState, potential: Potential
) -> RiemannianState:
    """Return the state after w' = R_w(eta V(w))."""
    vector = scaled(at(method.learning_rate, state.count), method.velocity(state.params, potential))
    moved = method.manifold.retract(state.params, vector, method.retraction)
    return RiemannianState(moved, advanced(state.count))


def riemannian_gradient(product: Product, potential: Potential, point: Params) -> Params:
    """Return grad L at a point of a product of manifolds.

    Args:
        product: Where the parameters live.
        potential: The loss L.
        point: A point there.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Product, Sphere
        >>> from flows.manifolds.method import riemannian_gradient
        >>> sphere, point = Product({"*": Sphere()}), jnp.asarray([0.6, 0.8])
        >>> found = riemannian_gradient(sphere, lambda w: w[0], point)
        >>> [round(float(x), 6) for x in found]
        [0.64, -0.48]
    """
    return product.gradient(point, jax.grad(potential)(point))


def over_length(vector: Params, square: Array, smoothing: Array) -> Params:
    """Return v / sqrt(|v|^2 + s^2), and 0 for v = 0 with s = 0."""
    total = square + jnp.square(smoothing.astype(square.dtype))
    length: Float[Array, ""] = jnp.sqrt(jnp.where(total > 0, total, 1))
    return scaled(1 / length, vector)


def _one_of(argument: str, value: object, allowed: tuple) -> Any:
    if not any(value == name for name in allowed):
        names = ", ".join("None" if name is None else f'"{name}"' for name in allowed)
        raise ValueError(f"{argument} must be one of {names}; got {value!r}.")
    return value
