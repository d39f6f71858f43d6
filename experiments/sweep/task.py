"""The task of a sweep: runs that go through one program, runs by themselves, and the grid."""

from pathlib import Path
from typing import Any

import xarray as xr

from flows.runs.progress import ProgressBar

from ..report.summary import SWEEP
from ..run_directory.checkpoint import FINGERPRINT, fingerprint
from ..run_directory.directory import CHECKPOINT, RUNS, written_by
from ..runs.task import AbstractTask, earlier_store
from ..store.status import ENDED, FINISHED, INCOMPLETE, is_complete
from ..store.store import RESULTS_FOLDER, Store, load
from ..system.errors import DamagedError, DirectoryError
from ..system.interrupts import deferred_interrupts
from ..system.warning import warn
from ..tables import Experiment, SweepExperiment
from ..tables.optimizers import critical_formula
from .batch import Batch, batches
from .cells import cells_of_run, failed_cells
from .gather import gather
from .grid import Point
from .workers import Workers, reason, run_points


class SweepTask(AbstractTask):
    """The runs of a sweep that have not ended, and their results on a grid.

    A failure concerns one run only: a batch that cannot be computed is taken apart, and its runs
    are run by themselves; a run whose results cannot be read starts from scratch.

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
        # What is known so far: cells of batches and of runs, why runs could not be run, and why the
        # results of runs cannot be read.
        self._of_batches: dict[str, xr.Dataset] = {}
        self._of_runs: dict[int, xr.Dataset] = {}
        self._failures: dict[int, str] = {}
        self._unreadable: dict[int, str] = {}

    @property
    def attributes(self) -> dict[str, Any]:
        """The axes, and the quantity that the figure of the sweep draws."""
        axes = zip(self._config.sweep.names, self._config.sweep.over, strict=True)
        tables = [p.config.optimizer for p in self._points if isinstance(p.config, Experiment)]
        labels = {critical_formula(table) for table in tables}
        variables = {table.critical_variable for table in tables}
        return {
            "critical_label": labels.pop() if len(labels) == 1 else "of each optimizer",
            "critical_variable": variables.pop() if len(variables) == 1 else "",
            "kind": "sweep",
            "axes": self._config.sweep.names,
            "keys": [axis.key for _, axis in axes],
            "spacings": [axis.spacing for axis in self._config.sweep.over],
            "quantity": self._config.sweep.quantity,
            **self._counts,
        }

    @property
    def _counts(self) -> dict[str, int]:
        together = sum(len(batch.points) for batch in self._batches)
        return {"batches": len(self._batches), "runs_in_batches": together}

    @property
    def length(self) -> int:
        """The number of runs."""
        return len(self._points)

    def done(self, store: Store) -> int:
        """How many runs have ended or failed."""
        del store
        together = sum(len(b.points) for b in self._batches if b.name in self._of_batches)
        return together + len(self._of_runs) + len(self._failures)

    def place(self, store: Store) -> str:
        """After how many runs."""
        return f"after {self.done(store)} of {self.length} runs"

    def restore(self) -> Store | None:
        """Read what has ended, and open the store of the batches.

        Returns:
            The store; None if there is none or it is damaged, so that the batches are run again.
        """
        try:
            store = earlier_store(self._path)
            if store is not None and is_complete(store) and SWEEP not in load(self._path):
                raise DirectoryError(f"{self._path}: the results have no group {SWEEP!r}")
        except DirectoryError as error:
            warn(f"{error}; what ran in one program is run again")
            store = None
        if store is not None and is_complete(store):
            return store
        if store is not None:
            self._read_batches(store)
        runs = self._path / RUNS
        begun = {entry.name for entry in runs.iterdir()} if runs.is_dir() else set()
        for batch in list(self._batches):
            # Its runs were begun by themselves: it could not be computed.
            if not begun.isdisjoint(point.label for point in batch.points):
                self._take_apart(batch)
        for point in self._alone:
            self._read(point)
        return store

    def compute(self, store: Store, bar: ProgressBar) -> None:
        """Run what has not ended: the batches first, then each of the others by itself.

        Raises:
            KeyboardInterrupt: in a batch, which is then lost, or in a run, which goes on from its
                last checkpoint.
        """
        for batch in list(self._batches):
            if batch.name not in self._of_batches:
                self._compute_batch(batch, store, bar)
        left = [point for point in self._alone if point.number not in self._of_runs]
        by_number = {point.number: point for point in left}
        bar.working_on("runs")
        unreadable = frozenset(self._unreadable)
        for outcome in run_points(left, self._path / RUNS, self._workers, unreadable):
            self._unreadable.pop(outcome.number, None)
            if not outcome.message:
                self._read(by_number[outcome.number])
            message = outcome.message or self._unreadable.get(outcome.number)
            if message:
                self._failures[outcome.number] = message
            bar.reached(self.done(store))

    def _compute_batch(self, batch: Batch, store: Store, bar: ProgressBar) -> None:
        """Compute and store a batch; take it apart if that is not possible."""
        bar.working_on(f"{len(batch.points)} runs in one program")
        try:
            cells = batch.compute()
        except Exception as error:
            # It may be one run's fault, or too many runs at once.
            why = reason(error).partition("\n")[0]
            warn(f"{len(batch.points)} runs failed in one program ({why}); each is run by itself")
            self._take_apart(batch)
            store.update("", self._counts)
            return
        with deferred_interrupts():
            store.complete(batch.name, cells)
            self._of_batches[batch.name] = cells
        bar.reached(self.done(store))

    def keep(self, store: Store) -> None:
        """Gather the runs that have ended, for `eosflows show`."""
        self._gather(store)

    def conclude(self, store: Store) -> tuple[str, str]:
        """Gather all runs."""
        self._gather(store)
        if self._failures:
            # The batches are kept: --resume runs what failed again, and not the batches.
            number, why = min(self._failures.items())
            some = f"{len(self._failures)} of {self.length} runs failed"
            return INCOMPLETE, f"{some}; run {number}: {why}"
        for batch in self._batches:
            store.delete(batch.name)
        return FINISHED, ""

    def _gather(self, store: Store) -> None:
        cells = [self._of_batches[b.name] for b in self._batches if b.name in self._of_batches]
        for point in self._alone:
            # After an interrupt, other processes may have brought some to their end.
            self._read(point)
            why = self._failures.get(point.number) or self._unreadable.get(point.number)
            if why:
                cells.append(failed_cells(point.number, why))
            elif point.number in self._of_runs:
                cells.append(self._of_runs[point.number])
        store.write(SWEEP, gather(self._config, cells))

    def _take_apart(self, batch: Batch) -> None:
        self._batches.remove(batch)
        self._alone = sorted([*self._alone, *batch.points], key=lambda point: point.number)

    def _read_batches(self, store: Store) -> None:
        """Read the cells of the batches that are done; all are run again if they are damaged."""
        done = [batch for batch in self._batches if store.has_complete(batch.name)]
        if not done:
            return
        try:
            tree = load(self._path)
        except DirectoryError as error:
            warn(f"{error}; what ran in one program is run again")
            return
        for batch in done:
            data = tree[batch.name].to_dataset()
            if set(data.dims) <= set(data.coords):
                self._of_batches[batch.name] = data
            else:
                warn(f"{self._path}: {batch.name} lost coordinates; its runs are run again")

    def _read(self, point: Point) -> None:
        """Read the cells of a run that has ended, or note why its results cannot be used."""
        known = (self._of_runs, self._failures, self._unreadable)
        folder = self._folder(point)
        begun = (folder / RESULTS_FOLDER).exists() or (folder / CHECKPOINT).exists()
        if not begun or any(point.number in one for one in known):
            return
        try:
            tree = load(folder)
            expected = fingerprint(point.config)
            if tree.attrs.get(FINGERPRINT, expected) != expected:
                by = written_by(folder)
                raise DamagedError(f"{folder}: the results are those of another config ({by})")
            if tree.attrs["status"] in ENDED:
                cells = cells_of_run(tree, point, self._config.sweep.series)
                self._of_runs[point.number] = cells
        except Exception as error:
            # Whatever is wrong with them concerns this run only.
            why = reason(error).partition("\n")[0]
            self._unreadable[point.number] = why
            warn(f"run {point.number}: {why}; it is to be run again")

    def _folder(self, point: Point) -> Path:
        return self._path / RUNS / point.label
