"""The study of the overdamped limit: its orders, its limit in closed form, and what it refuses."""

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr

import flows
from experiments.compare import mechanics
from experiments.config.build import precision
from experiments.studies.dims_limit import DimsLimit, order_in_inverse

# The largest are stiff.
FRICTIONS = (8.0, 16.0, 32.0, 250.0, 500.0, 1000.0)


def study(**changes: Any) -> DimsLimit:
    """The built-in one, but for its frictions."""
    given: dict[str, Any] = {
        "kind": "dims_limit",
        "gravity": 1.0,
        "start": (0.3, 0.2),
        "velocity": (0.5, 0.2),
        "horizon": 1.0,
        "frictions": FRICTIONS,
    }
    return DimsLimit(**(given | changes))


@pytest.mark.slow
def test_the_error_of_the_limit_has_order_2_from_rest_and_1_moving() -> None:
    """Of all frictions, where the error has its order; THEORY's at 8, 16 and 32 are below."""
    with precision("float64"):
        parts = {part: study().compute(part) for part in study().parts}
    found = {one.quantity: one for one in study().conclude(parts)}
    for label, order in (("from rest", 2.0), ("moving", 1.0)):
        one = found[f"order of the error in 1 / gamma, {label}"]
        # The next order is smaller by a factor of order 1 / gamma, at most 1/250.
        assert one.measured == pytest.approx(order, abs=0.01)
        assert one.predicted == order


@pytest.mark.slow
def test_the_limit_is_the_gradient_flow_of_the_graph_in_closed_form() -> None:
    """And THEORY's errors from rest at 8, 16 and 32, given to four digits.

    Along a ray, s = F(r(s)) - F(r(0)) with F = log r - log(1 - r^2) / 2 + r^2 / 2 - r^4 / 4.

    That is dr/ds = r (1 - r^2) / (1 + r^2 (1 - r^2)^2), separated.
    """
    with precision("float64"):
        data = study(frictions=FRICTIONS[:3]).compute("from_rest")
    assert data["error"].values == pytest.approx([5.744e-3, 1.429e-3, 3.568e-4], rel=5e-4)
    path, s = data["limit"].values, data["time"].values
    r = np.linalg.norm(path, axis=1)
    primitive = np.log(r) - np.log(1 - r**2) / 2 + r**2 / 2 - r**4 / 4
    # The solver's relative tolerance is 1e-9; between its steps it interpolates.
    assert np.abs(primitive - primitive[0] - s).max() < 1e-6
    assert path[:, 0] * 0.2 == pytest.approx(path[:, 1] * 0.3)
    assert path[-1] == pytest.approx([0.56790934, 0.37860623], abs=1e-8)


def test_paths_that_the_solver_does_not_follow_are_named_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit and the frictions whose paths are not there, as a run that stopped early."""
    one = study(frictions=(2.0, 4.0))
    points: Any = np.zeros((2, 101, 2))
    whole: Any = np.array([True, False])
    found = mechanics.OverdampedPaths(points[0], points, whole[0], whole)
    monkeypatch.setattr(mechanics, "overdamped_paths", lambda *arguments: found)
    says = "no path to the horizon 1 within 100000 solver steps for friction 4"
    with pytest.raises(flows.SimulationError, match=re.escape(says)):
        one.compute("moving")
    found = found._replace(limit_whole=whole[1])
    with pytest.raises(flows.SimulationError, match="for the limit, friction 4"):
        one.compute("moving")


def test_an_order_that_no_error_tells_is_not_a_number() -> None:
    """It is missing from a store, which holds finite attributes alone."""
    coordinates = {"friction": np.array([2.0, 4.0])}
    data = xr.Dataset({"error": ("friction", np.zeros(2))}, coordinates, {"label": "from rest"})
    first, *errors = study().conclude({"from_rest": data})
    assert first.quantity == "order of the error in 1 / gamma, from rest"
    assert np.isnan(first.measured)
    assert [one.measured for one in errors] == [0.0, 0.0]


def test_the_order_is_of_errors_that_the_solver_tells() -> None:
    """Of the last three of them; of fewer than two there is none."""
    gamma = np.array([1.0, 10.0, 100.0, 1000.0, 1e4])
    errors = np.array([7.0, 1e-2, 1e-4, 1e-6, 1e-6])
    assert order_in_inverse(gamma, errors, 1e-6) == pytest.approx(2.4225, abs=1e-4)
    assert order_in_inverse(gamma[1:4], errors[1:4], 1e-9) == pytest.approx(2.0)
    assert np.isnan(order_in_inverse(gamma, errors, 1.0))
    assert np.isnan(order_in_inverse(gamma, 0 * errors, 0.0))
