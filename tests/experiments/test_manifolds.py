"""Configs of optimizers on manifolds: they run, go through TOML, and are refused with the key."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import ConfigError, run
from experiments.config.build import build, precision
from experiments.config.loader import to_toml, validate
from experiments.tables import Experiment
from tests.experiments.configs import NETWORK, VALLEY, config, values

SPHERE = {
    **VALLEY,
    "name": "tiny-sphere",
    "steps": 8,
    "potential": {"kind": "quadratic", "spectrum": [1.0, 3.0, 6.0], "start": [2.0, 1.0, 1.0]},
    "flows": [{"kind": "riemannian", "correction": True}],
}


def optimizer(kind: str, manifold: Any, **more: Any) -> dict[str, Any]:
    """The table of an optimizer."""
    return {"kind": kind, "learning_rate": 0.1, "manifold": manifold, **more}


@pytest.mark.slow
def test_an_experiment_on_a_sphere_stores_what_is_measured_there(tmp_path: Path) -> None:
    """From a start that is put on it, with the threshold of the Riemannian sharpness."""
    method = optimizer("riemannian_gradient_descent", "sphere", retraction="normalisation")
    result = run(config(SPHERE, optimizer=method), tmp_path / "run", draw=False, progress=False)
    assert result.status == "finished"
    tree = result.tree()
    assert tree.attrs["critical_variable"] == "riemannian_sharpness"
    assert tree.attrs["critical_sharpness"] == pytest.approx(20)
    for group in ("discrete", "riemannian"):
        sharpness = values(tree, group, "riemannian_sharpness")
        assert np.all((sharpness > 1) & (sharpness < 5))
        assert values(tree, group, "constraint_drift").max() < 1e-15
        assert np.linalg.norm(values(tree, group, "params")[-1]) == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize(
    "method",
    [
        optimizer("riemannian_sam", {"layers.0.weight": "oblique_rows"}, radius=0.1),
        optimizer("fine_grained_sgd", {"layers.0.*eight": "stiefel_rows"}, distance=2.0),
        {"kind": "fisher_sam", "learning_rate": 0.1, "radius": 0.1},
    ],
)
def test_networks_are_built_with_every_method_and_go_through_toml(method: dict[str, Any]) -> None:
    """The config that is written beside the results is the one that was read."""
    read = config(NETWORK, optimizer=method, flows=[{"kind": "riemannian"}])
    again = validate(tomllib.loads(to_toml(read)))
    assert again == read
    assert isinstance(again, Experiment)
    with precision(again.precision):
        built = build(again, "test")
        assert float(built.optimizer.manifold.violation(built.params)) < 1e-6


@pytest.mark.parametrize(
    ("base", "manifold", "message"),
    [
        (NETWORK, {"layer.*": "sphere"}, r"optimizer.manifold: .*'layer.\*' fits none of"),
        (SPHERE, "stiefel_rows", "optimizer.manifold: .*must be a matrix"),
        (SPHERE, "ball", 'optimizer.manifold: .*must be one of "euclidean", "sphere"'),
        (SPHERE, {}, "optimizer.manifold: .*or a table from patterns of leaves"),
        (SPHERE, {"": "ball"}, "optimizer.manifold: .*or a table from patterns of leaves"),
    ],
)
def test_manifolds_that_do_not_fit_are_refused(base: Any, manifold: Any, message: str) -> None:
    """With the key, what was given, and what is allowed."""
    method = optimizer("riemannian_gradient_descent", manifold)
    with pytest.raises(ConfigError, match=message), precision("float64"):
        build(config(base, optimizer=method, flows=[]), "test")


def test_central_flow_does_not_go_with_a_manifold() -> None:
    """It is refused as any flow of another optimizer is."""
    method = optimizer("riemannian_gradient_descent", "sphere")
    with pytest.raises(ConfigError, match="flows"):
        config(SPHERE, optimizer=method, flows=[{"kind": "central"}])
