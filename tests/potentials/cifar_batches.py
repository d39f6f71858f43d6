"""CIFAR-10 batches as Python 2 wrote the published ones, byte for byte the same opcodes."""

import pickle
import struct
from pathlib import Path

import numpy as np


def python2_pickle(images: np.ndarray, labels: list[int]) -> bytes:
    """A batch in protocol 2: `str` as byte strings, NumPy under its old module names."""

    def text(raw: bytes) -> bytes:
        if len(raw) < 256:
            return pickle.SHORT_BINSTRING + struct.pack("<B", len(raw)) + raw
        return pickle.BINSTRING + struct.pack("<i", len(raw)) + raw

    def whole(value: int) -> bytes:
        return pickle.BININT + struct.pack("<i", value)

    def name(module: str, attribute: str) -> bytes:
        return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()

    dtype = name("numpy", "dtype") + text(b"u1") + whole(0) + whole(1) + pickle.TUPLE3
    dtype += pickle.REDUCE + pickle.MARK + whole(3) + text(b"|") + 3 * pickle.NONE
    dtype += whole(-1) + whole(-1) + whole(0) + pickle.TUPLE + pickle.BUILD
    array = name("numpy.core.multiarray", "_reconstruct") + name("numpy", "ndarray")
    array += whole(0) + pickle.TUPLE1 + text(b"b") + pickle.TUPLE3 + pickle.REDUCE
    shape = whole(images.shape[0]) + whole(images.shape[1]) + pickle.TUPLE2
    array += pickle.MARK + whole(1) + shape + dtype + pickle.NEWFALSE + text(images.tobytes())
    array += pickle.TUPLE + pickle.BUILD
    items = b"".join(whole(label) for label in labels)
    listed = pickle.EMPTY_LIST + pickle.MARK + items + pickle.APPENDS
    entries = text(b"batch_label") + text(b"training batch 1 of 5")
    entries += text(b"labels") + listed + text(b"data") + array
    body = pickle.EMPTY_DICT + pickle.MARK + entries + pickle.SETITEMS
    return pickle.PROTO + b"\x02" + body + pickle.STOP


def write_folder(folder: Path, per_batch: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Write five training batches and a test batch; return the training images and labels.

    Labels run through 0..9 over and over; pixels are random.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (6 * per_batch, 3072), dtype=np.uint8)
    labels = np.arange(6 * per_batch) % 10
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for i, name in enumerate(names):
        rows = slice(i * per_batch, (i + 1) * per_batch)
        (folder / name).write_bytes(python2_pickle(images[rows], labels[rows].tolist()))
    return images[: 5 * per_batch], labels[: 5 * per_batch]
