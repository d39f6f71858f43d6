"""The built-in experiments: each runs, and shows what its description says."""

from pathlib import Path

import numpy as np
import pytest

from experiments import Experiment, builtin_names, load_config, run
from experiments.schema import Config
from tests.experiments.configs import values

STUDIES = {
    "central-scaling": ["study.horizon=0.02", "study.energy_epsilon=1e-3", "figures=[]"],
    "rod-quartic": ["study.steps=100", "study.points=3", "figures=[]"],
    "dims-ring": ["study.speeds=[1.0]", "study.samples=8", "figures=[]"],
    "dims-energy": ["study.horizon=1.0", "study.saves=10", "figures=[]"],
    "dims-limit": ["study.frictions=[4.0, 8.0, 16.0]", "figures=[]"],
}
# Each of their methods compiles for seconds; `test_uncertainty.py` has the methods themselves.
TINY = ["study.samples=4", "study.members=2", "study.scales=[0.1]", "figures=[]"]
POSTERIORS = {
    "dims-regression": [*TINY, "study.hidden=8", "study.train=4"],
    "dims-banana": [*TINY, "study.hidden=8", "study.train=6"],
    "dims-uncertainty": [*TINY, "study.hidden=4", "study.train=9", "study.data=['wine']"],
}
# The same study as dims-energy, on another potential.
SAME = {"dims-valley"}
SHORT = ["steps=8", "save_every=4", "checkpoint.every=8", "curvature.every=8", "figures=[]"]
# Compiling the eigenvalues of a network takes most of a short run, and less for a small one.
SMALL = {
    "chebyshev": ["potential.model.hidden=[4]"],
    "digits-cnn": ["potential.model.channels=[2]", "potential.data.examples=20"],
    "digits-mlp": ["potential.model.hidden=[4]", "potential.data.examples=20"],
}
# As does compiling a Central Flow; its options are tested with the flow.
ONE_FLOW = ["flows=[{kind='central', rank=2}]"]
RODS = [name for name in builtin_names() if name.startswith("rod-") and name not in STUDIES]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALL))
def test_the_networks_run_at_their_size(name: str, tmp_path: Path) -> None:
    """As below, unabridged but for the steps."""
    check_that_it_runs(load_config(name, SHORT), tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", RODS)
def test_the_rod_flows_of_every_built_in_run(name: str, tmp_path: Path) -> None:
    """The last of the config's, with small networks; the other flows run above and below."""
    smaller = SMALL.get(name.removeprefix("rod-"), [])
    config = load_config(name, [*SHORT, *smaller])
    assert isinstance(config, Experiment)
    check_that_it_runs(config.model_copy(update={"flows": config.flows[-1:]}), tmp_path / name)


@pytest.mark.parametrize(
    "name", [name for name in builtin_names() if name not in {*STUDIES, *POSTERIORS, *SAME, *RODS}]
)
def test_every_built_in_runs(name: str, tmp_path: Path) -> None:
    """With every trajectory, and curvature that is finite."""
    flows = ONE_FLOW if name.startswith("central-") else []
    smaller = SMALL.get(name.removeprefix("central-"), [])
    check_that_it_runs(load_config(name, [*SHORT, *smaller, *flows]), tmp_path / name)


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_every_built_in_study_runs(name: str, tmp_path: Path) -> None:
    """With all its parts, and conclusions that are finite."""
    result = run(load_config(name, STUDIES[name]), tmp_path / name, progress=False)
    assert result.status == "finished"
    assert np.isfinite(values(result.tree(), "conclusions", "measured")).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*samples are at rest")
@pytest.mark.parametrize("name", sorted(POSTERIORS))
def test_every_built_in_study_of_posteriors_runs(name: str, tmp_path: Path) -> None:
    """With every method."""
    result = run(load_config(name, POSTERIORS[name]), tmp_path / name, progress=False)
    assert result.status == "finished"
    assert values(result.tree(), "conclusions", "measured").size > 10


def check_that_it_runs(config: Config, path: Path) -> None:
    """Run a config of eight steps and look at what it stored."""
    assert isinstance(config, Experiment)
    result = run(config, path, draw=False, progress=False)
    assert result.status == "finished"
    tree = result.tree()
    for label in ("discrete", *(flow.label for flow in config.flows)):
        np.testing.assert_array_equal(values(tree, label, "step"), [0, 4, 8])
        assert np.isfinite(values(tree, label, "loss")).all()
        assert np.isfinite(values(tree, label, "sharpness")[[0, 2]]).all()


def test_scalar_product_ends_where_the_closed_form_says(tmp_path: Path) -> None:
    """Gradient flow conserves x^2 - y^2 and ends at sharpness sqrt(4 + (x0^2 - y0^2)^2)."""
    tree = run(load_config("scalar-product"), tmp_path / "run", draw=False, progress=False).tree()
    flow = tree["gradient_flow"].to_dataset()
    x, y = flow["params"].values.T
    # The solver's tolerance is 1e-8 per step, and the end is reached exponentially.
    assert np.abs(x**2 - y**2 - 6.0).max() < 1e-6
    assert flow["sharpness"].values[-1] == pytest.approx(np.sqrt(40.0), rel=1e-6)
    end = values(tree, "discrete", "params")[-1]
    assert end == pytest.approx([1.7365475, 0.5758553], abs=1e-6)


def test_quartic_descent_settles_on_the_two_cycle(tmp_path: Path) -> None:
    """a^2 = S/Q - 2/(eta Q) = 0.1, around a flow that goes to the minimum."""
    tree = run(load_config("quartic-descent"), tmp_path / "run", draw=False, progress=False).tree()
    last = values(tree, "discrete", "params")[-2:, 0]
    assert last**2 == pytest.approx(0.1, rel=1e-6)
    assert last[0] * last[1] < 0
    assert abs(values(tree, "gradient_flow", "params")[-1, 0]) < 1e-6


def test_quadratic_stability_grows_along_the_sharp_direction_alone(tmp_path: Path) -> None:
    """Each coordinate follows (1 - eta lambda)^t."""
    config = load_config("quadratic-stability")
    tree = run(config, tmp_path / "run", draw=False, progress=False).tree()
    steps = values(tree, "discrete", "step")[:, None]
    rates = 1 - 0.1 * np.array([20.2, 2.0])
    expected = np.array([0.1, 1.0]) * rates**steps
    np.testing.assert_array_almost_equal_nulp(
        values(tree, "discrete", "params")[:10], expected[:10], 64
    )
    assert np.abs(values(tree, "discrete", "params") - expected).max() < 1e-12
