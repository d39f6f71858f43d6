"""The results store: arrays of full length, written region by region, readable at any moment.

`results.zarr` is an xarray DataTree in zarr format 3. A trajectory's group is laid out at its first
append, with every array at its final length, so that an append only writes chunks. `step` is
written last: a row exists if and only if its step does, whatever the moment of a crash. While a run
is going on, plain xarray thus shows rows that are still to come, with step -1 (nan in a flow's own
time) and nan in every variable; `load` leaves them out. They are cut off when the run ends, in any
way but a kill or a power cut.
"""

import json
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from ..system.errors import DamagedError, DirectoryError
from ..system.files import synchronise_folder, synchronise_tree
from . import layout
from .parallel_writes import write_rows

RESULTS_FOLDER = "results.zarr"
# The ending of files that are being written, by zarr and by us.
_UNFINISHED = ".partial"
# Attributes by which the root of a store is recognised.
_MARKS = frozenset({"name", "status"})
# The mark of a group that is there to its last byte.
_COMPLETE = "complete"
# How coarse the clock of a file system may be, in nanoseconds.
_TICK = 10**8


class Store:
    """A results store that is open for writing.

    Args:
        path: the folder of the store; `Store.create` and `Store.open` check it.
    """

    def __init__(self, path: Path):
        self.path = path
        self._root = zarr.open_group(path, mode="r+", zarr_format=3, use_consolidated=False)
        self._arrays: dict[str, dict[str, zarr.Array]] = {}
        self._rows: dict[str, int] = {}
        self._synchronised = 0
        for name, group in self._root.groups():
            arrays = dict(group.arrays())
            if "step" in arrays and not name.startswith("."):
                self._arrays[name] = arrays
                self._rows[name] = layout.written(np.asarray(arrays["step"][:]))

    @classmethod
    def create(cls, path: Path, attributes: Mapping[str, Any]) -> "Store":
        """Create an empty store in a folder that does not exist yet.

        Args:
            path: where.
            attributes: of the root group.

        Raises:
            DirectoryError: if something is there already.
        """
        if path.exists() or path.is_symlink():
            raise DirectoryError(f"{path}: exists already")
        # In one step: a group without its attributes is not recognised as a store.
        zarr.create_group(path, zarr_format=3, attributes=layout.plain(attributes))
        synchronise_folder(path.parent)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open an existing store; `reopen` it before writing.

        Raises:
            DamagedError: if it cannot be read, so that only replacing it helps.
            DirectoryError: if there is no folder, or the file system refuses to read it.
        """
        _check_folder(path)
        try:
            return cls(path)
        except Exception as error:
            # Torn metadata and torn chunks raise whatever their decoder raises. What the file
            # system refuses to read may be whole.
            refused = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
            kind = DirectoryError if refused else DamagedError
            raise kind(f"{path}: not a readable results store ({error})") from error

    def rows(self, group: str) -> int:
        """How many rows of a trajectory are written; 0 if it has no group yet."""
        return self._rows.get(group, 0)

    def check(self) -> None:
        """Read all chunks, to find a torn one before anything is computed.

        Raises:
            DamagedError: if one cannot be read; the message names the array.
        """
        for group, arrays in self._arrays.items():
            for name, array in arrays.items():
                try:
                    _read_through(array)
                except Exception as error:
                    raise DamagedError(
                        f"{self.path}: {group}/{name} is damaged ({error}); run again with "
                        "--overwrite"
                    ) from error

    def append(self, group: str, rows: xr.Dataset, length: int) -> None:
        """Write the next rows of a trajectory.

        Args:
            group: the trajectory.
            rows: the rows, along `step`; variables and coordinates without it are written once.
            length: how many rows the finished trajectory has, to lay the arrays out.

        Raises:
            DamagedError: if the store has other variables.
            ValueError: if there are too many rows.
        """
        if group not in self._arrays:
            self._lay_out(group, rows, length)
        arrays = self._arrays[group]
        along = {str(name) for name in rows.variables if "step" in rows[name].dims} - {"step"}
        known = {name for name, array in arrays.items() if layout.has_steps(array)} - {"step"}
        if along != known:
            raise DamagedError(
                f"{self.path}: {group} has the variables {sorted(known)}, the run gives "
                f"{sorted(along)}; run again with --overwrite"
            )
        start = self._rows[group]
        stop = start + rows.sizes["step"]
        if stop > arrays["step"].shape[0]:
            raise ValueError(
                f"{group}: {stop} rows, but the store was laid out for {arrays['step'].shape[0]}"
            )
        write_rows(arrays, start, {name: rows[name].values for name in sorted(along)})
        arrays["step"][start:stop] = rows["step"].values
        self._rows[group] = stop

    def truncate(self, group: str, rows: int) -> None:
        """Forget the rows of a trajectory after the first `rows`; later appends overwrite them.

        Args:
            group: the trajectory; nothing happens if it has no group yet.
            rows: how many to keep.
        """
        if group not in self._arrays:
            return
        step = self._arrays[group]["step"]
        step[rows:] = step.fill_value
        self._rows[group] = min(rows, self._rows[group])

    def write(self, group: str, dataset: xr.Dataset) -> None:
        """Write a whole group at once, in place of an earlier one.

        It appears in one step: a reader, or a crash, finds the old group, none or the new one.
        """
        # No trajectory's label begins with a dot.
        unfinished = f".{group}{_UNFINISHED}"
        self.delete(unfinished)
        self._create(unfinished, dataset, {})
        for name, variable in dataset.variables.items():
            self._arrays[unfinished][str(name)][...] = variable.values
        del self._arrays[unfinished]
        self.delete(group)
        (self.path / unfinished).rename(self.path / group)

    def delete(self, group: str) -> None:
        """Remove a group and all that is in it; nothing happens if there is none."""
        # Also the remains of a deletion that a kill cut short, which are no group.
        del self._root[group]
        self._rows.pop(group, None)
        self._arrays.pop(group, None)

    def update(self, group: str, attributes: Mapping[str, Any]) -> None:
        """Set attributes of a group; `""` is the root."""
        node = self._root[group] if group else self._root
        node.attrs.update(layout.plain(attributes))

    def attributes(self, group: str = "") -> dict[str, Any]:
        """The attributes of a group, `""` is the root; empty if there is no such group."""
        if not group:
            return dict(self._root.attrs)
        return dict(self._root[group].attrs) if group in self._root else {}

    def complete(self, group: str, dataset: xr.Dataset) -> None:
        """Write a whole group and mark it as complete, once all of it is on the disk."""
        self.write(group, dataset)
        # It counts from here on: a power cut may come in the middle of the write.
        self.synchronise()
        self.update(group, {_COMPLETE: True})

    def has_complete(self, group: str) -> bool:
        """True if `complete` wrote this group to its end."""
        return bool(self.attributes(group).get(_COMPLETE))

    def finish(self, attributes: Mapping[str, Any]) -> None:
        """Cut every trajectory to its written rows, so that any xarray opens the store clean.

        Args:
            attributes: the last ones to set at the root.
        """
        for group, rows in self._rows.items():
            for array in self._arrays[group].values():
                if layout.has_steps(array) and array.shape[0] != rows:
                    array.resize((rows, *array.shape[1:]))
        # A run that is marked as ended is not resumed: all that it wrote must be on the disk.
        self.synchronise()
        self.update("", attributes)
        with warnings.catch_warnings():
            # zarr warns that consolidated metadata are not in the specification of format 3 (as of
            # zarr 3.1); xarray warns if there are none.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(self.path, zarr_format=3)

    def synchronise(self) -> None:
        """Wait until all that was written is on the disk and survives a power cut."""
        since = self._synchronised
        # What was written within the last tick is synchronised again the next time.
        self._synchronised = time.time_ns() - _TICK
        synchronise_tree(self.path, since)

    def reopen(self, length: int = 0) -> None:
        """Undo `finish` before going on: give every trajectory room for `length` rows.

        The remains of a write that a kill interrupted are removed.
        """
        for torn in list(self.path.rglob(f"*{_UNFINISHED}")):
            if torn.is_file():  # A label may have this ending, too.
                torn.unlink()
            elif torn.name.startswith("."):
                shutil.rmtree(torn)
        _forget_consolidated(self.path)
        for arrays in self._arrays.values():
            for array in arrays.values():
                if layout.has_steps(array) and array.shape[0] < length:
                    array.resize((length, *array.shape[1:]))

    def _lay_out(self, group: str, rows: xr.Dataset, length: int) -> None:
        self.delete(group)  # An earlier process may have died between the group and its arrays.
        self._create(group, rows, {"step": length})
        for name, variable in rows.variables.items():
            if "step" not in variable.dims:
                self._arrays[group][str(name)][...] = variable.values
        self._rows[group] = 0

    def _create(self, group: str, dataset: xr.Dataset, sizes: Mapping[str, int]) -> None:
        node = self._root.create_group(group, attributes=layout.plain(dataset.attrs))
        arrays: dict[str, zarr.Array] = {}
        # `step` last: without it the group does not count as laid out.
        names = sorted(dataset.variables, key=lambda name: (name == "step", str(name)))
        for name in names:
            variable = dataset[name]
            shape = tuple(
                sizes.get(str(dim), size)
                for dim, size in zip(variable.dims, variable.shape, strict=True)
            )
            arrays[str(name)] = node.create_array(
                str(name),
                shape=shape,
                dtype=layout.stored_dtype(variable.dtype),
                chunks=layout.chunks(shape, variable.dims, variable.dtype),
                fill_value=layout.fill(variable.dtype),
                dimension_names=[str(dim) for dim in variable.dims],
                attributes=layout.plain(variable.attrs),
            )
        self._arrays[group] = arrays


def load(directory: str | Path, *, params: bool = True) -> xr.DataTree:
    """Read the results of a finished or partial run.

    Args:
        directory: a run directory, or the `results.zarr` in it.
        params: whether to read the parameters too, by far the largest variable.

    Returns:
        The results in memory, one group per trajectory, without the rows that are still to come.

    Raises:
        DirectoryError: if there are no readable results, or those of another program.

    Example:
        >>> import tempfile
        >>> from experiments import load, load_run_config, run
        >>> changes = "steps=4", "flows=[]", "figures=[]"
        >>> config = load_run_config("quartic-descent", changes)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = run(config, folder, progress=False)
        ...     tree = load(folder, params=False)
        >>> sorted(tree["discrete"].data_vars)
        ['eigenvalue_residuals', 'eigenvalues', 'gradient_norm', 'loss', 'sharpness']
    """
    path = Path(directory)
    if path.name != RESULTS_FOLDER:
        _check_folder(path)
        path = path / RESULTS_FOLDER
    _check_folder(path)
    try:
        root = zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False)
        ours = root.attrs.keys() >= _MARKS
        nodes = dict(root.members(max_depth=None)) if ours else {}
        groups = {
            name: _read(node, () if params else ("params",))
            for name, node in sorted(nodes.items())
            if isinstance(node, zarr.Group) and not name.startswith(".")
        }
        whole = xr.DataTree.from_dict({"/": _read(root, ()), **groups})
    except Exception as error:
        # A torn chunk raises whatever its codec raises.
        message = str(error) or type(error).__name__
        raise DirectoryError(f"{path}: the results cannot be read ({message})") from error
    if not ours:
        raise DirectoryError(f"{path}: no results of an eosflows run")
    return whole


def has_begun(path: Path) -> bool:
    """True if the folder holds anything besides the remains of an interrupted first write.

    Also true for a file in its place.
    """
    if not path.is_dir():
        return path.exists()
    return not all(entry.name.endswith(_UNFINISHED) for entry in path.iterdir())


def remove(path: Path) -> None:
    """Delete a store.

    Raises:
        DirectoryError: if it is a link or a file rather than a folder.
    """
    _check_folder(path)
    shutil.rmtree(path)


def _read(group: zarr.Group, dropped: Sequence[str]) -> xr.Dataset:
    """The written rows of a group, in memory; text as Python's strings, which numpy can compare.

    Not read by xarray, which refuses arrays of different lengths: a running process lays them out,
    lengthens and cuts them one after the other.
    """
    arrays = {name: array for name, array in sorted(group.arrays()) if name not in dropped}
    # A group without steps is being laid out, if anything in it runs along them.
    rows = layout.written(np.asarray(arrays["step"][:])) if "step" in arrays else 0
    variables = {}
    for name, array in arrays.items():
        values = np.asarray(array[:rows] if layout.has_steps(array) else array[...])
        values = values.astype(object) if values.dtype.kind == "T" else values
        variables[name] = (layout.dims(array), values, dict(array.attrs))
    return xr.Dataset(variables, attrs=dict(group.attrs))


def _read_through(array: zarr.Array) -> None:
    """Read an array one chunk's rows at a time, without keeping them."""
    if not array.shape:
        array.__getitem__(...)
        return
    rows = array.chunks[0]
    for start in range(0, array.shape[0], rows):
        array.__getitem__(slice(start, start + rows))


def _forget_consolidated(path: Path) -> None:
    """Drop the copy of all metadata that `finish` made: the next write makes it stale."""
    file = path / "zarr.json"
    metadata = json.loads(file.read_text("utf-8"))
    if metadata.pop("consolidated_metadata", None) is not None:
        temporary = file.with_suffix(_UNFINISHED)
        temporary.write_text(json.dumps(metadata), "utf-8")
        temporary.replace(file)


def _check_folder(path: Path) -> None:
    if path.is_symlink():
        raise DirectoryError(f"{path}: is a link; results are neither read nor written through one")
    if path.exists() and not path.is_dir():
        raise DirectoryError(f"{path}: is a file, not a folder of results")
    if not path.exists():
        raise DirectoryError(f"{path}: no such folder of results")
