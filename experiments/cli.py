"""The command line, `eosflows list`, `eosflows run` and the others.

A command imports what it needs when it runs: `eosflows list` reads a few files of text, and has no
need of a numerical library.
"""

import difflib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts

from .system.compilation_cache import use_compilation_cache
from .system.errors import ConfigError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from .runs.session import Result

# An option without the `--no-...` that would turn it off.
Switch = Annotated[bool, cyclopts.Parameter(negative=())]
# An option that may be given several times, with values that may begin with a hyphen.
Words = Annotated[tuple[str, ...], cyclopts.Parameter(negative=(), allow_leading_hyphen=True)]
Files = Annotated[tuple[Path, ...], cyclopts.Parameter(name="--import", negative=())]

OK, FAILED, BAD_INPUT, DIVERGED, INTERRUPTED = 0, 1, 2, 3, 130


def _version() -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version("eosflows")
    except importlib.metadata.PackageNotFoundError:
        return "unknown (not installed)"


app = cyclopts.App(
    name="eosflows",
    help="Continuous-time models of large-step optimizers, run beside the optimizer they model.",
    version=_version,
    result_action="return_value",
    # `main` turns it into a message and the exit code.
    suppress_keyboard_interrupt=False,
)


@app.command(name="list")
def list_() -> int:
    """List the built-in experiments."""
    from .config.builtins import builtin_descriptions

    descriptions = builtin_descriptions()
    width = max(map(len, descriptions))
    for name, description in descriptions.items():
        print(f"{name:<{width}}  {description}")
    return OK


@app.command
def run(
    experiment: str,
    /,
    *,
    set_: Annotated[Words, cyclopts.Parameter(name="--set")] = (),
    out: Path | None = None,
    resume: Switch = False,
    overwrite: Switch = False,
    no_figures: Switch = False,
    import_: Files = (),
) -> int:
    """Run an experiment and its flows, store the results and draw the figures.

    Parameters
    ----------
    experiment
        A built-in experiment (see `eosflows list`), or the path of a TOML file.
    set_
        KEY=VALUE to change a key of the config, as in `--set optimizer.learning_rate=0.1` or
        `--set flows.0.label=slow`. May be given several times.
    out
        The run directory; by default the experiment's name in `runs/`.
    resume
        Go on with an earlier run of the same config in that directory.
    overwrite
        Replace an earlier run in that directory.
    no_figures
        Draw nothing; `eosflows figure` can do it later.
    import_
        A Python file that registers potentials, optimizers, flows, measurements or figures of its
        own (see `experiments.register_potential`). May be given several times. To go on with such a
        run takes the same files.
    """
    from .config.loader import load_run_config
    from .tables.plugins import importing

    with importing(import_):
        if resume:
            _check_imports(experiment, set_, out)
        try:
            config = load_run_config(experiment, set_)
        except ConfigError as error:
            if error.source != experiment:
                raise
            raise ConfigError(f"{experiment}{_version_of(experiment)}", error.problems) from error
        from .runs import runner

        try:
            result = runner.run(
                config, out, resume=resume, overwrite=overwrite, draw=not no_figures
            )
        except ConfigError as error:
            # What only building can find out is reported under the name that the user typed, too.
            raise ConfigError(experiment, error.problems) from error
    return OK if _is_whole(result, "what came before is in the store") else DIVERGED


