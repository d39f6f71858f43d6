"""The command line: exit codes, and messages instead of tracebacks."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import xarray as xr

from experiments import DirectoryError, builtin_names
from experiments.cli import main
from experiments.runs.tracks import Tracks
from experiments.store.store import RESULTS_FOLDER, Store
from tests.experiments.configs import DIVERGING, NETWORK, VALLEY, write

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Call the command line in this process: exit code, stdout, stderr."""

    def calling(*words: str | Path) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return calling


@pytest.fixture
def valley(tmp_path: Path) -> Path:
    """The file of a small experiment, with a figure."""
    return write(tmp_path / "mine.toml", tomli_w.dumps({**VALLEY, "figures": ["loss"]}))


def subprocess_call(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Call the command line as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "experiments", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=120, check=False
    )


def test_list_names_every_built_in(call: Any) -> None:
    """With its description."""
    code, out, _ = call("list")
    assert code == 0
    for name in builtin_names():
        assert name in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["~nobody-of-this-name/x.toml"],
        ["digits-mlp", "--set", "potential.data={kind='npz', path='~nobody-of-this-name/x.npz'}"],
    ],
)
def test_the_home_folder_of_nobody_is_told(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As a shell leaves it where it knows no such user."""
    assert main(["run", *arguments]) == 2
    assert "there is no home folder of that user" in " ".join(capsys.readouterr().err.split())


def test_run_show_and_figure_work_on_one_directory(call: Any, valley: Path, tmp_path: Path) -> None:
    """A run ends with a table and a picture; both can be had again from the store alone."""
    code, out, _ = call("run", valley, "--out", tmp_path / "run", "--set", "steps=8")
    assert code == 0
    assert "gradient_flow" in out
    assert "tiny-valley: finished, 2/eta = 6.6667" in out
    picture = tmp_path / "run" / "figures" / "loss.png"
    assert picture.read_bytes().startswith(b"\x89PNG")

    code, out, _ = call("show", tmp_path / "run")
    assert code == 0
    assert "tracking" in out
    # A Hessian-vector product counts as two of them, so that they are no number of evaluations.
    assert "equivalents" in out

    picture.unlink()
    assert call("figure", tmp_path / "run")[0] == 0
    assert picture.exists()
    assert call("figure", tmp_path / "run", "distance", "paths")[0] == 0
    assert (tmp_path / "run" / "figures" / "paths.png").exists()


def test_no_figures_draws_nothing(call: Any, valley: Path, tmp_path: Path) -> None:
    """The folder is not even made."""
    assert call("run", valley, "--out", tmp_path / "run", "--no-figures")[0] == 0
    assert not (tmp_path / "run" / "figures").exists()


def test_the_output_goes_to_runs_and_the_name(
    call: Any, valley: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run there is refused, unless it is told to go on or to replace it."""
    monkeypatch.chdir(tmp_path)
    assert call("run", valley, "--no-figures")[0] == 0
    assert (tmp_path / "runs" / "tiny-valley" / "results.zarr").is_dir()
    code, _, err = call("run", valley, "--no-figures")
    assert code == 2
    assert "--resume" in err
    assert "--overwrite" in err
    assert call("run", valley, "--no-figures", "--resume")[0] == 0
    assert call("run", valley, "--no-figures", "--overwrite", "--set", "steps=4")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--set", "potential.epsilom=1"],
            "potential.epsilom: unknown key; did you mean 'epsilon'",
        ),
        (["--set", "potential.epsilon='1'"], "potential.epsilon: given '1'; must be a number"),
        (["--set", "optimizer.learning_rate=-1"], "optimizer.learning_rate: given -1; must be"),
        (["--set", "steps=0"], "steps: given 0; must be at least 1"),
        (["--set", "potential.kind=vally"], "potential.kind: given 'vally'; must be one of"),
        (["--set", "flows.0.label=x", "--set", "flows.0.label"], "expected KEY=VALUE"),
        (["--set", "curvature.eigenvalues=3"], "curvature.eigenvalues: given 3; must be at most"),
        (["--set", "potential.start=[1.0]"], "potential.start: given 1 numbers"),
        (["--out", "/dev/null"], "is a file"),
        (["--out", "/dev/null/below"], "cannot be written"),
        (["--bogus"], "--bogus"),
        (["--set"], "--set"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_exits_with_2_and_says_why(
    call: Any, valley: Path, tmp_path: Path, words: list[str], says: str
) -> None:
    """One message, no traceback, and nothing is written."""
    target = [] if "--out" in words else ["--out", tmp_path / "run"]
    code, out, err = call("run", valley, *target, *words)
    assert code == 2
    assert says in err
    assert out == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"kind": "digits", "classes": 11}, "potential.data.classes: given 11; must be at most 10"),
        (
            {"kind": "digits", "examples": 9999},
            "potential.data.examples: given 9999; must be at most 1797",
        ),
        ({"kind": "npz", "path": "/nowhere/mine.npz"}, "potential.data: "),
        ({"kind": "cifar10", "folder": "/nowhere"}, "potential.data.folder: given "),
    ],
    ids=["classes", "examples", "npz", "cifar10"],
)
def test_data_that_are_not_there_exit_with_2(
    call: Any, tmp_path: Path, data: dict[str, Any], says: str
) -> None:
    """The message names the table, under the file's name, and where the data were looked for."""
    potential = {**NETWORK["potential"], "data": data}
    file = write(tmp_path / "mine.toml", tomli_w.dumps({**NETWORK, "potential": potential}))
    code, _, err = call("run", file, "--out", tmp_path / "run")
    assert code == 2
    assert f"{file}: {says}" in err
    for key in ("path", "folder"):
        assert str(data.get(key, "")) in err
    assert not (tmp_path / "run").exists()


