"""Running and comparing whole runs, for the tests of this folder."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from experiments import load, run
from experiments.config.schema import RunConfig

# Differ between any two runs: seconds on a clock.
CLOCKS = ("wall_time",)


def assert_same_results(left: Path, right: Path) -> None:
    """Every group, variable, bit and attribute agrees, but for times on the clock."""
    one, two = load(left), load(right)
    assert set(one.children) == set(two.children)
    for name in ("", *one.children):
        a, b = (tree[name].to_dataset() if name else tree.to_dataset() for tree in (one, two))
        for dataset in (a, b):
            for clock in CLOCKS:
                dataset.attrs.pop(clock, None)
        xr.testing.assert_identical(a, b)


def noting_what_is_synchronised(patch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """From now on, a function that asserts that a file, or all of a folder, is on the disk.

    It is if it was synchronised after its last write.
    """
    times: dict[int, int] = {}
    fsync = os.fsync

    def noted(file: int) -> None:
        status = os.fstat(file)
        times[status.st_ino] = status.st_mtime_ns
        fsync(file)

    def check(path: Path) -> None:
        for entry in (path, *path.rglob("*")):
            status = entry.stat()
            assert times.get(status.st_ino) == status.st_mtime_ns, entry

    patch.setattr(os, "fsync", noted)
    return check


def quietly(loaded: RunConfig, path: Path, **options: Any) -> Any:
    """Run without a bar and without figures."""
    return run(loaded, path, draw=False, progress=False, **options)
