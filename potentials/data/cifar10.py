"""CIFAR-10 from a local folder of its python batches (Krizhevsky, 2009)."""

import io
import os
import pickle
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from potentials.checks import PositiveInteger, TwoOrMore, checked
from potentials.data.dataset import Dataset, normalise_channels, one_hot, select

_BATCHES = {
    "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
    "test": ("test_batch",),
}
_FOLDER = "cifar-10-batches-py"
_CLASSES = 10
_PIXELS = 3 * 32 * 32
# A batch of CIFAR-10 has 31 MB.
_MOST_BYTES = 2**28


@checked
def load_cifar10(
    folder: str | os.PathLike[str],
    examples: PositiveInteger | None = None,
    classes: TwoOrMore = 10,
    *,
    split: Literal["train", "test"] = "train",
    flatten: bool = False,
) -> Dataset:
    """Load CIFAR-10 images of 32 x 32 colour pixels from the standard python batches.

    These are the first `examples` images among the classes 0..classes-1 (airplane, automobile,
    bird, cat, deer, dog, frog, horse, ship, truck), in the batches' order. Each colour channel has
    mean 0 and variance 1 over the chosen images. Only as many batches are read as needed. The
    batches are pickles, of which only numbers, text, containers and numeric arrays are read:
    nothing in them is run.

    Args:
        folder: the unpacked folder cifar-10-batches-py, or the one that holds it.
        examples: how many images; None for all.
        classes: how many classes, from the first, in 2..10.
        split: "train" (data_batch_1 to data_batch_5) or "test" (test_batch).
        flatten: give images as vectors, for an `MLP`.

    Returns:
        Inputs of shape (examples, 3, 32, 32), or (examples, 3072) if `flatten`, and one-hot
        targets of shape (examples, classes).

    Raises:
        ValueError: if the folder or a batch is missing or is no such batch, or there are fewer
            classes or examples than asked for.

    Example:
        >>> import pickle
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from potentials import load_cifar10
        >>> batch = {"data": np.zeros((2, 3072), np.uint8), "labels": [6, 9]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "test_batch").write_bytes(pickle.dumps(batch))
        ...     data = load_cifar10(folder, split="test")
        >>> data.inputs.shape, data.targets.argmax(axis=1).tolist()
        ((2, 3, 32, 32), [6, 9])
    """
    batches = _BATCHES[split]
    # What does not depend on the files is refused before any of them is read.
    select(np.arange(_CLASSES), None, classes, _CLASSES, "CIFAR-10")
    location = _locate(Path(folder), batches)
    images, labels, found = [], [], 0
    for name in batches:
        if examples is not None and found >= examples:
            break
        pixels, batch_labels = _read_batch(location / name, batches, found)
        images.append(pixels)
        labels.append(batch_labels)
        found += int((batch_labels < classes).sum())
    all_labels = np.concatenate(labels)
    chosen = select(all_labels, examples, classes, _CLASSES, f"{location} ({split})")
    pixels = np.concatenate(images)[chosen].reshape(-1, 3, 32, 32)
    if not len(chosen):
        raise ValueError(f"classes: no image of the first {classes} classes in {location}.")
    inputs = normalise_channels(pixels, axes=(0, 2, 3))
    inputs = inputs.reshape(-1, _PIXELS) if flatten else inputs
    return Dataset(inputs, one_hot(all_labels[chosen], classes), classes)


def _locate(folder: Path, batches: tuple[str, ...]) -> Path:
    """Return the folder of the batches: the one given, or the standard one inside it."""
    for candidate in (folder, folder / _FOLDER):
        if (candidate / batches[0]).is_file():
            return candidate
    state = "has none of them" if folder.is_dir() else "is no folder"
    raise ValueError(
        f"folder must hold CIFAR-10's python batches {', '.join(batches)}, or a folder {_FOLDER} "
        f"that does (unpack cifar-10-python.tar.gz); {str(folder)!r} {state}."
    )


