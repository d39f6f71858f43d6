"""A results tree as one netCDF-4 file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

# The first bytes of every HDF5 file, which a netCDF-4 file is.
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def write(tree: xr.DataTree, path: Path) -> None:
    """Write a tree, one netCDF group for each of its own.

    Args:
        tree: as `store.load` gives it.
        path: the file, which does not exist yet. On return it is on the disk.

    Raises:
        OSError: if it cannot be written.
    """
    groups = {node.path: _encodable(node.to_dataset(inherit=False)) for node in tree.subtree}
    xr.DataTree.from_dict(groups).to_netcdf(path, engine="h5netcdf", format="NETCDF4")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def stranger(path: Path) -> str:
    """Why a file must not be replaced: it is no netCDF-4 file. Empty if it may be."""
    with path.open("rb") as file:
        return "" if file.read(len(_SIGNATURE)) == _SIGNATURE else "is no netCDF-4 file"


def _encodable(dataset: xr.Dataset) -> xr.Dataset:
    # What zarr's reader remembers of its own chunks and codecs means nothing to HDF5.
    dataset = dataset.drop_encoding()
    dataset.attrs = _attributes(dataset.attrs)
    for name in dataset.variables:
        dataset[name].attrs = _attributes(dataset[name].attrs)
        variable = dataset[name]
        if variable.dtype.kind in "OT":
            # Not every xarray can write text of any length, which is what zarr's reader gives.
            words = np.array(variable.values.tolist(), str).reshape(variable.shape)
            dataset[name] = (variable.dims, words, variable.attrs)
    return dataset


def _attributes(attributes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Attributes as netCDF can hold them: it has no truth values, so they become 1 and 0."""
    return {
        name: np.int8(value) if isinstance(value, bool) else value
        for name, value in attributes.items()
    }
