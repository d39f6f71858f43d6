"""The guard of adaptive steps: overflows are made shorter, and a stuck step size ends the run."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flows import RESULTS, GradientDescent, GradientFlow, sample_minima, simulate
from flows.solvers.controllers import GuardedController, GuardedState, smallest_step
from tests.helpers import assert_trees_close

PID = diffrax.PIDController(rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("error", [jnp.inf, jnp.nan, 1.0])
def test_a_step_that_overflows_is_rejected_and_made_shorter(error):
    """By diffrax's smallest factor, where diffrax by itself divides infinity by itself."""
    guard, start, end = GuardedController(PID), jnp.asarray(1.0), jnp.asarray(jnp.inf)
    inner = (jnp.asarray(1.0), jnp.asarray(1.0), jnp.asarray(False))
    state = GuardedState(inner, jnp.asarray(1.0))
    step = (jnp.asarray(2.0), jnp.asarray(3.0), start, end, None, jnp.asarray(error), 5.0, state)
    keep, first, last, _, state, result = guard.adapt_step_size(*step)
    assert not bool(keep)
    assert (float(first), float(last)) == (2.0, pytest.approx(2.0 + PID.factormin))
    assert float(state.step) == pytest.approx(PID.factormin)
    assert bool(result == RESULTS.successful)


@pytest.mark.parametrize("smallest", [0.0, 1e-3])
def test_a_solve_that_cannot_go_on_is_ended(smallest):
    """At the edge of where the field is known, and not after all the steps that there are."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: jnp.where(y < 1, 1.0, jnp.nan)),
        diffrax.Heun(),
        t0=0.0,
        t1=2.0,
        dt0=0.1,
        y0=jnp.asarray(0.0),
        stepsize_controller=GuardedController(PID, smallest),
        max_steps=4096,
        throw=False,
    )
    assert bool(solution.result == RESULTS.dt_min_reached)
    assert int(solution.stats["num_steps"]) < (200 if smallest == 0 else 40)


def test_the_step_size_outlives_a_short_last_step():
    """The last step of a solve is cut, and what the controller makes of it is not gone on with."""
    guard = GuardedController(PID)
    inner = (jnp.asarray(1.0), jnp.asarray(1.0), jnp.asarray(False))
    state, y = GuardedState(inner, jnp.asarray(8.0)), jnp.asarray(1.0)
    cut = (jnp.asarray(0.0), jnp.asarray(0.1), y, y, None, jnp.asarray(0.0), 5.0, state)
    keep, start, end, _, state, _ = guard.adapt_step_size(*cut)
    assert bool(keep)
    assert float(end - start) == pytest.approx(0.1 * PID.factormax)
    assert float(state.step) == 8.0


def test_a_negligible_newton_correction_counts_as_none():
    """Those of an implicit solver's root finder, relative to the tolerance; others stay."""
    norm = GuardedController(PID).norm
    for size in (3.0, 1.01e-4):
        assert float(norm(jnp.full(2, size))) == pytest.approx(size, rel=1e-12)
    for size in (0.99e-4, 1e-12):
        assert float(norm(jnp.full(2, size))) == 0
    assert bool(jnp.isnan(norm(jnp.full(2, jnp.nan))))


def bounded(w):
    """A bowl that is known up to |w| = 1, beyond which neither it nor its slope is a number."""
    return 0.5 * jnp.sum(w**2) * jnp.where(jnp.abs(w[0]) < 1, 1.0, jnp.nan)


@pytest.mark.slow
def test_a_stuck_step_size_ends_a_run():
    """At the edge, after the steps that it takes to shrink to the smallest of the segment."""
    flow = GradientFlow(GradientDescent(1.0))
    run = simulate(flow, lambda w: -bounded(w), jnp.asarray([0.1]), 5, throw=False)
    assert bool(run.result == RESULTS.dt_min_reached)
    # w grows as exp(t).
    assert float(run.stopped_at) == pytest.approx(np.log(10.0), abs=1e-6)
    assert int(run.stats["solver_steps"]) < 200
    assert float(smallest_step(jnp.float64, 5)) == pytest.approx(16 * 2.0**-52 * 5)


@pytest.mark.slow
def test_a_stuck_step_size_ends_a_sample():
    """The same rule, with the clock as the only limit."""
    with pytest.warns(UserWarning, match="the integration of 2 failed"):
        found = sample_minima(bounded, jnp.zeros(1), jax.random.key(0), 2, speed=1e3)
    assert bool(jnp.all(found.result == RESULTS.dt_min_reached))
    assert bool(jnp.all(found.stopping_time < 0.1))
    assert int(jnp.max(found.stats["solver_steps"])) < 1000


def test_a_solver_without_structure_integrates_one_vector():
    """With the controller that every run has, which wraps the norm of the one within."""
    start = {"a": jnp.ones(2), "b": jnp.ones((2, 1))}
    loss = lambda w: jnp.sum(w["a"] ** 2) + jnp.sum(w["b"] ** 2)  # noqa: E731
    run = simulate(GradientFlow(GradientDescent(0.1)), loss, start, 2, measurements=())
    kept = [x for x in jax.tree.leaves(run.state.solver) if x.ndim]
    assert [x.shape for x in kept] == [(4,)] * len(kept)
    assert kept
    own = diffrax.PIDController(rtol=1e-6, atol=1e-8, norm=lambda y: jnp.linalg.norm(y.params["a"]))
    other = simulate(
        GradientFlow(GradientDescent(0.1)),
        loss,
        start,
        2,
        measurements=(),
        stepsize_controller=own,
    )
    assert_trees_close(other.params, run.params, rtol=1e-5, atol=0.0)