def _read_batch(path: Path, batches: tuple[str, ...], found: int) -> tuple[np.ndarray, np.ndarray]:
    """Read one batch: pixels (n, 3072) as uint8, plane after plane of colour, and labels (n,)."""
    if not path.is_file():
        raise ValueError(
            f"folder {str(path.parent)!r} lacks {path.name}: {', '.join(batches)} are expected, "
            f"and those before it give {found} images of the classes asked for."
        )
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise ValueError(f"it has {size} bytes, a batch may have at most {_MOST_BYTES}")
        # Python 2 wrote bytes as `str`; latin1 keeps every byte.
        batch = _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # A damaged pickle raises almost anything.
        why = str(error) or type(error).__name__
        raise ValueError(f"{path} is no CIFAR-10 python batch: {why}.") from error
    entries = _by_name(batch)
    if entries is None or "data" not in entries or "labels" not in entries:
        raise ValueError(
            f"{path} is no CIFAR-10 python batch: it must hold a dict with data and labels."
        )
    pixels, labels = _array(entries["data"]), _array(entries["labels"])
    if pixels is None or labels is None:
        raise ValueError(
            f"{path}: data must be an array of numbers, and labels one or a list of whole numbers."
        )
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise ValueError(
            f"{path}: data must be uint8 of shape (images, {_PIXELS}), got {pixels.dtype} of "
            f"shape {pixels.shape}."
        )
    if labels.dtype.kind not in "iu" or labels.shape != (len(pixels),) or not len(pixels):
        raise ValueError(
            f"{path}: labels must be whole numbers, one for each of {len(pixels)} images (at "
            f"least one), got {labels.dtype} of shape {labels.shape}."
        )
    if labels.min() < 0 or labels.max() >= _CLASSES:
        raise ValueError(f"{path}: labels must lie in 0..9, got {labels.min()}..{labels.max()}.")
    return pixels, labels.astype(np.int64)


def _array(entry: object) -> np.ndarray | None:
    """Return an array, or a flat list of whole numbers as one; None for anything else.

    Other lists are not passed to NumPy: one that holds a list twice, which holds another twice, and
    so on, would be an array larger than any memory.
    """
    if isinstance(entry, _Array):
        return entry.values
    if isinstance(entry, list) and all(
        type(label) is int and label.bit_length() < 64 for label in entry
    ):
        return np.array(entry, np.int64)
    return None


def _by_name(batch: object) -> dict[str, object] | None:
    """Return the batch's entries under str keys; Python 3 may have written keys as bytes."""
    if not isinstance(batch, dict):
        return None
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): value
        for key, value in batch.items()
    }


class _Dtype:
    """Takes the place of `numpy.dtype` in a pickle: the name of a numeric type."""

    def __init__(self, name: str, *flags: object):
        if not re.fullmatch("b1|[iu][1248]|f[248]", name):
            raise pickle.UnpicklingError(f"it holds an array of dtype {name!r}, not of numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Takes the place of `numpy.ndarray` in a pickle: NumPy itself checks too little of a state."""

    values: np.ndarray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        flat = np.frombuffer(data, dtype.dtype)
        self.values = flat.reshape(shape, order="F" if fortran else "C")


def _from_buffer(
    data: bytes | bytearray | str, dtype: _Dtype, shape: tuple[int, ...], order: str
) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


# The names that a batch needs, in every pickle protocol and version of NumPy. None of them gives
# Python's or NumPy's own object.
_ALLOWED: dict[str, Any] = {
    "numpy.core.multiarray._reconstruct": lambda *ignored: _Array(),
    "numpy.core.multiarray.scalar": lambda dtype, data: _from_buffer(
        data, dtype, (), "C"
    ).values.item(),
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy.ndarray": None,  # Only an argument of `_reconstruct`.
    "numpy.dtype": _Dtype,
    # Python 3 writes bytes as text in the old protocols.
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),
    "__builtin__.bytes": lambda: b"",
}


class _Unpickler(pickle.Unpickler):
    """Reads numbers, text, containers and numeric arrays.

    A pickle is a program that can name any function and call it: all names but those of the list
    are refused. A pickle made to exhaust the memory still can.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up in the list, and nowhere else."""
        key = f"{module.replace('numpy._core', 'numpy.core')}.{name}"
        if key not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs")
        return _ALLOWED[key]
