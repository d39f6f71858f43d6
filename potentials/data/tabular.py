"""Tables of measurements that scikit-learn ships."""

import numpy as np

from potentials.checks import PositiveInteger, checked
from potentials.data.dataset import Dataset, first, normalise_channels, one_hot


@checked
def load_breast_cancer(examples: PositiveInteger | None = None) -> Dataset:
    """Load the breast cancer data of Wisconsin: 30 measurements of cell nuclei, two classes (UCI).

    Each measurement has mean 0 and variance 1 over the chosen examples. `Dataset.standardised`
    standardises the parts of a split by the training part only.

    Args:
        examples: how many, the first ones; None for all 569.

    Returns:
        Inputs of shape (examples, 30), one-hot targets of shape (examples, 2).

    Raises:
        ValueError: if there are fewer examples than asked for.

    Example:
        >>> from potentials import load_breast_cancer
        >>> data = load_breast_cancer(examples=100)
        >>> data.inputs.shape, data.targets.shape
        ((100, 30), (100, 2))
    """
    from sklearn import datasets

    inputs, labels = datasets.load_breast_cancer(return_X_y=True)
    return _first(np.asarray(inputs), np.asarray(labels), examples, "the breast cancer data set")


@checked
def load_wine(examples: PositiveInteger | None = None) -> Dataset:
    """Load the wine data: 13 chemical measurements, three cultivars as classes (UCI).

    Each measurement has mean 0 and variance 1 over the chosen examples. The source is sorted by
    class: split it at random (`Dataset.split`), and standardise the parts by the training part
    only (`Dataset.standardised`).

    Args:
        examples: how many, the first ones; None for all 178.

    Returns:
        Inputs of shape (examples, 13), one-hot targets of shape (examples, 3).

    Raises:
        ValueError: if there are fewer examples than asked for.

    Example:
        >>> from potentials import load_wine
        >>> data = load_wine()
        >>> data.inputs.shape, data.targets.sum(axis=0).tolist()
        ((178, 13), [59.0, 71.0, 48.0])
    """
    from sklearn import datasets

    inputs, labels = datasets.load_wine(return_X_y=True)
    return _first(np.asarray(inputs), np.asarray(labels), examples, "the wine data set")


def _first(inputs: np.ndarray, labels: np.ndarray, examples: int | None, name: str) -> Dataset:
    classes = int(labels.max()) + 1
    chosen = first(len(inputs), examples, name)
    targets = one_hot(labels[chosen].astype(np.int64), classes)
    return Dataset(normalise_channels(inputs[chosen], axes=(0,)), targets, classes)
