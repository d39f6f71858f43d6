"""Thresholds and two-cycles: what `eosflows validate` measures, and that it tells a failure."""

import json
import math
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import pytest

import flows
import potentials
from experiments import load_config, validation
from experiments.cli import main
from experiments.tables import Experiment
from experiments.validation import CHECKS, Check, Measured, run_check
from experiments.validation.checks import checks
from experiments.validation.edge import hovering
from experiments.validation.motion import flow_step, repeated
from experiments.validation.thresholds import covariance_growth, iterates_growth, threshold
from experiments.validation.two_cycles import variance

SMALL = [name for name in CHECKS if "hovers" not in name]
# What they measure is that of others too, or of the tests of gradient glass and of manifolds.
LONG_TO_MEASURE = {
    "density of gradient glass, first weights: N = 400",
    "Alice's flow with glass only, x at t = 100: lambda = 8",
    *(
        f"critical sharpness of optax: {name}"
        for name in ("adan", "ademamix", "amsgrad", "schedule-free adamw", "schedule-free sgd")
    ),
    *(f"critical sharpness of optax: simplified ademamix, alpha {alpha}" for alpha in (0, 1)),
    "jump of a step where the gradient passes zero: muon",
    "flow on a manifold: sphere",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in LONG_TO_MEASURE else ())
        for name in SMALL
    ],
)
def test_what_is_measured_agrees_with_theory(name: str) -> None:
    """Each check of the table but those on the network, as they are."""
    outcome = run_check(CHECKS[name])
    assert outcome.problem == ""
    assert outcome.passed, outcome.measured


def test_there_is_a_check_for_every_optimizer_and_its_rod_flow() -> None:
    """And three for the quartic and for the network of gradient descent, 38 of adaptive methods.

    Fifteen of SAM, 13 on manifolds and 4 of gradient glass.
    """
    assert len(SMALL) == 2 * 3 + 2 * 5 + 28 + 3 + 1 + 3 + 3 + 5 * 3 + 13 + 4
    assert len(CHECKS) == len(SMALL) + 3
    assert set(SMALL) >= LONG_TO_MEASURE


@pytest.mark.slow
def test_a_network_hovers_at_two_over_the_learning_rate() -> None:
    """A small one, which has risen to it well before the end of 600 steps."""
    smaller = ["potential.model.hidden=[8]", "potential.data.examples=40", "steps=600"]
    config = load_config("digits-mlp", [*smaller, "optimizer.learning_rate=0.3"])
    assert isinstance(config, Experiment)
    found = hovering(config)
    assert found.predicted == pytest.approx(2 / 0.3)
    assert found.error < 0.05, found


@pytest.mark.parametrize("growth", [iterates_growth, covariance_growth])
def test_the_threshold_follows_the_hyperparameters(growth: Any) -> None:
    """2 (1 + beta) / eta, for another eta and beta than those of the table."""
    for eta, beta in ((0.1, 0.5), (0.4, 0.0)):
        found = float(threshold(flows.HeavyBall(eta, beta), growth))
        assert found == pytest.approx(2 * (1 + beta) / eta, rel=1e-6)


def test_below_the_threshold_the_rod_flow_has_no_two_cycle() -> None:
    """Sigma decays at the rate 2 - eta^2 S^2 / 2, for S = 1.99."""
    found = variance(flows.GradientDescent(1.0), potentials.Quartic(1.99, 1.0))
    assert 0 <= float(found) < 1e-20


@pytest.mark.parametrize("curvature", [1.5, 1.99, 2.01, 2.5])
def test_the_rods_variance_grows_at_the_rate_of_the_theory(curvature: float) -> None:
    """eta^2 S^2 / 2 - 2 per step on a quadratic, here with eta = 1."""
    potential = potentials.Quadratic(jnp.array([curvature]))
    rate = _compiled_growth(flows.GradientDescent(1.0), potential)
    # Fixed steps of a quarter, of order five.
    assert float(rate) == pytest.approx(curvature**2 / 2 - 2, rel=1e-3)


_compiled_growth = eqx.filter_jit(covariance_growth)


def test_a_flows_step_lasts_a_quarter_of_the_optimizers() -> None:
    """Against the closed form of gradient flow."""
    flow = flows.GradientFlow(flows.GradientDescent(0.1))
    potential = potentials.Quadratic(jnp.array([2.0]))
    end = repeated(flow_step(flow, potential), flow.init(potential, jnp.ones(1)), 40)
    assert float(end.params[0]) == pytest.approx(math.exp(-2), rel=1e-8)


def _only(monkeypatch: pytest.MonkeyPatch, *measures: Any) -> None:
    made = {
        f"check {i}": Check(f"check {i}", "a paper", "1", 0.1, measure)
        for i, measure in enumerate(measures)
    }
    monkeypatch.setattr(validation, "CHECKS", made)


def _fails() -> Measured:
    raise RuntimeError("no such thing")


def test_validate_prints_the_table_and_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measured, predicted and the relative error of every check."""
    _only(monkeypatch, lambda: Measured(1.05, 1.0), lambda: Measured(-2.0, -2.0))
    assert main(["validate"]) == 0
    captured = capsys.readouterr()
    for word in ("check 0", "check 1", "1.05", "5.0e-02", "yes"):
        assert word in captured.out
    assert "NO" not in captured.out
    assert captured.err == ""


def test_validate_writes_its_table_as_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One record for each check, also for one that failed; a file that cannot be is exit code 2."""
    _only(monkeypatch, lambda: Measured(1.05, 1.0), _fails)
    assert main(["validate", "--json", str(tmp_path / "table.json")]) == 1
    first, second = json.loads((tmp_path / "table.json").read_text())
    numbers = {"measured": 1.05, "predicted": 1.0, "tolerance": 0.1, "status": "pass"}
    assert numbers.items() <= first.items()
    assert {"paper", "equation", "error"} <= set(first)
    assert second["status"] == "fail"
    assert second["measured"] is None
    assert "no such thing" in second["problem"]
    capsys.readouterr()
    assert main(["validate", "--json", str(tmp_path / "nowhere" / "table.json")]) == 2
    assert "must be a file in a folder that exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("measure", "says"),
    [
        (lambda: Measured(1.2, 1.0), "2.0e-01"),
        (lambda: Measured(math.nan, 1.0), "nan"),
        (_fails, "RuntimeError: no such thing"),
    ],
    ids=["off", "nan", "raises"],
)
def test_one_check_that_fails_fails_them_all(
    measure: Any, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are measured all the same, and the exit code is 1."""
    _only(monkeypatch, measure, lambda: Measured(1.0, 1.0))
    assert main(["validate"]) == 1
    captured = capsys.readouterr()
    assert "NO" in captured.out
    assert "yes" in captured.out
    assert says in captured.out
    assert "1 of 2 checks failed" in captured.err


@pytest.mark.parametrize("tolerance", [0.0, -1.0, math.inf, math.nan])
def test_a_tolerance_that_checks_nothing_is_refused(tolerance: float) -> None:
    """It would let everything pass, or nothing."""
    with pytest.raises(ValueError, match="tolerance must be a finite number above 0; got"):
        checks("new", paper="a paper", equation="1", tolerance=tolerance, cases={"a": ()})


def test_a_name_is_taken_once() -> None:
    """A second check of that name would hide the first."""
    name, case = next(iter(CHECKS)).split(": ")
    with pytest.raises(ValueError, match=f"name must be new; a check '{name}: {case}' exists"):
        checks(name, paper="a paper", equation="1", tolerance=0.1, cases={case: ()})
