"""A user's own trajectories as a tree, and what tells runs apart."""

import jax.numpy as jnp
import numpy as np
import pytest
import tomli_w

from experiments import tree_of
from experiments.report.drawing import labels_of
from flows import GradientDescent, GradientFlow, distance, iterate, simulate, tracking_error
from tests.experiments.configs import VALLEY, config
from tests.helpers import assert_trees_close

START = jnp.asarray([1.0, 2.0])


def bowl(w):
    """A bowl of curvatures 1 and 3."""
    return 0.5 * (w[0] ** 2 + 3 * w[1] ** 2)


def test_distances_of_trajectories_and_of_their_arrays_are_those_of_the_library():
    """Where every step is there, arrays give the distances but for the last step's midpoint."""
    run = iterate(GradientDescent(0.3), bowl, START, 6)
    flow = simulate(GradientFlow(GradientDescent(0.3)), bowl, START, 6)
    expected = np.asarray(distance(flow, run))
    arrays = {"discrete": {"params": run.params}, "flow": {"params": flow.params}}
    tree = tree_of({"discrete": run, "flow": flow}, optimizer=GradientDescent(0.3))
    assert_trees_close(tree["flow"]["distance"].values, expected, 1e-12, 1e-14)
    assert_trees_close(tree["flow"].attrs["tracking_error"], float(tracking_error(flow, run)), 1e-9)
    assert tree.attrs["critical_sharpness"] == pytest.approx(2 / 0.3)
    own = tree_of(arrays)
    assert_trees_close(own["flow"]["distance"].values[:-1], expected[:-1], 1e-12, 1e-14)
    assert np.isnan(own["flow"]["distance"].values[-1])


def test_what_is_no_trajectory():
    """Named by its key."""
    with pytest.raises(ValueError, match=r"the arrays of 'a' differ in length, .*'x': 2"):
        tree_of({"a": {"x": np.ones(2), "y": np.ones(3)}})
    with pytest.raises(ValueError, match="no coordinate 'step'"):
        tree_of({"a": tree_of({"b": {"loss": np.ones(2)}})["b"].to_dataset().drop_vars("step")})


def test_runs_are_told_apart_by_the_keys_in_which_they_differ(tmp_path):
    """At most two of them; then by their names."""
    for name, changes in (
        ("a", {}),
        ("b", {"optimizer": {**VALLEY["optimizer"], "learning_rate": 0.2}}),
        ("c", {"steps": 24, "save_every": 2, "seed": 1}),
    ):
        (tmp_path / name).mkdir()
        text = tomli_w.dumps(config(**changes).model_dump(exclude_none=True))
        (tmp_path / name / "config.toml").write_text(text)
    a, b, c = (tmp_path / name for name in "abc")
    assert labels_of([a, b]) == ["learning_rate = 0.3", "learning_rate = 0.2"]
    assert labels_of([a, c]) == ["a", "c"]
    assert labels_of([a, a]) == [str(a), str(a)]
