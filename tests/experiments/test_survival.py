"""Runs that are killed, interrupted or out of disk space at any moment, and go on."""

import contextlib
import errno
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from experiments import DirectoryError, load
from experiments.config.loader import to_toml, validate
from experiments.run_directory import checkpoint
from experiments.runs.study_task import StudyTask
from experiments.store.status import FINISHED
from experiments.store.store import RESULTS_FOLDER, Store
from experiments.studies import AbstractStudy, Conclusion, StudyExperiment
from experiments.sweep import task as sweep_task
from experiments.sweep.batch import Batch
from experiments.sweep.workers import Workers
from experiments.tables import SweepExperiment
from flows.runs.progress import ProgressBar
from tests.experiments.configs import STUDY, VALLEY, config, values, write
from tests.experiments.runs import assert_same_results, noting_what_is_synchronised, quietly

# Many checkpoints, and nothing that takes long to compile.
BARE = {**VALLEY, "curvature": {"eigenvalues": 0}}
EVERY = 2
LONG = {**BARE, "steps": 40, "checkpoint": {"every": EVERY}}

# Imports once, and forks for each run before JAX has started a thread: each is a process of its
# own, and a dozen of them start in a second. Compiled programs are kept on the disk.
_STARTER = """
import os, sys
import jax
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
from experiments import cli
from experiments.runs import runner
for line in sys.stdin:
    process = os.fork()
    if process == 0:
        os._exit(cli.main(line.split()))
    print(process, flush=True)
    print(os.waitpid(process, 0)[1], flush=True)
"""

