"""A user's own arrays from a file, in which nothing is executed."""

import math
import os
import warnings
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib import format as npy

from potentials.checks import PositiveInteger, Seed, TwoOrMore, checked
from potentials.data.dataset import Dataset, first, is_one_hot, one_hot, select

Task = Literal["classification", "regression"]

_EXPECTED = (
    "expected a NumPy .npz file with the arrays inputs (examples, ...) and targets (examples,) "
    "or (examples, outputs), as np.savez(path, inputs=..., targets=...) writes it"
)
# Whole-number targets with more values than this, and more values than examples, are no labels.
_MANY_CLASSES = 1000
# A compressed file may hold a thousand times its own size.
_MOST_BYTES = 2**32
# One-hot rows are larger than their labels by as many times as there are classes.
_MOST_NUMBERS = 10**8


@checked
def load_npz(
    path: str | os.PathLike[str],
    examples: PositiveInteger | None = None,
    classes: TwoOrMore | None = None,
    *,
    task: Task | None = None,
    shuffle: Seed | None = None,
    stratify: bool = False,
    normalise: bool = False,
) -> Dataset:
    """Load the arrays `inputs` and `targets` of a `.npz` file.

    Inputs of shape (examples,) become (examples, 1). Targets may be
    - integers of shape (examples,) or (examples, 1): labels, turned into one-hot rows. If they are
      not 0, 1, ..., the classes are the values that occur, in ascending order: a warning says so;
    - one-hot rows, shape (examples, classes) with two classes or more: taken as classes;
    - any other numbers, shape (examples,) or (examples, outputs): a regression.
    Nothing in the file is executed: pickled (object) arrays are refused.

    Args:
        path: the file.
        examples: how many examples, the first ones of the classes kept; None for all.
        classes: how many classes to keep, the first ones; None for all, and for a regression.
        task: "classification" takes whole-number floats for labels, "regression" integers for
            numbers; by default the dtype decides, and a warning says where that is doubtful.
        shuffle: a seed to draw the `examples` at random instead of taking the first ones.
        stratify: take as many examples of each class, up to one; for a classification.
        normalise: shift and scale each input to mean 0 and variance 1 over the examples taken.

    Returns:
        Inputs of shape (examples, ...), targets of shape (examples, outputs).

    Raises:
        ValueError: if the file is missing, is no such file or has arrays that do not fit; if
            there are fewer classes or examples than asked for; if those taken would be one-hot
            rows of more than 10^8 numbers; if a value is not finite; or if an option does not go
            with the targets.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from potentials import load_npz
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "mine.npz"
        ...     np.savez(path, inputs=np.ones((3, 2)), targets=np.array([0, 1, 2]))
        ...     data = load_npz(path)
        >>> data.inputs.shape, data.targets.shape, data.num_classes
        ((3, 2), (3, 3), 3)
    """
    path = Path(path)
    arrays = _read(path)
    try:
        found = _dataset(
            arrays["inputs"], arrays["targets"], examples, classes, task, shuffle, stratify
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if normalise:
        return found.standardised(found)
    _warn_of_bytes(path, arrays["inputs"])
    return found


def _dataset(
    inputs: np.ndarray,
    targets: np.ndarray,
    examples: int | None,
    classes: int | None,
    task: Task | None,
    shuffle: int | None,
    stratify: bool,
) -> Dataset:
    for key, array in (("inputs", inputs), ("targets", targets)):
        _check_numbers(key, array)
    if inputs.ndim == 0 or len(inputs) == 0:
        raise ValueError(f"inputs must have a leading axis of examples, got shape {inputs.shape}.")
    if targets.ndim not in (1, 2) or len(targets) != len(inputs):
        raise ValueError(
            f"targets must have shape (examples,) or (examples, outputs) with as many "
            f"examples as inputs, {len(inputs)}; got shape {targets.shape}."
        )
    inputs = inputs[:, None] if inputs.ndim == 1 else inputs
    if _are_labels(targets, task):
        labels, available = _labels(targets.reshape(-1), classes)
    elif task != "regression" and is_one_hot(targets):
        labels, available = targets.argmax(axis=1), targets.shape[1]
    elif task == "classification":
        raise ValueError(
            "targets must be whole numbers of shape (examples,) or one-hot rows for "
            f'task="classification"; got {targets.dtype} of shape {targets.shape}.'
        )
    elif classes is not None or stratify:
        name = "classes" if classes is not None else "stratify"
        raise ValueError(
            f"{name} must be left out: the targets are a regression (integers, one-hot rows or "
            f'task="classification" make classes).'
        )
    else:
        order = _order(np.arange(len(inputs)), shuffle)
        taken = np.sort(order[first(len(inputs), examples, "the file")])
        rows = targets[:, None] if targets.ndim == 1 else targets
        return Dataset(inputs[taken], rows[taken])
    kept = available if classes is None else classes
    chosen = _order(select(labels, None, kept, available, source="the file"), shuffle)
    if not len(chosen):
        raise ValueError(f"classes: no example of the first {kept} classes.")
    if stratify:
        chosen = _stratified(chosen, labels[chosen], examples)
    else:
        found = chosen
        chosen = found[first(len(found), examples, f"the file in its first {kept} classes")]
        if shuffle is None:
            _warn_if_sorted(labels[found], labels[chosen])
    chosen = np.sort(chosen)
    if len(chosen) * kept > _MOST_NUMBERS:
        raise ValueError(
            f"targets of {len(chosen)} examples in {kept} classes would be one-hot rows of "
            f"{len(chosen) * kept} numbers, must be at most {_MOST_NUMBERS}: take fewer examples "
            f"or classes."
        )
    return Dataset(inputs[chosen], one_hot(labels[chosen], kept), kept)


def _order(indices: np.ndarray, seed: int | None) -> np.ndarray:
    return indices if seed is None else np.random.default_rng(seed).permutation(indices)


def _stratified(indices: np.ndarray, labels: np.ndarray, examples: int | None) -> np.ndarray:
    """Return as many of the indices for each label, up to one.

    Raises:
        ValueError: if a class has too few.
    """
    values, counts = np.unique(labels, return_counts=True)
    least = int(counts.min())
    total = least * len(values) if examples is None else examples
    shares = np.full(len(values), total // len(values))
    shares[: total % len(values)] += 1
    short = np.flatnonzero(shares > counts)
    if short.size:
        raise ValueError(
            f"examples must be at most {least * len(values)} with stratify: class "
            f"{values[short[0]]} has {counts[short[0]]}; got {total}."
        )
    return np.concatenate(
        [indices[labels == value][:share] for value, share in zip(values, shares, strict=True)]
    )


def _warn_if_sorted(available: np.ndarray, taken: np.ndarray) -> None:
    """Warn if the first examples show less than half of the classes that they could."""
    if len(taken) == len(available):
        return
    classes, shown = len(np.unique(available)), len(np.unique(taken))
    if 2 * shown < min(classes, len(taken)):
        warnings.warn(
            f"the first {len(taken)} examples show {shown} of {classes} classes: the file seems "
            "to be sorted by class. Give shuffle (a seed), or stratify=True.",
            stacklevel=5,
        )


def _warn_of_bytes(path: Path, inputs: np.ndarray) -> None:
    """Warn of inputs that are whole numbers of more than 7 bits, as unscaled images have."""
    if inputs.min() >= 0 and inputs.max() >= 128 and not np.any(inputs % 1):
        warnings.warn(
            f"{path}: the inputs are whole numbers up to {inputs.max():.0f}, as of unscaled bytes. "
            "The sharpness grows with their square, and with it what a flow costs: give "
            "normalise=True, or scale them.",
            stacklevel=4,
        )


def _are_labels(targets: np.ndarray, task: Task | None) -> bool:
    """Return True if each example has one whole number that is a label, not a value."""
    if task == "regression" or not (targets.ndim == 1 or targets.shape[1] == 1):
        return False
    if targets.dtype.kind in "iub":
        return True
    if np.any(targets % 1):
        return False
    if task is None and 2 <= len(np.unique(targets)) <= min(_MANY_CLASSES, len(targets) // 2):
        warnings.warn(
            f"the targets are floats, all of them whole numbers, {len(np.unique(targets))} "
            'different ones: a regression on these numbers. Give task="classification" if they '
            'are labels, and task="regression" if not.',
            stacklevel=5,
        )
    return task == "classification"


def _read(path: Path) -> dict[str, np.ndarray]:
    """The two arrays of the file, unchecked."""
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(f"path {str(path)!r} {state}; {_EXPECTED}.")
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        why = "holds a single array" if _is_single(path) else f"cannot be read ({error})"
        raise ValueError(f"path {str(path)!r} {why}; {_EXPECTED}.") from None
    except Exception as error:  # A damaged archive raises almost anything,
        raise ValueError(f"path {str(path)!r} cannot be read ({error}); {_EXPECTED}.") from None
    arrays = {}
    with archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        for key in ("inputs", "targets"):
            if key not in names:
                found = ", ".join(names[:10]) or "nothing"
                raise ValueError(f"path {str(path)!r} has no {key}, only {found}; {_EXPECTED}.")
            try:
                arrays[key] = _array(archive, f"{key}.npy")
            except Exception as error:  # and so does a damaged member.
                why = str(error) or type(error).__name__
                raise ValueError(f"{key} of {str(path)!r} cannot be read: {why}.") from None
    return arrays


def _is_single(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX


def _array(archive: zipfile.ZipFile, member: str) -> np.ndarray:
    """Read an array of the archive, after checking that its header states its true size.

    Raises:
        ValueError: if it holds objects or more bytes than there may be, or its header promises
            another number of bytes than the archive holds.
    """
    size = archive.getinfo(member).file_size
    if size > _MOST_BYTES:
        raise ValueError(f"it has {size} bytes, an array may have at most {_MOST_BYTES}")
    with archive.open(member) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are pickled; expected numbers")
        promised = math.prod(shape) * dtype.itemsize
        if promised != size - file.tell():
            raise ValueError(
                f"its header promises {promised} bytes of data, the file has {size - file.tell()}"
            )
    with archive.open(member) as file:
        return npy.read_array(file, allow_pickle=False)


def _check_numbers(key: str, array: np.ndarray) -> None:
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{key} must be real numbers, got dtype {array.dtype}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{key} must be finite, got nan or inf.")


def _labels(targets: np.ndarray, classes: int | None) -> tuple[np.ndarray, int]:
    """Return whole numbers as labels 0, 1, ..., and how many classes they show.

    Raises:
        ValueError: if one is too large to be meant as a label.
    """
    values = np.unique(targets)
    smallest, largest = int(values[0]), int(values[-1])
    if max(largest, -smallest) >= max(len(targets), _MANY_CLASSES):
        raise ValueError(
            f"whole-number targets are labels 0, 1, ..., but there is one of "
            f"{largest if largest >= -smallest else smallest}; store the targets of a regression "
            f'as floats, or give task="regression".'
        )
    gapless = smallest >= 0 and len(values) == largest + 1
    if gapless or len(values) == 1 or (smallest >= 0 and classes is not None and classes > largest):
        return targets.astype(np.int64), max(2, largest + 1)
    shown = ", ".join(f"{v:g}" for v in values[:8]) + (", ..." if len(values) > 8 else "")
    warnings.warn(
        f"the labels are {shown}: they become the classes 0 to {len(values) - 1}, in this order.",
        stacklevel=5,
    )
    return np.searchsorted(values, targets), len(values)
