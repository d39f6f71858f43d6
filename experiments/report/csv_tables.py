"""A results tree as a folder of CSV files, and the attributes beside them in `metadata.json`.

The group `discrete` becomes `discrete.csv`. Its rows run along `step`, or in a group without it
along the first dimension of most variables, and in a sweep run by run; a variable of more
dimensions has one column for each of its other entries, `eigenvalues[0]`, `eigenvalues[1]`, ...,
`matrix[0][0]`, ... Variables that do not have that dimension are in files of their own,
`discrete@mode.csv` for those along `mode`; single numbers are in `metadata.json`. Numbers are
written with as many digits as it takes to read the very same number back, not-a-number and the
infinities as nan, inf and -inf.
"""

import csv
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..system.files import synchronise_tree
from .summary import SWEEP

METADATA = "metadata.json"
_PROGRAM = "eosflows"
_RUN = "run"
# Rows that are turned into Python numbers at a time.
_ROWS = 1024


def write(tree: xr.DataTree, path: Path) -> None:
    """Write a tree.

    Args:
        tree: as `store.load` gives it.
        path: the folder, which does not exist yet. On return all of it is on the disk.

    Raises:
        OSError: if it cannot be written.
    """
    path.mkdir()
    groups = {}
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        if node.name == SWEEP and "axes" in tree.attrs:
            dataset = _row_for_each_run(dataset, list(np.atleast_1d(tree.attrs["axes"])))
        tables = _tables(dataset)
        files = {}
        for dimension, names in tables.items():
            first = dimension == next(iter(tables))
            file = _file(node.path, "" if first else dimension)
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            _write_table(path / file, dataset, dimension, names)
            files[dimension] = file
        groups[node.path] = {
            "attributes": _plain(dataset.attrs),
            "files": files,
            "variables": {str(name): _describe(dataset[name]) for name in dataset.variables},
        }
    text = json.dumps({"program": _PROGRAM, "groups": groups}, indent=2, allow_nan=False)
    (path / METADATA).write_text(text + "\n", "utf-8")
    synchronise_tree(path)


def stranger(path: Path) -> str:
    """Why a folder must not be replaced: it is no export, or holds more. Empty if it may be."""
    try:
        metadata = json.loads((path / METADATA).read_text("utf-8"))
        ours = metadata["program"] == _PROGRAM
        files = {file for group in metadata["groups"].values() for file in group["files"].values()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        ours, files = False, set()
    if not ours:
        return "is no folder that an export wrote"
    folders = {str(parent) for file in files for parent in Path(file).parents}
    known = files | folders | {METADATA}
    found = sorted(str(entry.relative_to(path)) for entry in path.rglob("*"))
    more = [name for name in found if name not in known]
    return f"holds {more[0]}, which no export wrote" if more else ""


def _tables(dataset: xr.Dataset) -> dict[str, list[str]]:
    """The variables of each table by the dimension of its rows, the group's own table first.

    Coordinates along the rows come before the data.
    """
    # A store does not order its variables.
    names = [*sorted(dataset.coords, key=str), *sorted(dataset.data_vars, key=str)]
    # The rows run along the dimension that is the first of most variables.
    data = [name for name in dataset.data_vars if dataset[name].dims] or list(dataset.coords)
    firsts = [str(dataset[name].dims[0]) for name in data if dataset[name].dims]
    common = sorted(set(firsts), key=lambda dimension: (-firsts.count(dimension), dimension))
    known = (dimension for dimension in (_RUN, "step") if dimension in dataset.dims)
    first = next(known, next(iter(common), None))
    tables: dict[str, list[str]] = {} if first is None else {first: []}
    for name in names:
        dims = [str(dim) for dim in dataset[name].dims]
        if dims:
            rows = first if first is not None and first in dims else dims[0]
            tables.setdefault(rows, []).append(str(name))
    return tables


def _row_for_each_run(dataset: xr.Dataset, axes: list[str]) -> xr.Dataset:
    """A sweep with its runs in rows, the swept values in the first columns."""
    rows = dataset.stack({_RUN: axes}, create_index=False)
    # Without an index, stacking drops the swept values: lay them along the rows again.
    grid = np.meshgrid(*(dataset[axis].values for axis in axes), indexing="ij")
    values = {
        axis: (_RUN, column.ravel(), dataset[axis].attrs)
        for axis, column in zip(axes, grid, strict=True)
    }
    return rows.assign_coords(values).transpose(_RUN, ...)


def _file(group: str, dimension: str) -> str:
    stem = group.strip("/") or "_root"
    return f"{stem}@{dimension}.csv" if dimension else f"{stem}.csv"


def _write_table(path: Path, dataset: xr.Dataset, dimension: str, names: list[str]) -> None:
    variables = [dataset[name].transpose(dimension, ...) for name in names]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            [
                column
                for name, variable in zip(names, variables, strict=True)
                for column in _columns(name, variable.shape[1:])
            ]
        )
        arrays = [variable.values for variable in variables]
        for start in range(0, dataset.sizes[dimension], _ROWS):
            writer.writerows(_rows([array[start : start + _ROWS] for array in arrays]))


def _columns(name: str, shape: tuple[int, ...]) -> Iterator[str]:
    for index in itertools.product(*map(range, shape)):
        yield name + "".join(f"[{i}]" for i in index)


def _rows(arrays: list[np.ndarray]) -> Iterator[list[Any]]:
    """Rows of Python numbers, of which `csv` writes floats by their repr."""
    lists = [
        array.reshape(len(array), math.prod(array.shape[1:])).astype(_wide(array)).tolist()
        for array in arrays
    ]
    for pieces in zip(*lists, strict=True):
        yield [number for piece in pieces for number in piece]


def _wide(array: np.ndarray) -> Any:
    # A float32 is written as the double that it equals: readers take numbers for doubles.
    return np.float64 if array.dtype.kind == "f" else array.dtype


def _describe(variable: xr.DataArray) -> dict[str, Any]:
    described = {
        "dimensions": [str(dim) for dim in variable.dims],
        "shape": list(variable.shape),
        "dtype": "str" if variable.dtype.kind in "OUT" else str(variable.dtype),
        "attributes": _plain(variable.attrs),
    }
    return described if variable.dims else {**described, "value": _plain(variable.values)}


def _plain(value: Any) -> Any:
    """A value as JSON can hold it; what is not finite as text, "nan", "inf" or "-inf"."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
