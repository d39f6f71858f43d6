"""Small data sets that are computed, not loaded."""

import numpy as np
import sklearn.datasets
from jax.typing import ArrayLike

from potentials import checks
from potentials.data.dataset import Dataset, one_hot


def chebyshev(examples: int = 20, degree: int = 5) -> Dataset:
    """Regression on a Chebyshev polynomial, the toy task of arXiv 2103.00065 (appendix A).

    Args:
        examples: number n of points, evenly spaced on [-1, 1] with both ends; at least 2.
        degree: degree k of the polynomial T_k(x) = cos(k arccos x), at least 0.

    Returns:
        Inputs x of shape (examples, 1), targets T_k(x) of shape (examples, 1), no classes.

    Raises:
        ValueError: if `examples` or `degree` is no whole number that large.
    """
    n = checks.count("examples", examples, least=2)
    k = checks.count("degree", degree, least=0)
    x = np.linspace(-1.0, 1.0, n)[:, None]
    return Dataset(x, np.cos(k * np.arccos(x)))


def two_moons(examples: int = 200, noise: ArrayLike = 0.1, seed: int = 0) -> Dataset:
    """Two interleaving half circles in the plane, one for each of two classes.

    Args:
        examples: number of points, half of them (rounded down) in class 0; at least 2.
        noise: standard deviation of the normal noise on both coordinates, not negative.
        seed: of the noise and of the order of the points, in 0..2^32-1.

    Returns:
        Inputs of shape (examples, 2), one-hot targets of shape (examples, 2), two classes.

    Raises:
        ValueError: if an argument is out of range.
    """
    n = checks.count("examples", examples, least=2)
    deviation = float(checks.number("noise", noise, least=0.0))
    seed = checks.count("seed", seed, least=0, most=2**32 - 1)
    points, labels = sklearn.datasets.make_moons(n, noise=deviation, random_state=seed)
    return Dataset(points, one_hot(labels, 2), 2)
