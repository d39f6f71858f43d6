"""Runs and sweeps with a parity flow, which begins where its start was fitted."""

from pathlib import Path
from typing import Any

import numpy as np
import optax
import pytest
import xarray as xr

import flows
from experiments import ConfigError, export, load, load_config
from experiments.cli import main
from experiments.config.build import build, build_study, precision
from experiments.studies import StudyExperiment
from experiments.sweep.batch import batches
from experiments.sweep.cells import cells_of_run
from experiments.sweep.grid import points
from tests.experiments.configs import DIVERGING, VALLEY, config, values
from tests.experiments.runs import assert_same_results, quietly
from tests.experiments.test_runs import interrupted_at
from tests.experiments.test_sweep import sweep
from tests.helpers import assert_trees_close

BURN = 8
# At the edge of stability, and closer than the comparisons below, whose segments differ.
SOLVER = {"kind": "tsit5", "rtol": 1e-10, "atol": 1e-12}
PARITY: dict[str, Any] = {
    **VALLEY,
    "name": "tiny-parity",
    "steps": 24,
    "save_every": 2,
    "potential": {"kind": "sharp_valley", "epsilon": 0.01, "start": [0.1, 6.6]},
    "flows": [
        {"kind": "gradient", "label": "gradient_flow"},
        {"kind": "parity", "label": "parity", "burn": BURN, "solver": SOLVER},
    ],
    "curvature": {"eigenvalues": 0},
    # Below the burn: the first segment goes on to step 12.
    "checkpoint": {"every": 4},
}


@pytest.fixture(scope="module")
def parity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small run at the edge of stability."""
    path = tmp_path_factory.mktemp("runs") / "parity"
    assert quietly(config(PARITY), path).status == "finished"
    return path


def test_a_flow_is_saved_from_where_it_begins(parity: Path) -> None:
    """Its group says where; all others are saved from the start."""
    tree = load(parity)
    np.testing.assert_array_equal(values(tree, "parity", "step"), np.arange(BURN, 25, 2))
    assert tree["parity"].attrs["first_step"] == BURN
    for label in ("discrete", "gradient_flow"):
        np.testing.assert_array_equal(values(tree, label, "step"), np.arange(0, 25, 2))
        assert "first_step" not in tree[label].attrs
    assert not {"iterate_distance", "half_difference"} & set(tree["gradient_flow"].data_vars)


def test_distances_are_to_midpoints_and_iterates_of_the_same_step(parity: Path) -> None:
    """And the displacement counts from the first step of the flow itself."""
    built = built_of(config(PARITY))
    with precision("float64"):
        whole = flows.iterate(built.optimizer, built.potential, built.params, 25)
    path = np.asarray(whole.params)
    at = np.arange(BURN, 25, 2)
    midpoints = (path[at - 1] + 2 * path[at] + path[at + 1]) / 4
    data = load(parity)["parity"].to_dataset()
    centres = data["params"].values
    signs = (-1.0) ** at[:, None]
    expected = {
        "distance": centres - midpoints,
        "displacement": midpoints - midpoints[0],
        "iterate_distance": centres + signs * data["half_difference"].values - path[at],
        "iterate_displacement": path[at] - path[at][0],
    }
    for name, vectors in expected.items():
        assert_trees_close(data[name].values, np.linalg.norm(vectors, axis=1), atol=1e-13)
        assert data[name].attrs["units"] == "parameter"
    # The gradient flow's still counts from step 0.
    assert values(load(parity), "gradient_flow", "displacement")[0] == 0


def built_of(loaded: Any) -> Any:
    """What a config describes."""
    with precision("float64"):
        return build(loaded, "mine")


def test_the_summary_has_both_errors(parity: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Summed up piece by piece they are those of the uncut trajectories; the table shows them."""
    loaded = config(PARITY)
    built = built_of(loaded)
    with precision("float64"):
        start = built.potential, built.params, loaded.steps
        discrete = flows.iterate(built.optimizer, *start, save_every=2)
        for one in built.flows:
            # Segments as the run's: each stops the solver.
            whole = flows.simulate(one.flow, *start, save_every=2, segment=2, **one.solver)
            attrs = load(parity)[one.label].attrs
            error = float(flows.tracking_error(whole, discrete))
            assert attrs["tracking_error"] == pytest.approx(error, rel=1e-6)
            if one.kind == "parity":
                error = float(flows.iterate_error(whole, discrete))
                assert attrs["iterate_error"] == pytest.approx(error, rel=1e-4)
                assert 0 < error < 1e-2
            else:
                assert "iterate_error" not in attrs
    assert main(["show", str(parity)]) == 0
    shown = capsys.readouterr().out
    assert "iterate" in shown
    (line,) = (row for row in shown.splitlines() if row.split()[:1] == ["parity"])
    assert f" {load(parity)['parity'].attrs['iterate_error']:.4g} " in line


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    parity: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the flow began is part of the checkpoint, whether it is the first one or the second."""
    for count in (2, 3):
        path = tmp_path / str(count)
        with monkeypatch.context() as patch:
            interrupted_at(patch, count, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                quietly(config(PARITY), path)
        assert load(path)["parity"].sizes["step"] == {2: 3, 3: 5}[count]
        assert quietly(config(PARITY), path, resume=True).status == "finished"
        assert_same_results(parity, path)


@pytest.mark.slow
def test_segments_do_not_change_a_run(parity: Path, tmp_path: Path) -> None:
    """But for the solver's tolerance: it stops at the end of each."""
    whole = quietly(config(PARITY, checkpoint={"every": 24}), tmp_path).tree()
    parts = load(parity)
    for label in ("gradient_flow", "parity"):
        one, other = (tree[label].to_dataset() for tree in (whole, parts))
        assert one.sizes == other.sizes
        for name in ("loss", "params", "distance", "displacement"):
            assert_trees_close(one[name].values, other[name].values, rtol=1e-6, atol=1e-8)


