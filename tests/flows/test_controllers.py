"""The guard of adaptive steps: what overflows is made shorter, and what cannot be is told."""

import diffrax
import jax.numpy as jnp
import pytest

from flows import RESULTS
from flows.solvers.controllers import OverflowGuard

PID = diffrax.PIDController(rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("error", [jnp.inf, jnp.nan, 1.0])
def test_a_step_that_overflows_is_rejected_and_made_shorter(error):
    """By diffrax's smallest factor, where diffrax alone divides infinity by itself."""
    guard, start, end = OverflowGuard(PID), jnp.asarray(1.0), jnp.asarray(jnp.inf)
    state = (jnp.asarray(1.0), jnp.asarray(1.0), jnp.asarray(False))
    step = (jnp.asarray(2.0), jnp.asarray(3.0), start, end, None, jnp.asarray(error), 5.0, state)
    keep, first, last, _, _, result = guard.adapt_step_size(*step)
    assert not bool(keep)
    assert (float(first), float(last)) == (2.0, pytest.approx(2.0 + PID.factormin))
    assert bool(result == RESULTS.successful)


def test_a_run_that_cannot_go_on_is_ended():
    """At the edge of where the field is known, and not after all the steps that there are."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: jnp.where(y < 1, 1.0, jnp.nan)),
        diffrax.Heun(),
        t0=0.0,
        t1=2.0,
        dt0=0.1,
        y0=jnp.asarray(0.0),
        stepsize_controller=OverflowGuard(PID),
        max_steps=4096,
        throw=False,
    )
    assert bool(solution.result == RESULTS.dt_min_reached)
    assert int(solution.stats["num_steps"]) < 200
