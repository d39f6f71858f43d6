"""Whole runs: what they leave behind, how they go on, how they fail."""

import itertools
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr

import figures
from experiments import DirectoryError, export, load, load_run_config, run
from experiments.report.drawing import draw_figures
from experiments.report.summary import table
from experiments.run_directory import checkpoint
from experiments.run_directory.directory import claimed, prepare, write_environment
from experiments.runs import experiment_task
from experiments.runs.tracks import DISCRETE, Segment, Tracks
from experiments.store.store import Store
from experiments.system.interrupts import deferred_interrupts
from experiments.tables import Experiment
from tests.experiments.configs import DIVERGING, NETWORK, VALLEY, config, values
from tests.experiments.runs import assert_same_results, quietly


@pytest.fixture(scope="module")
def valley(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an uninterrupted small run."""
    path = tmp_path_factory.mktemp("runs") / "valley"
    assert quietly(config(), path).status == "finished"
    return path


def interrupted_at(monkeypatch: pytest.MonkeyPatch, count: int, error: BaseException) -> None:
    """Let the `count`-th segment from now on raise instead of being computed.

    A RuntimeError stands for a power cut, after which nothing more is written.
    """
    if isinstance(error, RuntimeError):
        monkeypatch.setattr(Store, "finish", lambda self, attributes: None)
    original: Callable[..., Segment] = Tracks.advance
    calls = iter(range(1, 10**6))

    def advance(self: Tracks, *arguments: Any) -> Segment:
        if next(calls) == count:
            raise error
        return original(self, *arguments)

    monkeypatch.setattr(Tracks, "advance", advance)


def test_a_run_directory_holds_what_the_design_says(valley: Path) -> None:
    """Config, environment, results and checkpoints, and nothing else."""
    assert {entry.name for entry in valley.iterdir()} == {
        "config.toml",
        "environment.json",
        "results.zarr",
        "checkpoint",
    }
    environment = json.loads((valley / "environment.json").read_text())
    assert {"python", "device", "versions", "commit", "seed", "precision"} <= set(environment)
    assert environment["versions"]["jax"] == jax.__version__
    if (Path(__file__).parents[2] / ".git").exists():
        assert re.match(r"[0-9a-f]{40}", environment["commit"])
    assert environment["wall_time"] > 0


def test_a_directory_in_which_a_run_is_going_on_is_refused(valley: Path, tmp_path: Path) -> None:
    """Whatever is to be done with it; afterwards it is free, and gone if nothing was written."""
    before = sorted(valley.rglob("*"))
    with claimed(valley), claimed(tmp_path / "new" / "run"):
        for options in ({}, {"resume": True}, {"overwrite": True}):
            for path in (valley, tmp_path / "new" / "run"):
                with pytest.raises(DirectoryError, match=f"{path}: a run is going on"):
                    quietly(config(), path, **options)
    assert sorted(valley.rglob("*")) == before
    assert not (tmp_path / "new" / "run").exists()
    assert quietly(config(), valley, resume=True).status == "finished"


def test_figures_that_an_interrupt_prevented_are_drawn_when_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it is complete, and only those that are not there or older than the results."""
    loaded = config(flows=[], curvature={"eigenvalues": 0}, steps=4, figures=["loss"])
    drawn: list[str] = []
    save = figures.save

    def interrupted(figure: Any, path: Path) -> Path:
        drawn.append(path.name)
        save(figure, path)
        if len(drawn) == 1:
            raise KeyboardInterrupt
        return path

    monkeypatch.setattr(figures, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(loaded, tmp_path, progress=False)
    assert not (tmp_path / "figures" / "loss.png").exists()
    for _ in range(2):
        assert run(loaded, tmp_path, progress=False, resume=True).status == "finished"
        assert [entry.name for entry in (tmp_path / "figures").iterdir()] == ["loss.png"]
    assert len(drawn) == 2
    os.utime(tmp_path / "figures" / "loss.png", (0, 0))
    run(loaded, tmp_path, progress=False, resume=True)
    assert len(drawn) == 3


def test_a_run_killed_while_it_marks_its_directory_is_begun_again(tmp_path: Path) -> None:
    """Its first file is half written."""
    (tmp_path / ".environment.json.partial").write_text("{")
    assert not prepare(tmp_path, config(), overwrite=False, resume=True)
    assert {entry.name for entry in tmp_path.iterdir()} == {"config.toml", "environment.json"}


def test_the_store_has_the_documented_groups_and_variables(valley: Path) -> None:
    """One group per trajectory with units on every variable, and the landscape."""
    tree = load(valley)
    assert set(tree.children) == {"discrete", "gradient_flow", "landscape"}
    assert tree.attrs["critical_sharpness"] == pytest.approx(2 / 0.3)
    shared = {"loss", "gradient_norm", "sharpness", "eigenvalues", "params"}
    assert shared <= set(tree["discrete"].data_vars)
    assert shared | {"predicted_loss", "distance"} <= set(tree["gradient_flow"].data_vars)
    for name in ("discrete", "gradient_flow"):
        data = tree[name].to_dataset()
        np.testing.assert_array_equal(data["step"].values, np.arange(13))
        for variable in data.data_vars.values():
            assert variable.attrs["units"]
            assert variable.attrs["long_name"]
    assert tree["discrete"].attrs["kind"] == "optimizer"
    assert tree["gradient_flow"].attrs["flow_kind"] == "gradient"
    assert tree["gradient_flow"].attrs["tracking_error"] > 0


def test_segments_do_not_show_in_the_results(valley: Path) -> None:
    """The stored discrete run is the bare recursion, and distances are those to its midpoints."""
    tree = load(valley)
    path = [np.array([0.1, 6.0])]
    for _ in range(13):
        x, y = path[-1]
        gradient = np.array([(y + x) * x + 0.5 * x**2 - 0.01, 0.5 * x**2 - 0.01])
        path.append(path[-1] - 0.3 * gradient)
    iterates = np.stack(path)
    # Rounding may differ from numpy's in the last bits of each of 13 steps.
    np.testing.assert_array_almost_equal_nulp(
        values(tree, "discrete", "params"), iterates[:-1], 256
    )
    midpoints = (iterates[:-2] + 2 * iterates[1:-1] + iterates[2:]) / 4
    centres = values(tree, "gradient_flow", "params")[1:]
    distances = np.linalg.norm(centres - midpoints, axis=1)
    stored = values(tree, "gradient_flow", "distance")
    assert stored[0] == 0
    assert np.abs(stored[1:] - distances).max() < 1e-12


@pytest.mark.slow
def test_the_tracking_error_is_that_of_the_whole_run(valley: Path) -> None:
    """Summed up piece by piece it equals `flows.tracking_error` of the uncut trajectories."""
    import flows
    from experiments.config.build import build, precision

    loaded = config()
    with precision(loaded.precision):
        built = build(loaded, "mine")
        discrete = flows.iterate(built.optimizer, built.potential, built.params, 12)
        flow = flows.simulate(built.flows[0].flow, built.potential, built.params, 12)
        expected = float(flows.tracking_error(flow, discrete))
    # The flow is cut into other segments, so that its solver takes other steps: rtol 1e-8.
    stored = load(valley)["gradient_flow"].attrs["tracking_error"]
    assert stored == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_running_the_resolved_config_again_gives_the_same_run(valley: Path, tmp_path: Path) -> None:
    """config.toml is the whole truth about a run."""
    quietly(load_run_config(valley / "config.toml"), tmp_path / "again")
    assert_same_results(valley, tmp_path / "again")


# What is interrupted by Ctrl-C goes on in other tests too.
QUICK = {("valley", "crash", 3)}
INTERRUPTIONS = [
    pytest.param(
        base,
        error,
        count,
        id=f"{count}-{word}-{name}",
        marks=() if (name, word, count) in QUICK else pytest.mark.slow,
    )
    for name, base in (("valley", VALLEY), ("network", NETWORK))
    for word, error in (("^C", KeyboardInterrupt()), ("crash", RuntimeError("power")))
    for count in (1, 2, 3)
]


@pytest.mark.parametrize(("base", "error", "count"), INTERRUPTIONS)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    base: dict[str, Any],
    error: BaseException,
    count: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Adaptive step sizes, warm-started eigenvectors and all."""
    loaded = config(base)
    quietly(loaded, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupted_at(patch, count, error)
        with pytest.raises(type(error)):
            quietly(loaded, tmp_path / "parts")
    if count > 1:
        assert values(load(tmp_path / "parts"), "discrete", "step")[-1] == 4 * (count - 1)
    result = quietly(loaded, tmp_path / "parts", resume=True)
    assert result.status == "finished"
    assert_same_results(tmp_path / "whole", tmp_path / "parts")


def test_rows_after_the_last_checkpoint_are_dropped_on_resume(
    valley: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the store and the checkpoint leaves rows that the state does not know."""
    original = checkpoint.write

    def fail_at_eight(directory: Path, loaded: Experiment, record: Any, *rest: Any) -> None:
        if record["step"] == 8:
            raise RuntimeError("power")
        original(directory, loaded, record, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write", fail_at_eight)
        patch.setattr(Store, "finish", lambda self, attributes: None)
        with pytest.raises(RuntimeError, match="power"):
            quietly(config(), tmp_path / "parts")
    assert values(load(tmp_path / "parts"), "discrete", "step")[-1] == 8
    quietly(config(), tmp_path / "parts", resume=True)
    assert_same_results(valley, tmp_path / "parts")


def test_a_torn_checkpoint_is_named_and_the_one_before_used(
    valley: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The checksum tells; the run loses one more interval and no more."""
    with monkeypatch.context() as patch:
        interrupted_at(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            quietly(config(), tmp_path / "parts")
    newest = tmp_path / "parts" / "checkpoint" / "step-0000000008.ckpt"
    newest.write_bytes(newest.read_bytes()[:-10])
    quietly(config(), tmp_path / "parts", resume=True)
    assert "step-0000000008.ckpt: damaged" in capsys.readouterr().err
    assert_same_results(valley, tmp_path / "parts")


def test_an_interrupted_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its store is readable and names the step at which it stands."""
    with monkeypatch.context() as patch:
        interrupted_at(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            quietly(config(), tmp_path)
    tree = load(tmp_path)
    assert tree.attrs["status"] == "interrupted"
    assert tree.attrs["message"] == "at step 8"
    assert tree["discrete"].sizes["step"] == 9


def plainly(path: Path, group: str, name: str) -> np.ndarray:
    """A variable of the results as xarray alone reads them."""
    with xr.open_datatree(path / "results.zarr", engine="zarr") as tree:
        return values(tree, group, name)


@pytest.mark.slow
def test_plain_xarray_sees_only_what_was_computed_of_a_run_that_stopped(
    valley: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an interrupt and after an error; a resumed run has room for its rows again."""
    for error in (KeyboardInterrupt(), ValueError("a bug")):
        with monkeypatch.context() as patch:
            interrupted_at(patch, 2, error)
            with pytest.raises(type(error)):
                quietly(config(), tmp_path, resume=True)
        for group in ("discrete", "gradient_flow"):
            steps = plainly(tmp_path, group, "step")
            np.testing.assert_array_equal(steps, np.arange(len(steps)))
            assert len(steps) in (5, 9)
            assert np.isfinite(plainly(tmp_path, group, "loss")).all()
    quietly(config(), tmp_path, resume=True)
    assert_same_results(valley, tmp_path)
    np.testing.assert_array_equal(plainly(tmp_path, "discrete", "step"), np.arange(13))


def test_a_loss_that_stops_being_finite_ends_a_run_as_diverged(tmp_path: Path) -> None:
    """In single precision the fourth power overflows long before the parameter does."""
    result = quietly(config(DIVERGING, precision="float32", flows=[]), tmp_path)
    assert result.status == "diverged"
    assert "the loss is no longer finite" in result.message
    for name in ("loss", "params"):
        assert np.isfinite(plainly(tmp_path, "discrete", name)).all()


def test_an_interrupt_waits_for_what_belongs_together() -> None:
    """A Ctrl-C in the middle of a write comes after it."""
    done = []
    # A process that was started in the background may ignore the signal; then it goes on to.
    before = signal.getsignal(signal.SIGINT)

    def write() -> None:
        with deferred_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_finishes_the_segment_and_a_second_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C while the second of three is computed, once and twice."""
    original: Callable[..., Segment] = Tracks.advance
    before = signal.getsignal(signal.SIGINT)
    for presses, steps in ((1, 8), (2, 4)):

        def advance(self: Tracks, *arguments: Any, presses: int = presses) -> Segment:
            if self.steps_done == 4:
                for _ in range(presses):
                    os.kill(os.getpid(), signal.SIGINT)
            return original(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Tracks, "advance", advance)
            with pytest.raises(KeyboardInterrupt):
                quietly(config(), tmp_path / str(presses))
        assert "Ctrl-C again: at once" in capsys.readouterr().err
        assert load(tmp_path / str(presses)).attrs["message"] == f"at step {steps}"
        assert signal.getsignal(signal.SIGINT) is before


def test_resume_refuses_another_config_and_names_the_keys(valley: Path) -> None:
    """Each key with both values."""
    other = config(optimizer={"kind": "gradient_descent", "learning_rate": 0.2}, steps=24)
    with pytest.raises(DirectoryError) as caught:
        quietly(other, valley, resume=True)
    assert "optimizer.learning_rate was 0.3, is 0.2" in str(caught.value)
    assert "steps was 12, is 24" in str(caught.value)


def test_resuming_a_finished_run_changes_nothing(valley: Path) -> None:
    """It only says how the run ended."""
    before = {path: path.stat().st_mtime_ns for path in valley.rglob("*") if path.is_file()}
    assert quietly(config(), valley, resume=True).status == "finished"
    after = {path: path.stat().st_mtime_ns for path in valley.rglob("*") if path.is_file()}
    assert before == after


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, r"(?s)config it ran \(written by eosflows 0\.0\.9, this is.*\.toml: no such file"),
        ("steps = = 3", r"(?s)not known with which config it ran.*config\.toml: not valid TOML"),
        ("steps = 3", r"(?s)not known with which config it ran.*config\.toml: \d problems"),
    ],
    ids=["missing", "torn", "invalid"],
)
def test_resume_refuses_a_run_whose_config_is_gone(
    content: str | None, says: str, valley: Path, tmp_path: Path
) -> None:
    """It names that file rather than the user's, and the version that wrote it."""
    path = tmp_path / "copy"
    shutil.copytree(valley, path)
    write_environment(path, {"versions": {"eosflows": "0.0.9"}})
    (path / "config.toml").unlink()
    if content is not None:
        (path / "config.toml").write_text(content)
    before = sorted(path.rglob("*"))
    with pytest.raises(DirectoryError, match=says):
        quietly(config(), path, resume=True)
    assert sorted(path.rglob("*")) == before


def test_a_run_of_an_earlier_version_is_read_and_not_resumed(
    valley: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoint, and results of a config that resolves to another one, name the version."""
    path = tmp_path / "old"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 6)
        interrupted_at(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            quietly(config(), path)
    write_environment(path, {"versions": {"eosflows": "0.0.9"}})
    before = sorted(path.rglob("*"))
    with pytest.raises(DirectoryError, match=r"format 6 \(written by eosflows 0\.0\.9, this is"):
        quietly(config(), path, resume=True)
    Store.open(path / "results.zarr").update("", {"config_fingerprint": "another"})
    with pytest.raises(DirectoryError, match=r"another version .*\(written by eosflows 0\.0\.9, "):
        quietly(config(), path, resume=True)
    assert sorted(path.rglob("*")) == before
    assert load(path)["discrete"].sizes["step"] == 5
    assert "interrupted (at step 4)" in str(table(load(path)).title)
    assert draw_figures(path, ["loss"]) == []
    assert export(path, "csv").is_dir()
    assert quietly(config(), path, overwrite=True).status == "finished"
    assert_same_results(valley, path)


def test_resume_begins_a_run_that_was_stopped_before_its_config_was_written(
    valley: Path, tmp_path: Path
) -> None:
    """There is nothing yet that could be of another config."""
    (tmp_path / "environment.json").write_text('{"program": "eosflows"}')
    quietly(config(), tmp_path, resume=True)
    assert_same_results(valley, tmp_path)


def test_resume_begins_a_run_that_is_not_there(valley: Path, tmp_path: Path) -> None:
    """So that a job script can be submitted again and again."""
    quietly(config(), tmp_path / "new", resume=True)
    assert_same_results(valley, tmp_path / "new")


def test_a_diverging_trajectory_keeps_its_rows_and_does_not_stop_the_others(
    tmp_path: Path,
) -> None:
    """The result names trajectory and step, and every step before it is in the store."""
    result = quietly(config(DIVERGING, checkpoint={"every": 40}), tmp_path)
    tree = load(tmp_path)
    assert result.status == tree.attrs["status"] == "diverged"
    path = values(tree, "discrete", "params")[:, 0]
    last = len(path) - 1
    assert f"discrete stopped at step {last + 1}: " in result.message
    assert 3 < last < 40
    assert np.isfinite(path).all()
    for before, after in itertools.pairwise(path.tolist()):
        assert after == pytest.approx(before - 4.0 * (2.0 * before - before**3), rel=1e-12)
    assert values(tree, "gradient_flow", "step")[-1] == 40
    assert np.isnan(values(tree, "gradient_flow", "distance")[last + 2 :]).all()


@pytest.mark.slow
def test_a_run_that_diverged_is_resumed_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trajectory that stopped before the interrupt stays stopped."""
    quietly(config(DIVERGING), tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupted_at(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            quietly(config(DIVERGING), tmp_path / "parts")
    assert quietly(config(DIVERGING), tmp_path / "parts", resume=True).status == "diverged"
    assert_same_results(tmp_path / "whole", tmp_path / "parts")


def test_another_run_in_the_folder_is_refused_unless_overwritten(tmp_path: Path) -> None:
    """The message names the ways out; overwriting leaves nothing of the run before."""
    quietly(config(DIVERGING, steps=2, flows=[]), tmp_path)
    with pytest.raises(DirectoryError, match=r"--resume.*--overwrite.*--out"):
        quietly(config(), tmp_path)
    assert quietly(config(), tmp_path, overwrite=True).status == "finished"
    assert load(tmp_path).attrs["name"] == "tiny-valley"
    with pytest.raises(DirectoryError, match="exclude each other"):
        quietly(config(), tmp_path, overwrite=True, resume=True)


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}])
def test_a_folder_that_is_no_run_of_ours_is_never_touched(
    tmp_path: Path, options: dict[str, bool]
) -> None:
    """Not even with --overwrite, and not if a run directory has a stranger's file in it."""
    stranger = tmp_path / "thesis.tex"
    stranger.write_text("years of work")
    with pytest.raises(DirectoryError, match=r"no run directory of ours \(it holds thesis\.tex\)"):
        quietly(config(), tmp_path, **options)
    (tmp_path / "environment.json").write_text('{"program": "eosflows"}')
    with pytest.raises(DirectoryError, match="no run directory of ours"):
        quietly(config(), tmp_path, **options)
    assert stranger.read_text() == "years of work"


def test_notes_beside_a_run_do_not_stand_in_the_way_of_resuming_it(
    valley: Path, tmp_path: Path
) -> None:
    """A file that the user put there stays, and only what would delete it is refused."""
    run = tmp_path / "run"
    shutil.copytree(valley, run)
    (run / "notes.txt").write_text("worth a look")
    assert quietly(config(), run, resume=True).status == "finished"
    with pytest.raises(DirectoryError, match=r"notes\.txt"):
        quietly(config(), run, overwrite=True)
    assert (run / "notes.txt").read_text() == "worth a look"


def test_a_link_in_place_of_the_folder_or_its_parts_is_refused(
    valley: Path, tmp_path: Path
) -> None:
    """Overwriting through a link would delete what lies elsewhere."""
    link = tmp_path / "link"
    link.symlink_to(valley, target_is_directory=True)
    with pytest.raises(DirectoryError, match="is a link"):
        quietly(config(), link, overwrite=True)
    inner = tmp_path / "run"
    inner.mkdir()
    (inner / "environment.json").write_text('{"program": "eosflows"}')
    (inner / "results.zarr").symlink_to(valley / "results.zarr", target_is_directory=True)
    with pytest.raises(DirectoryError, match=r"results\.zarr is a link"):
        quietly(config(), inner, overwrite=True)
    assert load(valley).attrs["status"] == "finished"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    """As is a folder below a file, which cannot be made."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DirectoryError, match="is a file"):
        quietly(config(), tmp_path / "file")
    with pytest.raises(DirectoryError, match="cannot be written"):
        quietly(config(), tmp_path / "file" / "run")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), [("float32", np.float32), ("float64", np.float64)])
@pytest.mark.parametrize("before", [True, False])
def test_the_config_decides_the_precision_and_jax_gets_its_own_back(
    name: str, dtype: type, before: bool, tmp_path: Path
) -> None:
    """Whatever was set before the run is set after it."""
    was = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_enable_x64", before)
    try:
        tree = quietly(config(precision=name, steps=4), tmp_path).tree()
        assert jax.config.jax_enable_x64 is before  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        jax.config.update("jax_enable_x64", was)
    for group in ("discrete", "gradient_flow"):
        for variable in tree[group].data_vars.values():
            assert variable.dtype == dtype


def test_a_network_run_measures_accuracy(tmp_path: Path) -> None:
    """And leaves the curvature out between its steps."""
    tree = quietly(config(NETWORK, steps=8, checkpoint={"every": 8}, flows=[]), tmp_path).tree()
    data = tree["discrete"].to_dataset()
    assert ((data["accuracy"] >= 0) & (data["accuracy"] <= 1)).all()
    assert "params" not in data
    measured = np.isfinite(data["sharpness"].values)
    np.testing.assert_array_equal(data["step"].values[measured], [0, 4, 8])


@pytest.mark.slow
def test_memory_bounds_the_segments(
    valley: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an interval between checkpoints does not fit, it is cut, and nothing else changes."""
    monkeypatch.setattr(experiment_task, "_SEGMENT_BYTES", 1)
    quietly(config(flows=[]), tmp_path / "cut")
    xr.testing.assert_identical(
        load(valley)["discrete"].to_dataset().drop_attrs(),
        load(tmp_path / "cut")["discrete"].to_dataset().drop_attrs(),
    )


def test_the_label_of_the_optimizer_is_reserved() -> None:
    """The schema and the runner speak of one name."""
    from experiments.tables.flows import RESERVED_LABELS

    assert DISCRETE in RESERVED_LABELS
