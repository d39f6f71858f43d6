"""Runs in processes of their own, through dask.distributed."""

import logging
import threading
import tomllib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..config.loader import to_toml, validate_run
from ..runs.runner import run
from ..system.errors import DamagedError, UserError
from ..system.progress import warn
from ..tables.plugins import after_importing, imported_files
from .grid import Point

# A worker of dask may have several threads, but what a run does to its process is the process's:
# while a trajectory is advanced, Python's warnings are caught. JAX uses all cores for one run.
_ONE_RUN = threading.Lock()


class Outcome(NamedTuple):
    """How a run ended: `message` is why it could not be run; empty if its results are there."""

    number: int
    message: str


class Task(NamedTuple):
    """A run that a worker is to bring to its end.

    Attributes:
        number: of the run in its sweep.
        config: as TOML.
        directory: the run directory.
        anew: begin anew what is there; else go on with it, if that is possible.
    """

    number: int
    config: str
    directory: str
    anew: bool = False


class Workers(NamedTuple):
    """Where runs that share no program are run.

    Attributes:
        processes: of a local cluster; 1 for this process, without a cluster.
        scheduler: the address of a dask scheduler to use instead; empty for none.
    """

    processes: int = 1
    scheduler: str = ""


def run_points(
    points: Sequence[Point], folder: Path, workers: Workers, anew: Collection[int] = ()
) -> Iterator[Outcome]:
    """Run each point in its own run directory, and go on with those that were begun.

    Args:
        points: the runs.
        folder: holds the run directories; an existing scheduler's workers must see it too.
        workers: where they are run.
        anew: the numbers of those that are begun anew, whatever is there.

    Yields:
        How each ended, as they end.

    Raises:
        UserError: if the scheduler cannot be reached.
    """
    tasks = [
        Task(
            point.number,
            to_toml(point.config),
            str((folder / point.label).resolve()),
            point.number in anew,
        )
        for point in points
    ]
    if not tasks:
        return
    count = min(workers.processes, len(tasks))
    if not workers.scheduler and count <= 1:
        for task in tasks:
            yield run_task(task)
        return
    yield from _run_distributed(tasks, count, workers.scheduler)


def run_task(task: Task) -> Outcome:
    """Run one point to its end: what a worker does.

    Args:
        task: the run.

    Returns:
        How it ended; every failure is a message, for one run's failure must not end the others.
    """
    try:
        with _ONE_RUN:
            try:
                _run(task)
            except DamagedError as error:
                if task.anew:
                    raise
                warn(f"run {task.number} is begun anew: {error}")
                _run(task._replace(anew=True))
    except Exception as error:
        # Whatever it is, it is this run's alone.
        return Outcome(task.number, reason(error))
    return Outcome(task.number, "")


def _run(task: Task) -> None:
    config = validate_run(tomllib.loads(task.config))
    resume = not task.anew
    run(config, task.directory, overwrite=task.anew, resume=resume, draw=False, progress=False)


def reason(error: BaseException) -> str:
    """Why a run failed: a sentence that is meant for the user, or what was raised."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def _run_distributed(tasks: Sequence[Task], count: int, scheduler: str) -> Iterator[Outcome]:
    # Takes a second to import, which a sweep in one program need not wait for.
    from distributed import as_completed

    with _client(count, scheduler) as client:
        first = (after_importing, imported_files(), run_task)
        futures = {client.submit(*first, task, pure=False): task for task in tasks}
        for future in as_completed(futures):
            error = future.exception()
            # A worker that dies, of memory perhaps, takes no other run with it.
            yield (
                future.result() if error is None else Outcome(futures[future].number, reason(error))
            )
            future.release()


def _client(count: int, scheduler: str) -> Any:
    from distributed import Client, LocalCluster

    if not scheduler:
        # JAX manages its own memory: dask's limit would stop workers that do well.
        cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,  # pyright: ignore[reportArgumentType]
            silence_logs=logging.ERROR,
        )
        return _Owning(cluster, Client(cluster))
    try:
        return Client(scheduler, timeout=10)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"--scheduler {scheduler}: no dask scheduler answers there ({error}); expected its "
            "address, as in tcp://192.168.0.1:8786"
        ) from error


class _Owning:
    """A client that closes its cluster too."""

    def __init__(self, cluster: Any, client: Any):
        self._cluster, self._client = cluster, client

    def __enter__(self) -> Any:
        return self._client

    def __exit__(self, *details: Any) -> None:
        self._client.close()
        self._cluster.close()