def test_data_that_do_not_suit_the_criterion_exit_with_2(call: Any, tmp_path: Path) -> None:
    """The key, the file and the row are named."""
    data = tmp_path / "mine.npz"
    np.savez(data, inputs=np.ones((3, 2)), targets=np.array([[0.0, 1.0], [0.3, 0.7], [2.0, -1.0]]))
    potential = {"kind": "supervised", "criterion": "cross_entropy", "model": {"kind": "mlp"}}
    potential |= {"data": {"kind": "npz", "path": str(data)}}
    file = write(tmp_path / "mine.toml", tomli_w.dumps({**NETWORK, "potential": potential}))
    code, _, err = call("run", file, "--out", tmp_path / "run")
    assert code == 2
    assert f"potential.criterion: given 'cross_entropy' for {data}; targets must be prob" in err
    assert "example of index 2" in err
    assert not (tmp_path / "run").exists()


def test_figure_claims_no_figures_that_it_did_not_draw(
    call: Any, valley: Path, tmp_path: Path
) -> None:
    """Where the config asks for none, and where all lack their data."""
    path = tmp_path / "run"
    words = ("--no-figures", "--set", "figures=[]", "--set", "steps=4")
    assert call("run", valley, "--out", path, *words)[0] == 0
    code, out, err = call("figure", path)
    assert (code, out) == (2, "")
    assert "its config asks for no figure; name some of adam_bursts, adaptive" in err
    code, out, err = call("figure", path, "central")
    assert (code, out) == (2, "")
    assert "figure 'central' was not drawn" in err
    code, out, _ = call("figure", path, "central", "loss")
    assert code == 2
    assert f"figures in {path / 'figures'}" in out


def test_figures_follow_a_link_that_leads_somewhere(
    call: Any, valley: Path, tmp_path: Path
) -> None:
    """One that leads nowhere is named."""
    path, link, target = tmp_path / "run", tmp_path / "run" / "figures", tmp_path / "elsewhere"
    assert call("run", valley, "--out", path, "--no-figures", "--set", "steps=4")[0] == 0
    link.symlink_to(target, target_is_directory=True)
    code, out, err = call("figure", path)
    assert (code, out) == (2, "")
    assert f"{link}: is a link to {target}, which is no folder" in err
    target.mkdir()
    assert call("figure", path)[0] == 0
    assert (target / "loss.png").exists()


def test_show_says_that_results_are_not_ours(call: Any, tmp_path: Path) -> None:
    """Any zarr tree may be called results.zarr."""
    foreign = xr.DataTree.from_dict({"/a": xr.Dataset({"x": ("t", [1.0])})})
    foreign.to_zarr(tmp_path / "results.zarr", consolidated=False)
    code, out, err = call("show", tmp_path)
    assert (code, out) == (2, "")
    assert "results.zarr: no results of an eosflows run" in err


@pytest.mark.parametrize("kind", ["study", "sweep"])
def test_show_names_no_step_of_a_killed_study_or_sweep(
    kind: str, call: Any, tmp_path: Path
) -> None:
    """Their groups have rows along `step` as well, which say nothing about how far they are."""
    marks = {"name": "mine", "status": "running", "kind": kind, "axes": ["seed"]}
    store = Store.create(tmp_path / RESULTS_FOLDER, marks)
    store.append("group", xr.Dataset(coords={"step": np.arange(9, dtype=np.int32)}), 9)
    code, out, _ = call("show", tmp_path)
    assert code == 0
    assert "mine: running (as it was last written)" in " ".join(out.split())


