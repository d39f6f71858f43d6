"""A dissipative flow in a config: its own time, no distance, and what is refused."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import flows
from experiments import ConfigError
from experiments.config.build import build, precision
from experiments.config.loader import to_toml, validate
from experiments.studies.dims_ring import DimsRing
from experiments.tables import Experiment
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
            "friction": {"kind": "viscous", "coefficient": 0.7},
            "velocity": [0.0, 3.0],
        }
    ],
    "figures": [],
}


def changed(**changes: Any) -> Experiment:
    """The small config with some keys of its flow replaced."""
    return config(RING, flows=[{**RING["flows"][0], **changes}])


@pytest.mark.slow
def test_it_runs_in_its_own_time_without_a_distance(tmp_path: Path) -> None:
    """Friction takes gamma |v|^2; the angular momentum, 3 exp(-gamma t), is at most |w| |v|."""
    tree = quietly(config(RING), tmp_path).tree()
    data = tree["dissipative"].to_dataset()
    assert data["step"].attrs["units"] == "time"
    assert "distance" not in data
    energy = values(tree, "dissipative", "total_energy")
    assert energy[0] == pytest.approx(4.5)
    assert (np.diff(energy) < 0).all()
    radius = np.linalg.norm(values(tree, "dissipative", "params"), axis=1)
    speed = values(tree, "dissipative", "speed")
    power = values(tree, "dissipative", "dissipated_power")
    assert power == pytest.approx(0.7 * speed**2, rel=1e-12)
    assert (radius * speed >= 3 * np.exp(-0.7 * data["step"].values) * (1 - 1e-7)).all()


def test_a_config_survives_being_written() -> None:
    """With every friction law."""
    for law in (
        {"kind": "quadratic", "coefficient": 0.5},
        {"kind": "coulomb", "coefficient": 0.5, "width": 1e-2},
    ):
        loaded = changed(friction=law)
        assert validate(tomllib.loads(to_toml(loaded))) == loaded


@pytest.fixture(scope="module")
def ring() -> Iterator[DimsRing]:
    """The study of THEORY's samples, with 512 of them and a faster speed."""
    with precision("float64"):
        yield DimsRing(
            kind="dims_ring",
            radius=1.0,
            gravity=10.0,
            friction=1.0,
            speeds=(0.5, 1.0, 2.0, 20.0),
            samples=512,
            tolerance=1e-10,
            max_time=200.0,
            seed=0,
        )


def check_turns(data: xr.Dataset) -> None:
    """Every sample is at rest, at the angle by which it turned."""
    assert data["converged"].values.all()
    x, y = data["params"].values.T
    # Two integrations, each of accuracy 1e-6 at the fastest.
    assert np.abs(np.exp(1j * data["angle"].values) - (x + 1j * y)).max() < 1e-4


@pytest.mark.slow
def test_the_angles_of_the_ring_have_all_their_turns(ring: DimsRing) -> None:
    """The fastest go around more than twice; at rest they are the angles of the points."""
    data = ring.compute("speed-20")
    check_turns(data)
    assert np.abs(data["angle"].values).max() > 4 * np.pi


@pytest.mark.slow
@pytest.mark.parametrize(
    ("speed", "deviation", "time"),
    [(0.5, 0.5206, 19.90), (1.0, 1.0447, 21.42), (2.0, 2.1047, 23.0)],
)
def test_the_angles_of_the_ring_spread_as_the_angular_momentum_decays(
    ring: DimsRing, speed: float, deviation: float, time: float
) -> None:
    """THEORY's deviations and mean stopping times, of 512 samples with another generator."""
    data = ring.compute(f"speed-{speed:g}")
    check_turns(data)
    angle, stopped = data["angle"].values, data["stopping_time"].values
    with precision("float64"):
        start = jnp.array([1.0, 0.0])
        velocity = np.asarray(flows.random_velocities(start, jax.random.key(0), 512, speed))
    # By how much a particle turns is about its v_y: over that of these very draws, the deviation
    # has hardly an error of its own. THEORY's has that of 512 normal draws, 1 / sqrt(2 * 512).
    factor = angle.std() / velocity[:, 1].std()
    assert factor == pytest.approx(deviation / speed, rel=3 / np.sqrt(2 * 512))
    # The mean to three standard errors of the difference of two such samples.
    assert stopped.mean() == pytest.approx(time, abs=3 * np.sqrt(2 / 512) * stopped.std())
    # r^2 phi' = v_y exp(-t): each turns the way that it was thrown.
    assert (np.sign(angle) == np.sign(velocity[:, 1])).all()
    found = {one.quantity: one.measured for one in ring.conclude({"one": data})}
    at = f"at speed {speed:g}"
    assert found[f"deviation of the angle {at} (v / (gamma r))"] == pytest.approx(angle.std())


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
