"""One process's share of a sweep: what it runs together, what by itself, and what it gathers."""

from pathlib import Path
from typing import Any

from ..directory import RUNS
from ..errors import DirectoryError
from ..interrupts import deferred_interrupts
from ..progress import AbstractProgress, warn
from ..schema import Experiment, SweepExperiment
from ..share import AbstractShare, earlier_store
from ..status import FINISHED, INCOMPLETE, is_complete
from ..store import RESULTS, Store, load
from ..summary import SWEEP
from .batch import Batch, batches
from .cells import cells_of_run, failed_cells
from .gather import gather
from .grid import Point
from .workers import Workers, run_points


class SweepShare(AbstractShare):
    """One process's share of a sweep.

    Args:
        path: the run directory, prepared.
        config: the sweep.
        points: its runs.
        workers: where those are run that share no program.
    """

    unit = "runs"

    def __init__(
        self,
        path: Path,
        config: SweepExperiment,
        points: list[Point],
        workers: Workers,
    ):
        self._path, self._config = path, config
        self._points, self._workers = points, workers
        self._batches, self._alone = batches(points, config.sweep.series)
        self._failures: dict[int, str] = {}

    @property
    def attributes(self) -> dict[str, Any]:
        """What is swept, and which quantity is looked at."""
        axes = zip(self._config.sweep.names, self._config.sweep.over, strict=True)
        labels = {
            point.config.optimizer.critical_label
            for point in self._points
            if isinstance(point.config, Experiment)
        }
        return {
            "critical_label": labels.pop() if len(labels) == 1 else "of each optimizer",
            "kind": "sweep",
            "axes": self._config.sweep.names,
            "keys": [axis.key for _, axis in axes],
            "spacings": [axis.spacing for axis in self._config.sweep.over],
            "quantity": self._config.sweep.quantity,
            "batches": len(self._batches),
            "runs_in_batches": sum(len(batch.points) for batch in self._batches),
        }

    @property
    def length(self) -> int:
        """The number of runs."""
        return len(self._points)

    def done(self, store: Store) -> int:
        """How many runs have ended, or failed."""
        together = sum(len(batch.points) for batch in self._batches if self._is_done(store, batch))
        alone = sum(self._has_ended(point) for point in self._alone)
        return together + alone + len(self._failures)

    def place(self, store: Store) -> str:
        """After how many runs."""
        return f"after {self.done(store)} of {self.length} runs"

    def restore(self) -> Store | None:
        """Open the store of the batches that are done, if there is one."""
        return earlier_store(self._path)

    def compute(self, store: Store, bar: AbstractProgress) -> None:
        """Run what has not ended: the batches first, then each of the others by itself.

        Raises:
            KeyboardInterrupt: in a batch, which is then lost, or in runs, which go on where they
                were last written.
        """
        for batch in self._batches:
            if self._is_done(store, batch):
                continue
            bar.working_on(f"{len(batch.points)} runs in one program")
            cells = batch.compute()
            with deferred_interrupts():
                store.write(batch.name, cells)
                # Only now does it count: a crash may have come in the middle.
                store.synchronise()
                store.update(batch.name, {"complete": True})
            bar.reached(self.done(store))
        left = [point for point in self._alone if not self._has_ended(point)]
        done = self.done(store)
        bar.working_on("runs")
        for outcome in run_points(left, self._path / RUNS, self._workers):
            if outcome.message:
                self._failures[outcome.number] = outcome.message
            done += 1
            bar.reached(done)

    def keep(self, store: Store) -> None:
        """Gather the runs that have ended, so that they can be looked at."""
        self._gather(store)

    def conclude(self, store: Store) -> tuple[str, str]:
        """Gather all runs."""
        self._gather(store)
        if self._failures:
            # The batches are kept: what failed is run again on --resume, they are not.
            number, reason = min(self._failures.items())
            some = f"{len(self._failures)} of {self.length} runs failed"
            return INCOMPLETE, f"{some}; run {number}: {reason}"
        for batch in self._batches:
            store.delete(batch.name)
        return FINISHED, ""

    def _gather(self, store: Store) -> None:
        cells = []
        tree = load(self._path)
        for batch in self._batches:
            if self._is_done(store, batch):
                cells.append(tree[batch.name].to_dataset())
        for point in self._alone:
            if point.number in self._failures:
                cells.append(failed_cells(point.number, self._failures[point.number]))
            elif self._has_ended(point):
                run = load(self._path / RUNS / point.label)
                cells.append(cells_of_run(run, point.number, self._config.sweep.series))
        store.write(SWEEP, gather(self._config, cells))

    def _is_done(self, store: Store, batch: Batch) -> bool:
        return bool(store.attributes_of(batch.name).get("complete"))

    def _has_ended(self, point: Point) -> bool:
        results = self._path / RUNS / point.label / RESULTS
        if not results.exists():
            return False
        try:
            return is_complete(Store.open(results))
        except DirectoryError as error:
            warn(f"{error}; it is run again")
            return False
