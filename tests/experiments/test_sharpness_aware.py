"""SAM, its flow and its two-cycle in configs, and the threshold that a run of it stores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flows
from experiments import ConfigError, load, load_config
from experiments.config.build import build, build_study, precision
from experiments.studies import StudyExperiment
from figures import draw
from tests.experiments.configs import config, values
from tests.experiments.runs import quietly
from tests.helpers import assert_trees_close

SAM: dict[str, Any] = {"kind": "sam", "learning_rate": 0.3, "radius": 0.02}
FLOW: dict[str, Any] = {"kind": "sharpness_aware", "label": "flow"}


def built(**keys: Any) -> flows.AbstractOptimizer:
    """The optimizer of a config."""
    return build(config(optimizer={**SAM, **keys}), "a test").optimizer


def test_the_table_makes_sam_of_descent_or_of_the_heavy_ball():
    """With its own keys."""
    descent = flows.GradientDescent(0.3, 0.1)
    expected = flows.SAM(descent, 0.02, 0.5)
    assert_trees_close(built(weight_decay=0.1, smoothing=0.5), expected, atol=0.0)
    expected = flows.SAM(flows.HeavyBall(0.3, 0.5), 0.02, normalised=False)
    assert_trees_close(built(momentum=0.5, normalised=False), expected, atol=0.0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"radius": -0.1}, "optimizer.radius: given -0.1; must be at least 0"),
        ({"smoothing": -1.0}, "optimizer.smoothing: given -1.0; must be .*0"),
        ({"momentum": 1.0}, "optimizer.momentum: given 1.0; must be .*1"),
        (
            {"momentum": 0.5, "weight_decay": 0.1},
            "optimizer.weight_decay: given 0.1; must be 0 with momentum",
        ),
        (
            {"smoothing": 0.1, "normalised": False},
            "optimizer.smoothing: given 0.1; must be 0 with normalised=False",
        ),
    ],
)
def test_what_is_wrong_with_a_key_is_said(keys, message):
    """Before anything is run."""
    with pytest.raises(ConfigError, match=message):
        built(**keys)


def test_the_flow_is_that_of_sam_of_gradient_descent():
    """Other optimizers, and momentum, are refused."""
    found = build(config(optimizer=SAM, flows=[{**FLOW, "smoothing": 0.1}]), "a test").flows[0].flow
    assert isinstance(found, flows.SharpnessAwareFlow)
    assert float(found.limit.optimizer.smoothing) == 0.1
    with pytest.raises(ConfigError, match=r"sharpness_aware.*sam"):
        build(config(flows=[FLOW]), "a test")
    with pytest.raises(ConfigError, match="must be SAM of GradientDescent"):
        build(config(optimizer={**SAM, "momentum": 0.5}, flows=[FLOW]), "a test")


def test_a_run_stores_the_threshold_at_its_gradients_and_the_figure_draws_it(tmp_path: Path):
    """At every save that of the gradient there; in place of one number there is none."""
    given = config(optimizer=SAM, flows=[], curvature={"eigenvalues": 1})
    quietly(given, tmp_path / "run")
    tree = load(tmp_path / "run")
    assert "critical_sharpness" not in tree.attrs
    length = values(tree, "discrete", "gradient_norm")
    found = values(tree, "discrete", "critical_sharpness")
    expected = length / 0.04 * (np.sqrt(1 + 8 * 0.02 / (0.3 * length)) - 1)
    assert found == pytest.approx(expected, rel=1e-12)
    (axes,) = draw("sharpness", tree).axes
    curve = next(line for line in axes.get_lines() if line.get_gid() == "critical")
    assert_trees_close(np.asarray(curve.get_ydata()), found, atol=0.0)
    assert [text.get_text() for text in axes.texts] == ["λ*(|g|)"]


def test_the_study_finds_the_cycle_of_sam_and_checks_its_keys():
    """At the sharpness of the quadratic."""
    given = load_config("sam-cycle", ["study.points=3", "study.lowest=1.0", "study.highest=1.5"])
    assert isinstance(given, StudyExperiment)
    with precision("float64"):
        study = build_study(given, "mine")
        data = study.compute("sam")
        conclusions = study.conclude({"sam": data})
    assert data["threshold"].values == pytest.approx([10.0, 12.5, 15.0], rel=1e-9)
    assert max(one.measured for one in conclusions) < 1e-8
    with pytest.raises(ConfigError, match=r"study.smoothing: given 1; must be below 0.05"):
        load_config("sam-cycle", ["study.smoothing=1.0"])
    with pytest.raises(ConfigError, match=r"study.highest"):
        load_config("sam-cycle", ["study.highest=2.0"])