def test_the_half_difference_is_stored_with_the_parameters_alone(
    parity: Path, tmp_path: Path
) -> None:
    """It is as large; its length and the distances are there without it."""
    tree = quietly(config(PARITY, save_params=False, flows=PARITY["flows"][1:]), tmp_path).tree()
    without, complete = (set(t["parity"].data_vars) for t in (tree, load(parity)))
    assert complete - without == {"params", "half_difference"}
    for name in ("half_difference_length", "iterate_distance"):
        assert_trees_close(values(tree, "parity", name), values(load(parity), "parity", name))


def test_the_run_is_exported(parity: Path, tmp_path: Path) -> None:
    """As tables of different lengths, and as one file."""
    export(parity, "csv", tmp_path / "csv")
    lines = (tmp_path / "csv" / "parity.csv").read_text("utf-8").splitlines()
    assert len(lines) == 1 + len(range(BURN, 25, 2))
    assert "half_difference[0]" in lines[0]
    assert '"iterate_error"' in (tmp_path / "csv" / "metadata.json").read_text("utf-8")
    with xr.open_datatree(export(parity, "netcdf", tmp_path / "run.nc")) as tree:
        xr.testing.assert_equal(
            tree["parity"].to_dataset().load(), load(parity)["parity"].to_dataset()
        )


@pytest.mark.slow
def test_an_optimizer_that_diverges_before_the_flow_begins_leaves_it_without_a_row(
    tmp_path: Path,
) -> None:
    """The run says so of both, and is shown."""
    table = {"kind": "parity", "burn": 10}
    loaded = config(DIVERGING, flows=[table], steps=20, checkpoint={"every": 20})
    result = quietly(loaded, tmp_path)
    assert result.status == "diverged"
    assert "discrete stopped at step" in result.message
    assert "parity stopped at step 10" in result.message
    assert result.tree()["parity"].sizes["step"] == 0
    assert main(["show", str(tmp_path)]) == 0


@pytest.mark.slow
def test_an_optimizer_that_stops_after_the_flow_began_leaves_its_distances_nan(
    tmp_path: Path,
) -> None:
    """From there on: the flow itself goes on, or stops by itself."""
    slowly = {
        **DIVERGING,
        # Beside the top of the barrier, at sqrt(2).
        "potential": {"kind": "quartic", "curvature": 2.0, "start": [1.415]},
        "optimizer": {"kind": "gradient_descent", "learning_rate": 0.15},
    }
    tables = [{"kind": "parity", "burn": 8, "order": 1}]
    tree = quietly(config(slowly, flows=tables), tmp_path).tree()
    last = values(tree, "discrete", "step")[-1]
    assert 8 < last < 40
    data = tree["parity"].to_dataset()
    for name in ("distance", "displacement", "iterate_distance", "iterate_displacement"):
        found = np.isfinite(data[name].values)
        assert not found[data["step"].values > last].any()
        # The last midpoint may need an iterate that is not finite.
        assert found[data["step"].values < last].all()


