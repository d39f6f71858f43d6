"""Momentum and optax's optimizers: thresholds, two-cycles, agreement with each other, bad input."""

import jax
import jax.numpy as jnp
import optax
import pytest
from optax import contrib

from flows import (
    AbstractIncrementalOptimizer,
    GradientDescent,
    HeavyBall,
    Nesterov,
    OptaxOptimizer,
    critical_sharpness,
    iterate,
)
from flows.optimizers.linear_stability import linear_threshold
from flows.optimizers.optax_optimizer import as_descent, as_optimizer
from potentials import Quadratic, Quartic, ScalarProduct
from tests.helpers import as_users_run, assert_trees_close

BETA = 0.9
ETA = 0.1
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


# THEORY 7.2: eta times the critical lambda_max(P^-1 H), P per eta = 1. The rows of rmsprop have an
# epsilon that is not small; those of novograd, adafactor and sm3, and what is wrapped, are not in
# the table: they follow from the definitions as its rows do.
THRESHOLDS = {
    "sgd": (optax.sgd(ETA), 2),
    "momentum": (optax.sgd(ETA, BETA), 3.8),
    "nesterov": (optax.sgd(ETA, BETA, nesterov=True), 3.8 / 2.8),
    "rmsprop": (optax.rmsprop(ETA, eps=0.1, eps_in_sqrt=False), 2),
    "rmsprop centred": (optax.rmsprop(ETA, centered=True), 2),
    "rmsprop momentum": (optax.rmsprop(ETA, eps=0.1, momentum=BETA), 3.8),
    "rmsprop nesterov": (optax.rmsprop(ETA, momentum=BETA, nesterov=True), 3.8 / 2.8),
    "adagrad": (optax.adagrad(ETA), 2),
    "adadelta": (optax.adadelta(ETA), 2),
    "acprop": (contrib.acprop(ETA), 2),
    "adam": (optax.adam(ETA), 38),
    "amsgrad": (optax.amsgrad(ETA), 38),
    "adabelief": (optax.adabelief(ETA), 38),
    "yogi": (optax.yogi(ETA), 38),
    "radam": (optax.radam(ETA), 38),
    "adamax": (optax.adamax(ETA), 38),
    "adopt": (contrib.adopt(ETA, b2=0.99), 38),
    "nadam": (optax.nadam(ETA), 38 / 2.8),
    "adamw": (optax.adamw(ETA, weight_decay=0.5), 1.95 * 19),
    "optimistic": (optax.optimistic_gradient_descent(ETA, 0.7, 0.4), 2 / 1.5),
    "optimistic adam": (optax.optimistic_adam_v2(ETA, nesterov=False), 38 / 3),
    "optimistic nadam": (optax.optimistic_adam_v2(ETA), 38 / 2.8 / 3),
    "adan": (optax.adan(ETA), 2 / (0.02 / 1.98 + 2 * 0.08**2 / 1.92)),
    "ademamix": (contrib.ademamix(ETA), 2 / (0.1 / 1.9 + 5 * 0.0001 / 1.9999)),
    "simplified ademamix": (contrib.simplified_ademamix(ETA, b1=0.99, alpha=0.0), 3.98),
    "simplified ademamix 1": (contrib.simplified_ademamix(ETA, b1=0.99, alpha=1.0), 3.98 / 2.99),
    "schedule-free sgd": (contrib.schedule_free_sgd(ETA), 20),
    "schedule-free adamw": (contrib.schedule_free_adamw(ETA), 20),
    "polyak": (optax.polyak_sgd(), jnp.inf),
    "novograd": (optax.novograd(ETA), 3.8),
    "adafactor": (optax.adafactor(ETA), 2),
    "sm3": (optax.sm3(ETA), 38),
    "clipped adam": (optax.chain(optax.clip_by_global_norm(1.0), optax.adam(ETA)), 38),
    "noisy": (optax.noisy_sgd(ETA, key=0), 2),
    "injected": (optax.inject_hyperparams(optax.adam)(ETA), 38),
}


# Those that are not in the table of `eosflows validate`, which `test_thresholds` goes through, and
# one of each sort that is.
QUICK = (
    *("sgd", "adam", "nadam", "optimistic"),
    *("novograd", "adafactor", "sm3", "clipped adam", "noisy", "injected"),
)


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=() if row in QUICK else pytest.mark.slow) for row in THRESHOLDS],
)
def test_the_critical_sharpness_of_optax_is_that_of_theory(row):
    """Each transformation of the table, from its own map."""
    transformation, threshold = THRESHOLDS[row]
    found = critical_sharpness(transformation)
    assert_trees_close(ETA * found, jnp.asarray(threshold, float), rtol=2e-8, atol=0.0)


