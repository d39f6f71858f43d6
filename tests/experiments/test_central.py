"""Runs with a Central Flow: what is measured of the oscillation, and that it survives a resume."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flows
from experiments import ConfigError, load
from experiments.config.build import build, precision
from experiments.runs.tracks import Tracks
from tests.experiments.configs import CENTRAL, config, values
from tests.experiments.runs import assert_same_results, quietly
from tests.experiments.test_runs import interrupted_at


@pytest.fixture(scope="module")
def central(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small run at the edge of stability."""
    path = tmp_path_factory.mktemp("runs") / "central"
    assert quietly(config(CENTRAL), path).status == "finished"
    return path


def midpoints_of(path: np.ndarray) -> np.ndarray:
    """The three-point midpoints of iterates; the first is w_0 itself."""
    return np.concatenate([path[:1], (path[:-2] + 2 * path[1:-1] + path[2:]) / 4])


def test_the_midpoints_loss_and_sharpness_are_those_of_the_midpoints(central: Path) -> None:
    """Against the closed forms of the valley, at every step that the iterates of the store give."""
    tree = load(central)
    x, y = midpoints_of(values(tree, "discrete", "params")).T
    loss = 0.5 * (y + x) * x**2 - 0.01 * (x + y)
    top = 0.5 * ((y + 3 * x) + np.sqrt((y + 3 * x) ** 2 + 4 * x**2))
    for name, expected in (("loss", loss), ("sharpness", top)):
        measured = values(tree, "discrete", f"midpoint_{name}")[:-1]
        assert np.abs(measured - expected).max() < 1e-12
    eigenvalues = values(tree, "discrete", "midpoint_eigenvalues")
    assert np.abs(eigenvalues[:-1, 0] - top).max() < 1e-12
    assert eigenvalues.shape == (13, 2)


@pytest.mark.slow
def test_measured_variances_are_squared_displacements_along_the_flows_directions(
    central: Path,
) -> None:
    """Against the same flow run by hand; the directions themselves are not stored."""
    loaded = config(CENTRAL)
    with precision(loaded.precision):
        built = build(loaded, "mine")
        start = built.potential, built.params, 12
        discrete = flows.iterate(built.optimizer, *start, measurements=())
        flow = flows.simulate(built.flows[0].flow, *start, measurements=())
    displacement = np.asarray(discrete.params - flow.params)
    expected = np.einsum("tip,tp->ti", np.asarray(flow.observables["directions"]), displacement)
    tree = load(central)
    stored = tree["central_flow"].to_dataset()
    # The flow is cut into other segments, so that its solver takes other steps: rtol 1e-6.
    assert np.abs(stored["measured_variances"].values - expected**2).max() < 1e-5
    assert stored["measured_variances"].dims == stored["variances"].dims
    assert stored["measured_variances"].attrs["units"] == stored["variances"].attrs["units"]
    assert "directions" not in stored
    assert (expected**2).max() > 1e-3


def test_every_variable_of_the_oscillation_has_units_and_a_name(central: Path) -> None:
    """And a run without a Central Flow has none of them."""
    tree = load(central)
    for name, variable in tree["discrete"].data_vars.items():
        assert variable.attrs["units"], name
        assert variable.attrs["long_name"], name
    assert tree["discrete"]["midpoint_loss"].attrs["long_name"] == "loss at the iterates' midpoint"


@pytest.mark.slow
def test_without_a_central_flow_nothing_of_the_oscillation_is_measured(tmp_path: Path) -> None:
    """It would cost an eigen-iteration per step for nobody."""
    tree = quietly(config(), tmp_path).tree()
    assert not any(str(name).startswith("midpoint") for name in tree["discrete"].data_vars)
    assert "measured_variances" not in tree["gradient_flow"]