# After how many more checkpoints a run is sent a signal, and how many seconds later.
Moment = tuple[int, float]
Start = Callable[[Path, Path, Moment | None, int], int]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """A function that runs a config in a process, sends it a signal, and gives how it ended."""
    cache = tmp_path_factory.mktemp("cache")
    with subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as starter:
        assert starter.stdin
        assert starter.stdout
        stdin, stdout = starter.stdin, starter.stdout

        def begin(file: Path, out: Path, moment: Moment | None, number: int) -> int:
            before = _newest(out)
            print(f"run {file} --out {out} --resume --no-figures", file=stdin, flush=True)
            process = int(stdout.readline())
            if moment is not None:
                with contextlib.suppress(ProcessLookupError):  # It has come to its end before.
                    while _newest(out) < before + EVERY * moment[0]:
                        os.kill(process, 0)
                        time.sleep(1e-3)
                    time.sleep(moment[1])
                    os.kill(process, number)
            # What a run says on stdout comes in between.
            for line in stdout:
                if line.strip().isdigit():
                    return int(line)
            raise AssertionError("the starter ended")

        yield begin
        stdin.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an uninterrupted run."""
    path = tmp_path_factory.mktemp("whole") / "run"
    quietly(config(LONG), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_not(
    kills: int, start: Start, whole: Path, tmp_path: Path
) -> None:
    """SIGKILL at random moments of a run in a process of its own; then SIGINT, which exits 130."""
    file = write(tmp_path / "valley.toml", to_toml(config(LONG)))
    moments = random.Random(0)
    killed = kept = 0
    out = tmp_path / "run-0"
    while killed < kills:
        # While it starts, or goes back to its checkpoint, or computes and stores.
        checkpoints = moments.randrange(2)
        moment = checkpoints, moments.uniform(0.0, 0.02 if checkpoints else 0.5)
        status = start(file, out, moment, signal.SIGKILL)
        if status == 0:
            # It has come to its end: the other kills are those of another run.
            assert_same_results(whole, out)
            out, kept = tmp_path / f"run-{killed}", 0
            continue
        assert os.WTERMSIG(status) == signal.SIGKILL
        killed += 1
        before, kept = kept, _rows(out)
        # Nothing that was stored is lost, but for what came after the last checkpoint, or before
        # the first one that and the start.
        assert kept >= before - EVERY or before <= EVERY + 1
    status = start(file, out, (1, 0.0), signal.SIGINT)
    if status != 0:  # It may have come to its end before.
        assert os.waitstatus_to_exitcode(status) == 130
        assert load(out).attrs["status"] == "interrupted"
    assert start(file, out, None, 0) == 0
    assert_same_results(whole, out)


def _newest(path: Path) -> int:
    """The step of the newest checkpoint, 0 if there is none."""
    names = (entry.stem for entry in path.glob("checkpoint/step-*.ckpt"))
    return max((int(name.removeprefix("step-")) for name in names), default=0)


def _rows(path: Path) -> int:
    """How many rows of the discrete run are stored."""
    if not (path / "results.zarr" / "discrete" / "step" / "zarr.json").exists():
        return 0
    return len(values(load(path), "discrete", "step"))


class _Quota(io.FileIO):
    """A file on a disk that has room for so many bytes more."""

    left = 0

    def write(self, data: Any) -> int:
        """Write what there is room for, and fail if that is not all."""
        view = memoryview(data).cast("B")
        room = max(0, min(len(view), _Quota.left))
        _Quota.left -= room
        written = super().write(view[:room])
        if room < len(view):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.name)
        return written


@pytest.mark.slow
def test_a_full_disk_at_any_write_loses_nothing(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten disks fill up in the middle of some file; after each the run goes on where it was."""
    loaded = config(LONG)
    opened = io.open
    inside = str(tmp_path)

    def limited(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        writes = set(mode) & set("wxa+") and "b" in mode
        if writes and str(file).startswith(inside):
            raw = _Quota(file, mode.replace("b", ""))
            return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return opened(file, mode, *arguments, **options)

    sizes = random.Random(2)
    full = 0
    with monkeypatch.context() as patch:
        patch.setattr(io, "open", limited)
        for _ in range(10):
            _Quota.left = sizes.randrange(1_000, 200_000)
            try:
                quietly(loaded, tmp_path / "run", resume=True)
            except DirectoryError as error:
                assert "No space left on device" in str(error)  # noqa: PT017
                full += 1
    assert full >= 5
    quietly(loaded, tmp_path / "run", resume=True)
    assert_same_results(whole, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.partial"))


def test_rows_are_on_the_disk_before_what_counts_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is synchronised between its last write and the checkpoint, or the end of the run."""
    check = noting_what_is_synchronised(monkeypatch)
    counted: list[str] = []
    original, update = checkpoint.write, Store.update

    def write_checked(directory: Path, *arguments: Any) -> None:
        check(directory / RESULTS_FOLDER)
        counted.append("checkpoint")
        original(directory, *arguments)

    def update_checked(self: Store, group: str, attributes: Mapping[str, Any]) -> None:
        if attributes.get("status") == FINISHED:
            check(self.path)
            counted.append("end")
        update(self, group, attributes)

    monkeypatch.setattr(checkpoint, "write", write_checked)
    monkeypatch.setattr(Store, "update", update_checked)
    # The solver that compiles fastest.
    flow = {**BARE["flows"][0], "solver": {"kind": "euler", "dt0": 0.5}}
    quietly(config(BARE, flows=[flow]), tmp_path)
    assert counted == [*["checkpoint"] * 3, "end"]


class _Study(AbstractStudy):
    """Two parts that take no time."""

    kind: str = "two"

    @property
    def attributes(self) -> dict[str, Any]:
        """None."""
        return {}

    @property
    def parts(self) -> tuple[str, ...]:
        """Their names."""
        return "first", "second"

    def check(self) -> None:
        """Refuse nothing."""

    def compute(self, part: str) -> xr.Dataset:
        """Some numbers in an array of two dimensions, whose chunks are in folders of folders."""
        return xr.Dataset({part: (("row", "column"), np.ones((2, 3)))})

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """Nothing."""
        del parts
        return []


@pytest.mark.parametrize("kind", ["study", "sweep"])
def test_a_part_and_a_batch_are_on_the_disk_before_they_count_as_complete(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut that keeps the one and loses the other would leave holes for good."""
    store = Store.create(tmp_path / RESULTS_FOLDER, {"name": "mine", "status": "running"})
    check = noting_what_is_synchronised(monkeypatch)
    complete: list[str] = []
    update = Store.update

    def update_checked(self: Store, group: str, attributes: Mapping[str, Any]) -> None:
        assert attributes == {"complete": True}
        check(self.path)
        complete.append(group)
        update(self, group, attributes)

    monkeypatch.setattr(Store, "update", update_checked)
    if kind == "study":
        loaded = validate(STUDY)
        assert isinstance(loaded, StudyExperiment)
        task = StudyTask(tmp_path, loaded, _Study())
    else:
        batch = Batch("batch-00000", (), lambda: _Study().compute("loss"))
        monkeypatch.setattr(sweep_task, "batches", lambda points, series: ([batch], []))
        loaded = validate({**BARE, "sweep": {"over": [{"key": "seed", "values": [0, 1]}]}})
        assert isinstance(loaded, SweepExperiment)
        task = sweep_task.SweepTask(tmp_path, loaded, [], Workers())
    task.compute(store, ProgressBar(task.length))
    assert complete == (["first", "second"] if kind == "study" else ["batch-00000"])
