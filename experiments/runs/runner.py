"""Run an experiment or a study."""

from collections.abc import Sequence
from pathlib import Path

from ..config.build import build, build_study, precision
from ..config.loader import load_config, override, read_tables, validate_run
from ..config.schema import RunConfig
from ..run_directory.directory import CONFIG, continued, path_of
from ..studies import StudyExperiment
from ..system.errors import ConfigError, DirectoryError
from ..tables import Experiment, SweepExperiment
from .experiment_task import ExperimentTask
from .session import Result, carry_out
from .study_task import StudyTask
from .task import AbstractTask


def run(
    config: RunConfig,
    directory: str | Path | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    draw: bool = True,
    progress: bool = True,
) -> Result:
    """Run an experiment or a study, and store what it gives.

    JAX's precision is set to the config's for the time of the run, and restored.

    Args:
        config: the experiment or study, from `load_run_config`.
        directory: the run directory; by default the experiment's name in `runs/`.
        overwrite: replace an earlier run that is there.
        resume: go on with an earlier run of the same config that is there, from its last
            checkpoint; begin if there is none. The results equal those of an uninterrupted run.
            With more `steps` than before, a finished run goes on too.
        draw: draw the config's figures at the end.
        progress: show a progress bar on stderr, if that is a terminal.

    Returns:
        How it ended. A trajectory that diverges stops, keeps its rows and does not stop the others.

    Raises:
        ConfigError: if data are missing or values do not fit together.
        DirectoryError: if the directory cannot be used or written.
        ValueError: if `config` is neither an experiment nor a study.
        KeyboardInterrupt: on Ctrl-C, after a checkpoint was written.

    Example:
        >>> import tempfile
        >>> from experiments import load_run_config, run
        >>> changes = "steps=4", "flows=[]", "figures=[]"
        >>> config = load_run_config("quartic-descent", changes)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = run(config, folder, progress=False)
        ...     loss = result.tree()["discrete"]["loss"]
        >>> result.status, loss.sizes["step"]
        ('finished', 5)
    """
    if not isinstance(config, Experiment | StudyExperiment):
        sweep = isinstance(config, SweepExperiment)
        given = f"{config.name!r}, a sweep: give it to run_sweep" if sweep else repr(config)
        raise ValueError(
            'config must be an experiment or a study, as load_run_config("valley") reads it; got '
            f"{given}."
        )
    path = path_of(config, directory)
    if isinstance(config, Experiment):
        _check_apart(path, config)
    config = continued(path, config) if resume else config
    with precision(config.precision):
        return carry_out(
            path,
            config,
            lambda: _task(path, config),
            "study" if isinstance(config, StudyExperiment) else "potential, curvature, flows",
            overwrite=overwrite,
            resume=resume,
            draw=draw,
            progress=progress,
        )


def branch(
    origin: str | Path,
    at: int,
    changes: Sequence[str] = (),
    directory: str | Path | None = None,
    *,
    overwrite: bool = False,
    draw: bool = True,
    progress: bool = True,
) -> Result:
    """Run on from a step of an earlier run, with other hyperparameters.

    The optimizer, with its momentum or its second moments, and all flows go on from their states at
    that step. A run keeps its last two states only: the others are computed again from the run's
    start, or from its last checkpoint before the step, which gives the same numbers. The results
    begin with the step itself. The new config has the table `[origin]`, the results have the
    attributes `origin`, `origin_step` and `origin_changes`; `run` goes on with a branch as with any
    run, and then needs the earlier one no more.

    Args:
        origin: the run directory of the earlier run, whole or partial.
        at: the step, at which the earlier run was saved.
        changes: assignments `"optimizer.learning_rate=0.1"` to its config, as for `load_config`.
            Precision, seed, measurements and the kinds of optimizer and flows stay; flows may be
            left out.
        directory: the new run directory; by default `runs/NAME-at-STEP`.
        overwrite: as for `run`.
        draw: as for `run`.
        progress: as for `run`.

    Returns:
        How the new run ended.

    Raises:
        ConfigError: if there is no such run or step, or its states do not fit the changed config.
        DirectoryError: if a directory cannot be used.

    Example:
        >>> import tempfile
        >>> from experiments import branch, load_run_config, run
        >>> config = load_run_config("quartic-descent", ("steps=6", "flows=[]", "figures=[]"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = run(config, f"{folder}/first", progress=False)
        ...     changes = ["optimizer.learning_rate=0.01", "steps=8"]
        ...     result = branch(f"{folder}/first", 4, changes, f"{folder}/second", progress=False)
        ...     tree = result.tree()
        >>> tree["discrete"]["step"].values.tolist(), tree.attrs["origin_step"]
        ([4, 5, 6, 7, 8], 4)
    """
    origin = Path(origin).absolute()
    source, data = read_tables(origin / CONFIG)
    # A branch of its own: without what the earlier run says of itself.
    data |= {"name": f"{data.get('name', origin.name)}-at-{at}"}
    data["origin"] = {"directory": str(origin), "step": at}
    for assignment in changes:
        override(data, assignment)
    config = validate_run(data, source)
    return run(config, directory, overwrite=overwrite, draw=draw, progress=progress)


def _check_apart(path: Path, config: Experiment) -> None:
    """Check that a branch does not replace what it goes on from.

    Raises:
        DirectoryError: if its directory is that of the earlier run or of one that this branched
            off, holds it or lies in it.
    """
    own, origin = path.resolve(), config.origin
    while origin is not None:
        earlier = Path(origin.directory).resolve()
        if own == earlier or own in earlier.parents or earlier in own.parents:
            raise DirectoryError(
                f"{path}: is, holds or lies in {earlier}, which the run goes on from; choose "
                "another folder (--out)"
            )
        try:
            before = load_config(earlier / CONFIG)
        except ConfigError:
            return  # What cannot be read is told when it is.
        origin = before.origin if isinstance(before, Experiment) else None


def _task(path: Path, config: RunConfig) -> AbstractTask:
    if isinstance(config, StudyExperiment):
        return StudyTask(path, config, build_study(config, config.name))
    return ExperimentTask(path, config, build(config, config.name))
