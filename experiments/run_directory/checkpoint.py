"""Checkpoints: everything that a run needs to go on, in one file each, written in one step.

A file is one line of JSON (format version, fingerprint of the config, rows done, bookkeeping and
a checksum of these and of what follows) and then the leaves of the states as equinox serialises
them.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import PyTree

from ..config.loader import to_toml
from ..config.schema import Config
from ..system.errors import DamagedError
from ..system.files import synchronise_folder, write_bytes
from ..tables import Experiment
from .directory import CHECKPOINT, written_by

FINGERPRINT = "config_fingerprint"
"""The attribute of the results that holds `fingerprint` of the config that they belong to."""
FORMAT = 10
# Up to this format the checksum was that of the states only.
_STATES_ALONE = 4
# The newest, and the one before in case the newest turns out to be damaged.
_KEEP = 2
_NAME = re.compile(r"step-(\d{10})\.ckpt")


class Checkpoint(NamedTuple):
    """A checkpoint as it was read: bookkeeping, and the states still as bytes."""

    path: Path
    record: dict[str, Any]
    payload: bytes

    def states(self, like: Callable[[dict[str, Any]], Any]) -> Any:
        """Read the states.

        Args:
            like: a function of the bookkeeping that returns a pytree of the states' structure, of
                arrays or `jax.ShapeDtypeStruct`s.

        Raises:
            DamagedError: if the states are of another structure, shape or type.
        """
        try:
            return eqx.tree_deserialise_leaves(io.BytesIO(self.payload), like(self.record))
        except Exception as error:
            # Each kind of misfit raises another error; they all mean the same to the user.
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DamagedError(
                f"{self.path}: does not fit this version of the program "
                f"({written_by(self.path.parent.parent)}): {message}"
            ) from error


def fingerprint(config: Config) -> str:
    """A hash of the resolved config but for `steps`: a longer run begins as a shorter one."""
    same = config.model_copy(update={"steps": 0}) if isinstance(config, Experiment) else config
    return hashlib.sha256(to_toml(same).encode()).hexdigest()


def write(
    directory: Path,
    config: Config,
    record: dict[str, Any],
    states: PyTree,
    lasting: Callable[[int], bool] = lambda step: True,
) -> None:
    """Write a checkpoint and drop those before the previous one.

    Args:
        directory: the run directory.
        config: what runs there.
        record: the bookkeeping, as JSON can hold it; `step` names the file.
        states: a pytree of arrays.
        lasting: returns True if a longer run, too, can go on from a checkpoint at this step. Two
            such checkpoints are kept, besides newer ones that are not.

    Raises:
        OSError: if it cannot be written; the earlier ones are untouched then.
    """
    folder = directory / CHECKPOINT
    if not folder.exists():
        folder.mkdir()
        synchronise_folder(directory)
    buffer = io.BytesIO()
    eqx.tree_serialise_leaves(buffer, states)
    payload = buffer.getvalue()
    header = {"format": FORMAT, "fingerprint": fingerprint(config), "record": record}
    header["sha256"] = _checksum(header, payload)
    path = folder / f"step-{int(record['step']):010d}.ckpt"
    write_bytes(path, json.dumps(header).encode() + b"\n", payload)
    steps = [step for step in map(_step, _files(folder)) if lasting(step)]
    for old in _files(folder):
        if len(steps) >= _KEEP and _step(old) < steps[_KEEP - 1]:
            old.unlink()


def forget(directory: Path, after: int) -> None:
    """Delete the checkpoints that a run skipped when it went back to an earlier one.

    They count on rows that the run removes, and would take the place of those that it writes.

    Args:
        directory: the run directory.
        after: the step to which the run went back; -1 if it begins again.
    """
    folder = directory / CHECKPOINT
    for path in _files(folder):
        if _step(path) > after:
            path.unlink()
    synchronise_folder(folder)


def read(
    directory: Path,
    config: Config,
    warn: Callable[[str], None],
    usable: Callable[[int], bool] = lambda step: True,
) -> Checkpoint | None:
    """Read the newest checkpoint that is whole.

    Args:
        directory: the run directory.
        config: what is to go on; a checkpoint of another config is refused.
        warn: called with a sentence for each checkpoint that is damaged, and with one that says
            what follows from that.
        usable: returns True if the run can go on from a checkpoint at this step.

    Returns:
        The checkpoint; None if there is none, so that the run has to begin again.

    Raises:
        DamagedError: if the newest whole one belongs to another config or format.
    """
    files = _files(directory / CHECKPOINT)
    damaged = False
    for path in files:
        try:
            header, payload = _parse(path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            warn(f"{path}: damaged ({error})")
            damaged = True
            continue
        if header["format"] != FORMAT:
            raise DamagedError(
                f"{path}: cannot resume, the checkpoint has format {header['format']} "
                f"({written_by(directory)}) and this version reads format {FORMAT}; go on with "
                "the version that wrote it, replace the run (--overwrite) or choose another folder "
                "(--out)"
            )
        if header["fingerprint"] != fingerprint(config):
            raise DamagedError(f"{path}: belongs to another config")
        if not usable(header["record"]["step"]):
            continue
        if damaged:
            warn(f"{directory}: goes on from {path.name}, the one before")
        return Checkpoint(path, header["record"], payload)
    if files:
        warn(f"{directory}: has no checkpoint to go on from, so the run begins again")
    return None


def _parse(content: bytes) -> tuple[dict[str, Any], bytes]:
    line, _, payload = content.partition(b"\n")
    header = json.loads(line)
    written = header.pop("sha256")
    if written != _checksum(header, payload):
        raise ValueError("the checksum is wrong")
    if not isinstance(header["record"]["step"], int):
        raise ValueError("no step in it")
    return header, payload


def _checksum(header: dict[str, Any], payload: bytes) -> str:
    """The checksum of a checkpoint, given its header without one."""
    checksum = hashlib.sha256()
    if header["format"] > _STATES_ALONE:
        checksum.update(json.dumps(header, sort_keys=True).encode())
    checksum.update(payload)
    return checksum.hexdigest()


def _files(folder: Path) -> list[Path]:
    """The checkpoints, newest first; their names sort as their steps do."""
    return sorted((path for path in folder.glob("*") if _NAME.fullmatch(path.name)), reverse=True)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match
    return int(match[1])
