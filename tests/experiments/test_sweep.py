"""Sweeps: what their axes say, what goes through one program, what is gathered, how they go on."""

import csv
import inspect
import itertools
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import flows
from experiments import ConfigError, DirectoryError, export, load, load_config, run
from experiments.cli import main
from experiments.config.build import precision
from experiments.config.loader import to_toml, validate, validate_run
from experiments.report.summary import SWEEP, table
from experiments.run_directory.directory import prepare
from experiments.store.store import Store
from experiments.sweep import batch as batch_module
from experiments.sweep import load_sweep, points, run_sweep
from experiments.sweep import task as task_module
from experiments.sweep import workers as workers_module
from experiments.sweep.batch import batches
from experiments.sweep.cells import cells_of_run
from experiments.sweep.gather import gather
from experiments.sweep.grid import coordinates
from experiments.sweep.over import axis
from experiments.sweep.workers import Job, Outcome, Workers, run_job, run_points
from experiments.tables import SweepExperiment
from tests.experiments.configs import NETWORK, VALLEY, write
from tests.helpers import assert_trees_close

QUARTIC: dict[str, Any] = {
    "name": "tiny-sweep",
    "steps": 40,
    "save_params": True,
    "figures": [],
    "potential": {"kind": "quartic", "curvature": 2.0, "start": [0.1]},
    "optimizer": {"kind": "gradient_descent", "learning_rate": 1.0},
    "flows": [{"kind": "gradient", "label": "gradient_flow"}],
}
CURVATURES = [1.0, 2.5, 3.5, 6.0]
SHORT = {"kind": "euler", "dt0": 1e-3, "max_steps": 1}
# With a flow that stops early, whatever the discrete run does; in one segment, since a flow may
# take so many steps in each.
MEASURED: dict[str, Any] = {
    **QUARTIC,
    "curvature": {"eigenvalues": 1},
    "flows": [*QUARTIC["flows"], {"kind": "gradient", "label": "short", "solver": SHORT}],
    "checkpoint": {"every": 40},
}
# Of a toy whose runs share no program, since their lengths differ.
LENGTHS: dict[str, Any] = {**VALLEY, "flows": []}
del LENGTHS["curvature"]


def sweep(base: dict[str, Any], **over: list[Any]) -> SweepExperiment:
    """A sweep of a config; `__` in a key stands for a dot."""
    axes = [{"key": key.replace("__", "."), "values": values} for key, values in over.items()]
    loaded = validate({**base, "sweep": {"over": axes}})
    assert isinstance(loaded, SweepExperiment)
    return loaded


def quietly(config: SweepExperiment, path: Path, **options: Any) -> Any:
    """Run without a bar and without figures."""
    return run_sweep(config, path, draw=False, progress=False, **options)


