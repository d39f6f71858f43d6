"""Where a ball touches a landscape, and which way it can roll from there.

With one or two parameters the search is global: the distance to the centre is evaluated on a grid
over the shadow of the ball, the lowest local minima on the grid and the last contact are refined by
Newton's method, and what remains are all contacts that the grid separates (its spacing must resolve
the landscape). With more parameters it is local: it finds the minimum of the distance that the last
contact leads to, and may miss other walls.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from ..core.arrays import Vector
from ..core.cost import Cost
from .nearest_point import NearestPoint, Scalar, Surface, nearest_point

# Grid points per parameter, for one and two parameters.
_CANDIDATES = {1: 256, 2: 33}
# Grid points in all.
_MOST_CANDIDATES = 10_000_000
# Local minima that are refined.
_KEPT = {1: 3, 2: 6}
# Points that are nearer to each other than this, relative to the scale of lengths, are one contact.
_APART = {"float32": 1e-2, "float64": 1e-5}
# Distances that differ by less, relative to the same scale, are equal.
_EQUAL = {"float32": 3e-4, "float64": 1e-6}

# Up to this many parameters the contacts are searched for globally.
_GLOBAL_LIMIT = 2


class ContactSearch(eqx.Module):
    """How contacts are found.

    Attributes:
        candidates: Grid points per parameter, for one and two parameters; None for 256 and 33.
        tolerance: For the sine of the angle between the line to the centre and the normal; None
            for 1e-10 in float64, 1e-4 in float32.
        iterations: Bound on the Newton steps of each contact.
    """

    candidates: int | None = eqx.field(static=True, default=None)
    tolerance: float | None = eqx.field(static=True, default=None)
    iterations: int = eqx.field(static=True, default=30)

    def is_global(self, size: int) -> bool:
        """Return True if all contacts are searched for, with that many parameters."""
        return size <= _GLOBAL_LIMIT

    def band(self, reach: Scalar) -> Scalar:
        """Return by how much distances may differ that count as equal."""
        return _EQUAL[str(reach.dtype)] * reach

    def points_per_parameter(self, size: int) -> int:
        """Return how many points the grid has along each parameter."""
        return _CANDIDATES[size] if self.candidates is None else self.candidates

    def __call__(
        self,
        surface: Surface,
        x: Vector,
        y: Scalar,
        reach: Scalar,
        last: Vector,
        band: Scalar | None = None,
    ) -> "Contacts":
        """Find the contacts of a ball.

        Args:
            surface: F.
            x: The centre's parameters (P,).
            y: The centre's height.
            reach: Radius of the disc around x that is searched, where the search is global.
            last: A guess of the contact, (P,).
            band: Distances that differ by less than this are equal; None for 1e-6 of `reach` in
                float64, 3e-4 in float32.
        """
        size = x.size
        band = lax.stop_gradient(self.band(reach) if band is None else band)
        if not self.is_global(size):
            one = self._refined(surface, x, y, last)
            return _contacts(jax.tree.map(lambda a: a[None], one), one.cost, reach, band)
        points = self._starts(surface, x, y, reach, last)
        found = jax.vmap(lambda start: self._refined(surface, x, y, start))(points)
        grid = Cost(gradients=self.points_per_parameter(size) ** size)
        spent = jax.tree.map(lambda a: jnp.sum(a, dtype=a.dtype), found.cost)
        return _contacts(found, spent + grid, reach, band)

    def nothing(self, surface: Surface, x: Vector, y: Scalar) -> "Contacts":
        """Return what a search would, filled with zeros, to start a loop from."""
        shapes = eqx.filter_eval_shape(self, surface, x, y, y, x)
        return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)

    def _refined(self, surface: Surface, x: Vector, y: Scalar, start: Vector) -> NearestPoint:
        return nearest_point(
            surface, x, y, start, tolerance=self.tolerance, iterations=self.iterations
        )

    def dilation(self, surface: Surface, x: Vector, radius: Scalar) -> Scalar:
        """Return max F(q) + sqrt(rho^2 - |q - x|^2) over the grid: the ball's height, or below."""
        offsets = jnp.asarray(self._grid(x.size), x.dtype).reshape(-1, x.size)
        heights = jax.vmap(surface)(x[None, :] + radius * offsets)
        above = 1 - jnp.sum(offsets**2, axis=1)
        caps = heights + radius * jnp.sqrt(jnp.maximum(above, 0))
        return jnp.max(jnp.where((above >= 0) & jnp.isfinite(caps), caps, -jnp.inf))

    def _grid(self, size: int) -> np.ndarray:
        """Return the grid of the square around the unit disc, coordinates last."""
        count = self.points_per_parameter(size)
        if count**size > _MOST_CANDIDATES:
            raise ValueError(
                f"candidates must be at most {int(_MOST_CANDIDATES ** (1 / size))} per parameter "
                f"with {size} parameters; got {count}."
            )
        line = np.linspace(-1.0, 1.0, count)
        return np.stack(np.meshgrid(*[line] * size, indexing="ij"), axis=-1)

    def _starts(
        self, surface: Surface, x: Vector, y: Scalar, reach: Scalar, last: Vector
    ) -> Float[Array, "start parameter"]:
        """Return the lowest local minima of the distance on a grid, and the last contact."""
        count, size = self.points_per_parameter(x.size), x.size
        grid = self._grid(size)
        # A contact lies within the disc; a little more, so that minima at its edge are inside.
        inside = jnp.asarray((grid**2).sum(-1) <= (1 + 3 / (count - 1)) ** 2)
        steps = jnp.asarray(grid, x.dtype).reshape(-1, size)
        points = lax.stop_gradient(x[None, :] + 1.001 * reach * steps)
        heights = jax.vmap(surface)(points)
        squared = jnp.sum((points - x[None, :]) ** 2, axis=1) + (heights - y) ** 2
        squared = lax.stop_gradient(squared).reshape(inside.shape)
        squared = jnp.where(inside & jnp.isfinite(squared), squared, jnp.inf)
        padded = jnp.pad(squared, 1, constant_values=jnp.inf)
        lowest = squared < jnp.inf
        for axis in range(size):
            for shift in (0, 2):
                window = [slice(1, -1)] * size
                window[axis] = slice(shift, shift + count)
                lowest &= squared <= padded[tuple(window)]
        ranked = jnp.where(lowest, squared, jnp.inf).ravel()
        values, indices = lax.top_k(-ranked, _KEPT[size])
        starts = jnp.where(jnp.isfinite(values)[:, None], points[indices], last[None, :])
        return jnp.concatenate([starts, last[None, :]])


