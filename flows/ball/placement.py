"""Putting a ball where it touches a landscape."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from ..core.arrays import Vector
from ..core.cost import Cost
from .contacts import Contacts, ContactSearch
from .nearest_point import Scalar, Surface

# Shares of the radius by which a ball may be too near or too far.
SLACK = {"float32": 1e-3, "float64": 1e-6}


class Placed(eqx.Module):
    """A ball that was put where it touches the landscape.

    Attributes:
        x: The centre's parameters (P,).
        y: The centre's height.
        contacts: Where it touches.
        first_distance: How far the nearest point was before it was moved.
        gap: Distance of the centre to the landscape minus the radius, before the last correction.
        done: True if nothing is left to be corrected.
        cost: What was spent on placing it.
    """

    x: Vector
    y: Scalar
    contacts: Contacts
    first_distance: Scalar
    gap: Scalar
    done: Bool[Array, ""]
    cost: Cost

    def off(self, radius: Scalar) -> Bool[Array, ""]:
        """Return True if the ball could not be put at the distance of its radius."""
        scale = jnp.max(jnp.abs(self.x)) + jnp.abs(self.y) + radius
        rounding = jnp.sqrt(jnp.finfo(self.y.dtype).eps) * scale
        return ~(jnp.abs(self.gap) <= SLACK[str(self.y.dtype)] * radius + rounding)


def unplaced(search: ContactSearch, surface: Surface, x: Vector, y: Scalar) -> Placed:
    """Return a ball that has no contacts yet."""
    infinite, nothing = jnp.full_like(y, jnp.inf), search.nothing(surface, x, y)
    return Placed(x, y, nothing, infinite, infinite, jnp.asarray(False), Cost())


def attempt(
    search: ContactSearch,
    surface: Surface,
    ball: Placed,
    radius: Scalar,
    last: Vector,
    band: Scalar,
) -> Placed:
    """Find where a ball touches, and correct its centre if it needs that.

    With one contact it moves vertically and x stays; with two or more that carry it, it moves by
    the shortest way to where all of them are at the distance of the radius.

    Args:
        search: How contacts are found.
        surface: F.
        ball: The ball, near the landscape.
        radius: Its radius.
        last: A guess of the contact.
        band: Distances that differ by less than this are equal.
    """
    contacts = search(surface, ball.x, ball.y, radius, last, band)
    eps = float(jnp.finfo(ball.x.dtype).eps)
    scale = jnp.max(jnp.abs(ball.x)) + jnp.abs(ball.y) + radius
    held = contacts.carrying & jnp.isfinite(contacts.distances)
    gaps = jnp.abs(contacts.signed_distances(ball.y) - radius)
    off = jnp.maximum(jnp.max(jnp.where(held, gaps, 0)), gaps[0])
    done = (off <= 1e-11 * radius + 32 * eps * scale) | ~contacts.converged
    x, y = _corrected(ball, contacts, radius)
    before = jnp.isinf(ball.first_distance)
    return Placed(
        x=jnp.where(done, ball.x, x),
        y=jnp.where(done, ball.y, y),
        contacts=contacts,
        first_distance=jnp.where(before, contacts.distances[0], ball.first_distance),
        gap=contacts.signed_distances(ball.y)[0] - radius,
        done=done,
        cost=ball.cost + contacts.cost,
    )


def place(
    search: ContactSearch,
    surface: Surface,
    x: Vector,
    y: Scalar,
    radius: Scalar,
    last: Vector,
    attempts: int,
) -> Placed:
    """Put a ball that is near the landscape so that it touches.

    Args:
        search: How contacts are found.
        surface: F.
        x: The centre's parameters (P,).
        y: Its height.
        radius: The ball's radius.
        last: A guess of the contact.
        attempts: How often to search and correct, at most.
    """

    def one(carry: tuple[Placed, Vector], _: None) -> tuple[tuple[Placed, Vector], None]:
        ball, last = carry

        def tried() -> tuple[Placed, Vector]:
            following = attempt(search, surface, ball, radius, last, search.band(radius))
            return following, following.contacts.nearest

        return lax.cond(ball.done, lambda: carry, tried), None

    start = unplaced(search, surface, x, y), last
    return lax.scan(one, start, length=attempts)[0][0]


def _corrected(ball: Placed, contacts: Contacts, radius: Scalar) -> tuple[Vector, Scalar]:
    """Return the centre at which the contacts are at the distance of the radius, to first order."""
    x, y = ball.x, ball.y
    missing = radius - contacts.signed_distances(y)
    valid = jnp.isfinite(contacts.distances)
    missing = jnp.where(valid, missing, 0)
    w = jnp.sqrt(1 + jnp.sum(contacts.slopes**2, axis=1))
    # The highest of the heights that the contacts ask for.
    up = jnp.max(jnp.where(valid, w * missing, -jnp.inf))
    if contacts.points.shape[0] == 1:
        return x, y + up
    normals = jnp.concatenate([-contacts.slopes, jnp.ones_like(w)[:, None]], axis=1) / w[:, None]
    rows = contacts.carrying & valid
    normals = jnp.where(rows[:, None], normals, 0)
    # Rows that do not count get a one on the diagonal. More contacts than dimensions are linearly
    # dependent: the small term keeps the matrix regular.
    tiny = jnp.where(rows, 10 * jnp.finfo(y.dtype).eps, 1)
    gram = normals @ normals.T + jnp.diag(tiny)
    shift = normals.T @ jnp.linalg.solve(gram, jnp.where(rows, missing, 0))
    several = jnp.sum(rows) > 1
    return (
        jnp.where(several, x + shift[:-1], x),
        jnp.where(several, y + shift[-1], y + up),
    )
