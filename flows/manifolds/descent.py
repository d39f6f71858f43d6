"""Gradient descent on a manifold."""

from functools import partial

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core.cost import Cost
from ..core.potential import Potential
from ..core.schedules import Rate, late, rate
from ..core.trees import Params, scaled
from .manifold import Retraction
from .method import (
    AbstractRiemannianMethod,
    RiemannianState,
    check_retraction,
    retraction,
    riemannian_gradient,
    start,
    step,
)
from .product import Product, on_leaves


class RiemannianGradientDescent(AbstractRiemannianMethod):
    """Gradient descent on a manifold, w' = R_w(-eta grad L(w)).

    grad L is the Riemannian gradient and R the retraction. A minimum is stable if and only if the
    Riemannian sharpness, the largest eigenvalue of the Riemannian Hessian (`RiemannianCurvature`),
    is below 2/eta, whatever the retraction; of a product of manifolds it is that of the whole
    Hessian, not of its blocks. Where the gradient is not zero, and beyond the edge, the retraction
    matters. On a loss that does not depend on |w|, plain gradient descent is this method on the
    unit sphere with "normalisation" and the rate eta/|w|^2.

    Attributes:
        learning_rate: eta, scalar, above 0, or a schedule.
        manifold: Where the parameters live: `Sphere()`, `Oblique()`, `Stiefel()`, `Hyperboloid()`,
            for every leaf, or a `Product`.
        retraction: "exponential", "normalisation" (spheres), "polar" or "qr" (Stiefel); each
            manifold's default if not given, and where a manifold of a product has no such one.

    Raises:
        ValueError: If an argument is of the wrong kind, or no manifold has the retraction; from
            `init`, if the parameters do not have the shape of points, or no nearest point.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import RiemannianGradientDescent, Sphere, iterate
        >>> optimizer = RiemannianGradientDescent(0.5, Sphere(), "normalisation")
        >>> start = jnp.asarray([0.6, 0.8])
        >>> run = iterate(optimizer, lambda w: 0.5 * w[0] ** 2, start, steps=20)
        >>> round(float(run.params[-1][0]), 4), round(float(jnp.linalg.norm(run.params[-1])), 12)
        (0.0, 1.0)
        >>> float(optimizer.critical_sharpness)
        4.0
    """

    learning_rate: Rate = eqx.field(converter=partial(rate, "learning_rate"))
    manifold: Product = eqx.field(converter=on_leaves)
    retraction: Retraction | None = eqx.field(static=True, default=None, converter=retraction)

    def __check_init__(self) -> None:
        check_retraction(self)

    def admitted(self, params: Params) -> Params:
        """Return the parameters on the manifold."""
        return self.manifold.admitted(params)

    def init(self, params: Params) -> RiemannianState:
        """Return the state at `params`, put on the manifold."""
        return start(self, params)

    def step(self, state: RiemannianState, potential: Potential) -> RiemannianState:
        """Return the state after w' = R_w(-eta grad L(w))."""
        return step(self, state, potential)

    def velocity(self, point: Params, potential: Potential) -> Params:
        """Return -grad L(w)."""
        return scaled(jnp.asarray(-1.0), riemannian_gradient(self.manifold, potential, point))

    def params(self, state: RiemannianState) -> Params:
        """Return the iterate."""
        return state.params

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 / eta, of the Riemannian Hessian."""
        return 2 / late("learning_rate", self.learning_rate)

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)
