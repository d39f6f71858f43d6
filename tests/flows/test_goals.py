"""Runs that stop at a goal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flows import (
    Goal,
    GradientDescent,
    GradientFlow,
    HeldOut,
    iterate,
    kept_rows,
    measure,
    simulate,
)
from tests.helpers import as_users_run, assert_trees_close

START = jnp.asarray([1.0, 2.0])


def bowl(w):
    """The squared distance from 0, halved."""
    return 0.5 * jnp.sum(w**2)


def descend(params, steps, **options):
    """Gradient descent with rate 0.1: the loss falls by 0.81 with each step."""
    return iterate(GradientDescent(0.1), bowl, params, steps, **options)


def flow(params, steps, **options):
    """Gradient flow of the same rate."""
    return simulate(GradientFlow(GradientDescent(0.1)), bowl, params, steps, **options)


# A goal in the first segment, at its end, in a later one, and with steps between the saves.
CASES = [
    pytest.param(descend, {"segment": 8}, 5, id="first-segment"),
    pytest.param(descend, {"segment": 4}, 8, id="end-of-a-segment"),
    pytest.param(descend, {"segment": 4, "save_every": 2}, 10, id="steps-between"),
    pytest.param(flow, {"segment": 4}, 6, id="flow"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("run", "options", "step"), CASES)
def test_a_run_ends_with_the_first_save_that_reaches_the_goal_and_goes_on_from_there(
    run, options, step
):
    """Its rows are those of the run without a goal, and so are the rows that follow."""
    whole = run(START, 20, **options)
    row = whole.steps.tolist().index(step)
    goal = Goal("loss", at_most=float(whole.observables["loss"][row]) * (1 + 1e-6))
    stopped = run(START, 20, stop=goal, **options)
    assert stopped.steps.tolist() == whole.steps[: row + 1].tolist()
    assert_trees_close(stopped.params, whole.params[: row + 1], 1e-7, 1e-9)
    assert bool(stopped.succeeded)
    assert bool(stopped.reached_goal)
    assert stopped.message.startswith(f"stopped at step {step}: the goal is reached, loss of at")
    rest = run(None, 20 - step, state=stopped.state, **options)
    assert rest.steps.tolist() == whole.steps[row + 1 :].tolist()
    assert rest.message == ""
    assert_trees_close(rest.params, whole.params[row + 1 :], 1e-7, 1e-9)


def test_a_start_at_the_goal_is_all_of_the_run():
    """For the optimizer, whose start comes with its first segment, and for a flow."""
    for run in (descend, flow):
        stopped = run(START, 20, stop=Goal("loss", at_most=3.0), segment=4)
        assert stopped.steps.tolist() == [0]


def test_each_of_a_batch_says_where_it_reached_the_goal():
    """All rows are there, and the mask says which belong to the run up to the goal."""
    goal = Goal("loss", at_most=0.5)

    def member(rate):
        run = iterate(GradientDescent(rate), bowl, START, 4, stop=[goal])
        return run.stopped_at, run.reached_goal, kept_rows(run)

    at, reached, kept = jax.vmap(member)(jnp.asarray([0.5, 0.75, 0.01, 1e200]))
    assert_trees_close(np.asarray(at), np.asarray([2.0, 1.0, np.nan, 1.0]))
    assert reached.tolist() == [True, True, False, False]
    assert kept.sum(axis=1).tolist() == [3, 2, 5, 1]


def test_a_failure_before_the_goal_is_a_failure():
    """A number that is measured of what is no longer finite reaches nothing."""
    run = iterate(
        GradientDescent(1e200), bowl, START, 4, stop=Goal("loss", at_least=1e9), throw=False
    )
    assert not run.succeeded
    assert not run.reached_goal


def test_a_goal_is_of_something_that_is_measured():
    """Named with what there is."""
    with pytest.raises(ValueError, match=r"one of gradient_norm, loss; got 'accuracy'"):
        descend(START, 2, stop=Goal("accuracy", at_least=0.5))
    with pytest.raises(ValueError, match="exactly one of at_most and at_least"):
        Goal("loss")
    held_out = HeldOut(lambda w: bowl(w - 1.0), "valid")
    run = descend(START, 4, measurements=held_out, stop=Goal("valid_loss", at_most=0.36))
    # Along (0.9^t, 2 * 0.9^t), ((0.9^t - 1)^2 + (2 * 0.9^t - 1)^2) / 2.
    assert_trees_close(run.observables["valid_loss"], jnp.asarray([0.5, 0.325]), 1e-12)


def test_a_held_out_loss_is_the_one_of_the_call():
    """What it captures may change between two runs, alone or as examples of another loss."""
    box = {"scale": jnp.asarray(1.0)}
    measured = HeldOut(lambda w: box["scale"] * jnp.sum(w**2))

    def first():
        return float(descend(jnp.ones(2), 1, measurements=measured).observables["test_loss"][0])

    assert first() == 2.0
    box["scale"] = jnp.asarray(11.0)
    assert first() == 22.0
    assert float(measure(measured, bowl, jnp.ones((1, 2)))[0]["test_loss"][0]) == 22.0


def test_what_is_no_goal_is_refused_before_the_run():
    """With a sentence."""
    with as_users_run():
        for wrong in (0.1, "loss"):
            with pytest.raises(ValueError, match="stop must be goals such as"):
                descend(START, 2, stop=wrong)
        for bound in ("0.1", jnp.ones(2), True, None):
            with pytest.raises(ValueError, match="exactly one of at_most and at_least"):
                Goal("loss", at_most=bound)
