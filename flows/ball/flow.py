"""Ball-centre dynamics: the continuous motion of a ball that rolls down the landscape.

The centre of a ball of radius rho that touches the graph of F moves on a surface of its own, the
ironed landscape (flows/ironed.py),

    y_c(x) = sup over |q - x| <= rho of F(q) + sqrt(rho^2 - |q - x|^2),

whose slope is that of the graph at the contact: the shadow of the centre follows gradient flow on
the ironed landscape. Where the ball touches in several points y_c has a crease, a valley with a
kink, and the motion is the flow of the minimal-norm subgradient: the shortest vector in the convex
hull of the slopes at the contacts. It stays on the crease, and rests where the hull contains zero.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Real

from ..core.flow import AbstractEquationFlow, Integrator, Midpoint
from ..core.potential import Potential
from ..core.trees import Params
from ..core.variables import LOSS, NONE, PARAMETER, STEPS, Variable
from .contacts import Contacts
from .nearest_point import Surface, Vector, largest_curvature
from .placement import Placed, place
from .rolling_ball import CUTS, NOT_FOUND, OFF, RollingBall
from .solver import BallSolver

# How often to look and correct after a step; each correction squares what is left to correct.
_ATTEMPTS = 5

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


class BallCentreState(eqx.Module):
    """State of ball-centre dynamics.

    Attributes:
        centre: The ball centre's parameters x.
        height: The ball centre's height y, height scale times loss.
        contact: The last known contact: where the next search starts.
        detail: The last projection's residual, or the radius that would have been admissible.
        fault: Which of the flow's `failures` happened at the start, from 1; 0 for none, -1 before
            the first projection.
    """

    centre: Params
    height: Float[Array, ""]
    contact: Params
    detail: Float[Array, ""]
    fault: Float[Array, ""]

    def moving(self, centre: Params, height: Array, contact: Params) -> "BallCentreState":
        """Return a rate of change of this state."""
        zero = jnp.zeros_like(height)
        return BallCentreState(centre, height, contact, zero, zero)


class BallCentreFlow(AbstractEquationFlow):
    """The motion of a rolling ball's centre in the limit of small steps (arXiv 2505.19527).

    The state is the centre (x, y); with the touching slopes G_i of F = a L at the contacts,

        dx/dt = -(eta / a) v,    dy/dt = -(eta / a) |v|^2,    v the shortest in the hull of the G_i.

    One contact gives dx/dt = -eta grad L(p). `params` of a trajectory is the centre's shadow x; the
    contact, where the optimizer's parameters are, is an observable, and what the distance to the
    discrete optimizer is measured from. A run starts with the contact at the given parameters.

    `project` puts the centre back to the distance of the radius after each accepted step: one
    contact by moving the centre vertically (x is exact), several by the shortest way to where all
    that carry the ball are at the radius. A ball thus rests on two contacts, and rolls on where
    radius times curvature would reach 1. Creases are seen in one and two parameters, where the
    search for contacts is global; beyond it is local, and the ball jumps to another contact only
    where the one it has ceases to be a minimum of the distance.

    Attributes:
        optimizer: The rolling ball that is modelled.
        curvature: Whether the observables hold radius times the largest principal curvature.

    Raises:
        ValueError: If `optimizer` is not a `RollingBall`, or `curvature` not a bool.
    """

    optimizer: RollingBall
    curvature: bool = eqx.field(static=True)

    midpoint: ClassVar[Midpoint] = "three_point"
    time_unit: ClassVar[str] = STEPS
    iterates_at: ClassVar[str | None] = "contact"
    failures: ClassVar[tuple[str, ...]] = (NOT_FOUND, CUTS, OFF)
    failure_detail: ClassVar[str | None] = "detail"

    def __init__(self, optimizer: Any, curvature: Any = True):
        if not isinstance(optimizer, RollingBall):
            raise ValueError(
                f"optimizer must be a RollingBall, whose radius the flow has; got {optimizer!r}."
            )
        if not isinstance(curvature, bool):
            raise ValueError(f"curvature must be True or False; got {curvature!r}.")
        self.optimizer = optimizer
        self.curvature = curvature

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Metadata of the observables."""
        return {**_VARIABLES, **_CURVATURE} if self.curvature else _VARIABLES

    @property
    def equation(self) -> Any:
        """The right-hand side."""
        return self

    def init(self, potential: Potential, params: Params) -> BallCentreState:
        """Return the state of a ball that touches at `params`: centre p + rho nu.

        The first projection sees whether it cuts the landscape.
        """
        _, unravel = ravel_pytree(params)
        x, y = self.optimizer.centre(potential, params)
        return BallCentreState(unravel(x), y, params, jnp.zeros_like(y), -jnp.ones_like(y))

    def surface(self, potential: Potential, state: BallCentreState) -> Surface:
        """Return F, from flat parameters to a height."""
        return self.optimizer.surface(potential, state.centre)

    def contacts(self, state: BallCentreState, potential: Potential) -> Contacts:
        """Find where the ball touches."""
        x, last = ravel_pytree(state.centre)[0], ravel_pytree(state.contact)[0]
        radius = self.radius(x.dtype)
        return self.optimizer.search(self.surface(potential, state), x, state.height, radius, last)

    def radius(self, dtype: Any) -> Float[Array, ""]:
        """Return rho in a dtype."""
        return self.optimizer.radius.astype(dtype)

    def rates(self, contacts: Contacts) -> tuple[Vector, Array]:
        """Return dx/dt and dy/dt; not a number where the contact was not found."""
        v = contacts.velocity
        rate = (self.optimizer.learning_rate / self.scale(jnp.result_type(float))).astype(v.dtype)
        v = jnp.where(contacts.converged, v, jnp.nan)
        return rate * v, -rate * (v @ v)

    def scale(self, dtype: Any) -> Float[Array, ""]:
        """Return the height scale in a dtype."""
        return self.optimizer.height_scale.astype(dtype)

    def vector_field(
        self, t: Real[Array, ""] | float, state: BallCentreState, args: Potential
    ) -> BallCentreState:
        """Return the velocity of the centre, through the contacts nearest to it."""
        del t
        _, unravel = ravel_pytree(state.centre)
        dx, dy = self.rates(self.contacts(state, args))
        return state.moving(unravel(dx), dy, jax.tree.map(jnp.zeros_like, state.contact))

    def placed(self, state: BallCentreState, potential: Potential) -> Placed:
        """Put the centre to where the ball touches the landscape."""
        x, last = ravel_pytree(state.centre)[0], ravel_pytree(state.contact)[0]
        surface = self.surface(potential, state)
        radius = self.radius(x.dtype)
        return place(self.optimizer.search, surface, x, state.height, radius, last, _ATTEMPTS)

    def project(
        self, state: BallCentreState, potential: Potential
    ) -> tuple[BallCentreState, Int[Array, ""]]:
        """Put the centre back to the distance of the radius."""
        placed = self.placed(state, potential)
        state = self.checked(state, potential, placed)
        return self.renewed(state, placed), self.failure(state, placed)

    def checked(
        self, state: BallCentreState, potential: Potential, placed: Placed
    ) -> BallCentreState:
        """Note in the state, at the start, whether the ball cut the landscape."""
        point = ravel_pytree(state.contact)[0]
        starts = state.fault < 0
        surface = self.surface(potential, state)
        wanted = starts & placed.contacts.converged
        cuts, limit = self.optimizer.cuts(surface, point, placed.first_distance, wanted)
        detail = jnp.where(cuts, limit, state.detail)
        fault = jnp.where(starts, jnp.where(cuts, 2, 0).astype(state.fault.dtype), state.fault)
        return dataclasses.replace(state, detail=detail, fault=fault)

    def renewed(self, state: BallCentreState, placed: Placed) -> BallCentreState:
        """Return the state of a placed ball."""
        _, unravel = ravel_pytree(state.centre)
        found = placed.contacts
        off = found.converged & placed.off(self.radius(placed.y.dtype))
        detail = jnp.where(off, placed.gap, found.residual)
        detail = jnp.where(state.fault > 0, state.detail, detail)
        return BallCentreState(
            unravel(placed.x), placed.y, unravel(found.nearest), detail, state.fault
        )

    def failure(self, state: BallCentreState, placed: Placed) -> Int[Array, ""]:
        """Return which of `failures` happened, from 1; 0 for none."""
        off = placed.off(self.radius(placed.y.dtype))
        lost = jnp.where(placed.contacts.converged, jnp.where(off, 3, 0), 1)
        return jnp.where(state.fault > 0, state.fault.astype(jnp.int32), lost).astype(jnp.int32)

    def params(self, state: BallCentreState) -> Params:
        """Return the centre's parameters x."""
        return state.centre

    def observables(self, state: BallCentreState, potential: Potential) -> dict[str, Array]:
        """Return what the contact is, and how the ball lies."""
        found = self.contacts(state, potential)
        scale, radius = self.scale(state.height.dtype), self.radius(state.height.dtype)
        count = found.count.astype(state.height.dtype)
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
            surface = self.surface(potential, state)
            observed["radius_times_curvature"] = radius * largest_curvature(surface, found.nearest)
        return observed

    def integrator(self, dtype: Any) -> Integrator:
        """Return the solver made for this flow, at 1e-8 relative in float64, 1e-4 in float32."""
        tolerance = 1e-8 if jnp.finfo(dtype).bits > 32 else 1e-4
        controller = diffrax.PIDController(rtol=tolerance, atol=1e-2 * tolerance)
        return Integrator(BallSolver(self), controller)
