"""Fine-grained SGD: descent on a product of manifolds with a bounded step in each group."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..core.arrays import ScalarLike
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.schedules import Rate, late, rate
from ..core.trees import Params
from ..core.validation import non_negative, positive
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


class FineGrainedSGD(AbstractRiemannianMethod):
    """Fine-grained SGD on a product of manifolds (arXiv 1905.09054), with the full gradient.

    Each group of weights, a unit vector of `Oblique` or a whole leaf otherwise, takes its own step

        w_g' = R_w(-eta grad_g L / sqrt(max(1, Gamma_g))),
        Gamma_g = R_g^2 max((2 r + R_g)^2, 1 + c (r + R_g)),    R_g = |grad_g L|.

    It is a clip of each group: with r = c = 1 a step is never longer than (sqrt(2) - 1) eta, which
    it is where R_g = sqrt(2) - 1, and becomes shorter for larger gradients. At a minimum
    Gamma < 1: the edge is 2/eta of the Riemannian Hessian. (Of the paper only the beginning was at
    hand; the rule is from memory.)

    The paper normalises twice: it puts each group on its manifold, as every start here is, and
    multiplies a layer by a constant such that the norms in its bounds are at most 1: B unit columns
    together have the norm sqrt(B). That is a constant of the network: `Rescaled` puts it into the
    loss.

    Attributes:
        learning_rate: eta, scalar, above 0, or a schedule.
        manifold: Where the parameters live: a manifold for every leaf, or a `Product`.
        retraction: As `RiemannianGradientDescent` has it.
        distance: r, a bound on the distance to the minimum, above 0.
        curvature: c, a bound on the sectional curvature, at least 0.

    Raises:
        ValueError: As for `RiemannianGradientDescent`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import FineGrainedSGD, Sphere
        >>> optimizer, point = FineGrainedSGD(1.0, Sphere()), jnp.asarray([1.0, 0.0])
        >>> for slope in (0.1, 2**0.5 - 1, 5.0):
        ...     step = optimizer.velocity(point, lambda w: slope * w[1])
        ...     print(round(float(-step[1]), 4))
        0.1
        0.4142
        0.1429
    """

    learning_rate: Rate = eqx.field(converter=partial(rate, "learning_rate"))
    manifold: Product = eqx.field(converter=on_leaves)
    retraction: Retraction | None = eqx.field(static=True, default=None, converter=retraction)
    distance: Float[Array, ""] = eqx.field(default=1.0, converter=partial(positive, "distance"))
    curvature: Float[Array, ""] = eqx.field(
        default=1.0, converter=partial(non_negative, "curvature")
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
        """Return the state after a step in each group."""
        return step(self, state, potential)

    def velocity(self, point: Params, potential: Potential) -> Params:
        """Return -grad_g L / sqrt(max(1, Gamma_g)) in each group."""
        gradient = riemannian_gradient(self.manifold, potential, point)
        squares = self.manifold.inner(gradient, gradient)
        return jax.tree.map(lambda g, square: -g / self._divisor(square), gradient, squares)

    def params(self, state: RiemannianState) -> Params:
        """Return the iterate."""
        return state.params

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 / eta, of the Riemannian Hessian: where the gradient is zero nothing is clipped."""
        return 2 / late("learning_rate", self.learning_rate)

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)

    def _divisor(self, square: Array) -> Array:
        """Return sqrt(max(1, Gamma)) of R^2, with derivative 0 at R = 0."""
        r, c = (x.astype(square.dtype) for x in (self.distance, self.curvature))
        moving = square > 0
        size = jnp.sqrt(jnp.where(moving, square, 1))
        bound = jnp.maximum(jnp.square(2 * r + size), 1 + c * (r + size))
        gamma = jnp.where(moving, square * bound, 0)
        clipped = gamma > 1
        return jnp.where(clipped, jnp.sqrt(jnp.where(clipped, gamma, 1)), 1)


class Rescaled(eqx.Module):
    """A loss of parameters that are multiplied by constants first, L(c w).

    The second stage of the normalisation of fine-grained SGD: it scales the network, and leaves
    the manifolds as they are.

    Attributes:
        potential: L.
        factors: c, a pytree like the parameters: a number for each leaf.

    Example:
        Four unit columns together have the norm 2; halved, their norm is 1:

        >>> import jax.numpy as jnp
        >>> from flows import Rescaled
        >>> loss = Rescaled(lambda w: jnp.linalg.norm(w["weight"]), {"weight": 0.5})
        >>> float(loss({"weight": jnp.eye(4)}))
        1.0
    """

    potential: Potential
    factors: PyTree[ScalarLike]

    def __call__(self, params: Params) -> Float[Array, ""]:
        """Return L(c w)."""
        return self.potential(
            jax.tree.map(lambda c, w: jnp.asarray(c, w.dtype) * w, self.factors, params)
        )
