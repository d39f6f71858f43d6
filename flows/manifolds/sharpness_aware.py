"""Sharpness-aware descent on a manifold, and in the Fisher metric."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core.cost import Cost
from ..core.optimizer import AbstractLocalThreshold
from ..core.potential import Potential
from ..core.schedules import Rate, late, rate
from ..core.trees import Params, add_scaled, dot, root, scaled
from ..core.validation import non_negative
from .euclidean import Euclidean
from .manifold import Retraction, Transport
from .method import (
    AbstractRiemannianMethod,
    RiemannianState,
    check_retraction,
    over_length,
    retraction,
    riemannian_gradient,
    start,
    step,
    transport,
)
from .product import Product, on_leaves


class RiemannianSAM(AbstractRiemannianMethod, AbstractLocalThreshold):
    """Sharpness-aware minimisation on a manifold (Yun and Yang, NeurIPS 2023).

    With T the transport from the perturbed point a back to w,

        a = R_w(rho grad L / sqrt(|grad L|^2 + s^2)),    w' = R_w(-eta T grad L(a)).

    The gradient at a is projected there, and then transported. (To project the ambient gradient of
    a onto the tangent space at w is another method: on the Stiefel manifold it goes elsewhere.)
    To first order in rho it descends L + rho |grad L|. It never converges: below the edge it
    settles on a two-cycle around a minimum, on L = d(x, y)^2/2 of half-length
    eta rho/(2 - eta). (Of the paper only the abstract was at hand; the rule is from memory.)

    Attributes:
        learning_rate: eta, scalar, above 0, or a schedule.
        radius: rho, scalar, at least 0, a length on the manifold.
        manifold: Where the parameters live: a manifold for every leaf, or a `Product`.
        retraction: As `RiemannianGradientDescent` has it; for both moves.
        transport: "parallel", along the geodesic where that is known and by projection on
            `Stiefel`, or "projection" onto the tangent space. They differ from order rho^2 on.
            Between antipodes of a sphere, which are rho = pi apart, there is no one geodesic, and
            parallel transport is nan.
        smoothing: s, scalar, at least 0, in units of the gradient. With 0 the flow is singular
            where the gradient vanishes, which it reaches in finite time.

    Raises:
        ValueError: As for `RiemannianGradientDescent`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Hyperboloid, RiemannianSAM, iterate
        >>> space, lowest = Hyperboloid(), jnp.asarray([1.0, 0.0])
        >>> optimizer = RiemannianSAM(0.5, 0.3, space)
        >>> start = space.retract(lowest, jnp.asarray([0.0, 1.0]), "exponential")
        >>> loss = lambda w: 0.5 * space.squared_distance(w, lowest)
        >>> run = iterate(optimizer, loss, start, steps=60)
        >>> [round(float(jnp.arcsinh(w[1])), 6) for w in run.params[-2:]]  # 0.5 * 0.3 / 1.5
        [-0.1, 0.1]
    """

    learning_rate: Rate = eqx.field(converter=partial(rate, "learning_rate"))
    radius: Float[Array, ""] = eqx.field(converter=partial(non_negative, "radius"))
    manifold: Product = eqx.field(converter=on_leaves)
    retraction: Retraction | None = eqx.field(static=True, default=None, converter=retraction)
    transport: Transport = eqx.field(static=True, default="parallel", converter=transport)
    smoothing: Float[Array, ""] = eqx.field(
        default=0.0, converter=partial(non_negative, "smoothing")
    )

    def __check_init__(self) -> None:
        check_retraction(self)

    def admitted(self, params: Params) -> Params:
        """Return the parameters on the manifold."""
        return self.manifold.admitted(params)

    def init(self, params: Params) -> RiemannianState:
        """Return the state at `params`, put on the manifold."""
        return start(self, params)

    def step(self, state: RiemannianState, potential: Potential) -> RiemannianState:
        """Return the state after w' = R_w(-eta T grad L(a))."""
        return step(self, state, potential)

    def velocity(self, point: Params, potential: Potential) -> Params:
        """Return -T grad L(a)."""
        gradient = riemannian_gradient(self.manifold, potential, point)
        upwards = over_length(gradient, self.manifold.squared_norm(gradient), self.smoothing)
        above = self.manifold.retract(point, scaled(self.radius, upwards), self.retraction)
        there = riemannian_gradient(self.manifold, potential, above)
        back = self.manifold.transport(above, point, there, self.transport)
        return scaled(jnp.asarray(-1.0), back)

    def params(self, state: RiemannianState) -> Params:
        """Return the iterate."""
        return state.params

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """Raise: it depends on the length of the gradient.

        Raises:
            ValueError: Always; `critical_sharpness_at` has it.
        """
        raise ValueError(
            "the critical sharpness of RiemannianSAM depends on the length of the gradient: ask "
            "for it at a state, of flows.critical_sharpness(optimizer, state, potential)."
        )

    def critical_sharpness_at(self, params: Params, potential: Potential) -> Float[Array, ""]:
        """Return the Riemannian sharpness at which it turns unstable, at the gradient there.

        With n = sqrt(|grad L|^2 + s^2) it is (n/(2 rho)) (sqrt(1 + 8 rho/(eta n)) - 1)
        (arXiv 2309.12488), below 2/eta, up to terms of order rho^2 and eta^2 |grad L|^2; late in a
        run with a schedule.

        Args:
            params: Where, a point of the manifold.
            potential: The loss, of which one gradient is taken.
        """
        gradient = riemannian_gradient(self.manifold, potential, params)
        square = self.manifold.squared_norm(gradient)
        eta = late("learning_rate", self.learning_rate).astype(square.dtype)
        rho, s = (x.astype(square.dtype) for x in (self.radius, self.smoothing))
        n = root(square + jnp.square(s))
        # As sqrt(1 + x) - 1 without cancellation, for rho = 0 too; 0 where n is.
        below = eta * n + root(eta * n * (eta * n + 8 * rho))
        return jnp.where(n > 0, 4 * n / jnp.where(n > 0, below, 1), 0)

    @property
    def cost(self) -> Cost:
        """Two gradients."""
        return Cost(gradients=2)


