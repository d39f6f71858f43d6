"""CIFAR-10 from a local folder of its python batches (Krizhevsky, 2009)."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from potentials import checks
from potentials.data import batch_pickle
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
    pickles: nothing in them is run (`batch_pickle`).

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
        size = path.stat().st_size
        if size > batch_pickle.MAX_BYTES:
            most = batch_pickle.MAX_BYTES
            raise ValueError(f"it has {size} bytes, a batch may have at most {most}")
        batch = batch_pickle.loads(path.read_bytes())
    except Exception as error:  # a damaged pickle raises almost anything
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


def _array(entry: Any) -> np.ndarray | None:
    """An array, or a flat list of whole numbers as one; None for anything else.

    A list that holds the same list twice, which holds another twice, ... is refused: as an array
    it would be larger than any memory.
    """
    if isinstance(entry, batch_pickle.PickledArray):
        return entry.array
    if isinstance(entry, list) and all(
        type(label) is int and label.bit_length() < 64 for label in entry
    ):
        return np.array(entry, np.int64)
    return None


def _by_name(batch: Any) -> dict[str, Any] | None:
    """The batch's entries under str keys; those of files written by Python 3 may be bytes."""
    if not isinstance(batch, dict):
        return None
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): value
        for key, value in batch.items()
    }