@pytest.mark.filterwarnings("default")
def test_a_librarys_warning_is_shown_in_one_line(
    call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without the line of source that raised it."""
    from experiments.store import store

    def load(*words: Any, **options: Any) -> None:
        warnings.warn("first line\n  second line", RuntimeWarning, stacklevel=2)
        raise DirectoryError("nothing there")

    monkeypatch.setattr(store, "load", load)
    code, _, err = call("show", tmp_path)
    assert code == 2
    assert err == "warning: first line second line (RuntimeWarning)\nerror: nothing there\n"


def test_wrong_usage_exits_with_2(call: Any, tmp_path: Path) -> None:
    """No such command, too few words, no such run, no such figure."""
    assert call("rum", "valley")[0] == 2
    assert call("run")[0] == 2
    assert call("show", tmp_path)[0] == 2
    assert call("figure", tmp_path / "none")[0] == 2
    code, _, err = call("figure", tmp_path, "overvew")
    assert code == 2
    assert "overview" in err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_exits_with_2(call: Any, valley: Path, tmp_path: Path) -> None:
    """The folder is named."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    code, _, err = call("run", valley, "--out", locked / "run")
    assert code == 2
    assert "cannot be written" in err


def test_an_unwritable_folder_is_told_whoever_runs_it(
    call: Any, valley: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, where permissions do not bind the user: the write itself is refused."""
    original = Path.mkdir

    def refuse(self: Path, *arguments: Any, **options: Any) -> None:
        if self.name == "run":
            raise PermissionError(13, "Permission denied", str(self))
        original(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    code, _, err = call("run", valley, "--out", tmp_path / "run")
    assert code == 2
    assert "cannot be written (Permission denied" in err


def test_a_full_disk_exits_with_2_and_keeps_what_was_stored(
    call: Any, valley: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once there is space again, --resume goes on."""
    original = Store.append
    calls = iter(range(100))

    def full(self: Any, *arguments: Any) -> None:
        if next(calls) == 3:
            raise OSError(28, "No space left on device", str(self.path))
        original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "append", full)
        code, _, err = call("run", valley, "--out", tmp_path / "run", "--no-figures")
    assert code == 2
    assert "No space left on device" in err
    assert call("show", tmp_path / "run")[0] == 0
    assert call("run", valley, "--out", tmp_path / "run", "--no-figures", "--resume")[0] == 0


@pytest.mark.slow
def test_a_diverging_run_exits_with_3_and_names_the_step(call: Any, tmp_path: Path) -> None:
    """The table is shown all the same."""
    file = write(tmp_path / "mine.toml", tomli_w.dumps(DIVERGING))
    code, out, err = call("run", file, "--out", tmp_path / "run")
    assert code == 3
    assert "discrete stopped at step " in err
    assert "gradient_flow" in out
    # Asked again, it says the same again.
    assert call("run", file, "--out", tmp_path / "run", "--resume")[0] == 3


def test_an_interrupted_run_exits_with_130(
    call: Any, valley: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its table can be shown, and it can be resumed."""
    original = Tracks.advance
    calls = iter(range(100))

    def advance(self: Tracks, *arguments: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Tracks, "advance", advance)
        code, _, err = call("run", valley, "--out", tmp_path / "run", "--no-figures")
    assert code == 130
    assert "--resume" in err
    code, out, _ = call("show", tmp_path / "run")
    assert code == 0
    assert "interrupted (at step 4)" in out
    assert call("run", valley, "--out", tmp_path / "run", "--no-figures", "--resume")[0] == 0


def test_as_a_process_it_exits_with_the_same_codes(tmp_path: Path) -> None:
    """A config error comes without jax being imported: quickly."""
    done = subprocess_call("run", "valley", "--set", "steps=none")
    assert done.returncode == 2
    assert done.stderr == "error: valley: steps: given 'none'; must be a whole number\n"
    assert done.stdout == ""


def test_the_command_line_starts_without_jax() -> None:
    """`list`, help and config errors need none of the large libraries."""
    code = (
        "import sys, experiments.cli as cli; cli.main(['list']);"
        "sys.exit(any(name in sys.modules for name in ('jax', 'xarray', 'zarr', 'matplotlib')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == 0


def test_version_is_printed(call: Any) -> None:
    """That of the distribution."""
    code, out, _ = call("--version")
    assert code == 0
    assert out.strip()
