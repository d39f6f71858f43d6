"""Run a sweep."""

from pathlib import Path

from ..run_directory.directory import claimed, prepare, writing
from ..runs.session import Result, Session
from ..system.memory import enough_memory
from ..tables import Experiment, StudyExperiment, SweepExperiment
from .grid import points
from .task import SweepTask
from .workers import Workers


def run_sweep(
    config: SweepExperiment,
    directory: str | Path | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    draw: bool = True,
    progress: bool = True,
    workers: int = 1,
    scheduler: str = "",
) -> Result:
    """Run all runs of a sweep, and gather what they give in one dataset.

    Toy runs whose configs differ in numbers alone go through one vmapped program. Every other run
    has a run directory of its own, in `runs/`, and runs in one of several processes; so have those
    of a program that fails. A run that fails, or whose results turn out to be damaged, is recorded
    and does not end the sweep.

    Args:
        config: the sweep, from `load_sweep`.
        directory: where to; by default the sweep's name in `runs/`, which for an experiment that
            was swept with axes given to `load_sweep` is the experiment's name and `-sweep`.
        overwrite: replace an earlier sweep that is there.
        resume: go on with an earlier sweep of the same config that is there: runs that ended are
            not run again, those that failed are, and those whose results are damaged are begun
            anew; begin if there is none.
        draw: draw the sweep's figures at the end.
        progress: show a progress bar over the runs on stderr, if that is a terminal.
        workers: processes of a local dask cluster; 1 for this process alone.
        scheduler: the address of a dask scheduler to use instead, whose workers see `directory`.

    Returns:
        How it ended: "finished", or "incomplete" if a run failed; `tree()["sweep"]` is the dataset.

    Raises:
        ConfigError: if a run cannot be run; the message says which.
        DirectoryError: if the directory cannot be used or written.
        UserError: if no scheduler answers at that address.
        ValueError: if `config` is no sweep, or there are no workers.
        KeyboardInterrupt: on Ctrl-C, after the runs that had ended were gathered.
    """
    if not isinstance(config, SweepExperiment):
        known = isinstance(config, Experiment | StudyExperiment)
        given = f"{config.name!r}, of one run: give it to run" if known else repr(config)
        raise ValueError(
            'config must be a sweep, as load_sweep("valley", over=("seed=0:4",)) reads it; got '
            f"{given}."
        )
    if workers < 1:
        raise ValueError(f"workers must be at least 1; got {workers}.")
    path = Path(directory) if directory is not None else Path("runs") / config.name
    with enough_memory(config.name, "sweep"):
        # Built first: what cannot be built leaves no trace in the directory, and deletes nothing.
        share = SweepTask(path, config, points(config), Workers(workers, scheduler))
        with claimed(path):
            there = prepare(path, config, overwrite=overwrite, resume=resume)
            with writing(path):
                return Session(path, config, share, there).run(draw=draw, progress=progress)
