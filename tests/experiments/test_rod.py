"""Runs with a Rod Flow, and the optimizers with momentum that it alone models."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flows
from experiments import ConfigError, load
from experiments.cli import main
from experiments.config.build import build, precision
from experiments.config.loader import to_toml, validate
from tests.experiments.configs import ROD, config, values
from tests.experiments.runs import assert_same_results, quietly
from tests.experiments.test_runs import interrupted_at

HEAVY_BALL: dict[str, Any] = {"kind": "heavy_ball", "learning_rate": 0.3, "momentum": 0.9}
NESTEROV: dict[str, Any] = {**HEAVY_BALL, "kind": "nesterov"}


@pytest.fixture(scope="module")
def rod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small run at the edge of stability."""
    path = tmp_path_factory.mktemp("runs") / "rod"
    assert quietly(config(ROD), path).status == "finished"
    return path


def test_the_distance_of_a_rod_flow_is_to_the_two_point_midpoints(rod: Path) -> None:
    """(w_t + w_{t+1}) / 2, and the displacement is from the first of them."""
    tree = load(rod)
    path, centre = (values(tree, label, "params") for label in ("discrete", "rod_flow"))
    midpoints = (path[:-1] + path[1:]) / 2
    expected = np.linalg.norm(centre[:-1] - midpoints, axis=1)
    # The store has the iterates up to the last step, the runner one more.
    assert np.abs(values(tree, "rod_flow", "distance")[:-1] - expected).max() < 1e-12
    moved = np.linalg.norm(midpoints - midpoints[0], axis=1)
    assert np.abs(values(tree, "rod_flow", "displacement")[:-1] - moved).max() < 1e-12


def test_half_the_distance_to_the_next_iterate_is_stored_beside_the_rods(rod: Path) -> None:
    """What their length models, with units; and nothing of it where no rod flow runs."""
    path = values(load(rod), "discrete", "params")
    expected = np.linalg.norm(np.diff(path, axis=0), axis=1) / 2
    stored = load(rod)["discrete"].to_dataset()["half_difference"]
    assert np.abs(stored.values[:-1] - expected).max() < 1e-12
    assert stored.attrs["units"] == "parameter"
    assert np.isfinite(stored.values).all()


@pytest.mark.slow
def test_with_momentum_no_half_distance_is_stored(tmp_path: Path) -> None:
    """A rod then has a length in momentum too, which iterates alone do not give."""
    lean = [{"kind": "rod", "alignment": False}]
    loaded = config(ROD, optimizer=HEAVY_BALL, flows=lean, curvature={"eigenvalues": 0}, steps=4)
    tree = quietly(loaded, tmp_path).tree()
    assert "half_difference" not in tree["discrete"].data_vars
    assert np.isfinite(values(tree, "rod", "rod_half_lengths")).all()
    assert np.isfinite(values(tree, "rod", "distance")).all()


def test_the_summary_has_the_tracking_error_of_a_rod_flow(
    rod: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the table shows it, and as the store has it."""
    assert main(["show", str(rod)]) == 0
    error = load(rod)["rod_flow"].attrs["tracking_error"]
    assert 0 < error < 1
    (line,) = (row for row in capsys.readouterr().out.splitlines() if "rod_flow" in row)
    assert f" {error:.4g} " in line


@pytest.mark.slow
def test_a_resumed_rod_run_equals_an_uninterrupted_one_bit_for_bit(
    rod: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The covariance is part of the checkpoint."""
    with monkeypatch.context() as patch:
        interrupted_at(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            quietly(config(ROD), tmp_path / "parts")
    assert quietly(config(ROD), tmp_path / "parts", resume=True).status == "finished"
    assert_same_results(rod, tmp_path / "parts")


@pytest.mark.parametrize(
    ("optimizer", "built", "label"),
    [
        (HEAVY_BALL, flows.HeavyBall, "2(1 + beta)/eta"),
        (NESTEROV, flows.Nesterov, "2(1 + beta)/((1 + 2 beta) eta)"),
    ],
    ids=["heavy_ball", "nesterov"],
)
def test_an_optimizer_with_momentum_runs_with_its_own_critical_sharpness(
    optimizer: dict[str, Any], built: type, label: str, tmp_path: Path
) -> None:
    """In the store, beside its formula; and the table shows both."""
    loaded = config(ROD, optimizer=optimizer, flows=[], curvature={"eigenvalues": 0}, steps=4)
    with precision("float64"):
        made = build(loaded, "mine").optimizer
    assert isinstance(made, built)
    attrs = quietly(loaded, tmp_path).tree().attrs
    assert attrs["critical_sharpness"] == pytest.approx(float(made.critical_sharpness))
    assert attrs["critical_label"] == label


@pytest.mark.parametrize("kind", ["ball_centre", "central"])
def test_a_flow_that_does_not_model_the_optimizer_is_refused(kind: str) -> None:
    """With the flow's key, and what would go."""
    says = rf"flows\[1\]\.kind: given '{kind}', which models [a-z_, ]+; .* 'heavy_ball'"
    with pytest.raises(ConfigError, match=says):
        config(ROD, optimizer=HEAVY_BALL, flows=[{"kind": "rod"}, {"kind": kind}])


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"rank": 0}, r"flows\[0\]\.rank: given 0; must be a whole number of at least 1, or"),
        ({"rank": True}, r"given true; must be a whole number"),
        ({"rank": "automatic"}, r"given 'automatic'; must be a whole number"),
        ({"share": 0.5}, r"flows\[0\]\.share: given 0\.5; goes with rank = 'auto' alone, not 1"),
        ({"rank": "auto", "share": 1.0}, r"share: given 1\.0; must be less than 1"),
        ({"alignment": 1}, r"alignment: given 1; must be true or false"),
        ({"dense_limit": -1}, r"dense_limit: given -1; must be at least 0"),
        (
            {"relaxation_time": 1.0},
            r'time: unknown key; this key belongs to kind = "central" .*rank, share, solver',
        ),
    ],
)
def test_a_rod_flow_with_bad_values_is_refused(table: dict[str, Any], says: str) -> None:
    """The message names the key, what was given and what is allowed."""
    with pytest.raises(ConfigError, match=says):
        config(ROD, flows=[{"kind": "rod", **table}])


