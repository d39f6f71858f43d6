"""CIFAR-10 from a local folder of its python batches (Krizhevsky, 2009)."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from potentials import checks
from potentials.data.dataset import Dataset, normalise_channels, one_hot, select

_BATCHES = {
    "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
    "test": ("test_batch",),
}
_FOLDER = "cifar-10-batches-py"
_CLASSES = 10
_PIXELS = 3 * 32 * 32


def load_cifar10(
    folder: str | os.PathLike[str],
    examples: int | None = None,
    classes: int = 10,
    *,
    split: str = "train",
    flatten: bool = False,
) -> Dataset:
    """CIFAR-10 images of 32 x 32 colour pixels, from the standard python batches.

    The first `examples` images among the classes 0..classes-1 (airplane, automobile, bird, cat,
    deer, dog, frog, horse, ship, truck), in the batches' order. Each colour channel has mean 0 and
    variance 1 over the chosen images. Only as many batches are read as it takes. The batches are
    pickles: they are read by an unpickler that makes arrays and plain values and nothing else.

    Args:
        folder: the unpacked folder cifar-10-batches-py, or the one that holds it.
        examples: how many images; None for all.
        classes: how many classes, from the first, in 2..10.
        split: "train" (data_batch_1 to data_batch_5) or "test" (test_batch).
        flatten: images as vectors, for an `MLP`.

    Returns:
        Inputs of shape (examples, 3, 32, 32), or (examples, 3072) if `flatten`, and one-hot
        targets of shape (examples, classes).

    Raises:
        ValueError: if the folder or a batch is missing or is no such batch, or there are fewer
            classes or examples than asked for.
    """
    batches = _BATCHES[checks.choice("split", split, _BATCHES)]
    # What does not depend on the files is refused before any of them is read.
    select(np.arange(_CLASSES), None, classes, _CLASSES, "CIFAR-10")
    wanted = None if examples is None else checks.count("examples", examples)
    location = _locate(Path(folder), batches)
    images, labels, found = [], [], 0
    for name in batches:
        if wanted is not None and found >= wanted:
            break
        pixels, batch_labels = _read_batch(location / name, batches, found)
        images.append(pixels)
        labels.append(batch_labels)
        found += int((batch_labels < classes).sum())
    all_labels = np.concatenate(labels)
    chosen = select(all_labels, wanted, classes, _CLASSES, f"{location} ({split})")
    pixels = np.concatenate(images)[chosen].reshape(-1, 3, 32, 32)
    if not len(chosen):
        raise ValueError(f"classes: no image of the first {classes} classes in {location}.")
    inputs = normalise_channels(pixels, axes=(0, 2, 3))
    inputs = inputs.reshape(-1, _PIXELS) if flatten else inputs
    return Dataset(inputs, one_hot(all_labels[chosen], classes), classes)


def _locate(folder: Path, batches: tuple[str, ...]) -> Path:
    """The folder of the batches: the one given, or the standard one inside it."""
    for candidate in (folder, folder / _FOLDER):
        if (candidate / batches[0]).is_file():
            return candidate
    state = "has none of them" if folder.is_dir() else "is no folder"
    raise ValueError(
        f"folder must hold CIFAR-10's python batches {', '.join(batches)}, or a folder {_FOLDER} "
        f"that does (unpack cifar-10-python.tar.gz); {str(folder)!r} {state}."
    )


def _read_batch(path: Path, batches: tuple[str, ...], found: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 3072) as uint8, one colour plane after another, and labels (n,) of one batch."""
    if not path.is_file():
        raise ValueError(
            f"folder {str(path.parent)!r} lacks {path.name}: {', '.join(batches)} are expected, "
            f"and those before it give {found} images of the classes asked for."
        )
    try:
        with path.open("rb") as file:
            batch = _BatchUnpickler(file).load()
    except Exception as error:  # a damaged pickle raises almost anything
        raise ValueError(f"{path} is no CIFAR-10 python batch: {error}.") from error
    entries = _by_name(batch)
    if entries is None or "data" not in entries or "labels" not in entries:
        raise ValueError(
            f"{path} is no CIFAR-10 python batch: it must hold a dict with data and labels."
        )
    pixels, labels = np.asarray(entries["data"]), np.asarray(entries["labels"])
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


def _by_name(batch: Any) -> dict[str, Any] | None:
    """The batch's entries under str keys; those of files written by Python 3 may be bytes."""
    if not isinstance(batch, dict):
        return None
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): value
        for key, value in batch.items()
    }


class _BatchUnpickler(pickle.Unpickler):
    """Builds numbers, strings, lists, dicts and numeric NumPy arrays; refuses everything else.

    Plain values have their own opcodes and need no lookup; all that a pickle may look up by name
    is listed here, under NumPy's module names of every version.
    """

    def __init__(self, file: BinaryIO):
        # The original files are of Python 2, whose str are bytes: latin1 keeps every byte.
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        module = module.replace("numpy._core", "numpy.core")
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): _empty_array,
            ("numpy.core.numeric", "_frombuffer"): _from_buffer,
            ("numpy.core.multiarray", "scalar"): _scalar,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _numeric_dtype,
            ("_codecs", "encode"): _encode,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs")
        return allowed[module, name]


def _numeric_dtype(kind: str | bytes, *flags: Any) -> np.dtype:
    dtype = np.dtype(kind.decode("latin1") if isinstance(kind, bytes) else kind)
    if dtype.kind not in "biuf":
        raise pickle.UnpicklingError(f"it holds an array of dtype {dtype}")
    return dtype


def _empty_array(kind: type, shape: tuple[int, ...], code: str | bytes) -> np.ndarray:
    # As NumPy's own: an empty array, whose contents the pickle sets next.
    if kind is not np.ndarray:
        raise pickle.UnpicklingError(f"it holds an array of type {kind!r}")
    return np.ndarray((0,), np.int8)


def _from_buffer(buffer: Any, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: np.dtype, data: bytes | str) -> Any:
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype=dtype, count=1)[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    # Python 3 writes bytes in this way in the old protocols, always as latin1.
    return text.encode("latin1")