@app.command
def branch(
    directory: Path,
    /,
    *,
    at: int,
    set_: Annotated[Words, cyclopts.Parameter(name="--set")] = (),
    out: Path | None = None,
    overwrite: Switch = False,
    no_figures: Switch = False,
    import_: Files = (),
) -> int:
    """Run on from a step of an earlier run with other hyperparameters, in a directory of its own.

    Parameters
    ----------
    directory
        The run directory of the earlier run.
    at
        The step from which on the run is another one; the earlier run must have saved it.
    set_
        KEY=VALUE to change a key of its config, as in `--set optimizer.learning_rate=0.1`.
    out
        The new run directory; by default the earlier one's name and the step, in `runs/`. To go on
        with it after an interrupt: `eosflows run OUT/config.toml --out OUT --resume`.
    overwrite
        Replace an earlier run in that directory.
    no_figures
        Draw nothing; `eosflows figure` can do it later.
    import_
        A Python file that registers kinds of its own, as for `eosflows run`.
    """
    from .runs import runner
    from .tables.plugins import importing

    with importing(import_):
        result = runner.branch(directory, at, set_, out, overwrite=overwrite, draw=not no_figures)
    return OK if _is_whole(result, "what came before is in the store") else DIVERGED


@app.command
def panel(
    *,
    set_: Annotated[Words, cyclopts.Parameter(name="--set")] = (),
    out: Path | None = None,
    resume: Switch = False,
    overwrite: Switch = False,
    no_figures: Switch = False,
) -> int:
    """Run every flow that models an optimizer on the same cases: `eosflows run panel`.

    Parameters
    ----------
    set_
        KEY=VALUE to change a key of the config: `--set study.cases=['valley','adam']` and
        `--set study.flows=['central','parity-2']` choose some of the matrix.
    out
        The run directory; by default `runs/panel`.
    resume
        Go on with an earlier run in that directory, with the first case that is missing.
    overwrite
        Replace an earlier run in that directory.
    no_figures
        Draw nothing; `eosflows figure` can do it later.
    """
    return run(
        "panel", set_=set_, out=out, resume=resume, overwrite=overwrite, no_figures=no_figures
    )


@app.command
def sweep(
    experiment: str,
    /,
    *,
    over: Words = (),
    set_: Annotated[Words, cyclopts.Parameter(name="--set")] = (),
    out: Path | None = None,
    resume: Switch = False,
    overwrite: Switch = False,
    no_figures: Switch = False,
    workers: Annotated[int, cyclopts.Parameter(validator=cyclopts.validators.Number(gte=1))] = 1,
    scheduler: str = "",
    import_: Files = (),
) -> int:
    """Run an experiment once for each combination of some keys' values, and gather the results.

    Exits with 0 if every run is done, with 1 if one failed; a run that diverged is done.

    Parameters
    ----------
    experiment
        A built-in experiment (see `eosflows list`), or the path of a TOML file.
    over
        KEY=VALUES: what to vary, as in `--over optimizer.learning_rate=0.01,0.02`,
        `--over seed=0:10` or `--over potential.curvature=linspace(0.5,5,10)`. May be given several
        times; in place of the axes in the config's own table `[sweep]`.
    set_
        KEY=VALUE to change a key of all runs.
    out
        The directory; by default the sweep's name in `runs/`: the config's, followed by `-sweep`
        if it has no table `[sweep]` of its own.
    resume
        Go on with an earlier sweep of the same config: runs that ended are not run again.
    overwrite
        Replace an earlier sweep in that directory.
    no_figures
        Draw nothing; `eosflows figure` can do it later.
    workers
        How many processes share the runs that do not go through one program.
    scheduler
        The address of a dask scheduler whose workers run them, in place of processes of this
        machine.
    import_
        A Python file that registers kinds of its own, as for `eosflows run`; the workers import it
        as well.
    """
    from .sweep.grid import load_sweep
    from .tables.plugins import importing

    with importing(import_):
        config = load_sweep(experiment, set_, over)
        from .sweep import run_sweep

        result = run_sweep(
            config,
            out,
            resume=resume,
            overwrite=overwrite,
            draw=not no_figures,
            workers=workers,
            scheduler=scheduler,
        )
    return OK if _is_whole(result, "run these again with --resume") else FAILED


@app.command
def show(directory: Path, /) -> int:
    """Show the summary table of a finished or partial run.

    Parameters
    ----------
    directory
        The run directory.
    """
    _show(directory)
    return OK


