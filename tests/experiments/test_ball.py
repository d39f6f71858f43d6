"""The tables of rolling balls: what is refused, by the key that is to blame."""

from typing import Any

import jax.numpy as jnp
import pytest

from experiments.config.loader import validate
from experiments.system.errors import ConfigError
from experiments.tables.ball import RollingBallTable
from experiments.tables.base import BuildError
from tests.experiments.configs import VALLEY

BALL: dict[str, Any] = {"kind": "rolling_ball", "learning_rate": 0.1, "radius": 0.3}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"radius": -0.1}, r"optimizer\.radius: given -0\.1; must be at least 0"),
        ({"height_scale": 0.0}, r"optimizer\.height_scale: given 0\.0; must be greater than 0"),
        ({"candidates": 7}, r"optimizer\.candidates: given 7; must be at least 8"),
        ({"drop": "yes"}, r"optimizer\.drop: given 'yes'; must be true or false"),
    ],
)
def test_a_ball_that_cannot_be_is_told_by_its_key(given: dict[str, Any], says: str) -> None:
    """With what was given and what is allowed."""
    flows = [{"kind": "ball_centre"}]
    with pytest.raises(ConfigError, match=says):
        validate({**VALLEY, "optimizer": {**BALL, **given}, "flows": flows})


def test_a_ball_and_the_flows_of_another_optimizer_do_not_go_together() -> None:
    """The message names the flow that does."""
    with pytest.raises(ConfigError, match=r"flows\[0\]\.kind: .* models it \(ball_centre\)"):
        validate({**VALLEY, "optimizer": BALL})


@pytest.mark.parametrize("kind", ["ball_ironing", "ball_minima"])
def test_a_grid_that_is_too_large_is_refused_before_it_is_made(kind: str) -> None:
    """The border of the radius counts."""
    study = {"kind": kind, "radii": [30.0], "points": 1_000_000}
    with pytest.raises(ConfigError, match=r"study\.radii: given 30; with points = 1000000 a line"):
        validate({"name": "large", "description": "a border", "study": study})


def test_a_search_of_the_plane_is_bounded() -> None:
    """Candidates count along each of two parameters."""
    table = RollingBallTable(**BALL, candidates=2000)
    with pytest.raises(BuildError, match="candidates: given 2000; must be at most 1000 per"):
        table.start(table.build(), None, jnp.ones(2))
    assert table.start(table.build(), None, jnp.ones(1)).shape == (1,)
