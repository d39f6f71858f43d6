"""How the arrays of a results store are laid out: dimensions, chunks, fill values, attributes."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import zarr

# Large enough that a run has few files, small enough that an append rewrites little.
_CHUNK_ROWS = 4096
_CHUNK_BYTES = 2**22


def dims(array: zarr.Array) -> tuple[str | None, ...]:
    """The names of an array's dimensions; empty if they have none."""
    return tuple(getattr(array.metadata, "dimension_names", None) or ())


def has_steps(array: zarr.Array) -> bool:
    """True if an array has a row for each stored step."""
    return dims(array)[:1] == ("step",)


def chunks(shape: Sequence[int], dims: Sequence[Hashable], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """The shape of a variable's chunks, which bounds their rows and their bytes."""
    if not shape:
        return ()
    row = max(1, math.prod(shape[1:]) * dtype.itemsize)
    # Trajectories are appended to a few rows at a time; everything else is written at once.
    most = _CHUNK_ROWS if dims[0] == "step" else shape[0]
    rows = max(1, min(shape[0], most, _CHUNK_BYTES // row))
    return (rows, *(max(1, size) for size in shape[1:]))


def fill(dtype: np.dtype[Any]) -> Any:
    """The value of an entry that was not written."""
    if dtype.kind == "f":
        return np.nan
    if dtype.kind == "i":
        return -1
    return "" if dtype.kind in "UO" else dtype.type(0)


def stored_dtype(dtype: np.dtype[Any]) -> Any:
    """The zarr type of a variable of this numpy type."""
    return str if dtype.kind in "UO" else dtype


def plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes as JSON can hold them; one that is None or not finite is left out."""
    plain: dict[str, Any] = {}
    for name, value in attributes.items():
        if hasattr(value, "tolist"):
            value = value.tolist()
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            continue
        plain[str(name)] = value
    return plain


def written(steps: np.ndarray) -> int:
    """The number of leading entries of a `step` array that are not its fill value."""
    empty = np.isnan(steps) if steps.dtype.kind == "f" else steps < 0
    return int(np.argmax(empty)) if empty.any() else len(steps)