@app.command
def figure(
    directory: Path,
    /,
    *names: str,
    out: Path | None = None,
    animate: Switch = False,
    film: Literal["gif", "mp4"] = "gif",
    import_: Files = (),
) -> int:
    """Draw figures from the store, without simulating; of several runs in one.

    Parameters
    ----------
    directory
        The run directory.
    names
        Of the figures; by default those of the run's config. A word that names no figure is a
        further run directory: all are drawn together, by default as an overview.
    out
        The folder for a figure of several runs; by default `figures` of the first.
    animate
        Draw `paths` as a film, which shows the iterates bouncing across the valley.
    film
        `gif`, or `mp4` where ffmpeg is installed.
    import_
        A Python file that registers figures of its own, as for `eosflows run`.
    """
    from figures import known

    from .config.loader import wanted_figures
    from .report.drawing import draw_figures
    from .run_directory.directory import CONFIG, FIGURES
    from .tables.plugins import importing

    with importing(import_):
        others = [Path(word) for word in names if word not in known() and Path(word).is_dir()]
        unknown = [word for word in names if word not in known() and not Path(word).is_dir()]
        if unknown:
            close = difflib.get_close_matches(unknown[0], known(), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"no figure {unknown[0]!r}{hint} (there are {', '.join(known())})")
        if not directory.exists():
            raise UserError(f"{directory}: no such run directory")
        if others:
            wanted = tuple(word for word in names if word in known()) or ("overview",)
            return _draw_together([directory, *others], wanted, out, film if animate else "")
        if out is not None:
            raise UserError("--out is for a figure of several runs; those of one are in its folder")
        if animate:
            return _draw_together([directory], names or ("paths",), None, film)
        wanted = names or wanted_figures(directory / CONFIG)
        if not wanted:
            every = ", ".join(known())
            raise UserError(f"{directory}: its config asks for no figure; name some of {every}")
        problems = draw_figures(directory, wanted)
    for problem in problems:
        _complain(problem)
    if len(problems) < len(wanted):
        _say_where("figures", directory / FIGURES)
    return BAD_INPUT if problems else OK


def _draw_together(
    directories: list[Path], names: Sequence[str], out: Path | None, film: str = ""
) -> int:
    from .report.drawing import draw_several

    try:
        for path in draw_several(directories, names, out, film):
            _say_where("film" if film else "figure", path)
    except ValueError as error:
        _complain(str(error))
        return BAD_INPUT
    return OK


@app.command
def export(
    directory: Path,
    /,
    *,
    to: Literal["netcdf", "csv", "trackio", "wandb"],
    out: Path | None = None,
    overwrite: Switch = False,
    project: str = "eosflows",
) -> int:
    """Write the results of a finished or partial run in a format that other programs read.

    Parameters
    ----------
    directory
        The run directory.
    to
        `netcdf` is one file of the whole tree, `csv` a folder with a table for each group;
        `trackio` and `wandb` log each trajectory as a run of that tracker, if it is installed.
    out
        The file or folder; by default `results.nc` or `results-csv` in the run directory.
    overwrite
        Replace an earlier export there.
    project
        The project in the tracker.
    """
    from .report.exports import export

    if to in ("trackio", "wandb"):
        from .report.trackers import export_to_tracker

        if out is not None or overwrite:
            raise UserError(f"--out and --overwrite are for files; {to} has runs of its own")
        for name in export_to_tracker(directory, to, project=project):
            print(f"logged {name} in project {project} of {to}")
        return OK

    _say_where("results", export(directory, to, out, overwrite=overwrite))
    return OK


@app.command
def report(directory: Path, /, *, out: Path | None = None, overwrite: Switch = False) -> int:
    """Write a run or a sweep as one HTML file with figures to zoom, read and filter.

    Parameters
    ----------
    directory
        The run directory.
    out
        The file; by default `report.html` in the run directory.
    overwrite
        Replace a file that is there.
    """
    from .report.html import write_report

    _say_where("report", write_report(directory, out, overwrite=overwrite))
    return OK