@pytest.mark.slow
def test_a_resumed_central_run_equals_an_uninterrupted_one_bit_for_bit(
    central: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eigenvectors of the flow and of the midpoints are carried over too."""
    loaded = config(CENTRAL)
    with monkeypatch.context() as patch:
        interrupted_at(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            quietly(loaded, tmp_path / "parts")
    assert quietly(loaded, tmp_path / "parts", resume=True).status == "finished"
    assert_same_results(central, tmp_path / "parts")


@pytest.mark.slow
def test_a_state_that_has_grown_is_restored(tmp_path: Path) -> None:
    """With rank = "auto" a flow may watch more directions than at its start."""
    potential = {"kind": "quadratic", "spectrum": [6.6] * 4 + [1.0], "start": [0.1] * 5}
    auto = {"kind": "central", "rank": "auto"}
    loaded = config(CENTRAL, potential=potential, flows=[auto], curvature={"eigenvalues": 0})
    with precision(loaded.precision):
        built = build(loaded, "mine")
        tracks = Tracks(loaded, built)
        tracks.accept(tracks.advance(4))
        (_, track) = tracks.tracks
        record = tracks.record()
        like = tracks.states_like(record)["states"]["central"]
    assert track.state is not None
    assert track.state.flow.modes.shape[0] > 4
    assert like.flow.modes.shape == track.state.flow.modes.shape


@pytest.mark.slow
def test_a_rank_that_misses_eigenvalues_is_told_and_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once on the terminal, and as an attribute of the trajectory.

    Without curvature the midpoints have a loss alone, as the iterates themselves have.
    """
    narrow = {"kind": "central", "rank": 1}
    tree = quietly(config(CENTRAL, flows=[narrow], curvature={"eigenvalues": 0}), tmp_path).tree()
    assert capsys.readouterr().err.count("warning: central: ") == 1
    assert "critical sharpness" in tree["central"].attrs["warning"]
    assert "midpoint_loss" in tree["discrete"]
    assert "midpoint_sharpness" not in tree["discrete"]


def test_a_rank_above_the_number_of_parameters_is_refused_before_the_run(tmp_path: Path) -> None:
    """With the key's name, and nothing is written."""
    wide = {"kind": "central", "rank": 3}
    with pytest.raises(ConfigError, match=r"flows\[0\]\.rank: given 3; must be at most .*, 2"):
        quietly(config(CENTRAL, flows=[wide]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_solver_of_a_central_flow_is_its_own_unless_the_config_says_otherwise() -> None:
    """The one that the flow suggests, or any other."""
    own, other, given = (
        config(CENTRAL, flows=[{"kind": "central", **solver}]).flows[0].solver
        for solver in (
            {},
            {"solver": {"kind": "tsit5"}},
            {"solver": {"kind": "rkc", "spectral_radius": 9.0}},
        )
    )
    assert own.kind == "default"
    assert own.arguments() == {}
    assert type(other.arguments()["solver"]).__name__ == "Tsit5"
    solver = given.arguments()["solver"]
    assert isinstance(solver, flows.RungeKuttaChebyshev)
    assert float(solver.spectral_radius) == 9.0


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"rank": 0}, r"flows\[0\]\.rank: given 0; must be a whole number from 1 to 16, or"),
        ({"rank": 17}, r"given 17; must be a whole number from 1 to 16"),
        ({"rank": "many"}, r"given 'many'; must be a whole number"),
        ({"rank": 2.0}, r"given 2\.0; must be a whole number"),
        ({"rank": True}, r"given true; must be a whole number"),
        (
            {"relaxation_time": 0.0},
            r"flows\[0\]\.relaxation_time: given 0\.0; must be greater than 0",
        ),
        ({"correction": 1}, r"flows\[0\]\.correction: given 1; must be true or false"),
        ({"relaxaton": 1.0}, r"did you mean 'relaxation_time'"),
        ({"solver": {"spectral_radius": 1.0, "kind": "tsit5"}}, r"goes with kind = 'rkc' alone"),
        ({"solver": {"kind": "rkc"}}, r"flows\[0\]\.solver\.spectral_radius: missing; rkc needs"),
    ],
)
def test_a_central_flow_with_bad_values_is_refused(table: dict[str, Any], says: str) -> None:
    """The message names the key, what was given and what is allowed."""
    with pytest.raises(ConfigError, match=says):
        config(CENTRAL, flows=[{"kind": "central", **table}])


def test_the_central_figure_needs_a_central_flow() -> None:
    """Better told now than after the run."""
    with pytest.raises(ConfigError, match="figures: given 'central', which needs a flow of kind"):
        config(figures=["central"])
    with pytest.raises(
        ConfigError, match="figures: given 'central_scaling', which draws a study of kind"
    ):
        config(figures=["central_scaling"])
