"""The data sets that methods are judged on, split and standardised."""

from typing import NamedTuple

import potentials

# Digits that are trained on; images of the others are out of distribution.
_KNOWN_DIGITS = 5
_BANANAS = 400


class Examples(NamedTuple):
    """A split of a data set.

    Attributes:
        train: To train on.
        held_out: To choose scales with.
        test: To judge by.
        outside: Examples of another kind, if there are any.
    """

    train: potentials.Dataset
    held_out: potentials.Dataset
    test: potentials.Dataset
    outside: potentials.Dataset | None


def split_examples(name: str, train: int, validation: int, seed: int) -> Examples:
    """Split a data set at random, with inputs standardised by the moments of the training part.

    The generated points of "banana" are left as they are.

    Args:
        name: As for `load_examples`.
        train: Examples of the first part.
        validation: Of the second; the third has all others.
        seed: Of the split, and of examples that are generated.
    """
    first, rest = load_examples(name, seed).split(train, seed)
    second, third = rest.split(validation, seed)
    if name == "banana":
        return Examples(first, second, third, None)
    # All pixels of images have one mean and one deviation.
    axes = (0, 1) if name == "digits" else (0,)
    others = potentials.load_other_digits(classes=_KNOWN_DIGITS) if name == "digits" else None
    return Examples(
        train=first.standardised(first, axes),
        held_out=second.standardised(first, axes),
        test=third.standardised(first, axes),
        outside=None if others is None else others.standardised(first, axes),
    )


def load_examples(name: str, seed: int = 0) -> potentials.Dataset:
    """Return all examples of a data set.

    Args:
        name: "banana", "breast_cancer", "wine" or "digits".
        seed: Of those that are generated.
    """
    if name == "banana":
        return potentials.banana(_BANANAS, seed=seed)
    if name == "breast_cancer":
        return potentials.load_breast_cancer()
    if name == "wine":
        return potentials.load_wine()
    return potentials.load_digits(classes=_KNOWN_DIGITS)
