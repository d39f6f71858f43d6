"""The studies of RMSProp and its flows on the turned valley."""

import jax
import numpy as np
import pytest
import xarray as xr

from experiments import ConfigError, load_config
from experiments.config.build import build_study, precision
from experiments.studies import AbstractStudy, StudyExperiment
from experiments.studies.turned import (
    at_edge,
    cycle_end,
    heights,
    start_of_centre,
    turned_valley,
)
from tests.helpers import assert_trees_close

ETA = 0.04


def study_of(name: str, *changes: str) -> AbstractStudy:
    """The study of a built-in."""
    config = load_config(name, list(changes))
    assert isinstance(config, StudyExperiment)
    return build_study(config, "mine")


def computed(name: str, part: str, *changes: str) -> xr.Dataset:
    """A part of a study."""
    with precision("float64"):
        return study_of(name, *changes).compute(part)


@pytest.mark.slow
@pytest.mark.parametrize("scalar", [True, False])
def test_runs_start_at_the_edge_on_a_two_cycle(scalar: bool) -> None:
    """The largest eigenvalue of P^-1 H is 2/eta, and a step leads across to the other end."""
    valley, centre = turned_valley(ETA, 1.0), start_of_centre()
    assert heights(centre[None]) == pytest.approx(1)
    method = at_edge(ETA, 0.9, valley, centre, scalar=scalar)
    diagonal = method.preconditioner(method.init(centre), valley)
    matrix = jax.hessian(valley)(centre) / diagonal[:, None]
    assert max(np.linalg.eigvals(matrix).real) == pytest.approx(2 / ETA)
    end = cycle_end(ETA, scalar=scalar)
    # Without the slope eta^2 and the asymmetry of the walls. The cycle is that of a bowl; the
    # valley's curvature y differs between the two ends, in proportion to eta.
    level = turned_valley(0.0, 0.0)
    method = at_edge(ETA, 0.9, level, end, scalar=scalar)
    after = method.step(method.init(end), level).params
    assert_trees_close(after - centre, centre - end, rtol=2 * ETA, atol=0.0)


def test_conclusions_compare_the_last_slope_with_theory() -> None:
    """2 with alternation, 0 of what remains without it."""
    rates = np.array([0.04, 0.02, 0.01])

    def part(errors: np.ndarray, **kind: int) -> xr.Dataset:
        data = {"error": ("learning_rate", errors)}
        attrs = {"label": "one", "b2": 0.9, "scalar": 0, **kind}
        return xr.Dataset(data, {"learning_rate": rates}, attrs)

    parts = {
        "ours": part(3 * rates**2, alternation=1),
        "theirs": part(0 * rates + 0.02, alternation=0),
    }
    conclusions = study_of("adaptive-order").conclude(parts)
    last = [one for one in conclusions if one.predicted is not None]
    assert [one.predicted for one in last] == [2, 0]
    assert [one.measured for one in last] == pytest.approx([2, 0])
    assert conclusions[-1].measured == pytest.approx(0.02 * 1.9 / 0.1)


@pytest.mark.slow
def test_a_rod_starts_on_the_cycle_of_the_optimizer() -> None:
    """The study in small: centres agree over ten steps, at the edge."""
    changes = ["study.steps=10", "study.models=['rod_alternation']"]
    data = computed("adaptive-valley", "rmsprop", *changes)
    assert list(data["flow"].values) == ["rod_alternation"]
    assert float(data["distance"].max()) < 1e-3
    assert data["preconditioned_sharpness"].values == pytest.approx(2 / ETA, rel=0.05)
    assert data["midpoint_height"].values[-1] > 1.01


@pytest.mark.slow
def test_alternation_gives_central_flow_of_rmsprop_its_order() -> None:
    """Without it an error of the order of 1 - b2 stays; with it the error falls as eta squared."""
    changes = ["study.learning_rate=0.04", "study.points=3"]
    found = {
        part: computed("adaptive-order", part, *changes)["error"].values
        for part in ("published-0.9", "published-0.99", "alternation-0.9")
    }
    assert found["published-0.9"] == pytest.approx(0.0367, rel=0.01)
    assert found["published-0.99"][1:] == pytest.approx(0.0035, rel=0.02)
    ours = found["alternation-0.9"]
    assert np.all(np.log2(ours[:-1] / ours[1:]) > 1.9)
    assert ours[-1] < 1.1e-5


@pytest.mark.slow
def test_flows_of_rmsprop_on_the_turned_valley() -> None:
    """The tracking errors of each; stable flow leaves."""
    with precision("float64"):
        study = study_of("adaptive-valley", "study.optimizers=['rmsprop']")
        data = study.compute("rmsprop")
    errors = {str(one): float(data["tracking_error"].sel(flow=one)) for one in data["flow"].values}
    assert np.isnan(errors["stable"])
    stable = data.sel(flow="stable")
    assert float(stable["preconditioned_sharpness"].max()) > 50 * 2 / ETA
    assert np.isnan(stable["height"].values[-1])
    assert errors["central"] == pytest.approx(4.07e-2, rel=0.02)
    assert errors["rod"] == pytest.approx(4.15e-2, rel=0.02)
    assert errors["central_alternation"] < 3e-4
    assert errors["rod_alternation"] < 1e-4
    for name in errors:
        if name != "stable":
            sharpness = data["preconditioned_sharpness"].sel(flow=name).values
            assert sharpness == pytest.approx(2 / ETA, rel=0.05)
    assert np.isfinite([one.measured for one in study.conclude({"rmsprop": data})]).all()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("adaptive-order", "study.horizon=0.1", "horizon.*50 to 300000 steps"),
        ("adaptive-order", "study.b2=[0.9, 0.9]", "b2.*must differ"),
        ("adaptive-order", "study.b2=[0.5]", "b2.*at least 0.8"),
        ("adaptive-valley", "study.models=['rod', 'rod']", "models.*each entry once"),
        ("adaptive-valley", "study.optimizers=['adam']", "optimizers.*one of"),
        ("adaptive-valley", "study.b2=1.0", "b2.*less than 1"),
    ],
)
def test_studies_without_a_run_are_refused(name: str, change: str, message: str) -> None:
    """With the key to blame."""
    with pytest.raises(ConfigError, match=message):
        load_config(name, [change])