@pytest.mark.parametrize(
    "optimizer", [GradientDescent(0.3), HeavyBall(0.3, 0.9), Nesterov(0.3, 0.8)]
)
def test_formulas_and_the_jacobian_agree(optimizer):
    """What is found from the map is what the optimizer's own formula gives."""
    found = jnp.asarray(linear_threshold(optimizer))
    assert_trees_close(found, critical_sharpness(optimizer), rtol=1e-8, atol=0.0)
    rates = jnp.asarray([0.1, 0.2])
    made = lambda rate: critical_sharpness(type(optimizer)(rate, *jax.tree.leaves(optimizer)[1:]))  # noqa: E731
    expected = found * 0.3 / rates
    assert_trees_close(jax.jit(jax.vmap(made))(rates), expected, rtol=1e-8, atol=0.0)


@pytest.mark.parametrize(
    "row",
    [
        "adam",
        *(
            pytest.param(row, marks=pytest.mark.slow)
            for row in ("rmsprop centred", "adamax", "adadelta")
        ),
    ],
)
def test_the_threshold_does_not_depend_on_the_second_moment(row):
    """In units of P, for second moments that are large against the epsilon."""
    optimizer = OptaxOptimizer(THRESHOLDS[row][0])
    found = [jnp.asarray(linear_threshold(optimizer, second_moment=nu)) for nu in (1e4, 1e16)]
    assert_trees_close(found[0], found[1], rtol=1e-8, atol=0.0)


def test_the_critical_sharpness_in_single_precision(float32):
    """It is found in double precision all the same, also while a program is compiled."""
    found = jax.jit(lambda x: x * critical_sharpness(optax.adam(ETA)))(1.0)
    assert_trees_close(found, jnp.asarray(380.0, jnp.float32), rtol=1e-6, atol=0.0)
    assert found.dtype == jnp.float32


@pytest.mark.parametrize(
    ("transformation", "message"),
    [
        (optax.lion(ETA), "its step jumps where the gradient passes zero"),
        (optax.sign_sgd(ETA), "its step jumps where the gradient passes zero"),
        (contrib.muon(ETA), "its step jumps where the gradient passes zero"),
        (optax.lamb(ETA), "its step jumps where the gradient passes zero"),
        (optax.lookahead(optax.sgd(ETA), 5, 0.5), r"state.transformation.steps_since_sync counts"),
        (contrib.sam(optax.sgd(ETA), optax.sgd(0.05)), "steps_since_sync counts in a cycle"),
        (optax.sgd(optax.exponential_decay(ETA, 10, 0.5)), "late in a run"),
        (optax.sgd(-ETA), "must move against a small gradient"),
        (optax.masked(optax.sgd(ETA), {"a": True}), "does not take a single array"),
        (contrib.prodigy(), "neither to the sign of a gradient|changes unevenly"),
    ],
    ids=lambda x: None if isinstance(x, str) else "",
)
def test_an_optimizer_without_a_critical_sharpness(transformation, message):
    """A sentence says why."""
    with pytest.raises(ValueError, match=message):
        critical_sharpness(transformation)


def test_a_critical_sharpness_is_found_from_numbers():
    """Not from a learning rate that is being mapped over."""
    with pytest.raises(ValueError, match=r"outside of jax.vmap, jax.grad and jax.jit"):
        jax.vmap(lambda rate: critical_sharpness(optax.adam(rate)))(jnp.asarray([0.1, 0.2]))


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
        optax.MultiSteps(optax.sgd(0.2), 2).gradient_transformation(),
    ],
    ids=["adam", "rms", "lion", "clip", "schedule", "polyak", "noisy", "lbfgs", "multisteps"],
)
def test_iterate_runs_optax_optimizers(transformation):
    """With counters, schedules, random keys, the loss as an argument and line searches."""
    run = iterate(transformation, ScalarProduct(2), START, 20)
    assert run.params.shape == (21, 2)
    assert float(run.observables["loss"][-1]) < float(run.observables["loss"][0])


ASCENT = optax.chain(contrib.normalize(), optax.sgd(0.05))