@app.command
def validate(*, json: Path | None = None) -> int:
    """Measure thresholds, two-cycles and the edge of stability, and compare them with theory.

    Exits with 0 if every check passes, else with 1.

    Parameters
    ----------
    json
        A file to write the table to as well, a list of records: paper, equation, measured,
        predicted, relative error, tolerance and status of each check.
    """
    from rich.console import Console
    from rich.text import Text

    from . import validation

    if json is not None and (json.is_dir() or not json.absolute().parent.is_dir()):
        raise UserError(f"{json}: must be a file in a folder that exists")
    outcomes = []
    waiting = Console(stderr=True)
    for name, check in validation.CHECKS.items():
        with waiting.status(Text(name)):
            outcomes.append(validation.run_check(check))
    _out().print(validation.table(outcomes))
    if json is not None:
        _write_json(json, validation.records(outcomes))
    failed = sum(not outcome.passed for outcome in outcomes)
    if failed:
        _complain(f"{failed} of {len(outcomes)} checks failed")
    return FAILED if failed else OK


def _write_json(path: Path, content: object) -> None:
    import json

    try:
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after `eosflows`; by default those of the process.

    Returns:
        The exit code: 0 done, 1 a check or a run of a sweep failed, 2 bad config or usage, 3
        diverged, 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _note
        use_compilation_cache()
        return _call(words)


def _call(words: list[str]) -> int:
    try:
        code = app(words, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        _complain(f"{error}\nSee eosflows --help.")
        return BAD_INPUT
    except UserError as error:
        _complain(f"error: {error}")
        return BAD_INPUT
    except OSError as error:
        _complain(f"error: {error.filename or 'the file system'}: {error.strerror or error}")
        return BAD_INPUT
    except KeyboardInterrupt:
        _complain("interrupted; what was computed is kept, go on with --resume")
        return INTERRUPTED
    return code if isinstance(code, int) else OK


def _check_imports(experiment: str, overrides: tuple[str, ...], out: Path | None) -> None:
    """Say what a run was started with before its config is found to name unknown kinds."""
    from .config.loader import read_tables
    from .run_directory.directory import read_environment
    from .tables.plugins import check_same

    _, data = read_tables(experiment, overrides)
    path = out if out is not None else Path("runs") / str(data.get("name"))
    check_same(read_environment(path).get("imports"), data, path)


def _version_of(experiment: str) -> str:
    """For a config in a run directory, which version wrote it, in brackets."""
    path = Path(experiment)
    if path.name != "config.toml" or not (path.parent / "environment.json").exists():
        return ""
    from .run_directory.directory import written_by

    return f" ({written_by(path.parent)})"


def _is_whole(result: "Result", otherwise: str) -> bool:
    """Show what a run or a sweep left, and return True if it finished."""
    from .store.status import FINISHED

    _show(result.directory)
    _say_where("results", result.directory)
    if result.status != FINISHED:
        _complain(f"{result.status}: {result.message}; {otherwise}")
    return result.status == FINISHED


def _say_where(what: str, path: Path) -> None:
    _out().print(f"{what} in {path}", highlight=False, soft_wrap=True, markup=False)


def _show(directory: Path) -> None:
    from .report import summary
    from .store import store

    tree = store.load(directory, params=False)
    _out().print(summary.table(tree))
    if summary.MATRIX in tree.children:
        _out().print(summary.matrix(tree))


def _out() -> "Console":
    from rich.console import Console

    # A new one each time, since callers replace sys.stdout. A pipe has no width to fit into.
    return Console(width=None if sys.stdout.isatty() else 120)


def _note(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
    """Show a library's warning as one line of ours, without the source line that it comes from."""
    del where, options
    from .system.warning import warn

    warn(f"{' '.join(str(message).split())} ({category.__name__})")


def _complain(message: str) -> None:
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True)
    console.print(message, markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
