"""The flow of descent on a manifold."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Real

from ..core.constrained import AbstractConstrained
from ..core.cost import Cost
from ..core.flow import AbstractProjectedFlow
from ..core.potential import Potential
from ..core.schedules import at
from ..core.trees import Params, add_scaled, all_finite, scaled
from ..core.validation import boolean
from ..core.variables import LOSS, Variable
from .method import AbstractRiemannianMethod, RiemannianState


def _method(optimizer: object) -> AbstractRiemannianMethod:
    if isinstance(optimizer, AbstractRiemannianMethod):
        return optimizer
    raise ValueError(
        "optimizer must be RiemannianGradientDescent, RiemannianSAM, FineGrainedSGD or FisherSAM; "
        f"the flow of another one is GradientFlow. Got {optimizer!r}."
    )


class RiemannianFlow(AbstractProjectedFlow, AbstractConstrained):
    """The flow of an optimizer w' = R_w(eta V(w)) on a manifold, in units of its steps.

        dw/dt = eta V(w),

    V = -grad L for Riemannian gradient descent, -T grad L(a) for Riemannian SAM, and so on. At a
    fixed eta * steps it is eta away from the optimizer. With `correction`

        dw/dt = F - (nabla_F F + dF/dt)/2,    F = eta V,

    nabla the covariant derivative, P applied to the derivative of w -> F(w); for Riemannian
    gradient descent -eta grad L - (eta^2/2) Hess L[grad L], with the Riemannian Hessian. It is
    eta^2 away, if the retraction is of second order: not with "qr".

    The state is put back on the manifold after each accepted step of the solver; the field is that
    of the nearest point, so that it moves no state away from the manifold, and `params` is the
    nearest point too.

    The flow of SAM without smoothing is singular where the gradient vanishes: give the optimizer a
    `smoothing`. That of fine-grained SGD has a kink where a group begins to be clipped.

    Attributes:
        optimizer: `RiemannianGradientDescent`, `RiemannianSAM`, `FineGrainedSGD` or `FisherSAM`.
        correction: True to add the backward-error term.

    Raises:
        ValueError: If it is another optimizer; from `init`, if the parameters do not have the shape
            of points of the manifold, or no nearest point.

    Example:
        On L = w.A w/2 the flow on the sphere is exp(-eta A t) w_0, normalised:

        >>> import jax.numpy as jnp
        >>> from flows import RiemannianFlow, RiemannianGradientDescent, Sphere, simulate
        >>> flow = RiemannianFlow(RiemannianGradientDescent(0.1, Sphere()))
        >>> start = jnp.asarray([0.6, 0.8])
        >>> run = simulate(flow, lambda w: 0.5 * w[0] ** 2, start, steps=10)
        >>> ratio = run.params[-1][0] / run.params[-1][1]
        >>> round(float(ratio), 6), round(float(0.75 * jnp.exp(-1.0)), 6)
        (0.27591, 0.27591)
    """

    optimizer: AbstractRiemannianMethod = eqx.field(converter=_method)
    correction: bool = eqx.field(
        static=True, default=False, converter=partial(boolean, "correction")
    )

    failures: ClassVar[tuple[str, ...]] = (
        "the state has no nearest point on its manifold; give a smaller dt0 or tolerance",
    )
    variables: ClassVar[Mapping[str, Variable]] = {
        "predicted_loss": Variable(LOSS, "loss that the flow predicts for the optimizer"),
    }

    def admitted(self, params: Params) -> Params:
        """Return the parameters on the manifold."""
        return self.optimizer.admitted(params)

    def init(self, potential: Potential, params: Params) -> RiemannianState:
        """Return the state at `params`, put on the manifold."""
        del potential
        return RiemannianState(self.admitted(params))

    def vector_field(
        self, t: Real[Array, ""] | float, state: RiemannianState, args: Potential
    ) -> RiemannianState:
        """Return F, with the correction F - (nabla_F F + dF/dt)/2, at the nearest point."""
        point, method = self.params(state), self.optimizer
        t = jnp.asarray(t, jax.tree.leaves(point)[0].dtype)

        def field(t: Array, w: Params) -> Params:
            return scaled(at(method.learning_rate, t), method.velocity(w, args))

        if not self.correction:
            return RiemannianState(field(t, point))
        move, derivative = jax.linearize(field, t, point)
        change = derivative(jnp.ones_like(t), move)
        covariant = method.manifold.tangent(point, change)
        return RiemannianState(add_scaled(move, -0.5, covariant))

    def project(
        self, state: RiemannianState, potential: Potential
    ) -> tuple[RiemannianState, Int[Array, ""]]:
        """Put the state on the manifold."""
        del potential
        point = self.params(state)
        failed = all_finite(state.params) & ~all_finite(point)
        return RiemannianState(point), failed.astype(jnp.int32)

    def params(self, state: RiemannianState) -> Params:
        """Return the point of the manifold that is nearest to the state."""
        return self.optimizer.manifold.nearest(state.params)

    def observables(
        self, state: RiemannianState, potential: Potential
    ) -> dict[str, Float[Array, ""]]:
        """Return `predicted_loss` = L(w)."""
        return {"predicted_loss": potential(self.params(state))}

    @property
    def cost(self) -> Cost:
        """What a step of the optimizer costs, with `correction` as many products with the Hessian.

        One for each gradient.
        """
        gradients = self.optimizer.cost.gradients
        return Cost(gradients=gradients, hvps=gradients if self.correction else 0)
