"""The studies of uncertainty and of paths: what they judge by, and what they conclude."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

import potentials
from experiments import load_config
from experiments.config.build import precision
from experiments.studies import StudyExperiment
from experiments.studies.dims_paths import DimsPaths
from experiments.studies.dims_regression import DimsRegression
from experiments.uncertainty import scores
from experiments.uncertainty.examples import load_examples, split_examples

SETTINGS: dict[str, Any] = {
    "hidden": 4,
    "samples": 4,
    "members": 2,
    "scales": (0.1,),
    "gravity": 10.0,
    "friction": 1.0,
    "tolerance": 1e-4,
    "max_time": 500.0,
}


@pytest.mark.slow
def test_a_regression_is_judged_by_data_that_did_not_choose_its_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other points, in the gap too; the largest of seeds has others as well."""
    judged = []
    original = scores.regression_score

    def score(data: Any, noise: float) -> Any:
        judged.append(np.asarray(data.inputs)[:, 0])
        return original(data, noise)

    monkeypatch.setattr(scores, "regression_score", score)
    with precision("float64"):
        study = DimsRegression(
            kind="dims_regression",
            train=4,
            validation=20,
            noise=0.05,
            seed=2**32 - 1,
            methods=("map",),
            **SETTINGS,
        )
        data = study.compute("map")
        choosing, judging = judged
        # The gap is 1.6 wide, around 0.5.
        assert np.abs(choosing - 0.5).min() >= 0.8
        assert (np.abs(judging - 0.5) < 0.8).sum() > 3
        assert not np.intersect1d(choosing, judging).size
        # The mean and the noise's deviation, of one network.
        mean = np.interp(judging, data["x"].values, data["mean"].values)
    targets = np.asarray(study._examples.test.targets)[:, 0]
    squares = ((targets - mean) / 0.05) ** 2
    expected = float(np.mean(np.log(2 * np.pi * 0.05**2) + squares) / 2)
    # The grid's spacing is 0.025, with which interpolation is in error by some 1e-4.
    assert data.attrs["nll"] == pytest.approx(expected, rel=1e-2)
    found = {one.quantity: one.measured for one in study.conclude({"map": data})}
    assert found["map: nll of test data, in the gap too"] == data.attrs["nll"]
    assert found["map: nll of validation data, which chose it"] == data.attrs["validation_nll"]


def unit(columns: np.ndarray) -> np.ndarray:
    """Columns that are shifted and scaled to [0, 1]."""
    return (columns - columns.min(axis=0)) / np.ptp(columns, axis=0)


@pytest.mark.parametrize(("name", "axis"), [("wine", 0), ("digits", None)])
def test_inputs_are_standardised_by_the_training_examples_alone(name: str, axis: Any) -> None:
    """Their mean is 0 and variance 1, and one affine map leads to all parts."""
    with precision("float64"):
        parts = split_examples(name, 40, 50, 3)
        whole = np.asarray(load_examples(name).inputs)
    inputs = [np.asarray(part.inputs) for part in parts if part is not None]
    assert np.abs(inputs[0].mean(axis=axis)).max() < 1e-12
    assert np.abs(inputs[0].std(axis=axis) - 1).max() < 1e-12
    # The moments of all examples are others: those of 40 have errors of some tenth.
    together = np.concatenate(inputs[:3])
    assert np.abs(together.mean(axis=axis)).max() > 1e-3
    before, after = (np.sort(x, axis=0)[:, np.ptp(whole, axis=0) > 0] for x in (whole, together))
    assert np.abs(unit(before) - unit(after)).max() < 1e-9
    if parts.outside is not None:
        with precision("float64"):
            others = np.asarray(potentials.load_other_digits(classes=5).inputs)
        slope = np.ptp(together[:, 20]) / np.ptp(whole[:, 20])
        shift = together[:, 20].min() - slope * whole[:, 20].min()
        assert np.abs(slope * others + shift - np.asarray(parts.outside.inputs)).max() < 1e-9


def test_the_balance_of_paths_is_told_where_the_energy_starts_at_zero() -> None:
    """As a share of the largest energy on the way; nothing that moves has lost nothing."""
    viscous = {"kind": "viscous", "coefficient": 1.0}
    study = DimsPaths.model_validate(
        {
            "kind": "dims_paths",
            "potential": {"kind": "quadratic", "spectrum": [1.0, -1.0]},
            "start": [0.0, 0.0],
            "frictions": [
                {"label": label, "friction": viscous} for label in ("falling", "resting")
            ],
        }
    )

    def path(energy: list[float], power: list[float]) -> xr.Dataset:
        data = {"total_energy": energy, "dissipated_power": power, "predicted_loss": energy}
        return xr.Dataset(
            {name: ("time", x) for name, x in data.items()}, {"time": [0.0, 1.0, 2.0]}
        )

    parts = {
        "falling": path([0.0, -1.0, -2.0], [0.9, 0.9, 0.9]),
        "resting": path([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    }
    found = {one.quantity: one.measured for one in study.conclude(parts)}
    # It has lost 2, of which friction explains 1.8, and the largest energy is 2.
    balance = "energy lost, less friction's work, relative"
    assert found[f"falling: {balance}"] == pytest.approx(0.1)
    assert found[f"resting: {balance}"] == 0.0


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("dims-regression", [(1, 1)]),
        ("dims-banana", [(2, 2)]),
        ("dims-uncertainty", [(2, 2), (13, 3), (30, 2), (64, 5)]),
    ],
)
def test_built_ins_stop_particles_late_enough(name: str, sizes: list[tuple[int, int]]) -> None:
    """A share of sqrt(E / E_0) of the way is lost, which is largest for the smallest scale."""
    loaded = load_config(name)
    assert isinstance(loaded, StudyExperiment)
    table = loaded.study
    for inputs, outputs in sizes:
        own = name == "dims-uncertainty" and inputs == 2
        hidden = table.banana.hidden if own else table.hidden
        weights = (inputs + 1) * hidden + (hidden + 1) * outputs
        start = (min(table.scales) * table.friction) ** 2 * weights / 2
        # What standard errors of 32 samples hide, 1 / sqrt(2 * 32) = 13%, several times over.
        assert np.sqrt(table.gravity * table.tolerance / start) < 0.025
