"""The contact form of ball-centre dynamics: the motion of the contact, where it is regular."""

from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Real

from ..core.arrays import Vector
from ..core.flow import AbstractFlow, Midpoint
from ..core.potential import Potential
from ..core.trees import Params
from ..core.variables import LOSS, STEPS, Variable
from .rolling_ball import RollingBall, check_rolling_ball

_MOST_PRODUCTS = 200


class BallContactState(eqx.Module):
    """State of the contact form.

    Attributes:
        params: The contact.
    """

    params: Params


class BallContactFlow(AbstractFlow):
    """The motion of the contact of a rolling ball (arXiv 2505.19527).

    With F = a L, G and H its derivatives at the contact q and w = sqrt(1 + |G|^2),

        ((I + G G^T) - (rho / w) H) dq/dt = -(eta / a) w^2 G.

    The system is symmetric, and positive definite as long as radius times every principal
    curvature is below 1; it is solved by conjugate gradients with Hessian-vector products, and a
    run ends where that fails. It knows of no second contact: where the ball touches one,
    `BallCentreFlow` goes on correctly and this flow does not. Where both are regular they agree.

    Attributes:
        optimizer: The rolling ball that is modelled.

    Raises:
        ValueError: If `optimizer` is not a `RollingBall`.

    Example:
        At the bottom of the bowl |w|^2 / 2 the system is (1 - rho) dq/dt = -eta q:

        >>> import jax.numpy as jnp
        >>> from flows import BallContactFlow, RollingBall
        >>> flow = BallContactFlow(RollingBall(1.0, radius=0.5))
        >>> bowl = lambda w: 0.5 * jnp.sum(w**2)
        >>> motion = flow.vector_field(0.0, flow.init(bowl, jnp.asarray([1e-6, 0.0])), bowl)
        >>> print(jnp.round(1e6 * motion.params, 6))
        [-2.  0.]
    """

    optimizer: RollingBall = eqx.field(converter=check_rolling_ball)

    midpoint: ClassVar[Midpoint] = "three_point"
    time_unit: ClassVar[str] = STEPS
    variables: ClassVar[Mapping[str, Variable]] = {
        "predicted_loss": Variable(LOSS, "loss that the flow predicts for the optimizer"),
    }

    def init(self, potential: Potential, params: Params) -> BallContactState:
        """Return the state of a ball that touches at `params`."""
        del potential
        return BallContactState(params)

    def vector_field(
        self, t: Real[Array, ""] | float, state: BallContactState, args: Potential
    ) -> BallContactState:
        """Return dq/dt; not a number where the system is not positive definite."""
        flat, unravel = ravel_pytree(state.params)
        surface = self.optimizer.surface(args, state.params)
        slope, product = jax.linearize(jax.grad(surface), flat)
        squared = 1 + slope @ slope
        reach = self.optimizer.radius.astype(flat.dtype) / jnp.sqrt(squared)

        def system(v: Vector) -> Vector:
            return v + slope * (slope @ v) - reach * product(v)

        operator = lx.FunctionLinearOperator(
            system, jax.eval_shape(lambda: flat), lx.positive_semidefinite_tag
        )
        tolerance = float(jnp.finfo(flat.dtype).eps) ** 0.75
        solver = lx.CG(rtol=tolerance, atol=tolerance**1.25, max_steps=_MOST_PRODUCTS)
        right = -self.optimizer.rate(flat.dtype, t) * squared * slope
        found = lx.linear_solve(operator, right, solver, throw=False)
        # Conjugate gradients may also end successfully where the matrix is not positive.
        curved = found.value @ system(found.value)
        regular = (found.result == lx.RESULTS.successful) & (curved >= 0)
        return BallContactState(unravel(jnp.where(regular, found.value, jnp.nan)))

    def params(self, state: BallContactState) -> Params:
        """Return the contact."""
        return state.params

    def observables(self, state: BallContactState, potential: Potential) -> dict[str, Array]:
        """Return `predicted_loss`, the loss at the contact."""
        return {"predicted_loss": potential(state.params)}
