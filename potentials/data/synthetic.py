"""Small data sets that are computed, not loaded."""

from typing import Annotated

import numpy as np

from potentials.checks import NonNegative, Seed, TwoOrMore, WholeNumber, checked
from potentials.data.dataset import Dataset, one_hot


@checked
def chebyshev(
    examples: TwoOrMore = 20, degree: Annotated[int, WholeNumber(least=0)] = 5
) -> Dataset:
    """Sample a Chebyshev polynomial for a regression, the toy task of arXiv 2103.00065 (app. A).

    Args:
        examples: number n of points, evenly spaced on [-1, 1] with both ends; at least 2.
        degree: degree k of the polynomial T_k(x) = cos(k arccos x), at least 0.

    Returns:
        Inputs x of shape (examples, 1), targets T_k(x) of shape (examples, 1), no classes.

    Raises:
        ValueError: if `examples` or `degree` is no whole number that large.

    Example:
        >>> from potentials import chebyshev
        >>> chebyshev(examples=5, degree=2).targets[:, 0].round(3).tolist()
        [1.0, -0.5, -1.0, -0.5, 1.0]
    """
    x = np.linspace(-1.0, 1.0, examples)[:, None]
    return Dataset(x, np.cos(degree * np.arccos(x)))


@checked
def two_moons(examples: TwoOrMore = 200, noise: NonNegative = 0.1, seed: Seed = 0) -> Dataset:
    """Generate two interleaving half circles in the plane, one for each of two classes.

    Args:
        examples: number of points, half of them (rounded down) in class 0; at least 2.
        noise: standard deviation of the normal noise on both coordinates, not negative.
        seed: of the noise and of the order of the points, in 0..2^32-1.

    Returns:
        Inputs of shape (examples, 2), one-hot targets of shape (examples, 2), two classes.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> from potentials import two_moons
        >>> data = two_moons(examples=10, noise=0.0)
        >>> data.inputs.shape, data.num_classes
        ((10, 2), 2)
    """
    import sklearn.datasets

    points, labels = sklearn.datasets.make_moons(examples, noise=float(noise), random_state=seed)
    return Dataset(points, one_hot(labels, 2), 2)
