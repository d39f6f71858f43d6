"""A run directory: what is in it, when it may be used, and what of it may be deleted."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import ConfigError, DirectoryError
from .loader import load_config, to_toml
from .schema import Config
from .store import RESULTS

CONFIG = "config.toml"
ENVIRONMENT = "environment.json"
CHECKPOINT = "checkpoint"
FIGURES = "figures"
RESULTS_NETCDF = "results.nc"
RESULTS_CSV = "results-csv"
PROGRAM = "eosflows"
_EXPORTS = (RESULTS_NETCDF, RESULTS_CSV, f".{RESULTS_CSV}.earlier")
_ENTRIES = frozenset({CONFIG, ENVIRONMENT, CHECKPOINT, FIGURES, RESULTS, *_EXPORTS})


def prepare(path: Path, config: Config, *, overwrite: bool, resume: bool) -> bool:
    """Make a folder ready for a run.

    Args:
        path: the run directory; made if it does not exist.
        config: what is going to run there.
        overwrite: delete an earlier run that is there. Nothing but a run directory is deleted.
        resume: go on with an earlier run that is there, which must have the same config; begin if
            it was stopped before its config was written.

    Returns:
        Whether an earlier run is there to go on with.

    Raises:
        DirectoryError: if the folder holds another run or something else, is a file or a link, or
            cannot be written.
    """
    if overwrite and resume:
        raise DirectoryError("--overwrite and --resume exclude each other")
    if path.is_symlink():
        raise DirectoryError(f"{path}: is a link; a run is not written through one")
    with writing(path):
        if path.exists() and not path.is_dir():
            raise DirectoryError(f"{path}: is a file; the output must be a folder")
        if path.exists() and any(path.iterdir()):
            _check_is_run(path)
            if resume and _has_begun(path):
                _check_same_config(path, config)
                return True
            if not (overwrite or resume):
                raise DirectoryError(
                    f"{path}: holds a run already; go on with it (--resume), replace it "
                    "(--overwrite) or choose another folder (--out)"
                )
            _delete_run(path)
        path.mkdir(parents=True, exist_ok=True)
        # The environment goes first: it is what a run directory is recognised by.
        write_environment(path, {})
        write_text(path / CONFIG, to_toml(config))
    return False


def write_text(path: Path, text: str) -> None:
    """Write a file in one piece: a reader, or a crash, finds the old text or the new one."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, *pieces: bytes) -> None:
    """As `write_text`, for bytes; when it returns they are on the disk."""
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    synchronise(path.parent)


def synchronise(path: Path) -> None:
    """Wait until what was renamed in a folder is so on the disk, where the file system can."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_environment(path: Path, environment: dict[str, Any]) -> None:
    """Write `environment.json`, marked as ours."""
    text = json.dumps({"program": PROGRAM, **environment}, indent=2)
    write_text(path / ENVIRONMENT, text + "\n")


def read_environment(path: Path) -> dict[str, Any]:
    """Read `environment.json`; empty if it is not there or not ours."""
    try:
        environment = json.loads((path / ENVIRONMENT).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(environment, dict) or environment.get("program") != PROGRAM:
        return {}
    return environment


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one sentence what stood in the way of writing to a run directory.

    Raises:
        DirectoryError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = error.filename if error.filename is not None else path
        raise DirectoryError(f"{path}: cannot be written ({reason}: {where})") from error


def differences(old: Config, new: Config) -> list[str]:
    """The keys in which two configs differ, each with both values."""
    before, after = _flat(old.model_dump()), _flat(new.model_dump())
    return [
        f"{key} was {before.get(key)!r}, is {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = [(f"{key}.{name}" if key else str(name), item) for name, item in value.items()]
    elif isinstance(value, tuple | list) and any(isinstance(item, dict) for item in value):
        items = [(f"{key}[{index}]", item) for index, item in enumerate(value)]
    else:
        return {key: value}
    return {path: leaf for name, item in items for path, leaf in _flat(item, name).items()}


def _check_is_run(path: Path) -> None:
    strangers = sorted(entry.name for entry in path.iterdir() if not _is_ours(entry))
    if strangers or not read_environment(path):
        found = f" (it holds {', '.join(strangers[:3])})" if strangers else ""
        raise DirectoryError(
            f"{path}: is not empty and is no run directory of ours{found}; choose another (--out)"
        )
    links = sorted(entry.name for entry in path.iterdir() if entry.is_symlink())
    if links:
        raise DirectoryError(f"{path}: {links[0]} is a link; a run is not written through one")


def _is_ours(entry: Path) -> bool:
    # A crash in the middle of `write_bytes` leaves the temporary file.
    return entry.name in _ENTRIES or entry.name in {f".{name}.partial" for name in _ENTRIES}


def _has_begun(path: Path) -> bool:
    """Whether there is more than what is written before the config."""
    return any((path / name).exists() for name in _ENTRIES - {ENVIRONMENT})


def _check_same_config(path: Path, config: Config) -> None:
    try:
        earlier = load_config(path / CONFIG)
    except ConfigError as error:
        # Of the earlier run's file: the one that the user gave is fine.
        raise DirectoryError(
            f"{path}: cannot resume, it is not known with which config it ran; replace it "
            f"(--overwrite) or choose another folder (--out)\n{error}"
        ) from error
    changed = differences(earlier, config)
    if changed:
        raise DirectoryError(
            f"{path}: cannot resume, the config is another one: {'; '.join(changed)}"
        )


def _delete_run(path: Path) -> None:
    for entry in path.iterdir():
        # The mark goes last, so that an interrupted deletion can be finished later.
        if entry.name != ENVIRONMENT:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    (path / ENVIRONMENT).unlink()
