"""The handwritten digits that scikit-learn ships: real images without a download."""

import numpy as np
import sklearn.datasets

from potentials import checks
from potentials.data.dataset import Dataset, first, normalise_channels, one_hot, select


def load_digits(examples: int | None = None, classes: int = 10, *, flatten: bool = True) -> Dataset:
    """Handwritten digits of 8 x 8 grey pixels (UCI Optical Recognition, as in scikit-learn).

    The first `examples` images among the digits 0..classes-1, in the source's order, in which the
    digits alternate. Pixels have mean 0 and variance 1 over all pixels of the chosen images; parts
    of a split are standardised by the training part alone with `Dataset.standardised`.

    Args:
        examples: how many images; None for all of them (1797 with all classes).
        classes: how many digits, from 0, in 2..10.
        flatten: images as vectors, or else as one-channel images for a `CNN`.

    Returns:
        Inputs of shape (examples, 64), or (examples, 1, 8, 8) if not `flatten`, and one-hot
        targets of shape (examples, classes).

    Raises:
        ValueError: if there are fewer classes or fewer examples than asked for.
    """
    images, labels = map(np.asarray, sklearn.datasets.load_digits(return_X_y=True))
    chosen = select(labels, examples, classes, available=10, source="the digits data set")
    pixels = normalise_channels(images[chosen], axes=(0, 1))
    inputs = pixels if flatten else pixels.reshape(-1, 1, 8, 8)
    return Dataset(inputs, one_hot(labels[chosen], classes), classes)


def load_other_digits(examples: int | None = None, classes: int = 5) -> Dataset:
    """The digits classes..9, out of distribution for who knows `load_digits(classes=classes)`.

    Pixels are shifted and scaled as those of all images of the digits 0..classes-1 are;
    `Dataset.standardised` brings both to the moments of training images.

    Args:
        examples: how many images, the first ones; None for all of them.
        classes: from which digit on, in 2..9.

    Returns:
        Inputs of shape (examples, 64), one-hot targets of shape (examples, 10).

    Raises:
        ValueError: if there are fewer examples than asked for, or no such digits.
    """
    classes = checks.count("classes", classes, least=2, most=9)
    images, labels = map(np.asarray, sklearn.datasets.load_digits(return_X_y=True))
    known, other = images[labels < classes], images[labels >= classes]
    chosen = first(len(other), examples, f"the digits from {classes} on")
    pixels = (other[chosen] - known.mean()) / known.std()
    return Dataset(pixels, one_hot(labels[labels >= classes][chosen], 10), 10)
