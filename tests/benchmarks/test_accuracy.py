"""The curves of error against cost: what they divide, and that they are drawn."""

import jax
import jax.numpy as jnp
import pytest
from PIL import Image

from benchmarks import accuracy
from flows import GradientFlow, SimulationError
from potentials import Quadratic


def test_errors_are_relative_to_the_distance_that_the_reference_travels(monkeypatch, capsys):
    """Against the run in double precision; a run that fails is named, and has no point."""
    exact = jnp.asarray([[0.0, 0.0], [3.0, 4.0]], jnp.float32)

    def run(name, problem, made, factor):
        if jax.enable_x64.value and factor == 0.1 and not seen:
            seen.append(factor)
            return exact, 9.0
        if factor == 10:
            raise SimulationError("the flow stopped", None)
        return exact.at[1, 0].add(factor), 1 / factor

    seen: list[float] = []
    monkeypatch.setattr(accuracy, "_run", run)
    made = (Quadratic(jnp.ones(2)), jnp.ones(2))
    problem = accuracy.Problem("a bowl", lambda: made, 0.1, 1, 4)
    points = accuracy.curve("gradient", problem)
    assert [p["tolerance"] for p in points] == [3.0, 1.0, 0.3, 0.1]
    for point in points:
        assert point["error"] == pytest.approx(point["tolerance"] / 5, rel=1e-6)
        assert point["cost"] == pytest.approx(1 / point["tolerance"])
    assert "gradient at 10: the flow stopped" in capsys.readouterr().err


@pytest.mark.slow
def test_a_tighter_tolerance_costs_more_and_errs_less():
    """On a bowl, whose flow is integrated in single precision."""
    made = (Quadratic(jnp.asarray([1.0, 4.0], jnp.float32)), jnp.ones(2, jnp.float32))
    problem = accuracy.Problem("a bowl", lambda: made, 0.1, 1, 40)
    assert isinstance(accuracy.flows_of(problem)["gradient"], GradientFlow)
    with jax.enable_x64(False):
        points = accuracy.curve("gradient", problem)
    first, last = points[0], points[-1]
    assert first["cost"] < last["cost"]
    assert last["error"] < first["error"] < 0.1


def test_the_curves_are_drawn_for_each_problem(tmp_path):
    """Two panels, with every flow in each."""
    points = [{"tolerance": t, "cost": 2 / t, "error": 1e-3 * t} for t in (0.1, 1.0)]
    flows = ("gradient", "central", "rod", "edge", "parity")
    curves = {name: dict.fromkeys(flows, points) for name in accuracy.PROBLEMS}
    file = tmp_path / "accuracy.png"
    accuracy.draw(curves, file)
    with Image.open(file) as image:
        assert min(image.size) > 300


@pytest.mark.parametrize("name", accuracy.PROBLEMS)
def test_each_flow_is_saved_from_where_it_begins(name):
    """Or the run is refused."""
    for flow in accuracy.flows_of(accuracy.PROBLEMS[name]).values():
        assert int(flow.first_step) % accuracy._SAVE_EVERY == 0


def test_a_flow_without_a_reference_has_no_points(monkeypatch, capsys):
    """It is named, and the other flows are measured."""

    def run(name, problem, made, factor):
        raise SimulationError("the flow stopped", None)

    monkeypatch.setattr(accuracy, "_run", run)
    made = (Quadratic(jnp.ones(2)), jnp.ones(2))
    assert accuracy.curve("gradient", accuracy.Problem("a bowl", lambda: made, 0.1, 1, 4)) == []
    assert "gradient, reference: the flow stopped" in capsys.readouterr().err
