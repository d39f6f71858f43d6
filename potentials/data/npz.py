"""A user's own arrays from a file, in which nothing is executed."""

import math
import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from potentials.checks import PositiveInteger, TwoOrMore, checked
from potentials.data.dataset import Dataset, first, is_one_hot, one_hot, select

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
) -> Dataset:
    """Load the arrays `inputs` and `targets` of a `.npz` file.

    Inputs are taken as they are, without normalisation; shape (examples,) becomes (examples, 1).
    Targets may be
    - whole numbers of shape (examples,): labels 0, 1, ..., turned into one-hot rows;
    - one-hot rows, shape (examples, classes) with two classes or more: taken as classes;
    - any other numbers, shape (examples,) or (examples, outputs): a regression.
    Nothing in the file is executed: pickled (object) arrays are refused.

    Args:
        path: the file.
        examples: how many examples, the first ones of the classes kept; None for all.
        classes: how many classes to keep, the first ones; None for all, and for a regression.

    Returns:
        Inputs of shape (examples, ...), targets of shape (examples, outputs).

    Raises:
        ValueError: if the file is missing, is no such file or has arrays that do not fit; if
            there are fewer classes or examples than asked for; if those taken would be one-hot
            rows of more than 10^8 numbers; or if a value is not finite.

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
        return _dataset(arrays["inputs"], arrays["targets"], examples, classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _dataset(
    inputs: np.ndarray, targets: np.ndarray, examples: int | None, classes: int | None
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
    if targets.ndim == 1 and targets.dtype.kind in "iub":
        labels, available = _labels(targets)
    elif is_one_hot(targets):
        labels, available = targets.argmax(axis=1), targets.shape[1]
    elif classes is not None:
        raise ValueError("classes must be left out: the targets are a regression.")
    else:
        taken = first(len(inputs), examples, "the file")
        rows = targets[:, None] if targets.ndim == 1 else targets
        return Dataset(inputs[taken], rows[taken])
    kept = available if classes is None else classes
    chosen = select(labels, examples, kept, available, source="the file")
    if not len(chosen):
        raise ValueError(f"classes: no example of the first {kept} classes.")
    if len(chosen) * kept > _MOST_NUMBERS:
        raise ValueError(
            f"targets of {len(chosen)} examples in {kept} classes would be one-hot rows of "
            f"{len(chosen) * kept} numbers, must be at most {_MOST_NUMBERS}: take fewer examples "
            f"or classes."
        )
    return Dataset(inputs[chosen], one_hot(labels[chosen], kept), kept)


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


def _labels(targets: np.ndarray) -> tuple[np.ndarray, int]:
    """Whole numbers as labels, and how many classes they show.

    Raises:
        ValueError: if one is negative, or too large to be meant as a label.
    """
    smallest, largest = int(targets.min()), int(targets.max())
    if smallest < 0:
        raise ValueError(f"labels must lie in 0, 1, ..., got {smallest}.")
    if largest >= max(len(targets), _MANY_CLASSES):
        raise ValueError(
            f"whole-number targets are labels 0, 1, ..., but the largest is {largest}; "
            f"store the targets of a regression as floats."
        )
    return targets.astype(np.int64), max(2, largest + 1)
