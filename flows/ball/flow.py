"""Ball-centre dynamics: the continuous motion of a ball that rolls down the landscape.

The centre of a ball of radius rho that touches the graph of F moves on a surface of its own, the
ironed landscape (see `ironed`),

    y_c(x) = sup over |q - x| <= rho of F(q) + sqrt(rho^2 - |q - x|^2),

whose slope is that of the graph at the contact: the shadow of the centre follows gradient flow on
the ironed landscape. Where the ball touches in several points y_c has a crease, a valley with a
kink, and the motion is the flow of the minimal-norm subgradient: the shortest vector in the convex
hull of the slopes at the contacts. It stays on the crease, and rests where the hull contains zero.
"""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, Int, Real

from ..core.cost import Cost
from ..core.flow import AbstractEquationFlow, Integrator, Midpoint
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import boolean
from ..core.variables import LOSS, NONE, PARAMETER, STEPS, Variable
from .equation import BallEquation
from .nearest_point import largest_curvature
from .rolling_ball import RollingBall, check_rolling_ball
from .solver import BallSolver
from .state import BallCentreState

_VARIABLES = {
    "predicted_loss": Variable(LOSS, "loss at the contact, which the optimizer has"),
    "contact": Variable(PARAMETER, "parameters of the (nearest) contact", ("parameter",)),
    "centre_height": Variable(LOSS, "height of the ball's centre"),
    "surface_gap": Variable(
        PARAMETER, "signed distance of the centre to the landscape minus the radius"
    ),
    "contacts": Variable(NONE, "number of contacts; nan where only one is searched for"),
    "projection_residual": Variable(
        NONE, "sine of the angle between the line from contact to centre and the normal"
    ),
}
_CURVATURE = {
    "radius_times_curvature": Variable(
        NONE, "radius times the largest principal curvature at the contact"
    )
}


class BallCentreFlow(AbstractEquationFlow):
    """The motion of a rolling ball's centre in the limit of small steps (arXiv 2505.19527).

    The state is the centre (x, y); with the touching slopes G_i of F = a L at the contacts,

        dx/dt = -(eta / a) v,    dy/dt = -(eta / a) |v|^2,    v the shortest in the hull of the G_i.

    With a single contact p, dx/dt = -eta grad L(p). A unit of time is a step of the optimizer.
    `params` of a trajectory is the centre's shadow x; the contact, where the optimizer's parameters
    are, is an observable, and the distance to the discrete optimizer is measured from it. A run
    starts with the contact at the given parameters.

    `project` puts the centre back to the distance of the radius after each accepted step: with one
    contact by moving the centre vertically (x is exact), with several by the shortest way to where
    all that carry the ball are at that distance. A ball thus rests on two contacts, and rolls on
    where radius times curvature would reach 1. Creases are seen with one and two parameters, where
    the search for contacts is global; with more it is local, and the ball jumps to another contact
    only where its own ceases to be a minimum of the distance.

    Attributes:
        optimizer: The rolling ball that is modelled.
        curvature: True if the observables hold radius times the largest principal curvature.

    Raises:
        ValueError: If `optimizer` is not a `RollingBall`, or `curvature` not a bool.

    Example:
        On the bowl |w|^2 / 2 the centre moves by minus the gradient at the contact, w:

        >>> import jax.numpy as jnp
        >>> from flows import BallCentreFlow, RollingBall
        >>> flow = BallCentreFlow(RollingBall(1.0, radius=0.5))
        >>> bowl = lambda w: 0.5 * jnp.sum(w**2)
        >>> state = flow.init(bowl, jnp.asarray([2.0, 0.0, 0.0]))
        >>> motion = flow.vector_field(0.0, state, bowl)
        >>> round(float(motion.centre[0]), 6), round(float(motion.height), 6)
        (-2.0, -4.0)
    """

    optimizer: RollingBall = eqx.field(converter=check_rolling_ball)
    curvature: bool = eqx.field(static=True, default=True, converter=partial(boolean, "curvature"))

    midpoint: ClassVar[Midpoint] = "three_point"
    time_unit: ClassVar[str] = STEPS
    iterates_at: ClassVar[str | None] = "contact"
    failures: ClassVar[tuple[str, ...]] = BallEquation.failures
    failure_detail: ClassVar[str | None] = "detail"

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Metadata of the observables."""
        return {**_VARIABLES, **_CURVATURE} if self.curvature else _VARIABLES

    @property
    def equation(self) -> BallEquation:
        """The right-hand side."""
        return BallEquation(self.optimizer)

    def init(self, potential: Potential, params: Params) -> BallCentreState:
        """Return the state of a ball that touches at `params`: centre p + rho nu.

        The first projection finds out whether it cuts the landscape.
        """
        return self.counted_init(potential, params)[0]

    def counted_init(self, potential: Potential, params: Params) -> tuple[BallCentreState, Cost]:
        """Return the state that `init` does, and what it costs: the slope at `params`."""
        _, unravel = ravel_pytree(params)
        x, y = self.optimizer.centre(potential, params)
        state = BallCentreState(unravel(x), y, params, jnp.zeros_like(y), -jnp.ones_like(y))
        return state, Cost(gradients=1)

    def vector_field(
        self, t: Real[Array, ""] | float, state: BallCentreState, args: Potential
    ) -> BallCentreState:
        """Return the velocity of the centre, through the contacts nearest to it."""
        return self.equation.vector_field(t, state, args)

    def project(
        self, state: BallCentreState, potential: Potential
    ) -> tuple[BallCentreState, Int[Array, ""]]:
        """Put the centre back to the distance of the radius."""
        return self.equation.settled(state, potential)[:2]

    def params(self, state: BallCentreState) -> Params:
        """Return the centre's parameters x."""
        return state.centre

    def observables(self, state: BallCentreState, potential: Potential) -> dict[str, Array]:
        """Return where the contact is, and how the ball lies."""
        equation, dtype = self.equation, state.height.dtype
        found, radius = equation.contacts(state, potential), equation.radius(dtype)
        scale = self.optimizer.height_scale.astype(dtype)
        count = jnp.sum(found.touching).astype(dtype)
        if not self.optimizer.search.is_global(found.nearest.size):
            count = jnp.full_like(count, jnp.nan)
        observed = {
            "predicted_loss": found.heights[0] / scale,
            "contact": found.nearest,
            "centre_height": state.height / scale,
            "surface_gap": found.signed_distances(state.height)[0] - radius,
            "contacts": count,
            "projection_residual": found.residual,
        }
        if self.curvature:
            surface = equation.surface(potential, state)
            observed["radius_times_curvature"] = radius * largest_curvature(surface, found.nearest)
        return observed

    def integrator(self, dtype: DTypeLike) -> Integrator:
        """Return the solver made for this flow, at 1e-8 relative in float64, 1e-4 in float32."""
        tolerance = 1e-8 if jnp.finfo(dtype).bits > 32 else 1e-4
        controller = diffrax.PIDController(rtol=tolerance, atol=1e-2 * tolerance)
        return Integrator(BallSolver(self.equation), controller)
