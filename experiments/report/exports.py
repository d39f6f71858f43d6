"""Write the results of a run in a format that other programs read: netCDF, or tables as CSV."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import xarray as xr

from ..run_directory.directory import RESULTS_CSV, RESULTS_NETCDF, writing
from ..store.store import RESULTS_FOLDER, load
from ..system.errors import NO_HOME, DirectoryError
from ..system.files import synchronise_folder
from . import csv_tables, netcdf


class _Kind(NamedTuple):
    """How a format is written: its name in the run directory, and whether that is a folder."""

    name: str
    is_folder: bool
    write: Callable[[xr.DataTree, Path], None]


_KINDS = {
    "netcdf": _Kind(RESULTS_NETCDF, False, netcdf.write),
    "csv": _Kind(RESULTS_CSV, True, csv_tables.write),
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
        >>> config = load_run_config("valley", ("steps=4", "flows=[]", "figures=[]"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     folder_of_tables = export(run(config, folder, progress=False).directory, "csv")
        ...     sorted(path.name for path in folder_of_tables.iterdir())
        ['discrete.csv', 'landscape.csv', 'landscape@x1.csv', 'metadata.json']
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
        raise DirectoryError(f"{str(out)!r}: names no {_noun(kind)} to write")
    return path


def _noun(kind: _Kind) -> str:
    return "folder" if kind.is_folder else "file"


def _check_target(path: Path, kind: _Kind, overwrite: bool) -> None:
    """Refuse to replace anything but an earlier export of this kind, and that only on request."""
    if path.is_symlink():
        raise DirectoryError(f"{path}: is a link; results are not written through one")
    with writing(path):
        there = path.exists()
    if not there:
        return
    if path.is_dir() != kind.is_folder:
        found = "folder" if path.is_dir() else "file"
        raise DirectoryError(f"{path}: is a {found}; this format is written to a {_noun(kind)}")
    if not overwrite:
        raise DirectoryError(
            f"{path}: exists already; replace it (--overwrite) or choose another {_noun(kind)} "
            "(--out)"
        )
    stranger = csv_tables.stranger(path) if kind.is_folder else netcdf.stranger(path)
    if stranger:
        raise DirectoryError(f"{path}: {stranger}, so it is not replaced; choose another (--out)")


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
