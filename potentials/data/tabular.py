"""Tables of measurements that scikit-learn ships."""

from typing import Any

import numpy as np
import sklearn.datasets

from potentials.data.dataset import Dataset, first, normalise_channels, one_hot


def load_breast_cancer(examples: int | None = None) -> Dataset:
    """Breast cancer of Wisconsin: 30 measurements of cell nuclei, two classes (UCI).

    Each measurement has mean 0 and variance 1 over the chosen examples. Parts of a split are
    standardised by the training part alone with `Dataset.standardised`.

    Args:
        examples: the first so many; None for all 569.

    Returns:
        Inputs of shape (examples, 30), one-hot targets of shape (examples, 2).

    Raises:
        ValueError: if there are fewer examples than asked for.
    """
    return _load(sklearn.datasets.load_breast_cancer, examples, "the breast cancer data set")


def load_wine(examples: int | None = None) -> Dataset:
    """Wine: 13 chemical measurements, three cultivars as classes (UCI).

    Each measurement has mean 0 and variance 1 over the chosen examples. The source is sorted by
    class: split it at random (`Dataset.split`), and standardise the parts by the training part
    alone (`Dataset.standardised`).

    Args:
        examples: the first so many; None for all 178.

    Returns:
        Inputs of shape (examples, 13), one-hot targets of shape (examples, 3).

    Raises:
        ValueError: if there are fewer examples than asked for.
    """
    return _load(sklearn.datasets.load_wine, examples, "the wine data set")


def _load(source: Any, examples: int | None, name: str) -> Dataset:
    inputs, labels = map(np.asarray, source(return_X_y=True))
    classes = int(labels.max()) + 1
    chosen = first(len(inputs), examples, name)
    targets = one_hot(labels[chosen].astype(np.int64), classes)
    return Dataset(normalise_channels(inputs[chosen], axes=(0,)), targets, classes)
