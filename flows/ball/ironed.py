"""The ironed landscape: what a ball's centre rolls on.

It is the greyscale dilation of the landscape by the ball (arXiv 2505.19527),

    y_c(x) = sup over |q - x| <= rho of F(q) + sqrt(rho^2 - |q - x|^2),

here on a grid: in one dimension by divide and conquer, O(n log n) for n points, since the contact
moves forward as the centre does; in two by one pass over the grid per offset within the ball.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..core.arrays import ScalarLike
from ..core.captured import captured
from ..core.potential import Potential
from ..core.validation import non_negative, positive, positive_integer

# A contact that moves on by more grid spacings than this between two neighbours has jumped.
_JUMP = 8
# Values of the potential that are computed at once.
_CHUNK = 65_536
_MOST_POINTS = 20_000_000


@dataclasses.dataclass(frozen=True)
class Ironed:
    """An ironed landscape on a grid, as numpy arrays; `ironed` makes it.

    Attributes:
        coordinates: The grid's axes, one or two arrays, parameters.
        height: Height of the centre y_c / a, in units of the loss: (n,) or (n0, n1).
        landscape: The loss there.
        contact: Parameters of the contact of a ball whose centre is there, (..., dimension): a
            point of the grid.
        minima: True at local minima of the height, without the border; the first point of a level
            stretch.
        creases: True at a crease: from here to the next point along an axis the contact jumps by
            more than 8 spacings of the grid.
        radius: The ball's radius.

    Example:
        A ball of radius 2 rests over the bottom of the bowl w^2 / 2 on two contacts, +-sqrt(3):

        >>> from flows import ironed
        >>> found = ironed(lambda w: 0.5 * w[0] ** 2, 2.0, lower=-1.0, upper=1.0, points=201)
        >>> print(found.points.tolist(), int(found.creases.sum()))
        [[0.0]] 1
        >>> print(float(found.height.min()), abs(found.contact[100, 0]).round(2))
        2.49... 1.73
    """

    coordinates: tuple[np.ndarray, ...]
    height: np.ndarray
    landscape: np.ndarray
    contact: np.ndarray
    minima: np.ndarray
    creases: np.ndarray
    radius: float

    @property
    def points(self) -> np.ndarray:
        """The local minima's parameters, (minimum, dimension)."""
        found = np.argwhere(self.minima)
        return np.stack([c[i] for c, i in zip(self.coordinates, found.T, strict=True)], axis=1)


