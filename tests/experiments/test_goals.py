"""Held-out examples in a config, and runs that end at a goal."""

import numpy as np
import pytest

from experiments import ConfigError, load
from experiments.config.build import build, precision
from experiments.report.summary import rows
from tests.experiments.configs import DIVERGING, NETWORK, VALLEY, config
from tests.experiments.runs import quietly

DATA = {"kind": "digits", "examples": 20, "test": 5}


def held_out(**changes):
    """A small network with five of twenty digits held out."""
    return config(NETWORK, potential={**NETWORK["potential"], "data": {**DATA, **changes}})


def test_held_out_examples_are_measured_and_not_trained_on():
    """They and the others are all that were loaded."""
    with precision("float32"):
        whole, parts = build(config(NETWORK), "whole"), build(held_out(), "parts")
    test = parts.measurements[-1]
    assert sorted(test.variables) == ["test_accuracy", "test_loss"]
    pieces = parts.potential.inputs, test.potential.inputs
    assert [len(piece) for piece in pieces] == [15, 5]
    together = sorted(np.concatenate(pieces).tolist())
    assert together == sorted(whole.potential.inputs.tolist())


def test_more_held_out_examples_than_there_are():
    """At least one is left to train on."""
    with precision("float32"), pytest.raises(ConfigError, match="must be below the number of exam"):
        build(held_out(test=20), "x")


def test_a_goal_of_what_is_not_measured():
    """Named by its key, with what it takes to be measured."""
    for base, goal, says in (
        (VALLEY, "accuracy", "stop.accuracy: accuracy is not measured"),
        (NETWORK, "test_loss", "potential.data.test holds examples out"),
    ):
        wanted = config(base, stop={goal: 0.5})
        with precision(wanted.precision), pytest.raises(ConfigError, match=says):
            build(wanted, "x")


@pytest.mark.parametrize("flow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_each_trajectory_ends_at_its_goal_and_the_results_say_so(flow, tmp_path):
    """The run is finished, not diverged.

    Of a bowl of curvature 1 the loss falls by (1 - eta)^2 with a step, and by exp(-2 eta) in the
    flow: from 1/8 it is below 0.01 after 4 steps of 0.3, and after time 5 of the flow.
    """
    optimizer = {"kind": "gradient_descent", "learning_rate": 0.3}
    potential = {"kind": "quadratic", "spectrum": [1.0], "start": [0.5]}
    base = DIVERGING if flow else {**DIVERGING, "flows": []}
    stopping = config(base, optimizer=optimizer, potential=potential, stop={"loss": 0.01})
    result = quietly(stopping, tmp_path)
    assert result.status == "finished"
    goal = "the goal is reached, loss of at most 0.01"
    says = (f"discrete stopped at step 4: {goal}", f"gradient_flow stopped at step 5: {goal}")
    assert result.message == "; ".join(says[: 1 + flow])
    tree = load(tmp_path)
    assert tree["discrete"].attrs["goal"] == says[0].removeprefix("discrete ")
    assert tree["discrete"].attrs["message"] == ""
    assert [row.steps for row in rows(tree)] == [4, 5][: 1 + flow]
