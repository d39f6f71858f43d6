"""Small problems of uncertainty that are generated, in the manner of well-known ones."""

import numpy as np
from jax.typing import ArrayLike

from potentials import checks
from potentials.data.dataset import Dataset, one_hot

_MOST_SEED = 2**32 - 1


def generated_regression(
    examples: int = 20, noise: ArrayLike = 0.05, gap: ArrayLike = 1.6, seed: int = 0
) -> Dataset:
    """Generated one-dimensional regression with a gap in the inputs, in the manner of Snelson's.

    It is not Snelson's file. Inputs lie in [-2.5, 2.5] outside of the gap around 0.5, half of them
    on each side, each drawn uniformly in its own of equal cells, so that no two nearly coincide (a
    network that meets noisy targets there would have to be steep). Targets are sin(2x) + x/3 with
    normal noise.

    Args:
        examples: number of points, at least 2.
        noise: standard deviation of the noise, not negative.
        gap: width of the interval without inputs, not negative, below 4.
        seed: of inputs and noise.

    Returns:
        Inputs of shape (examples, 1), sorted, targets of shape (examples, 1), no classes.

    Raises:
        ValueError: if an argument is out of range.
    """
    n = checks.count("examples", examples, least=2)
    deviation = float(checks.number("noise", noise, least=0.0))
    width = float(checks.number("gap", gap, least=0.0))
    if width >= 4.0:
        raise ValueError(f"gap must be below 4, to leave inputs on both sides; got {width:g}.")
    rng = np.random.default_rng(checks.count("seed", seed, least=0, most=_MOST_SEED))
    sides = ((-2.5, 0.5 - width / 2, n // 2), (0.5 + width / 2, 2.5, n - n // 2))
    # The middle three fifths of each cell.
    drawn = [
        low + (high - low) * (np.arange(count) + rng.uniform(0.2, 0.8, count)) / count
        for low, high, count in sides
    ]
    x = np.concatenate(drawn)[:, None]
    return Dataset(x, np.sin(2 * x) + x / 3 + deviation * rng.standard_normal(x.shape))


def banana(examples: int = 100, noise: ArrayLike = 0.25, seed: int = 0) -> Dataset:
    """Generated two-class problem in the plane whose classes are bent around each other.

    Class 0 is a banana along x2 = x1^2 - 1, with x1 uniform in [-1.5, 1.5]; class 1 lies above it,
    in a blob around (0, 1).

    Args:
        examples: number of points, half of them (rounded down) in class 0; at least 2.
        noise: standard deviation of the normal noise on both coordinates, not negative.
        seed: of the points and of their order.

    Returns:
        Inputs of shape (examples, 2), one-hot targets of shape (examples, 2), two classes.

    Raises:
        ValueError: if an argument is out of range.
    """
    n = checks.count("examples", examples, least=2)
    deviation = float(checks.number("noise", noise, least=0.0))
    rng = np.random.default_rng(checks.count("seed", seed, least=0, most=_MOST_SEED))
    labels = np.repeat([0, 1], [n // 2, n - n // 2])
    x1 = rng.uniform(-1.5, 1.5, n // 2)
    bent = np.stack([x1, x1**2 - 1], axis=1)
    blob = np.array([0.0, 1.0]) + 0.3 * rng.standard_normal((n - n // 2, 2))
    points = np.concatenate([bent, blob]) + deviation * rng.standard_normal((n, 2))
    order = rng.permutation(n)
    return Dataset(points[order], one_hot(labels[order], 2), 2)