@pytest.mark.parametrize(
    ("changes", "table", "says"),
    [
        ({}, {"burn": 9}, r"flows\[0\]\.burn: begins at step 9; must be a multiple of save_every"),
        ({"steps": 8}, {"burn": 8}, r"flows\[0\]\.burn: begins at step 8; must be below steps = 8"),
        ({}, {"burn": 6}, r"flows\[0\]\.burn: given 6; must be at least half_width"),
        ({}, {"order": 5}, r"flows\[0\]\.order: given 5; must be at most 4"),
        ({}, {"start": "given"}, r"flows\[0\]\.start: given 'given'; must be one of fit, split"),
        ({}, {"difference": 0.1}, r"flows\[0\]\.difference: unknown key"),
        (
            {"optimizer": {"kind": "rolling_ball", "learning_rate": 0.3, "radius": 0.1}},
            {"burn": 8},
            r"flows\[0\]: optimizer must have a state of float arrays",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_the_run(
    changes: dict[str, Any], table: dict[str, Any], says: str, tmp_path: Path
) -> None:
    """With the key, and no trace in the directory."""
    with pytest.raises(ConfigError, match=says):
        quietly(
            config(PARITY, **{"flows": [{"kind": "parity", **table}], **changes}),
            tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_one_program_of_many_runs_equals_each_run_by_itself(parity: Path, tmp_path: Path) -> None:
    """With the segments of a run by itself, the first of which goes on until the flow has begun."""
    config_of_sweep = sweep(PARITY, optimizer__learning_rate=[0.3, 0.301])
    (batch,), alone = batches(points(config_of_sweep), True)
    assert alone == []
    cells = batch.compute()
    single = cells_of_run(load(parity), batch.points[0], True)
    one = cells.isel(point=0)
    assert_trees_close(one["step"].values, single["step"].values)
    for label in ("discrete", "gradient_flow", "parity"):
        for name in ("loss", "distance", "iterate_distance", "tracking_error", "iterate_error"):
            found, expected = (
                data.sel(trajectory=label)[name].squeeze().values for data in (one, single)
            )
            assert_trees_close(found, expected, atol=1e-11)
    assert np.isnan(one.sel(trajectory="parity", step=0)["loss"])
    assert float(one.sel(trajectory="parity")["iterate_error"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("points", [2, 4])
def test_the_order_study_finds_the_slopes_of_theory(points: int) -> None:
    """THEORY 8.8 for order 2: slopes 1.16, 1.57, 1.79 within 0.15, whose limit is 2."""
    loaded = load_config("parity-order", ["study.orders=[2]", f"study.points={points}"])
    assert isinstance(loaded, StudyExperiment)
    with precision(loaded.precision):
        study = build_study(loaded, "mine")
        found = {part: study.compute(part) for part in study.parts}
    conclusions = study.conclude(found)
    slopes = [one.measured for one in conclusions if "slope from" in one.quantity]
    assert slopes == pytest.approx([1.16, 1.57, 1.79][: points - 1], abs=0.15)
    if points < 4:
        return
    (limit,) = (one for one in conclusions if "limit" in one.quantity)
    assert limit.predicted == 2
    assert limit.measured == pytest.approx(2, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "burn", "most"),
    [
        pytest.param(optax.adam(0.01, b2=0.99), 340, 0.012, id="adam"),
        pytest.param(optax.nadam(0.003, b2=0.99), 260, 0.006, id="nadam"),
        pytest.param(optax.rmsprop(5e-4, decay=0.99, eps_in_sqrt=False), 400, 0.012, id="rmsprop"),
    ],
)
def test_optaxs_own_methods_are_followed_at_their_edges(
    optimizer: optax.GradientTransformation, burn: int, most: float
) -> None:
    """As bare maps with counters, from where they are at the edge, through bursts to step 1000."""
    built = built_of(load_config("parity-adam"))
    start = built.potential, built.params
    with precision("float64"):
        flow = flows.ParityFlow(optimizer, burn=burn, half_width=6, degree=3)
        run = flows.simulate(flow, *start, 1000, measurements=())
        discrete = flows.iterate(optimizer, *start, 1001, measurements=())
        assert 0 < float(flows.iterate_error(run, discrete)) < most


@pytest.mark.parametrize(
    ("changes", "onsets"),
    [
        pytest.param(
            ["study.epsilon=0.004", "study.steps=1000"],
            {"float32": 896},
            marks=pytest.mark.slow,
        ),
        # THEORY 8.4.
        pytest.param([], {"float64": 3190, "float32": 2904}, marks=pytest.mark.slow),
    ],
)
def test_rounding_sets_the_onset_as_the_flow_says(
    changes: list[str], onsets: dict[str, int]
) -> None:
    """Of gradient descent in either precision, but for the chance of its few rounding errors."""
    loaded = load_config("parity-rounding", changes)
    assert isinstance(loaded, StudyExperiment)
    with precision(loaded.precision):
        study = build_study(loaded, "mine")
        for part, onset in onsets.items():
            attrs = study.compute(part).attrs
            assert attrs["predicted_onset"] == pytest.approx(onset, abs=5)
            assert attrs["onset"] == pytest.approx(onset, rel=0.02)


def test_a_study_of_both_precisions_needs_the_finer_one() -> None:
    """JAX would make float32 of its float64 part."""
    loaded = load_config("parity-rounding", ["precision=float32"])
    assert isinstance(loaded, StudyExperiment)
    with precision(loaded.precision), pytest.raises(ConfigError, match='must be "float64"'):
        build_study(loaded, "mine")


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("parity-order", ["study.burn=600"], "burn.*must be below the shortest run's end"),
        ("parity-order", ["study.horizon=1e5"], "horizon.*at most 100000 steps"),
        ("parity-order", ["study.orders=[2, 2]"], "orders.*each entry once"),
        ("parity-two-cycles", ["study.highest=0.5"], "highest.*greater than lowest"),
        ("parity-two-cycles", ["study.steps=55"], "steps.*multiple of 10"),
        ("parity-rounding", ["study.steps=10"], "burn.*given 10; must be below steps = 10"),
    ],
)
def test_studies_without_a_run_are_refused(kind: str, changes: list[str], message: str) -> None:
    """With the key to blame."""
    with pytest.raises(ConfigError, match=message):
        load_config(kind, changes)
