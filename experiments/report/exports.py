"""Write the results of a run in a format that other programs read: netCDF, or tables as CSV."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import xarray as xr

from ..run_directory.directory import RESULTS_CSV, RESULTS_NETCDF, writing
from ..store.store import RESULTS_FOLDER, load
from ..system.errors import NO_HOME, DirectoryError
from ..system.files import synchronise_folder
from . import csv_tables, netcdf


class _Kind(NamedTuple):
    """A format of exports.

    Attributes:
        name: of the export in the run directory.
        noun: what it is, a file or a folder.
        write: writes a tree.
        stranger: says why what is there is no such export.
    """

    name: str
    noun: Literal["file", "folder"]
    write: Callable[[xr.DataTree, Path], None]
    stranger: Callable[[Path], str]


_KINDS = {
    "netcdf": _Kind(RESULTS_NETCDF, "file", netcdf.write, netcdf.stranger),
    "csv": _Kind(RESULTS_CSV, "folder", csv_tables.write, csv_tables.stranger),
}


def export(
    directory: str | Path,
    to: str,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write the results of a finished or partial run in another format.

    - "netcdf": one netCDF-4 file of the whole tree; `xarray.open_datatree` gives it back.
    - "csv": a folder with a table for each group, and all attributes in `metadata.json`
      (`experiments/report/csv_tables.py`).

    The export appears in one piece: after a crash there is the earlier one, or none.

    Args:
        directory: a run directory, or the `results.zarr` in it.
        to: the format.
        out: where to; by default `results.nc` or `results-csv` in the run directory.
        overwrite: replace an earlier export that is there, and nothing else.

    Returns:
        Where it was written.

    Raises:
        ValueError: if there is no such format.
        DirectoryError: if there are no readable results, something is there already, or it cannot
            be written.

    Example:
        >>> import tempfile
        >>> from experiments import export, load_run_config, run
        >>> changes = "steps=4", "flows=[]", "figures=[]"
        >>> config = load_run_config("quartic-descent", changes)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     folder_of_tables = export(run(config, folder, progress=False).directory, "csv")
        ...     sorted(path.name for path in folder_of_tables.iterdir())
        ['discrete.csv', 'metadata.json']
    """
    if to not in _KINDS:
        raise ValueError(f"to must be one of {', '.join(_KINDS)}; got {to!r}.")
    kind = _KINDS[to]
    path = _target(Path(directory), kind, out)
    # Before the results are read, which takes long where they are large.
    _check_target(path, kind, overwrite)
    tree = load(directory)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.partial")
        _remove(temporary)
        try:
            kind.write(tree, temporary)
            _replace(path, temporary)
        finally:
            _remove(temporary)
        synchronise_folder(path.parent)
    return path


def _target(directory: Path, kind: _Kind, out: str | Path | None) -> Path:
    if out is None:
        return (directory.parent if directory.name == RESULTS_FOLDER else directory) / kind.name
    try:
        path = Path(out).expanduser()
    except RuntimeError:
        raise DirectoryError(f"{out}: {NO_HOME}") from None
    if not path.name:
        raise DirectoryError(f"{str(out)!r}: names no {kind.noun} to write")
    return path


def _check_target(path: Path, kind: _Kind, overwrite: bool) -> None:
    """Refuse to replace anything but an earlier export of this kind, and that only on request."""
    if path.is_symlink():
        raise DirectoryError(f"{path}: is a link; results are not written through one")
    with writing(path):
        there = path.exists()
    if not there:
        return
    found = "folder" if path.is_dir() else "file"
    if found != kind.noun:
        raise DirectoryError(f"{path}: is a {found}; this format is written to a {kind.noun}")
    if not overwrite:
        raise DirectoryError(
            f"{path}: exists already; replace it (--overwrite) or choose another {kind.noun} "
            "(--out)"
        )
    if why := kind.stranger(path):
        raise DirectoryError(f"{path}: {why}, so it is not replaced; choose another (--out)")


def _replace(path: Path, temporary: Path) -> None:
    if not path.is_dir():
        temporary.replace(path)
        return
    # A folder that is not empty cannot be replaced in one step: set the earlier one aside first.
    earlier = path.with_name(f".{path.name}.earlier")
    _remove(earlier)
    path.rename(earlier)
    try:
        temporary.rename(path)
    except OSError:
        earlier.rename(path)
        raise
    _remove(earlier)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
