"""What trajectories came to, from made-up series."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from experiments.report.trajectory_summary import DESCRIPTIONS, summarise

NAN, INF = np.nan, np.inf


def series(steps: list[float], **rows: list[list[float]]) -> xr.Dataset:
    """Series of several runs along `point` and `step`."""
    data: dict[str, Any] = {name: (("point", "step"), np.array(x)) for name, x in rows.items()}
    return xr.Dataset(data, {"step": steps})


def test_each_number_is_that_of_its_definition() -> None:
    """Of a whole run, one that stopped early, and one of which nothing is known."""
    data = series(
        [0.0, 2.0, 4.0, 6.0],
        loss=[[4.0, 3.0, 2.0, 1.0], [4.0, INF, NAN, NAN], [NAN] * 4],
        sharpness=[[1.0, 5.0, 2.0, 4.0], [1.0, 9.0, INF, NAN], [NAN] * 4],
        distance=[[0.0, 1.0, 2.0, 1.0], [0.0, NAN, NAN, NAN], [NAN] * 4],
        displacement=[[0.0, 4.0, NAN, 4.0], [0.0, 1.0, NAN, NAN], [1.0] * 4],
        iterate_distance=[[NAN, NAN, 1.0, 2.0], [NAN] * 4, [NAN] * 4],
        iterate_displacement=[[NAN, NAN, 0.0, 4.0], [NAN] * 4, [NAN] * 4],
    )
    expected = {
        "final_step": [6.0, 0.0, NAN],
        "final_loss": [1.0, 4.0, NAN],
        "final_sharpness": [4.0, 9.0, NAN],
        "max_sharpness": [5.0, 9.0, NAN],
        # The second half of 6 steps is that after 3.
        "late_sharpness": [3.0, NAN, NAN],
        # (0 + 1 + 1) / (0 + 4 + 4), of the steps with both; the second run does not move.
        "tracking_error": [0.25, NAN, NAN],
        # (1 + 2) / (0 + 4), from where the flow begins.
        "iterate_error": [0.75, NAN, NAN],
    }
    found = summarise(data, 6.0)
    assert set(found) == set(expected) == set(DESCRIPTIONS)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, name)


@pytest.mark.parametrize("planned", [6.0, 20.0])
def test_what_is_late_is_said_by_the_planned_steps(planned: float) -> None:
    """Of a run that stopped before half of them nothing is."""
    late = summarise(series([0.0, 4.0], sharpness=[[1.0, 2.0]]), planned)["late_sharpness"]
    np.testing.assert_array_equal(late, [2.0 if planned == 6.0 else NAN])


def test_a_trajectory_without_a_row_has_no_numbers() -> None:
    """It stopped at its start."""
    found = summarise(series([], loss=[[]], sharpness=[[]], distance=[[]], displacement=[[]]), 5.0)
    assert all(np.isnan(values).all() for values in found.values())
    assert summarise(series([]), 5.0) == {}
