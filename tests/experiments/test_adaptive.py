"""Adaptive methods, and optax's optimizers by their names, in configs and in what runs store."""

import math
from pathlib import Path
from typing import Any

import optax
import pytest

import flows
from experiments import ConfigError, load
from experiments.config.build import build
from experiments.report.summary import table
from figures import draw
from tests.experiments.configs import config
from tests.experiments.runs import quietly
from tests.helpers import assert_trees_close

QUARTIC: dict[str, Any] = {
    "name": "tiny-quartic",
    "steps": 12,
    "potential": {"kind": "quartic", "curvature": 2.0, "start": [0.3]},
    "optimizer": {"kind": "rmsprop", "learning_rate": 0.1, "b2": 0.9},
    "flows": [],
    "curvature": {"eigenvalues": 1},
    "figures": [],
}


def built(**optimizer: Any) -> flows.AbstractOptimizer:
    """The optimizer of a config."""
    return build(config(QUARTIC, optimizer={"learning_rate": 0.1, **optimizer}), "a test").optimizer


def test_a_table_has_the_arguments_of_its_method():
    """And one number for nu before the first step."""
    assert_trees_close(
        built(kind="nadam", b1=0.5, eps=1e-6, initial_nu=2, convention="torch"),
        flows.NAdam(0.1, 0.5, eps=1e-6, initial_nu=2.0, convention="torch"),
    )
    adamw = built(kind="adamw", weight_decay=0.5)
    assert_trees_close(adamw, flows.AdamW(0.1, weight_decay=0.5))


def test_optax_is_called_by_name():
    """With the arguments that the table gives: both run alike."""
    ours = built(kind="optax", name="rmsprop", decay=0.5, eps_in_sqrt=False)
    theirs = optax.rmsprop(0.1, decay=0.5, eps_in_sqrt=False)
    problem = build(config(QUARTIC), "a test")
    runs = [flows.iterate(one, problem.potential, problem.params, 5) for one in (ours, theirs)]
    assert_trees_close(runs[0].params, runs[1].params, rtol=0, atol=0)


WRONG = {
    "no such optimizer": ({"name": "addam"}, r"name: given .*addam.*; must name an optimizer"),
    "a name from a dot": ({"name": ".adam"}, r"name: given .*\.adam.*; must name an optimizer"),
    "no number": ({"name": "adam", "b1": math.nan}, "b1: given nan; must be a finite number"),
    "random": ({"name": "noisy_sgd", "key": 0}, "name: given .*noisy_sgd.* keeps a random key"),
    "not an optimizer": ({"name": "scale_by_adam"}, "name: .*takes no learning rate"),
    "no such argument": (
        {"name": "adam", "beta1": 0.9},
        r"beta1: no argument of optax\.adam; .*b1",
    ),
    "a wrong value": ({"name": "sgd", "momentum": "much"}, r"name: a step of optax\.sgd raised"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_optax_does_not_take_is_told_by_its_key(case: str, tmp_path: Path):
    """Before anything is run, also where optax looks at a value late."""
    given, message = WRONG[case]
    with pytest.raises(ConfigError, match=message):
        quietly(
            config(QUARTIC, optimizer={"kind": "optax", "learning_rate": 0.1, **given}), tmp_path
        )


@pytest.mark.slow
def test_the_threshold_is_stored_with_the_variable_that_it_is_of(tmp_path: Path):
    """A run of an adaptive method has both sharpnesses, and only one of them a threshold."""
    quietly(config(QUARTIC), tmp_path / "adaptive")
    tree = load(tmp_path / "adaptive")
    assert tree.attrs["critical_variable"] == "preconditioned_sharpness"
    assert {"sharpness", "preconditioned_sharpness"} <= set(tree["discrete"].dataset)
    panels = {axes.get_ylabel().partition("\n")[0]: axes for axes in draw("overview", tree).axes}
    lines = {
        name: any(line.get_gid() == "critical" for line in axes.lines)
        for name, axes in panels.items()
    }
    assert lines["preconditioned"]
    assert not lines["sharpness"]


@pytest.mark.slow
def test_an_optimizer_without_a_threshold_runs(tmp_path: Path):
    """As optax's lion, which never rests."""
    lion = {"kind": "optax", "name": "lion", "learning_rate": 0.01}
    quietly(config(QUARTIC, optimizer=lion), tmp_path)
    attributes = load(tmp_path).attrs
    assert attributes["status"] == "finished"
    assert "critical_sharpness" not in attributes


FLOWS = [("stable", {}), pytest.param("rod", {"alternation": True}, marks=pytest.mark.slow)]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options"), FLOWS)
def test_flows_of_rmsprop_run_beside_it_and_are_drawn(
    kind: str, options: dict[str, Any], tmp_path: Path
):
    """Each knows P along its path, so that all are compared in the optimizer's metric."""
    quietly(
        config(QUARTIC, flows=[{"kind": kind, **options}], figures=["adaptive"]), tmp_path / "run"
    )
    tree = load(tmp_path / "run")
    for group in ("discrete", kind):
        for name in ("preconditioned_sharpness", "effective_learning_rate"):
            assert bool(tree[group][name].notnull().all()), (group, name)
    # P is the root of nu, and the learning rate is 0.1, for a single parameter.
    discrete = tree["discrete"]
    hessian = discrete["sharpness"] / discrete["preconditioned_sharpness"]
    assert_trees_close(
        (0.1 / discrete["effective_learning_rate"]).values, hessian.values, rtol=1e-6
    )
    last = float(discrete["preconditioned_sharpness"][-1])
    assert discrete.attrs["final_preconditioned_sharpness"] == pytest.approx(last)
    assert "final\npreconditioned\nsharpness" in [one.header for one in table(tree).columns]
    titles = [axes.get_title(loc="left") for axes in draw("adaptive", tree).axes]
    assert any("P⁻¹H" in title for title in titles)


REFUSED = {
    "alternation of gradient descent": (
        {"kind": "gradient_descent"},
        {"kind": "central", "alternation": True},
        r"flows\[0\].alternation: given true; must be False for GradientDescent",
    ),
    "central flow of Adam": ({"kind": "adam"}, {"kind": "central"}, r"flows\[0\]"),
    "stable flow of gradient descent": (
        {"kind": "gradient_descent"},
        {"kind": "stable"},
        r"flows\[0\]",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_flow_that_does_not_model_the_optimizer_is_refused(kind: str):
    """With the place in the config."""
    optimizer, flow, message = REFUSED[kind]
    with pytest.raises(ConfigError, match=message):
        build(config(QUARTIC, optimizer={"learning_rate": 0.1, **optimizer}, flows=[flow]), "test")
