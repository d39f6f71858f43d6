"""Checkpoints: which are whole, which are refused, which are kept."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from experiments import DirectoryError
from experiments.run_directory import checkpoint
from experiments.run_directory.checkpoint import FORMAT
from experiments.run_directory.directory import version, write_environment, written_by
from tests.experiments.configs import config

STATES = {"w": np.arange(3.0)}
RECORD: dict[str, Any] = {
    "rows": {"discrete": 9},
    "tracks": {"discrete": {"stats": {"gradients": 9, "largest": float("inf")}}},
}


def write(path: Path, step: int, **options: Any) -> Path:
    """Write a checkpoint, and give its file."""
    checkpoint.write(path, config(), {"step": step, **RECORD}, STATES, **options)
    return path / "checkpoint" / f"step-{step:010d}.ckpt"


def read(path: Path) -> tuple[int | None, list[str]]:
    """The step of the checkpoint that is gone on from, and the warnings."""
    said: list[str] = []
    found = checkpoint.read(path, config(), said.append)
    return (None if found is None else found.record["step"]), said


def alter(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the first line of a checkpoint."""
    line, _, payload = file.read_bytes().partition(b"\n")
    header = json.loads(line)
    change(header)
    file.write_bytes(json.dumps(header).encode() + b"\n" + payload)


def steps(path: Path) -> list[int]:
    """The checkpoints that are there."""
    return sorted(int(file.stem[5:]) for file in (path / "checkpoint").iterdir())


def test_a_checkpoint_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """The bookkeeping and the bits of the states."""
    write(tmp_path, 8)
    found = checkpoint.read(tmp_path, config(), pytest.fail)
    assert found is not None
    assert found.record == {"step": 8, **RECORD}
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), STATES)
    np.testing.assert_array_equal(found.states(lambda record: like)["w"], STATES["w"])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda header: header["record"]["rows"].update(discrete=5), id="rows"),
        pytest.param(lambda header: header["record"].pop("tracks"), id="tracks"),
        pytest.param(lambda header: header["record"].update(step=7), id="step"),
        pytest.param(lambda header: header.update(fingerprint="0" * 64), id="fingerprint"),
        pytest.param(lambda header: header.update(format=FORMAT - 1), id="older-format"),
        pytest.param(lambda header: header.update(format=FORMAT + 1), id="newer-format"),
        pytest.param(lambda header: header.update(format="x"), id="no-format"),
        pytest.param(lambda header: header.pop("sha256"), id="no-checksum"),
    ],
)
def test_a_change_of_the_bookkeeping_is_recognised_as_damage(
    change: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    """As one of the states is; the one before is used, and without one the run begins again."""
    write(tmp_path, 4)
    newest = write(tmp_path, 8)
    alter(newest, change)
    step, (damaged, follows) = read(tmp_path)
    assert step == 4
    assert f"{newest}: damaged" in damaged
    assert "goes on from step-0000000004.ckpt, the one before" in follows
    (tmp_path / "checkpoint" / "step-0000000004.ckpt").unlink()
    step, (damaged, follows) = read(tmp_path)
    assert step is None
    assert f"{newest}: damaged" in damaged
    assert "no checkpoint to go on from, so the run begins again" in follows


def test_another_format_is_refused_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    """Older ones, of which some have a checksum of the states only, and one to come."""

    def as_of(number: int) -> Callable[[dict[str, Any]], None]:
        def change(header: dict[str, Any]) -> None:
            del header["sha256"]
            header["format"] = number
            payload = file.read_bytes().partition(b"\n")[2]
            whole = json.dumps(header, sort_keys=True).encode() + payload
            checked = payload if number < 5 else whole
            header["sha256"] = hashlib.sha256(checked).hexdigest()

        return change

    file = write(tmp_path, 4)
    for number, wrote in ((3, "0.0.9"), (4, "0.0.9"), (5, "0.1.0"), (FORMAT + 1, "9.0")):
        write_environment(tmp_path, {"versions": {"eosflows": wrote}})
        alter(file, as_of(number))
        says = rf"has format {number} \(written by eosflows {wrote}.*reads format {FORMAT}; go on"
        with pytest.raises(DirectoryError, match=rf"step-0000000004\.ckpt: cannot resume.*{says}"):
            read(tmp_path)
    alter(file, as_of(FORMAT))
    assert read(tmp_path) == (4, [])


def test_a_run_directory_says_which_version_wrote_it(tmp_path: Path) -> None:
    """And which one this is, where they differ; whatever the file holds."""
    write_environment(tmp_path, {"versions": {"eosflows": version()}})
    assert written_by(tmp_path) == f"written by eosflows {version() or 'of an unknown version'}"
    write_environment(tmp_path, {"versions": {"eosflows": "0.0.9"}})
    assert written_by(tmp_path).startswith("written by eosflows 0.0.9, this is eosflows ")
    for content in ('{"program": "eosflows", "versions": [1]}', "{", "[]"):
        (tmp_path / "environment.json").write_text(content)
        assert written_by(tmp_path).startswith("written by eosflows of an unknown version")


def test_states_that_the_program_does_not_know_are_refused(tmp_path: Path) -> None:
    """Of another shape, or described by bookkeeping of another kind."""
    write(tmp_path, 4)
    found = checkpoint.read(tmp_path, config(), pytest.fail)
    assert found is not None
    for like in (lambda record: {"w": np.zeros(2)}, lambda record: record["no such key"]):
        with pytest.raises(DirectoryError, match=r"ckpt: does not fit this version"):
            found.states(like)


def test_the_newest_and_the_one_before_are_kept(tmp_path: Path) -> None:
    """Besides an end that a longer run cannot go on from; what was passed over can be deleted."""
    for step in (4, 8, 12, 14):
        write(tmp_path, step, lasting=lambda step: step % 4 == 0)
    stranger = tmp_path / "checkpoint" / "step-of-mine.ckpt"
    stranger.write_text("mine")
    assert read(tmp_path) == (14, [])
    checkpoint.forget(tmp_path, 12)
    stranger.unlink()
    assert steps(tmp_path) == [8, 12]
    checkpoint.forget(tmp_path, -1)
    assert steps(tmp_path) == []
    checkpoint.forget(tmp_path / "nowhere", -1)