def ironed(
    potential: Potential,
    radius: ScalarLike,
    *,
    lower: ScalarLike | Sequence[float | int],
    upper: ScalarLike | Sequence[float | int],
    points: int | Sequence[int] | None = None,
    height_scale: ScalarLike = 1.0,
) -> Ironed:
    """Iron a landscape of one or two parameters: y_c(x), the height of a ball's centre over x.

        y_c(x) = sup over |q - x| <= rho of F(q) + sqrt(rho^2 - |q - x|^2),    F = a L

    (arXiv 2505.19527). The potential is evaluated up to a radius beyond the borders, so that the
    border is ironed as the inside is. Height errors are of the order of the squared spacing times
    the curvature of the landscape; local minima are counted correctly where the grid resolves them.

    Args:
        potential: The loss of params of shape (1,) or (2,).
        radius: rho, at least 0, in units of the parameters.
        lower: Lower end of the grid for one parameter, or two of them for two parameters.
        upper: Upper ends, likewise.
        points: Grid points along each axis, one number or one per axis; by default 2001 for one
            parameter and 201 for two.
        height_scale: a, as for `RollingBall`.

    Raises:
        ValueError: If an argument is out of range, or the grid would be too large.

    Example:
        Ripples that are sharper than the ball are ironed out, which leaves one minimum of seven:

        >>> import jax.numpy as jnp
        >>> from flows import ironed
        >>> ripples = lambda w: 0.5 * w[0] ** 2 + 0.1 * jnp.sin(20.0 * w[0])
        >>> [len(ironed(ripples, r, lower=-1.0, upper=1.0).points) for r in (0.0, 2.0)]
        [7, 1]
    """
    rho, scale = (
        float(non_negative("radius", radius)),
        float(positive("height_scale", height_scale)),
    )
    low, high = _ends(lower, upper)
    size = len(low)
    given = [2001, 201][size - 1] if points is None else points
    counts = list(given) if isinstance(given, Sequence) else [given] * size
    if len(counts) != size:
        raise ValueError(f"points must be one number or {size}, one per axis; got {points!r}.")
    counts = [positive_integer("points", count) for count in counts]
    if min(counts) < 3:
        raise ValueError(f"points must be at least 3 along each axis; got {points!r}.")
    spacing = (high - low) / (np.array(counts) - 1)
    # A rounding error must not remove a row of the ball.
    reach = [int(np.floor(rho / step * (1 + 1e-12))) for step in spacing]
    shape = [count + 2 * cells for count, cells in zip(counts, reach, strict=True)]
    if np.prod(shape, dtype=float) > _MOST_POINTS:
        raise ValueError(
            f"points must make a grid of at most {_MOST_POINTS} points, borders of a radius "
            f"included; got {points!r}, which makes {' x '.join(map(str, shape))}."
        )
    axes = [
        start + step * np.arange(-cells, count + cells)
        for start, step, cells, count in zip(low, spacing, reach, counts, strict=True)
    ]
    heights = scale * _evaluated(potential, axes)
    iron = _iron_line if size == 1 else _iron_plane
    lifted, index = iron(heights, spacing, reach, rho)
    inner = tuple(slice(cells, cells + count) for cells, count in zip(reach, counts, strict=True))
    contact = np.stack([axes[i][index[..., i]] for i in range(size)], axis=-1)
    return Ironed(
        coordinates=tuple(axis[part] for axis, part in zip(axes, inner, strict=True)),
        height=lifted / scale,
        landscape=heights[inner] / scale,
        contact=contact,
        minima=_minima(lifted),
        creases=_creases(index),
        radius=rho,
    )


def _ends(
    lower: ScalarLike | Sequence[float | int], upper: ScalarLike | Sequence[float | int]
) -> tuple[np.ndarray, np.ndarray]:
    try:
        low, high = (np.atleast_1d(np.asarray(end, dtype=float)) for end in (lower, upper))
    except (TypeError, ValueError):
        raise ValueError(f"lower and upper must be numbers; got {lower!r}, {upper!r}.") from None
    if low.shape != high.shape or low.ndim != 1 or len(low) not in (1, 2):
        raise ValueError(
            "lower and upper must be one number each, or two each for two parameters; got "
            f"{lower!r} and {upper!r}."
        )
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ValueError(f"lower must be finite and below upper; got {lower!r} and {upper!r}.")
    return low, high


@eqx.filter_jit
def _values(potential: Potential, points: Array) -> Array:
    return jax.vmap(lambda p: potential(p))(points)


def _evaluated(potential: Potential, axes: list[np.ndarray]) -> np.ndarray:
    """Evaluate a potential on a grid, piece by piece, all pieces of one shape."""
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    flat = grid.reshape(-1, len(axes))
    length = min(_CHUNK, len(flat))
    missing = -len(flat) % length
    point = jnp.asarray(flat[0])
    potential = captured(potential, point)
    padded = np.concatenate([flat, np.repeat(flat[-1:], missing, axis=0)])
    pieces = [
        np.asarray(_values(potential, jnp.asarray(piece)), dtype=float)
        for piece in padded.reshape(-1, length, len(axes))
    ]
    values = np.concatenate(pieces)[: len(flat)].reshape(grid.shape[:-1])
    if not np.isfinite(values).all():
        where = grid[~np.isfinite(values)][0]
        raise ValueError(
            f"lower and upper must bound a region, with a border of the radius, in which the "
            f"potential is finite; it is not at {where.tolist()}."
        )
    return values


