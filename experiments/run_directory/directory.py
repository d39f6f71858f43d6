"""A run directory: what is in it, when it may be used, and what may be deleted."""

import contextlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..config.loader import load_config, to_toml
from ..config.schema import Config, RunConfig
from ..store.store import RESULTS_FOLDER
from ..system.errors import ConfigError, DamagedError, DirectoryError
from ..system.files import write_text
from ..system.text import show
from ..system.warning import warn
from ..tables import Experiment
from ..tables.experiment import CheckpointTable
from ..tables.plugins import check_same

try:
    import fcntl
except ImportError:  # Not on Windows.
    fcntl = None

CONFIG = "config.toml"
ENVIRONMENT = "environment.json"
CHECKPOINT = "checkpoint"
FIGURES = "figures"
RUNS = "runs"
RESULTS_NETCDF = "results.nc"
RESULTS_CSV = "results-csv"
REPORT = "report.html"
PROGRAM = "eosflows"
_EXPORTS = (REPORT, RESULTS_NETCDF, RESULTS_CSV, f".{RESULTS_CSV}.earlier")
_ENTRIES = frozenset({CONFIG, ENVIRONMENT, CHECKPOINT, FIGURES, RESULTS_FOLDER, RUNS, *_EXPORTS})


def path_of(config: Config, directory: str | Path | None) -> Path:
    """The run directory: the one that was asked for, or the config's name in `runs/`."""
    return Path("runs") / config.name if directory is None else Path(directory)


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep other processes from running in a folder while a block of code does.

    The folder is free again however the process ends. File systems without locks protect nothing.

    Args:
        path: the run directory; made if it does not exist, and removed if it stays empty.

    Raises:
        DirectoryError: if a process runs there already, or it cannot be made.
    """
    if fcntl is None or path.is_symlink() or (path.exists() and not path.is_dir()):
        yield  # `prepare` refuses what is no folder.
        return
    made = not path.exists()
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        folder = os.open(path, os.O_RDONLY)
    try:
        _lock(folder, path)
        try:
            yield
        finally:
            if made:
                with contextlib.suppress(OSError):  # It is not empty.
                    path.rmdir()
    finally:
        os.close(folder)


def _lock(folder: int, path: Path) -> None:
    assert fcntl is not None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = f"{path}: a run is going on there; wait for its end or choose another folder"
        raise DirectoryError(f"{message} (--out)") from None
    except OSError:
        pass  # Not every file system can do this.


def prepare(path: Path, config: Config, *, overwrite: bool, resume: bool) -> bool:
    """Make a folder ready for a run.

    Args:
        path: the run directory; made if it does not exist.
        config: what is going to run there.
        overwrite: delete an earlier run that is there. Nothing but a run directory is deleted.
        resume: go on with an earlier run that is there, which must have the same config, but may
            have had fewer steps; begin if it stopped before its config was written.

    Returns:
        True if there is an earlier run to go on with.

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
            going_on = resume and _has_begun(path)
            _check_is_run(path, alone=not going_on)
            if going_on:
                check_same(read_environment(path).get("imports"), config.model_dump(), path)
                _check_same_config(path, config)
                return True
            if not (overwrite or resume):
                raise DirectoryError(
                    f"{path}: holds a run already; go on with it (--resume), replace it "
                    "(--overwrite) or choose another folder (--out)"
                )
            _delete_run(path)
        path.mkdir(parents=True, exist_ok=True)
        # The environment first: a run directory is recognised by it.
        write_environment(path, {})
        write_text(path / CONFIG, to_toml(config))
    return False


def write_environment(path: Path, environment: dict[str, Any]) -> None:
    """Write `environment.json`, with the mark by which a run directory is recognised."""
    text = json.dumps({"program": PROGRAM, **environment}, indent=2)
    write_text(path / ENVIRONMENT, text + "\n")


