"""Runs in processes of their own, through dask.distributed."""

import contextlib
import logging
import threading
import tomllib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..config.loader import to_toml, validate_run
from ..runs.runner import run
from ..system.errors import DamagedError, UserError
from ..system.programs import make_room_for_programs
from ..system.warning import warn
from ..tables.plugins import after_importing, imported_files
from .grid import Point

if TYPE_CHECKING:
    from distributed import Client

# A worker of dask may have several threads, but a run changes the state of its whole process: while
# a trajectory is advanced, Python's warnings are caught. JAX uses all cores for one run anyway.
_ONE_RUN = threading.Lock()


class Outcome(NamedTuple):
    """How a run ended: `message` is why it could not be run; empty if its results are stored."""

    number: int
    message: str


class Job(NamedTuple):
    """A run as it is sent to a worker.

    Attributes:
        number: of the run in its sweep.
        config: as TOML.
        directory: the run directory.
        overwrite: replace what is there; else go on with it, if that is possible.
    """

    number: int
    config: str
    directory: str
    overwrite: bool = False


class Workers(NamedTuple):
    """Where runs that share no program are run.

    Attributes:
        processes: of a local cluster; 1 for this process, without a cluster.
        scheduler: the address of a dask scheduler to use instead; empty for none.
    """

    processes: int = 1
    scheduler: str = ""


def run_points(
    points: Sequence[Point], folder: Path, workers: Workers, overwrite: Collection[int] = ()
) -> Iterator[Outcome]:
    """Run each point in its own run directory, and go on with those that were begun.

    Args:
        points: the runs.
        folder: holds the run directories; an existing scheduler's workers must see it too.
        workers: where they are run.
        overwrite: the numbers of those that start from scratch, whatever is there.

    Yields:
        How each ended, as they end.

    Raises:
        UserError: if the scheduler cannot be reached.
    """
    jobs = [
        Job(
            point.number,
            to_toml(point.config),
            str((folder / point.label).resolve()),
            point.number in overwrite,
        )
        for point in points
    ]
    count = min(workers.processes, len(jobs))
    if jobs and (workers.scheduler or count > 1):
        yield from _run_distributed(jobs, count, workers.scheduler)
    else:
        yield from map(run_job, jobs)


def run_job(job: Job) -> Outcome:
    """Bring one run to its end, in the process of a worker.

    Args:
        job: the run.

    Returns:
        How it ended; every failure is a message, for one run's failure must not end the others.
    """
    try:
        with _ONE_RUN:
            make_room_for_programs()
            try:
                _run(job)
            except DamagedError as error:
                if job.overwrite:
                    raise
                warn(f"run {job.number} starts from scratch: {error}")
                _run(job._replace(overwrite=True))
    except Exception as error:
        # Whatever it is, it concerns this run only.
        return Outcome(job.number, reason(error))
    return Outcome(job.number, "")


def _run(job: Job) -> None:
    config = validate_run(tomllib.loads(job.config))
    how = {"overwrite": job.overwrite, "resume": not job.overwrite}
    run(config, job.directory, draw=False, progress=False, **how)


def reason(error: BaseException) -> str:
    """Why a run failed: a sentence that is meant for the user, or what was raised."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def _run_distributed(jobs: Sequence[Job], count: int, scheduler: str) -> Iterator[Outcome]:
    # Takes a second to import, which a sweep in one program need not wait for.
    from distributed import as_completed

    with _client(count, scheduler) as client:
        first = (after_importing, imported_files(), run_job)
        futures = {client.submit(*first, job, pure=False): job for job in jobs}
        for future in as_completed(futures):
            error = future.exception()
            # A worker that dies, of memory perhaps, takes no other run with it.
            yield (
                future.result() if error is None else Outcome(futures[future].number, reason(error))
            )
            future.release()


@contextlib.contextmanager
def _client(count: int, scheduler: str) -> "Iterator[Client]":
    from distributed import Client, LocalCluster

    if scheduler:
        try:
            connected = Client(scheduler, timeout=10)
        except (OSError, ValueError, TimeoutError) as error:
            raise UserError(
                f"--scheduler {scheduler}: no dask scheduler answers there ({error}); expected its "
                "address, as in tcp://192.168.0.1:8786"
            ) from error
        with connected as client:
            yield client
        return
    # JAX manages its own memory: dask's limit would stop workers that do well.
    local = LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        memory_limit=0,
        dashboard_address=None,  # pyright: ignore[reportArgumentType]
        silence_logs=logging.ERROR,
    )
    with local as cluster, Client(cluster) as client:
        yield client
