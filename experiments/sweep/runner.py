"""Run a sweep."""

from pathlib import Path

from ..run_directory.directory import path_of
from ..runs.session import Result, carry_out
from ..studies import StudyExperiment
from ..tables import Experiment, SweepExperiment
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

    Toy runs whose configs differ only in numbers go through one vmapped program. Every other run
    has a run directory of its own, in `runs/`, and runs in one of several processes; so do the
    runs of a program that fails. A run that fails, or whose results turn out to be damaged, is
    recorded and does not end the sweep.

    Args:
        config: the sweep, from `load_sweep`.
        directory: where to; by default the sweep's name in `runs/`, which for an experiment that
            was swept with axes given to `load_sweep` is the experiment's name and `-sweep`.
        overwrite: replace an earlier sweep that is there.
        resume: go on with an earlier sweep of the same config that is there: runs that ended are
            not run again, those that failed are, and those whose results are damaged start from
            scratch; begin if there is none.
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

    Example:
        >>> import tempfile
        >>> from experiments import load_sweep, run_sweep
        >>> over = ("potential.curvature=1.0,2.5", "optimizer.learning_rate=1.0,2.0")
        >>> config = load_sweep("phase-diagram", over=over)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     grid = run_sweep(config, folder, draw=False, progress=False).tree()["sweep"]
        >>> grid["outcome"].values.tolist()
        [['converged', 'two-cycle'], ['two-cycle', 'diverged']]
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
    path = path_of(config, directory)
    return carry_out(
        path,
        config,
        lambda: SweepTask(path, config, points(config), Workers(workers, scheduler)),
        "sweep",
        overwrite=overwrite,
        resume=resume,
        draw=draw,
        progress=progress,
    )
