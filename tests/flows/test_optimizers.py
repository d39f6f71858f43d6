"""Momentum and optax's optimizers: thresholds, two-cycles, agreement with each other, bad input."""

import jax
import jax.numpy as jnp
import optax
import pytest

from flows import (
    AbstractIncrementalOptimizer,
    GradientDescent,
    HeavyBall,
    Nesterov,
    OptaxOptimizer,
    iterate,
)
from potentials import Quadratic, Quartic, ScalarProduct
from tests.helpers import assert_trees_close

BETA = 0.9
MOMENTUM = [HeavyBall(1.0, BETA), Nesterov(1.0, BETA)]
START = jnp.asarray([1.5, 0.3])
name = lambda optimizer: type(optimizer).__name__  # noqa: E731


@pytest.mark.parametrize(
    ("optimizer", "threshold"),
    [
        (GradientDescent(1.0), 2.0),
        (HeavyBall(1.0, BETA), 3.8),
        (Nesterov(1.0, BETA), 1.3571428571428572),
        (HeavyBall(0.5, 0.0), 4.0),
        (Nesterov(0.5, 0.5), 3.0),
    ],
)
def test_thresholds_are_those_of_theory(optimizer, threshold):
    """THEORY 1: 2 (1 + beta) / eta and 2 (1 + beta) / (eta (1 + 2 beta))."""
    assert_trees_close(optimizer.critical_sharpness, jnp.asarray(threshold), rtol=1e-15, atol=0.0)


@pytest.mark.parametrize("optimizer", [GradientDescent(1.0), *MOMENTUM], ids=name)
def test_the_discrete_map_loses_stability_at_the_threshold(optimizer):
    """A thousandth below it an iterate on a quadratic decays, a thousandth above it grows."""
    for factor, grows in ((0.999, False), (1.001, True)):
        potential = Quadratic(factor * optimizer.critical_sharpness[None])
        run = iterate(optimizer, potential, jnp.ones(1), 6000, save_every=2000, measurements=())
        assert bool(jnp.abs(run.params[-1, 0]) > jnp.abs(run.params[-2, 0])) == grows


@pytest.mark.parametrize("optimizer", MOMENTUM, ids=name)
def test_the_two_cycle_of_the_quartic_has_the_amplitude_of_theory(optimizer):
    """a^2 = (S - threshold) / Q, reached from a small start."""
    threshold = float(optimizer.critical_sharpness)
    potential = Quartic(1.05 * threshold, 1.0)
    run = iterate(optimizer, potential, jnp.asarray([0.05]), 3000, save_every=1000, measurements=())
    expected = jnp.asarray([0.05 * threshold])
    assert_trees_close(run.params[-1] ** 2, expected, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (GradientDescent(0.2), optax.sgd(0.2)),
        (HeavyBall(0.1, 0.8), optax.sgd(0.1, momentum=0.8)),
        (Nesterov(0.1, 0.8), optax.sgd(0.1, momentum=0.8, nesterov=True)),
    ],
)
def test_optax_has_the_same_methods(ours, theirs):
    """The same iterates, to the rounding of 50 steps."""
    runs = [
        iterate(optimizer, ScalarProduct(2), START, 50)
        for optimizer in (ours, OptaxOptimizer(theirs))
    ]
    assert_trees_close(runs[0].params, runs[1].params, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("optimizer", [GradientDescent(0.2), *MOMENTUM], ids=name)
def test_an_increment_is_the_difference_of_two_states(optimizer):
    """On both leaves of the state."""
    assert isinstance(optimizer, AbstractIncrementalOptimizer)
    potential = ScalarProduct(2)
    state = optimizer.step(optimizer.init(START), potential)
    difference = jax.tree.map(jnp.subtract, optimizer.step(state, potential), state)
    assert_trees_close(optimizer.increment(state, potential), difference, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    "transformation",
    [
        optax.adam(0.02),
        optax.rmsprop(0.02),
        optax.lion(0.02),
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
        optax.sgd(optax.exponential_decay(0.2, 10, 0.9)),
        optax.polyak_sgd(max_learning_rate=0.2),
        optax.noisy_sgd(0.05, key=0),
        optax.lbfgs(),
    ],
    ids=["adam", "rmsprop", "lion", "clipped", "schedule", "polyak", "noisy", "lbfgs"],
)
def test_iterate_runs_optax_optimizers(transformation):
    """With counters, schedules, random keys, the loss as an argument and line searches."""
    potential = ScalarProduct(2)
    # optax relies on the implicit promotions that these tests forbid.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        run = iterate(OptaxOptimizer(transformation), potential, START, 20)
    assert run.params.shape == (21, 2)
    assert float(run.observables["loss"][-1]) < float(run.observables["loss"][0])


def test_hyperparameters_are_arrays():
    """Learning rate and momentum map and differentiate."""

    def end(rate, momentum):
        run = iterate(HeavyBall(rate, momentum), ScalarProduct(2), START, 5, measurements=())
        return run.params[-1]

    rates, momenta = jnp.asarray([0.1, 0.2]), jnp.asarray([0.5, 0.9])
    mapped = jax.vmap(end)(rates, momenta)
    single = jnp.stack([end(r, m) for r, m in zip(rates, momenta, strict=True)])
    assert_trees_close(mapped, single, rtol=1e-12, atol=1e-13)
    step = 1e-6
    difference = (end(0.1, 0.5 + step) - end(0.1, 0.5 - step)) / (2 * step)
    slope = jax.jacfwd(end, argnums=1)(jnp.asarray(0.1), jnp.asarray(0.5))
    assert_trees_close(slope, difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", [HeavyBall, Nesterov])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.1, 1.0), "momentum must be at least 0 and below 1; got 1.0"),
        ((0.1, -0.1), "momentum must be at least 0 and below 1; got -0.1"),
        ((0.1, float("nan")), "momentum must be at least 0 and below 1; got nan"),
        ((0.1, "high"), "momentum must be a number; got 'high'"),
        ((0.0, 0.9), "learning_rate must be a finite number above 0; got 0.0"),
    ],
)
def test_wrong_hyperparameters(kind, arguments, message):
    """Each is named."""
    with pytest.raises(ValueError, match=message):
        kind(*arguments)


def test_something_that_is_no_transformation():
    """A string, or an optimizer of ours."""
    for wrong in ("adam", GradientDescent(0.1)):
        with pytest.raises(ValueError, match="transformation must be an optax gradient"):
            OptaxOptimizer(wrong)