@pytest.mark.parametrize(
    ("momentum", "says"),
    [
        (1.0, "given 1.0; must be less than 1"),
        (-0.1, "given -0.1; must be at least 0"),
        (None, "missing"),
    ],
)
def test_a_momentum_outside_its_range_is_refused(momentum: float | None, says: str) -> None:
    """It is at least 0 and below 1, and has no default."""
    given = {} if momentum is None else {"momentum": momentum}
    optimizer = {"kind": "heavy_ball", "learning_rate": 0.3, **given}
    with pytest.raises(ConfigError, match=rf"optimizer\.momentum: {says}"):
        config(ROD, optimizer=optimizer)


@pytest.mark.parametrize(("optimizer", "phase"), [(ROD["optimizer"], 2), (HEAVY_BALL, 4)])
def test_a_rank_above_the_phase_space_is_refused_before_the_run(
    optimizer: dict[str, Any], phase: int, tmp_path: Path
) -> None:
    """Which has the momentum too."""
    wide = config(ROD, optimizer=optimizer, flows=[{"kind": "rod", "rank": phase + 1}])
    with pytest.raises(ConfigError, match=rf"flows\[0\]\.rank: .*must be at most {phase}, the"):
        quietly(wide, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_rod_figures_need_what_they_draw() -> None:
    """Better told now than after the run."""
    with pytest.raises(ConfigError, match="figures: given 'rod', which needs a flow of kind 'rod'"):
        config(ROD, flows=[], figures=["rod"])
    with pytest.raises(ConfigError, match="given 'rod_quartic', which draws a study of kind"):
        config(ROD, figures=["rod_quartic"])


QUARTIC: dict[str, Any] = {
    "name": "tiny-quartic",
    "study": {"kind": "rod_quartic", "steps": 300, "lowest": 1.5, "highest": 3.2, "points": 5},
}


def quartic(**changes: Any) -> Any:
    """The small study with some keys of its table replaced."""
    return validate({**QUARTIC, "study": {**QUARTIC["study"], **changes}})


@pytest.mark.slow
def test_the_quartic_study_follows_the_formula_until_symmetry_is_lost(tmp_path: Path) -> None:
    """S = 1.5, 1.925, 2.35, 2.775, 3.2: none, none, two two-cycles, and one without symmetry."""
    tree = quietly(quartic(), tmp_path).tree()
    data = tree["conclusions"].to_dataset()
    found = dict(
        zip(data["quantity"].values.tolist(), data["measured"].values.tolist(), strict=True)
    )
    assert len(found) == 3
    assert found["largest |w^2 - formula| of the symmetric two-cycles"] < 1e-9
    assert found["largest |Sigma - formula| of the rod flow, at the same curvatures"] < 1e-6
    assert found["lowest curvature of an asymmetric two-cycle"] == pytest.approx(3.2)
    variance = values(tree, "rod_flow", "variance")
    assert variance[2:4] == pytest.approx([0.35, 0.775], abs=1e-6)
    assert variance[0] < 1e-8
    # The rod flow follows the loss of symmetry: its ends are the iterates.
    ends = values(tree, "rod_flow", "centre")[4] + np.sqrt(variance[4]) * np.array([-1, 1])
    iterates = np.sort(values(tree, "gradient_descent", "iterates")[4, -2:])
    assert np.abs(ends) == pytest.approx(np.abs(iterates), abs=1e-3)
    assert np.abs(values(tree, "gradient_flow", "centre")).max() < 1e-6
    for group in ("gradient_descent", "rod_flow", "central_flow", "gradient_flow"):
        for variable in tree[group].data_vars.values():
            assert variable.attrs["units"]
            assert variable.attrs["long_name"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"highest": 1.5}, r"study\.highest: given 1\.5; must be greater than lowest = 1\.5"),
        ({"highest": 4.1}, r"study\.highest: given 4\.1; must be at most 4 / learning_rate = 4"),
        ({"points": 1}, r"study\.points: given 1; must be at least 2"),
        ({"steps": 10}, r"study\.steps: given 10; must be at least 100"),
        ({"kind": "rod_quartics"}, r"study\.kind: .*did you mean 'rod_quartic'"),
    ],
)
def test_a_quartic_study_with_bad_values_is_refused(changes: dict[str, Any], says: str) -> None:
    """The message names the key, what was given and what is allowed."""
    with pytest.raises(ConfigError, match=says):
        quartic(**changes)


def test_what_a_config_says_of_the_rods_reaches_the_flow() -> None:
    """And what it leaves out is the flow's own default, or written down."""
    loaded = config(ROD, flows=[{"kind": "rod", "rank": "auto", "dense_limit": 0}])
    assert "share = 0.99" in to_toml(loaded)
    with precision("float64"):
        flow = build(loaded, "mine").flows[0].flow
    assert (flow.rank, float(flow.share), flow.dense_limit) == ("auto", 0.99, 0)
    assert loaded.flows[0].solver.arguments() == {}
