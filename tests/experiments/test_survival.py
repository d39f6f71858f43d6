"""Runs that are killed, interrupted or out of disk space at any moment, and go on."""

import errno
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments import DirectoryError, checkpoint, load
from experiments.loader import to_toml
from tests.experiments.configs import VALLEY, config, values, write
from tests.experiments.runs import assert_same_results, quietly

# Many checkpoints, and nothing that takes long to compile.
BARE = {key: value for key, value in VALLEY.items() if key != "curvature"}
LONG = {**BARE, "steps": 40, "checkpoint": {"every": 2}}

# Imports once, and forks for each run before JAX has started a thread: each is a process of its
# own, and a dozen of them start in a second. Compiled programs are kept on the disk.
_STARTER = """
import os, sys
import jax
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
from experiments import cli, runner
for line in sys.stdin:
    process = os.fork()
    if process == 0:
        os._exit(cli.main(line.split()))
    print(process, flush=True)
    print(os.waitpid(process, 0)[1], flush=True)
"""

Start = Callable[[Path, Path, float | None, int], tuple[int, float]]


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

        def begin(file: Path, out: Path, after: float | None, number: int) -> tuple[int, float]:
            print(f"run {file} --out {out} --resume --no-figures", file=stdin, flush=True)
            process, started = int(stdout.readline()), time.perf_counter()
            if after is not None:
                time.sleep(after)
                os.kill(process, number)
            # What a run says on stdout comes in between.
            for line in stdout:
                if line.strip().isdigit():
                    return int(line), time.perf_counter() - started
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
def test_a_run_that_is_killed_ten_times_ends_as_one_that_is_not(
    start: Start, whole: Path, tmp_path: Path
) -> None:
    """SIGKILL at random moments of a run in a process of its own; then SIGINT, which exits 130."""
    file = write(tmp_path / "valley.toml", to_toml(config(LONG)))
    # The first compiles the programs; the second tells how long a run then takes.
    start(file, tmp_path / "first", None, 0)
    _, seconds = start(file, tmp_path / "second", None, 0)
    assert_same_results(whole, tmp_path / "second")
    moments = random.Random(0)
    kept = 0
    for _ in range(10):
        # Much of a run is its start: in the rest of this time a few checkpoints are written.
        after = moments.uniform(0.2, 0.6) * seconds
        status, _ = start(file, tmp_path / "run", after, signal.SIGKILL)
        assert os.WTERMSIG(status) == signal.SIGKILL
        before, kept = kept, _rows(tmp_path / "run")
        # Nothing that was stored is lost, but for what came after the last checkpoint: two rows, or
        # before the first one these and the start.
        assert kept >= before - 2 or before <= 3
    status, _ = start(file, tmp_path / "run", 0.6 * seconds, signal.SIGINT)
    if status != 0:  # It may have come to its end before.
        assert os.waitstatus_to_exitcode(status) == 130
        assert load(tmp_path / "run").attrs["status"] == "interrupted"
    status, _ = start(file, tmp_path / "run", None, 0)
    assert status == 0
    assert_same_results(whole, tmp_path / "run")


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


def test_rows_are_on_the_disk_before_the_checkpoint_that_counts_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every chunk is synchronised between its last write and the checkpoint."""
    synchronised: dict[int, int] = {}
    original, fsync = checkpoint.write, os.fsync

    def noted(file: int) -> None:
        synchronised[os.fstat(file).st_ino] = os.fstat(file).st_mtime_ns
        fsync(file)

    def write_checked(directory: Path, *arguments: Any) -> None:
        for path in (directory / "results.zarr").rglob("*"):
            if path.is_file():
                status = path.stat()
                assert synchronised.get(status.st_ino) == status.st_mtime_ns, path
        original(directory, *arguments)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(checkpoint, "write", write_checked)
    quietly(config(BARE), tmp_path)
    assert synchronised
