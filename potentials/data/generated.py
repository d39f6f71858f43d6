"""Small generated problems for studies of uncertainty, similar to well-known data sets."""

from typing import Annotated

import numpy as np

from potentials.checks import NonNegative, Number, ScalarLike, Seed, TwoOrMore, checked
from potentials.data.dataset import Dataset, one_hot


@checked
def generated_regression(
    examples: TwoOrMore = 20,
    noise: NonNegative = 0.05,
    gap: Annotated[ScalarLike, Number(least=0.0, below=4.0)] = 1.6,
    seed: Seed = 0,
) -> Dataset:
    """Generate a one-dimensional regression with a gap in the inputs, similar to Snelson's data.

    Inputs lie in [-2.5, 2.5] outside of the gap around 0.5, half of them on each side. Each is
    drawn uniformly within its own cell of a grid, so that no two nearly coincide: noisy targets
    there could only be fitted by a steep function. Targets are sin(2x) + x/3 plus normal noise.

    Args:
        examples: number of points, at least 2.
        noise: standard deviation of the noise, not negative.
        gap: width of the interval without inputs, not negative, and below 4, to leave inputs on
            both sides.
        seed: of inputs and noise, in 0..2^32-1.

    Returns:
        Inputs of shape (examples, 1), sorted, targets of shape (examples, 1), no classes.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> from potentials import generated_regression
        >>> data = generated_regression(examples=10, gap=2.0)
        >>> data.inputs.shape, bool((abs(data.inputs - 0.5) >= 1.0).all())
        ((10, 1), True)
    """
    width = float(gap)
    rng = np.random.default_rng(seed)
    below = examples // 2
    sides = ((-2.5, 0.5 - width / 2, below), (0.5 + width / 2, 2.5, examples - below))
    # The middle three fifths of each cell.
    drawn = [
        low + (high - low) * (np.arange(count) + rng.uniform(0.2, 0.8, count)) / count
        for low, high, count in sides
    ]
    x = np.concatenate(drawn)[:, None]
    return Dataset(x, np.sin(2 * x) + x / 3 + float(noise) * rng.standard_normal(x.shape))


@checked
def banana(examples: TwoOrMore = 100, noise: NonNegative = 0.25, seed: Seed = 0) -> Dataset:
    """Generate a two-class problem in the plane, with one class bent around the other.

    Class 0 is a banana along x2 = x1^2 - 1, with x1 uniform in [-1.5, 1.5]; class 1 lies above it,
    in a blob around (0, 1).

    Args:
        examples: number of points, half of them (rounded down) in class 0; at least 2.
        noise: standard deviation of the normal noise on both coordinates, not negative.
        seed: of the points and of their order, in 0..2^32-1.

    Returns:
        Inputs of shape (examples, 2), one-hot targets of shape (examples, 2), two classes.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> from potentials import banana
        >>> data = banana(examples=10)
        >>> data.inputs.shape, data.targets.sum(axis=0).tolist()
        ((10, 2), [5.0, 5.0])
    """
    rng = np.random.default_rng(seed)
    sizes = (examples // 2, examples - examples // 2)
    labels = np.repeat([0, 1], sizes)
    x1 = rng.uniform(-1.5, 1.5, sizes[0])
    bent = np.stack([x1, x1**2 - 1], axis=1)
    blob = np.array([0.0, 1.0]) + 0.3 * rng.standard_normal((sizes[1], 2))
    points = np.concatenate([bent, blob]) + float(noise) * rng.standard_normal((examples, 2))
    order = rng.permutation(examples)
    return Dataset(points[order], one_hot(labels[order], 2), 2)
