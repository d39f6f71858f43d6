"""The studies of uncertainty and of paths: what they judge by, and what they conclude."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from experiments.build import precision
from experiments.studies import inference
from experiments.studies.dims_regression import DimsRegression

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


def test_a_regression_is_judged_by_data_that_did_not_choose_its_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other points, in the gap too; the largest of seeds has others as well."""
    judged = []
    original = inference.regression_score

    def score(data: Any, noise: float) -> Any:
        judged.append(np.asarray(data.inputs)[:, 0])
        return original(data, noise)

    monkeypatch.setattr(inference, "regression_score", score)
    with precision("float64"):
        study = DimsRegression(
            train=4, validation=20, noise=0.05, seed=2**32 - 1, methods=("map",), **SETTINGS
        )
        data = study.compute("map")
        choosing, judging = judged
        # The gap is 1.6 wide, around 0.5.
        assert np.abs(choosing - 0.5).min() >= 0.8
        assert (np.abs(judging - 0.5) < 0.8).sum() > 3
        assert not np.intersect1d(choosing, judging).size
        # The mean and the noise's deviation, of one network.
        mean = np.interp(judging, data["x"].values, data["mean"].values)
    targets = np.asarray(study._test.targets)[:, 0]
    squares = ((targets - mean) / 0.05) ** 2
    expected = float(np.mean(np.log(2 * np.pi * 0.05**2) + squares) / 2)
    # The grid's spacing is 0.025, with which interpolation is in error by some 1e-4.
    assert data.attrs["nll"] == pytest.approx(expected, rel=1e-2)
    found = {one.quantity: one.measured for one in study.conclude({"map": data})}
    assert found["map: nll of test data, in the gap too"] == data.attrs["nll"]
    assert found["map: nll of validation data, which chose it"] == data.attrs["validation_nll"]
