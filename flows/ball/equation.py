"""The right-hand side of ball-centre dynamics, and where the ball is put so that it touches."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Real

from ..core.arrays import Vector
from ..core.potential import Potential
from .contacts import Contacts
from .nearest_point import Surface
from .placement import Placed, place
from .rolling_ball import CUTS, NOT_FOUND, OFF, RollingBall
from .state import BallCentreState

# How often to look and correct after a step; each correction squares what is left to correct.
_ATTEMPTS = 5


class BallEquation(eqx.Module):
    """The right-hand side of ball-centre dynamics, which vector field and solver both evaluate.

    With the touching slopes G_i of F = a L at the contacts of a ball with centre (x, y),

        dx/dt = -(eta / a) v,    dy/dt = -(eta / a) |v|^2,    v the shortest in the hull of the G_i.

    Attributes:
        optimizer: The rolling ball, with eta, a and the radius.
    """

    optimizer: RollingBall

    failures: ClassVar[tuple[str, ...]] = (NOT_FOUND, CUTS, OFF)

    def radius(self, dtype: DTypeLike) -> Float[Array, ""]:
        """Return the ball's radius rho in a dtype."""
        return self.optimizer.radius.astype(dtype)

    def surface(self, potential: Potential, state: BallCentreState) -> Surface:
        """Return F, from flat parameters to a height."""
        return self.optimizer.surface(potential, state.centre)

    def contacts(self, state: BallCentreState, potential: Potential) -> Contacts:
        """Find where the ball touches."""
        x, last = ravel_pytree(state.centre)[0], ravel_pytree(state.contact)[0]
        radius = self.radius(x.dtype)
        return self.optimizer.search(self.surface(potential, state), x, state.height, radius, last)

    def velocity(self, contacts: Contacts) -> tuple[Vector, Float[Array, ""]]:
        """Return dx/dt (P,) and dy/dt over eta / a; not a number where no contact was found."""
        v = jnp.where(contacts.converged, contacts.velocity, jnp.nan)
        return v, -(v @ v)

    def vector_field(
        self, t: Real[Array, ""] | float, state: BallCentreState, potential: Potential
    ) -> BallCentreState:
        """Return the velocity of the centre, through the contacts nearest to it."""
        _, unravel = ravel_pytree(state.centre)
        dx, dy = self.velocity(self.contacts(state, potential))
        rate = self.optimizer.rate(dx.dtype, t)
        return state.moving(
            unravel(rate * dx), rate * dy, jax.tree.map(jnp.zeros_like, state.contact)
        )

    def settled(
        self, state: BallCentreState, potential: Potential
    ) -> tuple[BallCentreState, Int[Array, ""], Placed]:
        """Put the centre where the ball touches the landscape.

        At the start of a run this also notes in the state whether the ball cuts the landscape.

        Returns:
            The state; 0, or i where `failures[i - 1]` happened; how the ball was placed.
        """
        x, last = ravel_pytree(state.centre)[0], ravel_pytree(state.contact)[0]
        search, surface = self.optimizer.search, self.surface(potential, state)
        placed = place(search, surface, x, state.height, self.radius(x.dtype), last, _ATTEMPTS)
        starts = state.fault < 0
        wanted = starts & placed.contacts.converged
        cuts, limit = self.optimizer.cuts(surface, last, placed.first_distance, wanted)
        detail = jnp.where(cuts, limit, state.detail)
        fault = jnp.where(starts, jnp.where(cuts, 2, 0).astype(state.fault.dtype), state.fault)
        state = dataclasses.replace(state, detail=detail, fault=fault)
        return *self.outcome(state, placed), placed

    def outcome(
        self, state: BallCentreState, placed: Placed
    ) -> tuple[BallCentreState, Int[Array, ""]]:
        """Return the state of a ball that was placed, and which of `failures` happened, or 0.

        Args:
            state: The state before, whose `fault` a run keeps from its start.
            placed: The ball as it was placed.
        """
        _, unravel = ravel_pytree(state.centre)
        found = placed.contacts
        off = placed.off(self.radius(placed.y.dtype))
        detail = jnp.where(found.converged & off, placed.gap, found.residual)
        detail = jnp.where(state.fault > 0, state.detail, detail)
        lost = jnp.where(found.converged, jnp.where(off, 3, 0), 1)
        failure = jnp.where(state.fault > 0, state.fault.astype(jnp.int32), lost)
        renewed = BallCentreState(
            unravel(placed.x), placed.y, unravel(found.nearest), detail, state.fault
        )
        return renewed, failure.astype(jnp.int32)
