"""Which cycle a discrete path has settled on: none, a fixed point, or one of a longer period."""

from typing import Final, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from ..core.validation import positive_integer

# A path that turns around a point more slowly than this settles within a few hundred steps.
_TOLERANCE: Final = 0.02


class Cycle(NamedTuple):
    """What the end of a path looks like, as `cycle` finds it.

    Attributes:
        period: 1 for a fixed point, p for a cycle of p points; 0 if it repeats itself after no
            number of steps up to the longest.
        amplitude: Largest distance of the path's end from its mean, in units of the parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import cycle
        >>> there_and_back = jnp.tile(jnp.asarray([[1.0], [-1.0]]), (4, 1))
        >>> found = cycle(there_and_back, longest=4)
        >>> int(found.period), float(found.amplitude)
        (2, 1.0)
    """

    period: Int[Array, ""]
    amplitude: Float[Array, ""]


def cycle(
    path: ArrayLike,
    *,
    longest: int = 16,
    at_rest: float | int = 0.01,
    tolerance: float | int = _TOLERANCE,
) -> Cycle:
    """Find the cycle on which a path has settled, from its last `2 * longest` points.

    A path whose end stays within `at_rest` times the distance from its start to the end's mean is
    at a fixed point (it approaches one geometrically); else the period is the smallest p for which
    w_{t+p} differs from w_t by at most `tolerance` times the amplitude.

    Args:
        path: Every step of the path, floats (T, P), w_0 first; at least `2 * longest` points.
        longest: The longest period that is looked for, an integer of at least 1.
        at_rest: Amplitude of a path at rest, in units of its distance from the start.
        tolerance: How well a cycle repeats itself, in units of its amplitude.

    Returns:
        The period and the amplitude; a path that is not finite has period 0 and amplitude nan.

    Raises:
        ValueError: If the path is no array of floats with two axes or is too short, or `longest`
            is no integer of at least 1.

    Example:
        A run of gradient descent on L = 1.05 w^2 - w^4 / 4, whose curvature is above 2 / eta:

        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, cycle, iterate
        >>> quartic = lambda w: jnp.sum(1.05 * w**2 - 0.25 * w**4)
        >>> run = iterate(GradientDescent(1.0), quartic, jnp.asarray([0.05]), steps=200)
        >>> found = cycle(run.params, longest=4)
        >>> int(found.period), round(float(found.amplitude), 4)
        (2, 0.3162)
    """
    longest, path = positive_integer("longest", longest), jnp.asarray(path)
    if path.ndim != 2 or not jnp.issubdtype(path.dtype, jnp.floating):
        raise ValueError(
            "path must be an array of floats of shape (T, P), also for P = 1: path[:, None]; got "
            f"{path.dtype} of shape {path.shape}."
        )
    if path.shape[0] < 2 * longest:
        raise ValueError(
            f"path has {path.shape[0]} points; a period up to {longest} needs {2 * longest}."
        )
    end = path[-2 * longest :]
    mean = jnp.mean(end, axis=0)
    amplitude = jnp.max(_norms(end - mean[None]))
    start = jnp.sqrt(jnp.sum(jnp.square(path[0] - mean)))
    # At least rounding is at rest, whatever the start.
    rounding = 8 * jnp.finfo(path.dtype).eps * jnp.max(jnp.abs(end))
    resting = amplitude <= jnp.maximum(at_rest * start, rounding)
    repeats = jnp.stack(
        [
            jnp.max(_norms(end[period:] - end[:-period])) <= tolerance * amplitude
            for period in range(1, longest + 1)
        ]
    )
    found = jnp.where(jnp.any(repeats), 1 + jnp.argmax(repeats), 0)
    finite: Bool[Array, ""] = jnp.all(jnp.isfinite(end))
    period = jnp.where(finite, jnp.where(resting, 1, found), 0).astype(jnp.int32)
    return Cycle(period, jnp.where(finite, amplitude, jnp.nan))


def _norms(rows: Float[Array, "n P"]) -> Float[Array, " n"]:
    return jnp.sqrt(jnp.sum(jnp.square(rows), axis=1))