@pytest.mark.parametrize(
    ("transformation", "start", "iterate_of"),
    [
        (
            optax.lookahead(optax.adam(0.1), 3, 0.5),
            optax.LookaheadParams.init_synced(START),
            lambda params: params.fast,
        ),
        (contrib.sam(optax.sgd(0.1), ASCENT), START, lambda params: params),
        (contrib.sam(optax.sgd(0.1), ASCENT, opaque_mode=True), START, lambda params: params),
    ],
    ids=["lookahead", "sam", "opaque sam"],
)
def test_lookahead_and_sam_make_the_steps_that_optax_makes(transformation, start, iterate_of):
    """As their documentation runs them: the gradient at the fast parameters; a `grad_fn`."""
    potential = ScalarProduct(2)
    params, path = start, [START]
    further = {"grad_fn": jax.grad(lambda p, _: potential(p))} if iterate_of(start) is start else {}
    with jax.numpy_dtype_promotion("standard"):
        state = transformation.init(params)
        for _ in range(7):
            gradient = jax.grad(potential)(iterate_of(params))
            updates, state = transformation.update(gradient, state, params, **further)
            params = optax.apply_updates(params, updates)
            path.append(iterate_of(params))
    run = iterate(transformation, potential, START, 7)
    assert_trees_close(run.params, jnp.stack(path), rtol=1e-12, atol=1e-13)
    slow = run.state.optimizer.slow
    assert (slow is None) == (iterate_of(start) is start)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            optax.MultiSteps(optax.sgd(0.1), 2),
            r"got an optax.MultiSteps.*\.gradient_transformation",
        ),
        (optax.sgd, r"got the function sgd. If it makes one, call it: sgd\(0.1\)"),
        ("adam", "optimizer such as GradientDescent.*transformation such as optax.sgd.*got 'adam'"),
        (
            optax.chain(optax.clip(1.0), optax.lookahead(optax.sgd(0.1), 2, 0.5)),
            r"optax.lookahead must be the outermost transformation",
        ),
        (
            optax.chain(optax.clip(1.0), contrib.sam(optax.sgd(0.1), ASCENT)),
            "sam can be used as the outermost transformation",
        ),
    ],
    ids=["multisteps", "function", "string", "lookahead inside", "sam inside"],
)
def test_what_iterate_does_not_take_for_an_optimizer(wrong, message):
    """With the way to do it."""
    with as_users_run(), pytest.raises(ValueError, match=message):
        iterate(wrong, ScalarProduct(2), START, 3)


@pytest.mark.parametrize(
    ("optimizer", "rate"),
    [
        (optax.sgd(0.3), 0.3),
        (optax.chain(optax.scale(3.0), optax.identity(), optax.sgd(0.1)), 0.3),
        (OptaxOptimizer(optax.sgd(0.3)), 0.3),
        (GradientDescent(0.3), 0.3),
        (optax.sgd(0.3, momentum=0.5), None),
        (optax.sgd(lambda step: 0.3), None),
        (optax.sgd(-0.3), None),
        (optax.sign_sgd(0.3), None),
        (optax.polyak_sgd(), None),
        (optax.chain(optax.clip(1e5), optax.sgd(0.3)), None),
        (optax.chain(optax.centralize(), optax.sgd(0.3)), None),
        (optax.chain(optax.add_decayed_weights(1e-3), optax.sgd(0.3)), None),
        (optax.masked(optax.sgd(0.3), {"number": True, "vector": True, "matrix": False}), None),
        (optax.masked(optax.sgd(0.3), {"weights": True}), None),
        (optax.lookahead(optax.sgd(0.3), 2, 0.5), None),
        (HeavyBall(0.3, 0.5), None),
    ],
)
def test_a_descent_is_recognised(optimizer, rate):
    """By its updates: the same multiple of each gradient, whatever the parameters and the loss."""
    found = as_descent(optimizer)
    if rate is None:
        assert found is None
    else:
        assert_trees_close(found.learning_rate, jnp.asarray(rate), rtol=1e-15, atol=0.0)


def test_a_descent_is_recognised_in_a_program_that_is_compiled():
    """If its rate is a number; of a rate that is mapped over nothing is known."""
    assert float(jax.jit(lambda: as_descent(optax.sgd(0.3)).learning_rate)()) == 0.3
    found = []
    jax.vmap(lambda rate: found.append(as_descent(optax.sgd(rate))) or rate)(jnp.ones(2))
    assert found == [None]


def test_an_optimizer_is_taken_as_it_is():
    """And a transformation wrapped."""
    ours = GradientDescent(0.1)
    assert as_optimizer(ours) is ours
    transformation = optax.sgd(0.1)
    assert as_optimizer(transformation).transformation is transformation


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
    with as_users_run(), pytest.raises(ValueError, match=message):
        kind(*arguments)


def test_something_that_is_no_transformation():
    """A string, or an optimizer of ours."""
    for wrong in ("adam", GradientDescent(0.1)):
        with as_users_run(), pytest.raises(ValueError, match="transformation must be an optax"):
            OptaxOptimizer(wrong)