def read_environment(path: Path) -> dict[str, Any]:
    """Read `environment.json`; empty if there is none or it lacks our mark."""
    try:
        environment = json.loads((path / ENVIRONMENT).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(environment, dict) or environment.get("program") != PROGRAM:
        return {}
    return environment


def version(package: str = PROGRAM) -> str | None:
    """The installed version of a package; None for a checkout that was not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def written_by(path: Path) -> str:
    """Say which version wrote a run directory, and which one this is where they differ."""
    versions = read_environment(path).get("versions")
    theirs = versions.get(PROGRAM) if isinstance(versions, dict) else None
    wrote = f"written by {PROGRAM} {theirs or 'of an unknown version'}"
    return wrote if theirs == version() else f"{wrote}, this is {PROGRAM} {version() or 'unknown'}"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError in a block of code into a sentence about the run directory.

    Raises:
        DirectoryError: in place of the OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = error.filename if error.filename is not None else path
        raise DirectoryError(f"{path}: cannot be written ({reason}: {where})") from error


def differences(old: Config, new: Config) -> list[str]:
    """The keys in which two configs differ, each with both values."""
    before, after = flat_keys(old.model_dump()), flat_keys(new.model_dump())
    return [
        _difference(key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _difference(key: str, before: Any, after: Any) -> str:
    # A swept list may be of 100,000 values.
    was, now = show(before), show(after)
    return f"{key} was {was}, is {now}" if was != now else f"{key} is not what it was after {was}"


def flat_keys(value: Any, key: str = "") -> dict[str, Any]:
    """The values of a config by their dotted keys, `flows[0].kind` for those of lists of tables."""
    if isinstance(value, dict):
        items = [(f"{key}.{name}" if key else str(name), item) for name, item in value.items()]
    elif isinstance(value, tuple | list) and any(isinstance(item, dict) for item in value):
        items = [(f"{key}[{index}]", item) for index, item in enumerate(value)]
    else:
        return {key: value}
    return {path: leaf for name, item in items for path, leaf in flat_keys(item, name).items()}


def _check_is_run(path: Path, *, alone: bool) -> None:
    """Check that a folder is a run directory, and if `alone` that it holds nothing else."""
    names = {entry.name for entry in path.iterdir()}
    strangers = sorted(entry.name for entry in path.iterdir() if not _is_ours(entry))
    # A kill may come while the file with the mark, the first of all, is being written.
    marked = names == {f".{ENVIRONMENT}.partial"} or read_environment(path)
    if (strangers and alone) or not marked:
        found = f" (it holds {', '.join(strangers[:3])})" if strangers else ""
        raise DirectoryError(
            f"{path}: is not empty and is no run directory of ours{found}; choose another (--out)"
        )
    links = sorted(entry.name for entry in path.iterdir() if entry.is_symlink())
    if links:
        raise DirectoryError(f"{path}: {links[0]} is a link; a run is not written through one")


def _is_ours(entry: Path) -> bool:
    # A crash in the middle of `write_bytes` leaves its temporary file.
    return entry.name in _ENTRIES or entry.name in {f".{name}.partial" for name in _ENTRIES}


def _has_begun(path: Path) -> bool:
    """True if the folder holds more than what is written before the config."""
    return any((path / name).exists() for name in _ENTRIES - {ENVIRONMENT})


def lengthen(path: Path, config: Config) -> None:
    """Write the config of a run that goes on for more steps than before.

    Args:
        path: the run directory, from which the run has been restored: one that cannot be keeps the
            config with which it ran.
        config: the config.
    """
    if differences(_earlier_config(path), config):
        write_text(path / CONFIG, to_toml(config))


def _check_same_config(path: Path, config: Config) -> None:
    """Check that the run has this config, but for more steps."""
    earlier = _earlier_config(path)
    changed = differences(earlier, config)
    if changed and not (extends(config, earlier) and len(changed) == 1):
        raise DamagedError(
            f"{path}: cannot resume, the config is another one: {'; '.join(changed)}"
        )


def _earlier_config(path: Path) -> Config:
    try:
        return load_config(path / CONFIG)
    except ConfigError as error:
        # The file of the earlier run is wrong, not the one that the user gave.
        raise DamagedError(
            f"{path}: cannot resume, it is not known with which config it ran "
            f"({written_by(path)}); replace it (--overwrite) or choose another folder (--out)\n"
            f"{error}"
        ) from error


def extends(config: Config, earlier: Config) -> bool:
    """True if both configs are of experiments, and the new one asks for more steps."""
    if not (isinstance(config, Experiment) and isinstance(earlier, Experiment)):
        return False
    return config.steps > earlier.steps


def continued(path: Path, config: RunConfig) -> RunConfig:
    """Return the config with which an earlier run in a folder, if there is one, is resumed.

    An adaptive solver stops at every checkpoint. To give the results of one run of all steps, a
    lengthened run keeps the earlier interval between checkpoints, though the default for more steps
    is another one, unless the config asks for an interval itself.

    Args:
        path: the run directory, which need not exist.
        config: what the user asks for.
    """
    try:
        earlier = load_config(path / CONFIG)
    except ConfigError:
        return config  # `prepare` says what is wrong with it.
    if not (isinstance(config, Experiment) and isinstance(earlier, Experiment)):
        return config
    wanted, begun = config.checkpoint, earlier.checkpoint
    # If the steps are equal, this very command already lengthened the earlier run.
    if config.steps < earlier.steps or wanted == begun or wanted != _default_checkpoint(config):
        return config
    warn(
        f"{path}: checkpoint.every stays {begun.every}, with which the run began "
        f"(for {config.steps} steps it is {wanted.every} by default)"
    )
    return config.model_copy(update={"checkpoint": begun})


def _default_checkpoint(config: Experiment) -> CheckpointTable:
    return Experiment.model_validate({**config.model_dump(), "checkpoint": {}}).checkpoint


def _delete_run(path: Path) -> None:
    for entry in path.iterdir():
        # The file with the mark goes last, so that an interrupted deletion can be finished later.
        if entry.name != ENVIRONMENT:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    (path / ENVIRONMENT).unlink(missing_ok=True)
