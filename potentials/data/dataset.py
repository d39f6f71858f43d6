"""The class that every data source returns, and the transformations that several of them share."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from potentials.checks import (
    ProperFraction,
    Seed,
    WholeNumber,
    checked,
    positive_integer,
)


class Dataset(eqx.Module):
    """Examples and their targets, of JAX's default float dtype.

    Args:
        inputs: shape (examples, ...).
        targets: shape (examples, outputs); one-hot rows for classes.
        num_classes: number of classes, or None for a regression.

    Raises:
        ValueError: if inputs and targets differ in length, are empty or are not finite.

    Example:
        >>> import numpy as np
        >>> from potentials import Dataset, one_hot
        >>> data = Dataset(np.arange(6.0).reshape(3, 2), one_hot([0, 1, 0]), num_classes=2)
        >>> train, test = data.split(first=2, seed=0)
        >>> train.inputs.shape, test.targets.shape
        ((2, 2), (1, 2))
    """

    inputs: Float[Array, "examples ..."]
    targets: Float[Array, "examples outputs"]
    num_classes: int | None = eqx.field(static=True)

    def __init__(self, inputs: ArrayLike, targets: ArrayLike, num_classes: int | None = None):
        inputs, targets = np.asarray(inputs), np.asarray(targets)
        if inputs.ndim == 0 or targets.ndim != 2 or len(inputs) != len(targets):
            raise ValueError(
                f"inputs of shape (examples, ...) and targets of shape (examples, outputs) must "
                f"be as many, got shapes {inputs.shape} and {targets.shape}."
            )
        if inputs.size == 0 or targets.size == 0:
            raise ValueError(
                f"inputs and targets must not be empty, got shapes {inputs.shape} and "
                f"{targets.shape}."
            )
        dtype = jnp.result_type(float)
        for name, array in (("inputs", inputs), ("targets", targets)):
            if not (np.abs(array) <= jnp.finfo(dtype).max).all():
                raise ValueError(f"{name} must be finite in {dtype}, got nan, inf or beyond it.")
        self.inputs = jnp.asarray(inputs, dtype=dtype)
        self.targets = jnp.asarray(targets, dtype=dtype)
        self.num_classes = num_classes

    @checked
    def split(self, first: int, seed: Seed = 0) -> tuple["Dataset", "Dataset"]:
        """Draw two disjoint parts at random.

        Args:
            first: how many examples the first part has, at least 1; the second has the others.
            seed: of the draw, in 0..2^32-1.

        Raises:
            ValueError: if a part would be empty.
        """
        total = self.inputs.shape[0]
        count = WholeNumber(least=1, most=total - 1)("first", first)
        order = np.random.default_rng(seed).permutation(total)
        inputs, targets = np.asarray(self.inputs), np.asarray(self.targets)
        parts = [
            Dataset(inputs[chosen], targets[chosen], self.num_classes)
            for chosen in (order[:count], order[count:])
        ]
        return parts[0], parts[1]

    def standardised(self, reference: "Dataset", axes: Sequence[int] = (0,)) -> "Dataset":
        """Shift and scale the inputs by the mean and the deviation of another set's inputs.

        Standardise all parts of a split by the training part, so that no information about the test
        examples enters the inputs of the network.

        Args:
            reference: the examples whose inputs get mean 0 and variance 1 by this map, or become 0
                where they do not vary.
            axes: the axes over which to take the moments; 0 is that of the examples.

        Raises:
            ValueError: if the inputs of both differ in shape.
        """
        inputs, others = np.asarray(self.inputs), np.asarray(reference.inputs)
        if inputs.shape[1:] != others.shape[1:]:
            raise ValueError(
                f"reference must have inputs of shape (examples, *{inputs.shape[1:]}), got "
                f"{others.shape}."
            )
        mean, deviation = _moments(others, axes)
        return Dataset((inputs - mean) / deviation, self.targets, self.num_classes)


def one_hot(labels: ArrayLike, num_classes: int | None = None) -> np.ndarray:
    """Turn labels into rows with a one at the label and zeros elsewhere.

    Args:
        labels: whole numbers 0..num_classes-1, shape (examples,).
        num_classes: number of classes; by default the largest label plus one.

    Returns:
        A NumPy array of float64, shape (examples, num_classes).

    Raises:
        ValueError: if labels are no whole numbers, or one is negative or >= num_classes.

    Example:
        >>> from potentials import one_hot
        >>> one_hot([1, 0], num_classes=3).tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    array = np.asarray(labels)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iub":
        raise ValueError(
            f"labels must be whole numbers of shape (examples,), got {array.dtype} of shape "
            f"{array.shape}."
        )
    array = array.astype(np.int64)
    classes = int(array.max()) + 1 if num_classes is None else num_classes
    classes = positive_integer("num_classes", classes)
    wrong = array[(array < 0) | (array >= classes)]
    if wrong.size:
        raise ValueError(
            f"labels must lie in 0..{classes - 1} for num_classes={classes}, got {wrong[0]}."
        )
    rows = np.zeros((array.size, classes))
    rows[np.arange(array.size), array] = 1.0
    return rows