def _iron_line(
    heights: np.ndarray, spacing: np.ndarray, reach: list[int], rho: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return y_c and the contact's index, for each centre, by divide and conquer.

    With a concave cap the contact's index does not decrease with the centre's, so that the contacts
    of two centres bound those of the centres between them.
    """
    step, cells = spacing[0], reach[0]
    count = len(heights) - 2 * cells
    lifted, index = np.empty(count), np.empty(count, dtype=np.int64)

    def solve(rows: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
        first, last = np.maximum(first, rows), np.minimum(last, rows + 2 * cells)
        lengths = last - first + 1
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        columns = np.arange(lengths.sum()) - np.repeat(starts - first, lengths)
        offset = step * (columns - np.repeat(rows + cells, lengths))
        values = heights[columns] + np.sqrt(np.maximum(rho**2 - offset**2, 0))
        best = np.maximum.reduceat(values, starts)
        # The first of equals, so that indices stay in order.
        at = np.flatnonzero(values == np.repeat(best, lengths))
        first_at = at[np.searchsorted(at, starts)]
        lifted[rows], index[rows] = best, columns[first_at]

    stride = 1 << max(0, (count - 1).bit_length())
    solve(np.array([0]), np.array([0]), np.array([2 * cells]))
    while stride > 1:
        half = stride // 2
        rows = np.arange(half, count, stride)
        if len(rows):
            after = rows + half
            bound = np.where(after < count, index[np.minimum(after, count - 1)], len(heights) - 1)
            solve(rows, index[rows - half], bound)
        stride = half
    return lifted, index[:, None]


def _iron_plane(
    heights: np.ndarray, spacing: np.ndarray, reach: list[int], rho: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return y_c and the contact's indices, for each centre, offset by offset."""
    counts = [n - 2 * cells for n, cells in zip(heights.shape, reach, strict=True)]
    lifted = np.full(counts, -np.inf)
    chosen = np.zeros((*counts, 2), dtype=np.int64)
    ranges = (range(-cells, cells + 1) for cells in reach)
    for offset in itertools.product(*ranges):
        squared = rho**2 - float(np.sum((np.array(offset) * spacing) ** 2))
        if squared < -1e-12 * rho**2:
            continue
        window = tuple(
            slice(cells + shift, cells + shift + count)
            for cells, shift, count in zip(reach, offset, counts, strict=True)
        )
        candidate = heights[window] + np.sqrt(max(squared, 0.0))
        better = candidate > lifted
        lifted[better] = candidate[better]
        chosen[better] = offset
    centre = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1)
    return lifted, centre + np.array(reach) + chosen


def _minima(values: np.ndarray) -> np.ndarray:
    """Return where no neighbour is lower; a level stretch counts once, at its first point.

    It counts only if it rises on all sides, and does not reach the border.
    """
    # Imported here, since it takes a while and nothing else in `flows` needs it.
    import scipy.ndimage

    lowest = values == scipy.ndimage.minimum_filter(values, 3, mode="nearest")
    # A level stretch falls somewhere if a point of it has a lower neighbour.
    beside = scipy.ndimage.minimum_filter(np.where(lowest, np.inf, values), 3, mode="nearest")
    falls = lowest & (beside <= values)
    border = np.ones(values.shape, dtype=bool)
    border[(slice(1, -1),) * values.ndim] = False
    labels = np.zeros(values.shape, dtype=np.int64)
    scipy.ndimage.label(lowest, np.ones((3,) * values.ndim), output=labels)
    kept = np.ones(labels.max() + 1, dtype=bool)
    kept[0] = False
    kept[labels[falls | (lowest & border)]] = False
    found, first = np.unique(labels, return_index=True)
    minima = np.zeros(values.shape, dtype=bool)
    minima.flat[first[kept[found]]] = True
    return minima


def _creases(index: np.ndarray) -> np.ndarray:
    """Return where the contact jumps on the way to the next point along an axis."""
    jumps = np.zeros(index.shape[:-1], dtype=bool)
    for axis in range(index.ndim - 1):
        moved = np.abs(np.diff(index, axis=axis)).max(axis=-1) > _JUMP
        window = [slice(None)] * (index.ndim - 1)
        window[axis] = slice(0, -1)
        jumps[tuple(window)] |= moved
    return jumps
