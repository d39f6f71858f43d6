"""A dissipative flow in a config: its own time, no distance, and what is refused."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import ConfigError
from experiments.build import build, precision
from experiments.loader import to_toml, validate
from experiments.schema import Experiment
from tests.experiments.configs import config, values
from tests.experiments.runs import quietly

RING: dict[str, Any] = {
    "name": "tiny-ring",
    "steps": 4,
    "potential": {"kind": "ring", "start": [1.0, 0.0]},
    "optimizer": {"kind": "gradient_descent", "learning_rate": 0.1},
    "flows": [
        {
            "kind": "dissipative",
            "gravity": 10.0,
            "friction": {"kind": "viscous", "coefficient": 1.0},
            "velocity": [0.0, 3.0],
        }
    ],
    "figures": [],
}


def changed(**changes: Any) -> Experiment:
    """The small config with some keys of its flow replaced."""
    return config(RING, flows=[{**RING["flows"][0], **changes}])


def test_it_runs_in_its_own_time_without_a_distance(tmp_path: Path) -> None:
    """The angular momentum decays as exp(-t), where t is the stored step."""
    tree = quietly(config(RING), tmp_path).tree()
    data = tree["dissipative"].to_dataset()
    assert data["step"].attrs["units"] == "time"
    assert "distance" not in data
    energy = values(tree, "dissipative", "total_energy")
    assert energy[0] == pytest.approx(4.5)
    assert (np.diff(energy) < 0).all()
    radius = np.linalg.norm(values(tree, "dissipative", "params"), axis=1)
    speed = values(tree, "dissipative", "speed")
    assert (radius * speed >= 3 * np.exp(-data["step"].values) * (1 - 1e-7)).all()


def test_a_config_survives_being_written() -> None:
    """With every friction law."""
    for law in (
        {"kind": "quadratic", "coefficient": 0.5},
        {"kind": "coulomb", "coefficient": 0.5, "width": 1e-2},
    ):
        loaded = changed(friction=law)
        assert validate(tomllib.loads(to_toml(loaded))) == loaded


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gravity": -1.0}, r"flows\[0\]\.gravity: given -1\.0; must be"),
        ({"friction": {"kind": "viscous", "coefficient": -1.0}}, r"coefficient: given -1\.0"),
        ({"friction": {"kind": "viscos", "coefficient": 1.0}}, r"friction\.kind: given 'viscos'"),
    ],
)
def test_bad_values_are_refused_with_their_key(changes: dict[str, Any], says: str) -> None:
    """And what is allowed."""
    with pytest.raises(ConfigError, match=says):
        changed(**changes)


def test_a_velocity_of_another_size_is_refused() -> None:
    """Once the number of parameters is known."""
    with precision("float64"), pytest.raises(ConfigError, match=r"velocity: given 3 numbers"):
        build(changed(velocity=[1.0, 2.0, 3.0]), "mine")