@checked
def smoothed(targets: ArrayLike, smoothing: ProperFraction) -> np.ndarray:
    """Mix targets of classes with the uniform distribution: (1 - s) targets + s / classes.

    Finite logits fit smoothed targets exactly, so that the cross entropy of an over-parametrised
    network has minima.

    Args:
        targets: rows of probabilities, shape (examples, classes).
        smoothing: s, the share of the uniform distribution, above 0 and below 1.

    Returns:
        A NumPy array of float64, shape (examples, classes).

    Raises:
        ValueError: if `smoothing` is out of range, or `targets` are no rows of numbers, as integer
            labels are not.

    Example:
        >>> from potentials import one_hot, smoothed
        >>> smoothed(one_hot([1, 0]), smoothing=0.5).tolist()
        [[0.25, 0.75], [0.75, 0.25]]
    """
    share = float(smoothing)
    rows = np.asarray(targets)
    if rows.ndim != 2 or rows.dtype.kind not in "iufb":
        raise ValueError(
            f"targets must be rows of probabilities, of shape (examples, classes), got "
            f"{rows.dtype} of shape {rows.shape}; turn labels into rows with one_hot."
        )
    return (1 - share) * rows + share / rows.shape[1]


def is_one_hot(targets: np.ndarray) -> bool:
    """True if targets are rows with a single one and zeros, of two classes or more."""
    return (
        targets.ndim == 2
        and targets.shape[1] >= 2
        and bool(((targets == 0) | (targets == 1)).all())
        and bool((targets.sum(axis=1) == 1).all())
    )


def select(
    labels: np.ndarray, examples: int | None, classes: int, available: int, source: str
) -> np.ndarray:
    """Return the indices of the first `examples` examples whose label is below `classes`.

    Args:
        labels: shape (n,).
        examples: how many to take; None for all.
        classes: how many classes to keep, the first ones.
        available: how many classes the source has.
        source: the name of the data, for messages.

    Returns:
        Indices in ascending order.

    Raises:
        ValueError: if there are fewer classes or fewer examples than asked for.
    """
    if classes > available:
        raise ValueError(f"classes must be at most {available}, as {source} has, got {classes}.")
    indices = np.flatnonzero(labels < classes)
    return indices[first(len(indices), examples, f"{source} in its first {classes} classes")]


def first(total: int, examples: int | None, source: str) -> slice:
    """Return the slice of the first `examples` of `total` examples, or of all of them for None.

    Raises:
        ValueError: if there are fewer than `examples`.
    """
    if examples is None:
        return slice(total)
    if examples > total:
        raise ValueError(
            f"examples must be at most {total}, as many as there are in {source}; got {examples}."
        )
    return slice(examples)


def normalise_channels(images: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Shift and scale to mean 0 and variance 1 over `axes`; a constant channel becomes zero."""
    mean, deviation = _moments(images, axes)
    return (images - mean) / deviation


def _moments(images: np.ndarray, axes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation over `axes`, which are kept, in float64; 1 where nothing varies."""
    images = images.astype(np.float64)
    mean = images.mean(axis=tuple(axes), keepdims=True)
    deviation = (images - mean).std(axis=tuple(axes), keepdims=True)
    # The mean of equal numbers may be off by rounding.
    varies = deviation > 1e-12 * np.abs(mean)
    return mean, np.where(varies, deviation, 1.0)