class Contacts(eqx.Module):
    """Local minima of the distance to the centre, the nearest first.

    Attributes:
        points: Their parameters (contact, P).
        heights: Their heights.
        slopes: G at each, (contact, P).
        distances: Their distances; infinite for what was found twice or not at all.
        touching: True for those whose distance is the smallest, to tolerance.
        carrying: True for those that hold the ball, and that its motion keeps touching.
        velocity: Minus the minimal-norm convex combination of the touching slopes, (P,): the
            motion of the ball's shadow per unit of learning rate and height scale.
        residual: Sine of the angle to the normal at the nearest one.
        converged: True if the nearest one was found.
        cost: What was spent.
    """

    points: Float[Array, "contact parameter"]
    heights: Float[Array, " contact"]
    slopes: Float[Array, "contact parameter"]
    distances: Float[Array, " contact"]
    touching: Bool[Array, " contact"]
    carrying: Bool[Array, " contact"]
    velocity: Vector
    residual: Scalar
    converged: Bool[Array, ""]
    cost: Cost

    @property
    def nearest(self) -> Vector:
        """The nearest contact (P,)."""
        return self.points[0]

    def signed_distances(self, y: Scalar) -> Float[Array, " contact"]:
        """Return the distances to a centre at height y, negative for contacts above it."""
        return jnp.where(self.heights > y, -self.distances, self.distances)


def _contacts(found: NearestPoint, cost: Cost, reach: Scalar, band: Scalar) -> Contacts:
    """Sort what was found, each with a leading axis, and find out which of it touches."""
    order = jnp.argsort(jnp.where(found.converged, found.distance, jnp.inf))
    found = jax.tree.map(lambda a: a[order], found)
    distances, converged = found.distance, found.converged
    scale = lax.stop_gradient(reach) + jnp.finfo(reach.dtype).eps
    places = jnp.concatenate([found.point, found.height[:, None]], axis=1)
    apart = jnp.sum((places[:, None] - places[None, :]) ** 2, axis=-1)
    earlier = jnp.tril(apart <= (_APART[str(reach.dtype)] * scale) ** 2, -1) & converged[None, :]
    single = converged & ~jnp.any(earlier, axis=1)
    touching = single & (distances <= distances[0] + band)
    touching = touching.at[0].set(True)
    velocity, carrying = minimal_norm(found.slope, touching)
    # If a search stopped early at a point that is nearer still, the nearest contact is not known.
    missed = ~converged & (distances < distances[0] - band)
    return Contacts(
        points=found.point,
        heights=found.height,
        slopes=found.slope,
        distances=jnp.where(single, distances, jnp.inf).at[0].set(distances[0]),
        touching=touching,
        carrying=carrying,
        velocity=-velocity,
        residual=found.residual[0],
        converged=converged[0] & ~jnp.any(missed),
        cost=cost,
    )


def minimal_norm(
    vectors: Float[Array, "contact parameter"], active: Bool[Array, " contact"]
) -> tuple[Vector, Bool[Array, " contact"]]:
    """Find the shortest vector in the convex hull of some vectors of one or two entries.

    It lies at a vertex or on an edge, unless the hull contains zero. A single vector may have any
    number of entries.

    Args:
        vectors: Rows.
        active: Which of them count; the first one always does.

    Returns:
        The vector, and the rows that it combines with weights above zero.
    """
    count = vectors.shape[0]
    if count == 1:
        return vectors[0], active
    first, second = (jnp.asarray(a) for a in np.triu_indices(count))
    edge = vectors[first] - vectors[second]
    squared = jnp.sum(edge**2, axis=1)
    share = jnp.sum(vectors[first] * edge, axis=1) / jnp.where(squared > 0, squared, 1)
    share = jnp.clip(share, 0, 1)[:, None]
    closest = vectors[first] - share * edge
    lengths = jnp.where(active[first] & active[second], jnp.sum(closest**2, axis=1), jnp.inf)
    best = jnp.argmin(lengths)
    weight = share[best, 0]
    rows = jnp.arange(count)
    carrying = ((rows == first[best]) & (weight < 1)) | ((rows == second[best]) & (weight > 0))
    if vectors.shape[1] == 1:
        return closest[best], carrying
    # Zero is inside if and only if the vectors leave no gap of half a turn between them.
    angles = jnp.arctan2(vectors[:, 1], vectors[:, 0])
    angles = jnp.sort(jnp.where(active, angles, angles[0]))
    gaps = jnp.append(jnp.diff(angles), angles[0] + 2 * jnp.pi - angles[-1])
    inside = (jnp.max(gaps) < jnp.pi) & (jnp.sum(active) > 2)
    return jnp.where(inside, 0, closest[best]), jnp.where(inside, active, carrying)
