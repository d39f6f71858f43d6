"""The handwritten digits that scikit-learn ships: real images without a download."""

from typing import Annotated

import numpy as np

from potentials.checks import PositiveInteger, TwoOrMore, WholeNumber, checked
from potentials.data.dataset import Dataset, first, normalise_channels, one_hot, select


@checked
def load_digits(
    examples: PositiveInteger | None = None, classes: TwoOrMore = 10, *, flatten: bool = True
) -> Dataset:
    """Load handwritten digits of 8 x 8 grey pixels (UCI Optical Recognition, from scikit-learn).

    The first `examples` images among the digits 0..classes-1, in the source's order, in which the
    digits alternate. Pixels have mean 0 and variance 1 over all pixels of the chosen images;
    `Dataset.standardised` standardises the parts of a split by the training part only.

    Args:
        examples: how many images; None for all of them (1797 with all classes).
        classes: how many digits, from 0, in 2..10.
        flatten: give images as vectors, rather than as one-channel images for a `CNN`.

    Returns:
        Inputs of shape (examples, 64), or (examples, 1, 8, 8) if not `flatten`, and one-hot
        targets of shape (examples, classes).

    Raises:
        ValueError: if there are fewer classes or fewer examples than asked for.

    Example:
        >>> from potentials import load_digits
        >>> data = load_digits(examples=100, classes=3)
        >>> data.inputs.shape, data.targets.shape, data.num_classes
        ((100, 64), (100, 3), 3)
    """
    import sklearn.datasets

    images, labels = map(np.asarray, sklearn.datasets.load_digits(return_X_y=True))
    chosen = select(labels, examples, classes, available=10, source="the digits data set")
    pixels = normalise_channels(images[chosen], axes=(0, 1))
    inputs = pixels if flatten else pixels.reshape(-1, 1, 8, 8)
    return Dataset(inputs, one_hot(labels[chosen], classes), classes)


@checked
def load_other_digits(
    examples: PositiveInteger | None = None,
    classes: Annotated[int, WholeNumber(least=2, most=9)] = 5,
) -> Dataset:
    """Load the digits classes..9, out of distribution for a model of the digits below `classes`.

    Pixels are shifted and scaled as those of all images of the digits 0..classes-1, which
    `load_digits(classes=classes)` gives; `Dataset.standardised` standardises both by the training
    images.

    Args:
        examples: how many images, the first ones; None for all of them.
        classes: the first digit to load, in 2..9.

    Returns:
        Inputs of shape (examples, 64), one-hot targets of shape (examples, 10).

    Raises:
        ValueError: if there are fewer examples than asked for, or `classes` is out of range.

    Example:
        >>> from potentials import load_other_digits
        >>> data = load_other_digits(examples=100, classes=7)
        >>> int(data.targets.argmax(axis=1).min())
        7
    """
    import sklearn.datasets

    images, labels = map(np.asarray, sklearn.datasets.load_digits(return_X_y=True))
    known, other = images[labels < classes], images[labels >= classes]
    chosen = first(len(other), examples, f"the digits from {classes} on")
    pixels = (other[chosen] - known.mean()) / known.std()
    return Dataset(pixels, one_hot(labels[labels >= classes][chosen], 10), 10)
