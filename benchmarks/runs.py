"""What the experiments around the flows cost: sweeps in one program, and the results store."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments import load_run_config, run
from experiments.run_directory import checkpoint
from experiments.store.store import Store
from experiments.sweep import load_sweep, points, run_sweep

from .rows import Measured, row

_RUNS = 20


@row(
    "sweep",
    target=0.02,
    compares="seconds of the sweep phase-diagram, 10,000 runs of 500 steps / of as many separate "
    f"runs, from the mean of {_RUNS} once compiled",
)
def sweep() -> Measured:
    """Time both from config to results on the disk; the sweep includes its compilation."""
    config = load_sweep("phase-diagram")
    grid = points(config)
    quiet: dict[str, Any] = {"draw": False, "progress": False}
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        run_sweep(config, Path(folder) / "sweep", **quiet)
        together = time.perf_counter() - begin
        run(grid[0].config, Path(folder) / "first", **quiet)
        chosen = grid[1 :: len(grid) // _RUNS]
        begin = time.perf_counter()
        for point in chosen:
            run(point.config, Path(folder) / point.label, **quiet)
        one = (time.perf_counter() - begin) / len(chosen)
    return Measured(
        together / (one * len(grid)),
        {"sweep s": together, "separate run ms": 1e3 * one, "runs": len(grid)},
    )


@row(
    "store",
    target=0.05,
    compares="seconds spent on the results store and checkpoints / of the demo without its figure",
)
def store() -> Measured:
    """Time the built-in experiment digits-mlp, with its compilation, as in the demo."""
    config = load_run_config("digits-mlp")
    spent = {"store": 0.0, "checkpoint": 0.0}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for name in ("append", "update", "synchronise", "finish"):
            stack.enter_context(_timed(Store, name, spent, "store"))
        stack.enter_context(_timed(checkpoint, "write", spent, "checkpoint"))
        begin = time.perf_counter()
        run(config, Path(folder) / "run", draw=False, progress=False)
        whole = time.perf_counter() - begin
    return Measured(sum(spent.values()) / whole, {"demo s": whole, **spent})


@contextlib.contextmanager
def _timed(owner: object, name: str, spent: dict[str, float], key: str) -> Iterator[None]:
    """Add up the seconds that a function takes, without those of timed functions inside it."""
    original = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        begin, before = time.perf_counter(), sum(spent.values())
        try:
            return original(*arguments, **options)
        finally:
            spent[key] += time.perf_counter() - begin - (sum(spent.values()) - before)

    setattr(owner, name, timed)
    try:
        yield
    finally:
        setattr(owner, name, original)