def gathered(path: Path) -> xr.Dataset:
    """The dataset of a sweep."""
    return load(path)[SWEEP].to_dataset()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a sweep that went through one program."""
    path = tmp_path_factory.mktemp("sweep") / "together"
    config = sweep(MEASURED, potential__curvature=CURVATURES, seed=[0, 1])
    assert quietly(config, path).status == "finished"
    return path


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("seed=0:4", (0, 1, 2, 3)),
        ("seed=4:0:-2", (4, 2)),
        ("optimizer.learning_rate=0.01,0.02", (0.01, 0.02)),
        ("a.b=linspace(0, 1, 3)", (0.0, 0.5, 1.0)),
        ("a.b=geomspace(1, 100, 3)", (1.0, 10.0, 100.0)),
        ("a.b=logspace(-2,0,3)", (0.01, 0.1, 1.0)),
        ("a.b=0.1:0.5:0.1", (0.1, 0.2, 0.3, 0.4)),
        ("a[0].b=1:0:-0.25", (1.0, 0.75, 0.5, 0.25)),
        ("potential.kind=ring,quartic", ("ring", "quartic")),
        ('potential.kind="ring", "quartic"', ("ring", "quartic")),
        ("potential.start=[0.1, 6.0],[0.2, 6.0]", ([0.1, 6.0], [0.2, 6.0])),
        ("seed=7", (7,)),
    ],
)
def test_an_axis_says_its_values(text: str, values: tuple[Any, ...]) -> None:
    """Lists, ranges, spaced numbers, words and lists of lists."""
    table = axis(text)
    axes = validate({**QUARTIC, "sweep": {"over": [table]}})
    assert isinstance(axes, SweepExperiment)
    assert (
        axes.sweep.over[0].all_values == pytest.approx(values)
        if isinstance(values[0], float)
        else axes.sweep.over[0].all_values == values
    )


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ("seed", "expected KEY=VALUES"),
        ("seed=", "expected KEY=VALUES"),
        ("seed=0:0", "0 values; must be from 1"),
        ("seed=0:9:0", "its step must not be 0"),
        ("seed=0,1,0", "sweep.over[0].values: given 0 twice"),
        ("optimizer.learning_rate=1,1.0", "given 1.0 twice"),
        (f"seed=0:{10**9}", "values; must be from 1"),
        (f"seed={'9' * 5000}:3", "too long"),
        ("seed=linspace(0,1)", "linspace"),
        ("a=0.5:0.1:0.1", "0 values; must be from 1"),
        ("a=0.5:0.1:0.0", "its step must not be 0"),
        ("a=logspace(-3,400,5)", "exponents of 10 must be within"),
        ("seed=linspace(0,1,x)", "linspace"),
        ("optimizer.learning_rate=geomspace(-1,1,3)", "log needs both positive"),
        ("optimizer.learning_rate=linspace(1,1,3)", "must differ from start"),
        ("optimizer.learning_rate=0.1,-1", "given -1; must be greater than 0"),
        ("optimizer.lerning_rate=0.1,0.2", "did you mean 'learning_rate'"),
        ("steps.x=1", "steps is 40, not a table"),
        ("sweep.quantity=a", "must be a key of the config"),
        ("a..b=1", "must be a key of the config"),
        ("flows.7.label=a,b", "allowed is an index from 0 to 0"),
    ],
)
def test_a_wrong_axis_is_explained(
    over: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2, and nothing is left behind."""
    file = write(tmp_path / "base.toml", to_toml(validate(QUARTIC)))
    out = tmp_path / "out"
    assert main(["sweep", str(file), "--over", over, "--out", str(out)]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_a_sweep_without_axes_and_a_run_of_a_sweep_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each says what to do instead."""
    assert main(["sweep", "digits-mlp", "--out", str(tmp_path / "out")]) == 2
    assert "--over KEY=VALUES" in capsys.readouterr().err
    assert main(["run", "phase-diagram", "--out", str(tmp_path / "out")]) == 2
    assert "eosflows sweep" in capsys.readouterr().err


def test_run_and_run_sweep_refuse_what_they_do_not_run(tmp_path: Path) -> None:
    """With the function that reads or runs it."""
    # Without the type checker of the tests, as users call them.
    running, sweeping = inspect.unwrap(run), inspect.unwrap(run_sweep)
    for function, given, says in (
        (running, "valley", r'load_run_config\("valley"\) reads it; got \'valley\''),
        (running, load_config("phase-diagram"), "got 'phase-diagram', a sweep: give it to run_sw"),
        (sweeping, "valley", r'load_sweep\("valley", .*\) reads it; got \'valley\''),
        (sweeping, load_config("valley"), "got 'valley', of one run: give it to run"),
    ):
        with pytest.raises(ValueError, match=f"config must be .*{says}"):
            function(given, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_swept_experiment_has_a_name_of_its_own(tmp_path: Path) -> None:
    """So that its directory is not that of the experiment; what is a sweep already keeps its."""
    over = ("seed=0:2",)
    named = load_sweep("valley", over=over)
    assert named.name == "valley-sweep"
    assert {point.config.name for point in points(named)} == {"valley-sweep"}
    rates = ("optimizer.learning_rate=0.1,0.2",)
    assert load_sweep("threshold-sweep", over=rates).name == "threshold-sweep"
    again = write(tmp_path / "config.toml", to_toml(named))
    assert load_sweep(again) == load_sweep(again, over=over) == named
    nameless = write(tmp_path / "nameless.toml", "steps = 3")
    with pytest.raises(ConfigError, match="name: missing"):
        load_sweep(nameless, over=over)


def test_whole_numbers_of_any_size_are_coordinates() -> None:
    """One beyond 64 bits, of a key that takes any number, makes them floats."""
    config = sweep(LENGTHS, potential__epsilon=[1, 10**22])
    assert coordinates(config)["epsilon"][0].tolist() == [1.0, 1e22]
    assert coordinates(sweep(LENGTHS, seed=[0, 2**32 - 1]))["seed"][0].dtype == np.int64


def test_the_keys_of_a_sweep_that_differ_are_told_in_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A swept key may have as many values as there may be runs."""
    file = write(tmp_path / "base.toml", to_toml(validate({**LENGTHS, "steps": 1})))
    words = ["sweep", str(file), "--no-figures", "--out", str(tmp_path / "out")]
    prepare(tmp_path / "out", load_sweep(file, (), ("seed=0:39",)), overwrite=False, resume=False)
    (tmp_path / "out" / "results.zarr").mkdir()
    assert main([*words, "--over", "seed=0:40", "--resume"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot resume, the config is another one: sweep.over[0].values is not what" in said
    assert "37, 38" not in said


def test_two_axes_of_one_key_and_too_many_runs_are_refused() -> None:
    """Before any of them is made."""
    with pytest.raises(ConfigError, match=r"over\[1\]\.key: given 'seed' twice"):
        load_sweep("digits-mlp", (), ("seed=0:2", "seed=3:4"))
    with pytest.raises(ConfigError, match="a sweep may have at most 100000"):
        load_sweep("digits-mlp", (), ("seed=0:1000", "optimizer.learning_rate=linspace(1,2,999)"))


def test_names_of_axes_are_the_shortest_that_differ() -> None:
    """And none is a name that the dataset has for something else."""
    config = sweep(
        {**QUARTIC, "flows": [{"kind": "rod"}, {"kind": "rod", "label": "b"}]},
        seed=[0],
        flows__0__rank=[1],
        flows__1__rank=[1],
    )
    assert config.sweep.names == ("seed", "0_rank", "1_rank")


@hypothesis.given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_a_sweep_is_its_config_and_its_grid(sizes: list[int], seed: int) -> None:
    """Its TOML gives it again; its points count the last axis fastest and are all different."""
    keys = ("potential.curvature", "optimizer.learning_rate", "seed")
    values = [[float(n + 1) for n in range(size)] for size in sizes[:2]]
    values += [[(seed + n) % 2**32 for n in range(size)] for size in sizes[2:]]
    axes = [{"key": k, "values": v} for k, v in zip(keys, values, strict=False)]
    config = validate({**QUARTIC, "sweep": {"over": axes}})
    assert isinstance(config, SweepExperiment)
    import tomllib

    assert validate(tomllib.loads(to_toml(config))) == config
    grid = points(config)
    assert [point.values for point in grid] == list(itertools.product(*values))
    assert len({to_toml(point.config) for point in grid}) == len(grid)


@pytest.mark.slow
def test_one_program_gives_what_separate_runs_give(together: Path, tmp_path: Path) -> None:
    """The same cells, names and units, of runs whose iterates are bounded and that diverge."""
    data = gathered(together)
    assert load(together).attrs["batches"] == 1
    assert load(together).attrs["runs_in_batches"] == 8
    config = sweep(MEASURED, potential__curvature=CURVATURES, seed=[0, 1])
    cells = []
    # Of the first seed, the two-cycle and the one that diverges: each run compiles for seconds.
    for point in points(config)[2::4]:
        path = tmp_path / point.label
        run(point.config, path, draw=False, progress=False)
        cells.append(cells_of_run(load(path), point, True))
    alone = gather(config, cells).isel(seed=0, curvature=[1, 3])
    assert set(alone.data_vars) == set(data.data_vars)
    assert {"distance", "displacement"} <= set(alone.data_vars)
    one = data.isel(seed=0, curvature=[1, 3])
    for name, variable in alone.data_vars.items():
        assert variable.dims == one[name].dims
        assert variable.attrs == one[name].attrs
        if variable.dtype.kind in "if":
            # Sums may be taken in another order: rounding grows along the diverging run, and moves
            # the steps of a flow's solver, which keeps errors of 1e-8.
            close = np.isclose(variable.values, one[name].values, 1e-8, 1e-9, equal_nan=True)
            assert close.all(), (name, np.nanmax(np.abs(variable.values - one[name].values)))
        else:
            assert (variable.values == one[name].values).all(), name
    # A flow stopped in each; only one's own discrete run did, of which no late sharpness is left.
    assert list(one["status"].values) == ["diverged", "diverged"]
    assert list(one["discrete_status"].values) == ["finished", "diverged"]
    assert list(one["outcome"].values) == ["two-cycle", "diverged"]
    assert list(one["period"].values) == [2, 0]
    assert "discrete stopped at step" in str(one["message"].values[-1])
    assert list(np.isfinite(one["late_sharpness"].values[:, 0])) == [True, False]


@pytest.mark.slow
def test_one_program_stops_at_the_checkpoints_as_a_run_by_itself_does(tmp_path: Path) -> None:
    """So that a flow takes the same steps, and is given up where one interval takes too many."""
    solver = {"kind": "tsit5", "max_steps": 12}
    base = {**LENGTHS, "steps": 4, "checkpoint": {"every": 1}}
    base["flows"] = [{"kind": "gradient", "solver": solver}]
    rates = [0.2, 0.3]
    quietly(sweep(base, optimizer__learning_rate=rates), tmp_path / "together")
    assert load(tmp_path / "together").attrs["batches"] == 1
    for rate in rates:  # Each shares no program with another.
        quietly(sweep(base, optimizer__learning_rate=[rate]), tmp_path / f"{rate}")
    alone = xr.concat([gathered(tmp_path / f"{rate}") for rate in rates], "learning_rate")
    one = gathered(tmp_path / "together")
    # On average the second one takes few enough.
    assert list(alone["status"].values) == list(one["status"].values) == ["finished", "diverged"]
    assert (alone["message"].values == one["message"].values).all()
    for name in ("loss", "distance"):
        # To rounding: one solver step more or less would show at its tolerance, 1e-8.
        assert_trees_close(one[name].values, alone[name].values, rtol=1e-11, atol=1e-13)


def test_the_dataset_has_the_swept_values_as_coordinates(together: Path) -> None:
    """And says of each which key it is."""
    data = gathered(together)
    assert_trees_close(data["curvature"].values, np.array(CURVATURES))
    assert data["curvature"].attrs["long_name"] == "potential.curvature"
    assert list(data["trajectory"].values) == ["discrete", "gradient_flow", "short"]
    assert data["loss"].dims == ("curvature", "seed", "trajectory", "step")
    for name, variable in data.data_vars.items():
        assert variable.attrs["units"], name
        assert variable.attrs["long_name"], name
    outcomes = data["outcome"].isel(seed=0).values
    assert list(outcomes) == ["converged", "two-cycle", "higher cycle", "diverged"]


def test_a_sweep_is_exported_as_a_table_with_a_row_for_each_run(
    together: Path, tmp_path: Path
) -> None:
    """The swept values first, the last axis fastest, and all numbers exactly."""
    export(together, "csv", tmp_path / "tables")
    with (tmp_path / "tables" / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    data = gathered(together)
    assert list(rows[0])[:2] == ["curvature", "seed"]
    assert [(float(r["curvature"]), int(r["seed"])) for r in rows] == list(
        itertools.product(CURVATURES, [0, 1])
    )
    assert [r["outcome"] for r in rows] == list(data["outcome"].values.ravel())
    losses = [float(r["final_loss[0]"]) for r in rows]
    assert losses == list(data["final_loss"].isel(trajectory=0).values.ravel())
    path = export(together, "netcdf", tmp_path / "sweep.nc")
    with xr.open_datatree(path) as tree:
        xr.testing.assert_equal(tree[SWEEP].to_dataset()["loss"].load(), data["loss"])


def test_a_sweep_that_was_killed_is_shown(together: Path) -> None:
    """As far as it was gathered, which is not at any one step."""
    tree = load(together)
    tree.attrs["status"] = "running"
    shown = table(tree)
    assert str(shown.title) == "tiny-sweep: running (as it was last written)"
    assert shown.row_count == len(CURVATURES) * 2


def test_what_sums_up_a_run_follows_from_its_series(together: Path) -> None:
    """The last loss, and the tracking error of the documented formula."""
    data = gathered(together).isel(seed=0, curvature=0)
    assert float(data["final_loss"][0]) == float(data["loss"][0, -1])
    flow = data.isel(trajectory=1)
    error = float(flow["distance"].mean()) / float(flow["displacement"].mean())
    assert float(flow["tracking_error"]) == pytest.approx(error, rel=1e-12)


def test_runs_of_other_shapes_go_by_themselves() -> None:
    """Two lengths make two programs; a single run, a network and a Central Flow make none."""
    config = sweep(QUARTIC, steps=[40, 60], seed=[0, 1])
    together, alone = batches(points(config), True)
    assert [len(batch.points) for batch in together] == [2, 2]
    assert alone == []
    assert batches(points(sweep(QUARTIC, steps=[40, 60])), True)[0] == []
    central = {**QUARTIC, "flows": [{"kind": "central", "rank": 1}]}
    for base in (NETWORK, central):
        together, alone = batches(points(sweep(base, seed=[0, 1])), True)
        assert together == []
        assert len(alone) == 2


def test_a_family_that_does_not_fit_into_memory_is_cut_into_parts_of_one_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No run is lost, none is changed, and parts of 2, 2 and 1 runs are compiled once."""
    traces: list[int] = []
    original = batch_module._track

    def noted(*arguments: Any) -> Any:
        traces.append(1)
        return original(*arguments)

    rates = [0.1, 0.2, 0.3, 0.4, 0.5]
    grid = points(sweep({**LENGTHS, "steps": 3}, optimizer__learning_rate=rates))
    (whole,), alone = batches(grid, True)
    assert alone == []
    # The losses and the norms of the gradients of a run's 4 saves alone are as much.
    monkeypatch.setattr(batch_module, "_MOST_BYTES", 64)
    assert [len(part.points) for part in batches(grid, True)[0]] == [1] * 5
    monkeypatch.setattr(batch_module, "_bytes", lambda family: 32)
    cut, alone = batches(grid, True)
    assert alone == []
    assert [len(part.points) for part in cut] == [2, 2, 1]
    monkeypatch.setattr(batch_module, "_track", noted)
    together = xr.concat([part.compute() for part in cut], "point")
    assert len(traces) == 1
    xr.testing.assert_allclose(together, whole.compute(), rtol=1e-12)


def test_an_interrupted_sweep_goes_on_where_it_stopped(
    together: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that are done are not run again, and what is there can be looked at."""
    config = sweep({**QUARTIC, "flows": []}, steps=[4, 6], seed=[0, 1])
    calls = itertools.count()
    original = batch_module._cells

    def cells(*arguments: Any) -> xr.Dataset:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(batch_module, "_cells", cells)
    with pytest.raises(KeyboardInterrupt):
        quietly(config, tmp_path)
    assert load(tmp_path).attrs["status"] == "interrupted"
    assert load(tmp_path).attrs["message"] == "after 2 of 4 runs"
    assert list(gathered(tmp_path)["status"].values.ravel()) == ["finished"] * 2 + ["missing"] * 2
    with pytest.raises(DirectoryError, match="holds a run already"):
        quietly(config, tmp_path)
    assert quietly(config, tmp_path, resume=True).status == "finished"
    assert next(calls) == 3
    assert (gathered(tmp_path)["status"].values == "finished").all()
    assert set(load(tmp_path).children) == {SWEEP}


def test_a_run_that_fails_is_recorded_and_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rank that the potential does not have fails alone; a bug does not end the sweep either."""
    base = {**VALLEY, "steps": 4, "curvature": {"eigenvalues": 1}, "flows": []}
    file = write(tmp_path / "base.toml", to_toml(validate(base)))
    arguments = ["sweep", str(file), "--out", str(tmp_path / "out"), "--no-figures"]
    arguments += ["--over", "curvature.eigenvalues=1,3"]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "1 of 2 runs failed" in said.err
    assert "must be at most the number of parameters, 2" in " ".join(said.err.split())
    data = gathered(tmp_path / "out")
    assert list(data["status"].values) == ["finished", "failed"]
    assert "must be at most the number of parameters" in str(data["message"].values[1])
    ran: list[int] = []

    def noted(points: Any, *arguments: Any) -> Any:
        ran.extend(point.number for point in points)
        return run_points(points, *arguments)

    monkeypatch.setattr(task_module, "run_points", noted)
    assert main([*arguments, "--resume"]) == 1
    assert ran == [1]


@pytest.mark.slow
def test_damaged_results_are_recorded_and_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A torn chunk ends the sweep neither at once nor later; nor does a store that is gone."""
    config = sweep(LENGTHS, steps=[4, 8])
    runs = tmp_path / "runs"

    def tearing(points: Any, *arguments: Any) -> Any:
        for outcome in run_points(points, *arguments):
            chunk = runs / f"{outcome.number:05d}/results.zarr/discrete/loss/c/0"
            if outcome.number == 0:
                chunk.write_bytes(chunk.read_bytes()[:7])
            yield outcome

    with monkeypatch.context() as patched:
        patched.setattr(task_module, "run_points", tearing)
        result = quietly(config, tmp_path)
    assert result.status == "incomplete"
    assert "1 of 2 runs failed; run 0: " in result.message
    assert "the results cannot be read" in result.message
    assert list(gathered(tmp_path)["status"].values) == ["failed", "finished"]
    loss = gathered(tmp_path)["final_loss"].values[1]
    shutil.rmtree(runs / "00001" / "results.zarr")
    assert quietly(config, tmp_path, resume=True).status == "finished"
    assert "run 1: " in capsys.readouterr().err
    assert list(gathered(tmp_path)["status"].values) == ["finished", "finished"]
    assert gathered(tmp_path)["final_loss"].values[1] == loss


@pytest.mark.slow
def test_the_damaged_store_of_a_sweep_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What ran in one program is run again, be its cells torn or the metadata."""
    config = sweep({**LENGTHS, "steps": 4}, steps=[4, 8], optimizer__learning_rate=[0.1, 0.2])
    computed: list[str] = []
    original = batch_module._run_all

    def noted(*arguments: Any) -> Any:
        computed.append("batch")
        return original(*arguments)

    def failing(*arguments: Any) -> Any:
        del arguments
        raise KeyboardInterrupt

    monkeypatch.setattr(batch_module, "_run_all", noted)
    with monkeypatch.context() as patched:
        patched.setattr(task_module, "run_points", failing)
        with pytest.raises(KeyboardInterrupt):
            quietly(config, tmp_path)
    assert computed == ["batch", "batch"]
    batch = "batch-00000"
    for torn in (f"{batch}/loss/c/0/0/0", f"{batch}/step/c/0", f"{batch}/step", "zarr.json"):
        file = tmp_path / "results.zarr" / torn
        shutil.rmtree(file) if file.is_dir() else file.write_bytes(file.read_bytes()[:7])
        with monkeypatch.context() as patched:
            patched.setattr(task_module, "run_points", failing)
            with pytest.raises(KeyboardInterrupt):
                quietly(config, tmp_path, resume=True)
        said = capsys.readouterr().err
        lost = "batch-00000 lost coordinates; its runs are run again"
        assert (lost if torn.endswith("step") else "what ran in one program is run again") in said
        assert (gathered(tmp_path)["status"].values == "finished").all()
    assert len(computed) == 9


def test_a_finished_sweep_whose_results_are_damaged_is_gathered_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Torn, or gone; its runs need not run again."""
    config = sweep(LENGTHS, steps=[4, 8])
    quietly(config, tmp_path)
    whole = gathered(tmp_path)
    group = tmp_path / "results.zarr" / SWEEP
    chunk = group / "loss" / "c" / "0" / "0" / "0"
    for damage in (lambda: chunk.write_bytes(b"x"), lambda: shutil.rmtree(group)):
        damage()
        assert quietly(config, tmp_path, resume=True).status == "finished"
        assert "run again" in capsys.readouterr().err
        xr.testing.assert_identical(gathered(tmp_path), whole)


def test_runs_that_fail_in_one_program_are_run_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only one that fails by itself too is recorded; a sweep that goes on runs that one alone."""
    config = sweep(LENGTHS, optimizer__learning_rate=[0.1, 0.2])
    original = workers_module.run

    def exhausted(*arguments: Any) -> Any:
        del arguments
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    def one_of_two(one: Any, *arguments: Any, **options: Any) -> Any:
        if one.optimizer.learning_rate == 0.2:
            raise ZeroDivisionError("a bug")
        return original(one, *arguments, **options)

    monkeypatch.setattr(batch_module, "_run_all", exhausted)
    with monkeypatch.context() as patched:
        patched.setattr(workers_module, "run", one_of_two)
        result = quietly(config, tmp_path)
    assert "RESOURCE_EXHAUSTED" in capsys.readouterr().err
    assert (result.status, result.message) == (
        "incomplete",
        "1 of 2 runs failed; run 1: ZeroDivisionError: a bug",
    )
    assert list(gathered(tmp_path)["status"].values) == ["finished", "failed"]
    assert result.tree().attrs["runs_in_batches"] == 0
    ran: list[float] = []

    def noted(one: Any, *arguments: Any, **options: Any) -> Any:
        ran.append(one.optimizer.learning_rate)
        return original(one, *arguments, **options)

    monkeypatch.setattr(workers_module, "run", noted)
    assert quietly(config, tmp_path, resume=True).status == "finished"
    assert ran == [0.2]
    assert "RESOURCE_EXHAUSTED" not in capsys.readouterr().err


def test_a_sweep_that_cannot_be_built_deletes_nothing(
    together: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the earlier one that it was to replace, and it says why."""
    before = sorted(together.rglob("*"))

    def too_many(*arguments: Any) -> Any:
        del arguments
        raise MemoryError

    monkeypatch.setattr(task_module, "batches", too_many)
    with pytest.raises(ConfigError, match="sweep: more memory than there is would be needed"):
        quietly(sweep(QUARTIC, seed=[0]), together, overwrite=True)
    assert sorted(together.rglob("*")) == before


def test_an_outcome_is_how_the_run_ended_where_its_period_is_not_known() -> None:
    """A discrete run counts beside a flow that stopped; and no outcome is blank."""
    endings = [
        ("finished", "finished", 1.0, "converged"),
        ("diverged", "finished", 2.0, "two-cycle"),
        ("diverged", "finished", 0.0, "higher cycle"),
        ("diverged", "diverged", 0.0, "diverged"),
        ("finished", "finished", np.nan, "finished"),
        ("diverged", "finished", np.nan, "finished"),
        ("diverged", "diverged", np.nan, "diverged"),
        ("finished", "", np.nan, "finished"),
        ("failed", "", np.nan, "failed"),
    ]
    status, discrete, period, expected = (np.array(c) for c in zip(*endings, strict=True))
    cells = xr.Dataset(
        {
            "status": ("point", status.astype(object)),
            "discrete_status": ("point", discrete.astype(object)),
            "period": ("point", period),
        },
        {"point": np.arange(len(endings))},
    )
    config = sweep(QUARTIC, seed=list(range(len(endings) + 1)))
    assert list(gather(config, [cells])["outcome"].values) == [*expected, "missing"]
    unknown = gather(config, [cells.drop_vars("period")])["outcome"].values
    assert list(unknown[:4]) == ["finished", "finished", "finished", "diverged"]


def test_threads_have_precisions_of_their_own() -> None:
    """One that leaves its precision changes nothing for another, nor for the process."""
    single, left = threading.Event(), threading.Event()
    seen: dict[str, Any] = {}

    def first() -> None:
        with precision("float64"):
            assert single.wait(10)
            seen["first"] = jnp.zeros(()).dtype
        left.set()

    def second() -> None:
        with precision("float32"):
            single.set()
            assert left.wait(10)
            seen["second"] = jnp.zeros(()).dtype

    before = jnp.zeros(()).dtype
    threads = [threading.Thread(target=one) for one in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"first": jnp.float64, "second": jnp.float32}
    assert jnp.zeros(()).dtype == before


def test_a_run_that_cannot_be_gone_on_with_is_begun_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that lost rows, or of which it is not known what it was."""
    config = sweep(LENGTHS, steps=[4])
    folder = tmp_path / "runs" / "00000"
    quietly(config, tmp_path)
    whole = gathered(tmp_path)
    step = folder / "results.zarr" / "discrete" / "step" / "c" / "0"
    file = folder / "config.toml"
    for damage in (step.unlink, lambda: write(file, "steps = ")):
        # As if the run and the sweep had been killed before their end.
        for store in (folder, tmp_path):
            Store(store / "results.zarr").update("", {"status": "running"})
        damage()
        assert quietly(config, tmp_path, resume=True).status == "finished"
        assert f"run 0 starts from scratch: {folder}" in capsys.readouterr().err
        xr.testing.assert_identical(gathered(tmp_path), whole)


def test_a_sweep_whose_config_was_changed_in_its_directory_is_refused(tmp_path: Path) -> None:
    """Else results of other values would count as those of the new ones, run by run too."""
    base = {**LENGTHS, "steps": 4}
    quietly(sweep(base, optimizer__learning_rate=[0.1]), tmp_path)
    changed = sweep(base, optimizer__learning_rate=[0.2])
    write(tmp_path / "config.toml", to_toml(changed))
    with pytest.raises(DirectoryError, match=r"cannot resume, config\.toml was changed after"):
        quietly(changed, tmp_path, resume=True)
    assert float(gathered(tmp_path)["learning_rate"][0]) == 0.1
    (tmp_path / "results.zarr").rename(tmp_path / "checkpoint")
    assert quietly(changed, tmp_path, resume=True).status == "finished"
    new = load(tmp_path / "runs" / "00000")
    assert new.attrs["learning_rate"] == 0.2
    loss = float(new["discrete"].to_dataset()["loss"][-1])
    assert float(gathered(tmp_path)["final_loss"][0, 0]) == loss


def test_the_threads_of_a_worker_run_one_job_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's warnings, which a run catches, are the process's."""
    inside: list[int] = []
    most: list[int] = []

    def slow(*arguments: Any, **options: Any) -> None:
        del arguments, options
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()

    monkeypatch.setattr(workers_module, "run", slow)
    text = to_toml(validate_run(QUARTIC))
    jobs = [Job(number, text, str(tmp_path / str(number))) for number in range(3)]
    threads = [threading.Thread(target=run_job, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


def test_a_table_sweep_is_no_key_of_a_run() -> None:
    """It is refused like any other unknown key."""
    data = {**QUARTIC, "sweep": {"over": [{"key": "seed", "values": [0]}]}}
    with pytest.raises(ConfigError, match="sweep: unknown key"):
        validate_run(data)


def test_a_job_never_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is, it is one run's."""
    text = to_toml(validate_run(QUARTIC))
    occupied = write(tmp_path / "file", "")
    assert "is a file" in run_job(Job(3, text, str(occupied))).message
    monkeypatch.setattr("experiments.sweep.workers.run", lambda *a, **k: 1 // 0)
    outcome = run_job(Job(3, text, str(tmp_path / "out")))
    assert outcome == Outcome(3, "ZeroDivisionError: integer division or modulo by zero")


@pytest.mark.slow
def test_runs_are_shared_among_processes(tmp_path: Path) -> None:
    """Through a local cluster, whose results are those of one process."""
    base = {**NETWORK, "steps": 2, "checkpoint": {"every": 2}, "flows": []}
    base = {key: value for key, value in base.items() if key != "curvature"}
    config = sweep(base, seed=[0, 1])
    assert quietly(config, tmp_path / "two", workers=2).status == "finished"
    assert quietly(config, tmp_path / "one").status == "finished"
    for name, variable in gathered(tmp_path / "one").data_vars.items():
        xr.testing.assert_identical(variable, gathered(tmp_path / "two")[name])


def test_no_scheduler_at_the_address_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the address that was given."""
    file = write(tmp_path / "base.toml", to_toml(validate(NETWORK)))
    arguments = ["sweep", str(file), "--over", "seed=0:2", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--scheduler", "nonsense://x"]) == 2
    assert "--scheduler nonsense://x: no dask scheduler answers there" in capsys.readouterr().err


def test_the_built_in_sweeps_are_valid() -> None:
    """Their runs as well."""
    for name, count in (("phase-diagram", 10_000), ("threshold-sweep", 10)):
        config = load_config(name)
        assert isinstance(config, SweepExperiment)
        assert int(np.prod(config.sweep.shape)) == count
    assert len(points(load_sweep("threshold-sweep"))) == 10


@pytest.mark.slow
def test_the_phase_diagram_is_that_of_the_quartic(tmp_path: Path) -> None:
    """Stable up to eta S = 2, two-cycles up to 1 + sqrt(5), bounded up to 4 (THEORY 3)."""
    over = ("potential.curvature=linspace(0.5,5,31)", "optimizer.learning_rate=linspace(0.1,1,31)")
    config = load_sweep("phase-diagram", (), over)
    quietly(config, tmp_path)
    data = gathered(tmp_path)
    product = (data["curvature"] * data["learning_rate"]).transpose(*data["outcome"].dims).values
    # Near its borders a run takes more than 500 steps to settle; the grid is coarser than that.
    borders = [0.0, 2.0, 1 + np.sqrt(5), 4.0, np.inf]
    words = ["converged", "two-cycle", "higher cycle", "diverged"]
    for word, low, high in zip(words, borders[:-1], borders[1:], strict=True):
        inside = (product > low + 0.02) & (product < high - 0.02)
        assert inside.any()
        assert set(data["outcome"].values[inside]) == {word}
    amplitude = data["amplitude"].values[(product > 2.1) & (product < 2.9)]
    curvature, rate = np.meshgrid(data["curvature"], data["learning_rate"], indexing="ij")
    formula = np.sqrt(curvature - 2 / rate, where=product > 2, out=np.zeros_like(product))
    expected = formula[(product > 2.1) & (product < 2.9)]
    assert_trees_close(amplitude, expected, rtol=1e-4)


def test_cycles_are_told_by_their_period() -> None:
    """Of made-up paths, mapped over: repeating, never repeating, at rest, and not finite."""
    turns = np.arange(64.0)
    periods = [2, 3, 5, 16, np.sqrt(7.0)]
    paths = [np.cos(2 * np.pi * turns / period) for period in periods]
    paths += [0.8**turns, np.full(64, 3.0), np.where(turns < 63, 0.8**turns, np.nan)]
    found = jax.jit(jax.vmap(flows.cycle))(jnp.asarray(np.stack(paths))[:, :, None])
    np.testing.assert_array_equal(found.period, [2, 3, 5, 16, 0, 1, 1, 0])
    assert_trees_close(np.asarray(found.amplitude[:3]), np.ones(3), rtol=0.1)
    assert np.isnan(found.amplitude[-1])
    with pytest.raises(ValueError, match="needs 32"):
        flows.cycle(jnp.zeros((31, 1)))
    with pytest.raises(ValueError, match=r"path must .* of shape \(T, P\).* got float64"):
        flows.cycle(jnp.zeros(40))
    with pytest.raises(ValueError, match=r"path must be .* got int"):
        flows.cycle(jnp.zeros((40, 1), int))
    with pytest.raises(ValueError, match="longest must be an integer of at least 1"):
        flows.cycle(jnp.zeros((40, 1)), longest=0)


def test_workers_are_at_least_one(tmp_path: Path) -> None:
    """From Python as from the command line."""
    with pytest.raises(ValueError, match="workers must be at least 1; got 0"):
        quietly(sweep(QUARTIC, seed=[0]), tmp_path / "out", workers=0)
    assert list(run_points([], tmp_path, Workers())) == []
