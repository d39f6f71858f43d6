"""Alice, its flow and the density of glass in configs, and what their studies refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flows
from experiments import ConfigError, load_config, run
from experiments.config.build import build
from tests.experiments.configs import config, values
from tests.helpers import assert_trees_close

ALICE: dict[str, Any] = {
    "name": "tiny-alice",
    "steps": 4,
    "save_every": 2,
    "potential": {"kind": "quartic", "curvature": 2.0, "start": [0.3]},
    "optimizer": {"kind": "alice", "learning_rate": 0.1, "clip": "fixed", "lr_max": 1.0},
    "flows": [{"kind": "alice", "solver": {"kind": "heun", "dt0": 1.0}}],
    "measurements": [{"kind": "glass_density", "sigma": 0.01, "check": False}],
    "figures": [],
}


def test_a_table_has_the_arguments_of_its_method():
    """Also those that the constructor has None for."""
    given = {"phi": 1.0, "hessian": "rms", "probes": 3, "sigma": 0.5, "lr_max": 0.3, "seed": 4}
    made = build(config(ALICE, optimizer={**ALICE["optimizer"], **given}), "a test")
    given["clip"] = "fixed"
    assert_trees_close(made.optimizer, flows.Alice(0.1, **given))
    assert_trees_close(made.flows[0].flow, flows.AliceFlow(made.optimizer))


@pytest.mark.slow
def test_a_run_stores_the_density_of_each_array(tmp_path: Path):
    """Of the optimizer and of its flow, from the start on."""
    result = run(config(ALICE), tmp_path / "run", draw=False, progress=False)
    tree = result.tree()
    for label in ("discrete", "alice"):
        np.testing.assert_array_equal(values(tree, label, "step"), [0, 2, 4])
        assert values(tree, label, "leaf_glass_density").shape == (3, 1)
    # No sharpness decides about its stability.
    assert "critical_sharpness" not in tree.attrs
    start, after = (values(tree, "alice", "params")[i, 0] for i in (0, 1))
    assert start == pytest.approx(0.3)
    assert 0 < after < 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": {"sigma": 0.0}}, r"optimizer.sigma: given 0.*must be a finite number above"),
        ({"optimizer": {"probes": 0}}, "optimizer.probes: given 0"),
        ({"optimizer": {"clip": "norm"}}, "optimizer.clip: given 'norm'"),
        ({"optimizer": {"hessian": "diagonal"}}, "optimizer.hessian: given 'diagonal'"),
        ({"optimizer": {"phi": 2.5}}, "optimizer.phi: given 2.5; must be above 0 and below 2"),
        ({"optimizer": {"redraw": True}}, "redraw=False"),
        (
            {"optimizer": {"glass": False, "hessian": "none"}},
            'optimizer.hessian: given .none.; must be "abs" or "rms"',
        ),
        ({"measurements": [{"kind": "glass_density", "sigma": 0.0}]}, "sigma: given 0"),
        ({"measurements": [{"kind": "glass_density", "probes": 0}]}, "probes: given 0"),
    ],
)
def test_what_makes_no_optimizer_is_blamed_on_its_key(changes: dict[str, Any], message: str):
    """In the sentence of the constructor."""
    changed = {**changes}
    if "optimizer" in changes:
        changed["optimizer"] = {**ALICE["optimizer"], **changes["optimizer"]}
    with pytest.raises((ConfigError, ValueError), match=message):
        build(config(ALICE, **changed), "a test")


def test_the_flow_is_of_alice_only():
    """As the table says before anything is built."""
    with pytest.raises((ConfigError, ValueError), match="alice"):
        config(ALICE, optimizer={"kind": "gradient_descent", "learning_rate": 0.1})


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("glass-powers", "study.probes=0", "probes: given 0"),
        ("glass-powers", "study.sigma=0", "sigma: given 0"),
        ("glass-powers", "study.activations=['step']", "activations.*given 'step'"),
        ("alice-flow", "study.shares=[0.1]", "shares"),
        ("alice-terms", "study.terms=['glass', 'glass']", "terms.*each entry once"),
    ],
)
def test_studies_that_show_nothing_are_refused(name: str, changes: str, message: str):
    """With the key to blame."""
    with pytest.raises(ConfigError, match=message):
        load_config(name, [changes])