Fisher: TypeAlias = Literal["gradient"] | Callable[[Params], Params]
"""What the metric of `FisherSAM` is made of."""


def _fisher(value: Any) -> Fisher:
    if value == "gradient" or callable(value):
        return value
    raise ValueError(
        f'fisher must be "gradient", or a function of the parameters that returns the diagonal of '
        f"F as a pytree like them; got {value!r}."
    )


class FisherSAM(AbstractRiemannianMethod):
    """Sharpness-aware minimisation with a ball in the Fisher metric (arXiv 2206.04920).

        w' = w - eta g(w + rho F^-1 g / sqrt(g.F^-1 g + s^2)),

    with a diagonal metric F. Only the perturbation knows it: space and descent are flat. To first
    order in rho it follows -eta (g + rho H F^-1 g / |g|_{F^-1}), which is the gradient of no loss
    unless F is constant, or H itself.

    Attributes:
        learning_rate: eta, scalar, above 0, or a schedule.
        radius: rho, scalar, at least 0, a length in the metric F.
        fisher: A function of the parameters that returns the diagonal of F, above 0, a pytree like
            them; or "gradient", F = 1 + strength g^2, the squares of the full gradient in place of
            those of single examples, which a loss does not give.
        strength: How much of g^2 is in F with "gradient", at least 0, in 1/g^2.
        smoothing: s, scalar, at least 0.

    Raises:
        ValueError: If an argument is of the wrong kind.

    Example:
        With F = H on a quadratic the perturbation is along w, so that every component shrinks by
        the same factor of g:

        >>> import jax.numpy as jnp
        >>> from flows import FisherSAM
        >>> curvature = jnp.asarray([1.0, 4.0])
        >>> optimizer = FisherSAM(0.1, radius=0.5, fisher=lambda w: curvature)
        >>> loss = lambda w: 0.5 * jnp.sum(curvature * w**2)
        >>> w = jnp.asarray([0.6, 0.4])  # w.F w = 1
        >>> [round(float(v / g), 6) for v, g in zip(optimizer.velocity(w, loss), curvature * w)]
        [-1.5, -1.5]
    """

    learning_rate: Rate = eqx.field(converter=partial(rate, "learning_rate"))
    radius: Float[Array, ""] = eqx.field(converter=partial(non_negative, "radius"))
    fisher: Fisher = eqx.field(static=True, default="gradient", converter=_fisher)
    strength: Float[Array, ""] = eqx.field(default=1.0, converter=partial(non_negative, "strength"))
    smoothing: Float[Array, ""] = eqx.field(
        default=0.0, converter=partial(non_negative, "smoothing")
    )

    @property
    def manifold(self) -> Product:
        """Flat space."""
        return Product({"*": Euclidean()})

    @property
    def retraction(self) -> None:
        """None: in flat space there is one."""
        return None

    def admitted(self, params: Params) -> Params:
        """Return the parameters: the space is flat."""
        return params

    def init(self, params: Params) -> RiemannianState:
        """Return the state at `params`."""
        return start(self, params)

    def step(self, state: RiemannianState, potential: Potential) -> RiemannianState:
        """Return the state after a step."""
        return step(self, state, potential)

    def velocity(self, point: Params, potential: Potential) -> Params:
        """Return -g at the perturbed point."""
        gradient = jax.grad(potential)(point)
        if callable(self.fisher):
            metric = self.fisher(point)
        else:
            squares = jax.tree.map(jnp.square, gradient)
            metric = add_scaled(jax.tree.map(jnp.ones_like, point), self.strength, squares)
        inverse = jax.tree.map(jnp.divide, gradient, metric)
        upwards = over_length(inverse, dot(gradient, inverse), self.smoothing)
        above = add_scaled(point, self.radius, upwards)
        return scaled(jnp.asarray(-1.0), jax.grad(potential)(above))

    def params(self, state: RiemannianState) -> Params:
        """Return the iterate."""
        return state.params

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """Raise: it depends on the gradient and on F.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "no sharpness decides about the stability of FisherSAM: that depends on the gradient, "
            "and on how its metric turns the Hessian."
        )

    @property
    def cost(self) -> Cost:
        """Two gradients."""
        return Cost(gradients=2)
