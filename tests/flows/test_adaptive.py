"""Adaptive methods: their maps beside optax's and PyTorch's, thresholds, and what they refuse."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from flows import (
    Adam,
    AdamW,
    EffectiveLearningRate,
    GradientFlow,
    NAdam,
    OnExamples,
    ParityFlow,
    ParityState,
    PreconditionedCurvature,
    RMSProp,
    ScalarRMSProp,
    critical_sharpness,
    iterate,
    measure,
    simulate,
)
from flows.optimizers.linear_stability import linear_threshold
from potentials import MLP, SupervisedPotential, chebyshev, mse
from tests.helpers import as_users_run, assert_trees_close

START = {"a": jnp.asarray([1.0, -0.5, 0.25]), "b": jnp.asarray([[0.3], [2.0]])}


SQUARES = jax.tree.map(jnp.square, START)


def rough(params):
    """A loss whose gradients change sign and size, and that does not settle."""
    a, b = params["a"], params["b"]
    return jnp.sum(a**4) + 0.5 * jnp.sum((b - a[0]) ** 2) + jnp.sum(jnp.cos(3 * b))


PAIRS = {
    "rmsprop": (RMSProp(1e-2, 0.9), optax.rmsprop(1e-2, 0.9, eps_in_sqrt=False)),
    "rmsprop, eps in the root": (
        RMSProp(1e-2, 0.9, eps=0.0, eps_root=1e-8, initial_nu=0.5),
        optax.rmsprop(1e-2, initial_scale=0.5),
    ),
    "rmsprop, corrected": (
        RMSProp(1e-2, bias_correction=True),
        optax.rmsprop(1e-2, 0.99, eps_in_sqrt=False, bias_correction=True),
    ),
    "adam": (Adam(1e-2), optax.adam(1e-2)),
    "adam, eps in the root": (
        Adam(1e-2, 0.8, 0.99, 1e-6, eps_root=1e-7),
        optax.adam(1e-2, 0.8, 0.99, 1e-6, 1e-7),
    ),
    "adamw": (AdamW(1e-2, weight_decay=0.1), optax.adamw(1e-2, weight_decay=0.1)),
    "nadam": (NAdam(1e-2), optax.nadam(1e-2)),
}


# Each has another quick one that differs from it in few terms.
LIKE_ANOTHER = ("rmsprop", "rmsprop, corrected", "adam")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in LIKE_ANOTHER else ()) for name in PAIRS],
)
def test_a_method_is_optaxs_for_a_thousand_steps(name):
    """To rounding, which the steps amplify by less than a hundred."""
    ours, theirs = (iterate(o, rough, START, 1000, save_every=50) for o in PAIRS[name])
    assert_trees_close(ours.params, theirs.params, rtol=1e-11, atol=1e-12)


METHODS = {
    "scalar rmsprop": (ScalarRMSProp(0.1), 20.0),
    "rmsprop": (RMSProp(0.1), 20.0),
    "rmsprop, corrected": (RMSProp(0.1, bias_correction=True), 20.0),
    "adam": (Adam(0.1), 380.0),
    "adam, not corrected": (Adam(0.1, 0.5, bias_correction=False), 60.0),
    "adamw": (AdamW(0.1, weight_decay=0.5), 370.5),
    "nadam": (NAdam(0.1), 135.7142857142857),
    "nadam of torch": (NAdam(0.1, convention="torch"), 135.7142857142857),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_threshold_is_that_of_the_map(name):
    """By formula, as THEORY-7 has it, and from the Jacobian of a step late in a run."""
    optimizer, expected = METHODS[name]
    assert_trees_close(critical_sharpness(optimizer), jnp.asarray(expected), rtol=1e-14)
    if name != "nadam of torch":  # Its product of momenta has no part in a step at rest.
        assert_trees_close(linear_threshold(optimizer), expected, rtol=1e-6)


def double_well(w):
    """A loss with a two-cycle around its minimum at every learning rate."""
    return jnp.sum(0.5 * w**2 - 0.25 * w**4)


# Two-cycles +-a of L = w^2/2 - w^4/4, eps = 0: a = eta/2, eta (1 - b1)/(2 (1 + b1)), and that times
# 1 + 2 b1 (THEORY-7, 7.3).
CYCLES = {
    "rmsprop": (RMSProp(0.2, eps=0.0), 0.1),
    "adam": (Adam(0.2, eps=0.0, bias_correction=False), 0.00526315789),
    "nadam": (NAdam(0.2, eps=0.0, bias_correction=False), 0.0147368421),
}


def on_the_cycle(optimizer, loss, amplitude):
    """Return the state at +a: nu is g(a)^2, m as a step before from -a left it."""
    w = jnp.asarray([amplitude])
    gradient = jax.grad(loss)(w)
    state = dataclasses.replace(optimizer.init(w), second_moment=gradient**2)
    if state.momentum is None:
        return state
    momentum = -(1 - optimizer.b1) * gradient / (1 + optimizer.b1)
    return dataclasses.replace(state, momentum=momentum)


@pytest.mark.parametrize("name", CYCLES)
def test_the_rate_sets_the_amplitude_of_a_two_cycle(name):
    """A step leads from +a to -a, with the averages as they were, to rounding."""
    optimizer, amplitude = CYCLES[name]
    # The amplitudes are given to nine digits; their formula has all.
    formula = 0.1 if name == "rmsprop" else 0.1 * 0.1 / 1.9 * (2.8 if name == "nadam" else 1.0)
    assert abs(formula - amplitude) < 1e-10
    state = on_the_cycle(optimizer, double_well, formula)
    after = optimizer.step(state, double_well)
    mirrored = dataclasses.replace(
        state,
        params=-state.params,
        momentum=None if state.momentum is None else -state.momentum,
    )
    assert_trees_close(after, mirrored, rtol=0, atol=1e-16)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "adam" else pytest.mark.slow) for name in CYCLES],
)
def test_a_two_cycle_is_an_equilibrium_of_the_parity_flow(name):
    """The phase space holds nu and m: their alternating parts are parts of d."""
    optimizer, _ = CYCLES[name]
    amplitude = 0.1 if name == "rmsprop" else 0.1 * 0.1 / 1.9 * (2.8 if name == "nadam" else 1.0)
    ends = [on_the_cycle(optimizer, double_well, a) for a in (amplitude, -amplitude)]
    centre = jax.tree.map(lambda x, y: (x + y) / 2, *ends)
    half = jax.tree.map(lambda x, y: (x - y) / 2, *ends)
    for order in (1, 2, 3, 4):
        flow = ParityFlow(optimizer, order, start="given", difference=half)
        state = ParityState(centre, half, jnp.zeros(()))
        moving = flow.vector_field(0.0, state, double_well)
        rest = (moving.centre, moving.half_difference)
        assert_trees_close(rest, jax.tree.map(jnp.zeros_like, rest), rtol=0, atol=1e-16)


# Multipliers per step of the two-cycle on a quadratic, for b2 = .9, .99, .999 (THEORY-7, 7.3).
MULTIPLIERS = {
    "rmsprop": (lambda b2: RMSProp(0.1, b2, 0.0), (0.948683, 0.994987, 0.999500)),
    "nadam": (
        lambda b2: NAdam(0.1, 0.9, b2, 0.0, bias_correction=False),
        (0.984685, 0.998327, 0.999831),
    ),
    "adam": (
        lambda b2: Adam(0.1, 0.9, b2, 0.0, bias_correction=False),
        (1.355981, 1.143679, 1.049426),
    ),
    "adam, little momentum": (
        lambda b2: Adam(0.1, 0.5, b2, 0.0, bias_correction=False),
        (1.146196, 1.029003, 1.003421),
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        # Also measured by `eosflows validate`, whose table is a quick test.
        pytest.param(name, marks=() if name.startswith("adam") else pytest.mark.slow)
        for name in MULTIPLIERS
    ],
)
def test_adam_leaves_its_two_cycle_and_the_others_stay(name):
    """By the spectral radius of a step, mirrored, so that the cycle is a fixed point."""
    make, expected = MULTIPLIERS[name]

    def bowl(w):
        return 0.5 * jnp.sum(w**2)

    for b2, multiplier in zip((0.9, 0.99, 0.999), expected, strict=True):
        optimizer = make(b2)
        amplitude = 1 / optimizer.critical_sharpness
        start = on_the_cycle(optimizer, bowl, float(amplitude))
        flat, unravel = ravel_pytree(start)

        def mirrored(z, optimizer=optimizer, unravel=unravel):
            after = optimizer.step(unravel(z), bowl)
            signs = dataclasses.replace(
                jax.tree.map(lambda x: -jnp.ones_like(x), after),
                second_moment=jnp.ones_like(after.second_moment),
            )
            return ravel_pytree(jax.tree.map(jnp.multiply, signs, after))[0]

        assert_trees_close(mirrored(flat), flat, rtol=0, atol=1e-15)
        radius = np.max(np.abs(np.linalg.eigvals(np.asarray(jax.jacfwd(mirrored)(flat)))))
        assert abs(radius - multiplier) < 1e-6


# On a quadratic RMSProp settles on its two-cycle by sqrt(b2) per step: 0.9^150 is 1e-7.
SETTLING = RMSProp(0.1, 0.81, 0.0)


def steep_bowl(w):
    """A quadratic of curvature 3."""
    return 0.5 * jnp.sum(jnp.asarray([3.0]) * w**2)


def test_the_preconditioned_sharpness_of_a_settled_method_is_its_threshold():
    """Of the optimizer at every save, often or seldom."""
    optimizer, found = SETTLING, []
    for every in (1, 25):
        run = iterate(
            optimizer,
            steep_bowl,
            jnp.asarray([1.0]),
            200,
            save_every=every,
            measurements=PreconditionedCurvature(),
        )
        found.append(run.observables["preconditioned_sharpness"])
    assert_trees_close(found[0][::25], found[1], rtol=1e-12)
    assert_trees_close(found[0][-1], jnp.asarray(20.0), rtol=1e-7)


@pytest.mark.slow
def test_the_preconditioned_sharpness_of_the_parity_flow_settles_too():
    """Beside the optimizer."""
    flow = simulate(
        ParityFlow(SETTLING, burn=150),
        steep_bowl,
        jnp.asarray([1.0]),
        200,
        measurements=PreconditionedCurvature(),
    )
    assert_trees_close(flow.observables["preconditioned_sharpness"][-1], 20.0, rtol=1e-6)


BAD = {
    "b2": lambda: RMSProp(0.1, 1.0),
    "b1": lambda: Adam(0.1, -0.1),
    "eps": lambda: NAdam(0.1, eps=-1e-8),
    "eps_root": lambda: Adam(0.1, eps_root=-1e-8),
    "initial_nu": lambda: RMSProp(0.1, initial_nu=-1.0),
    "initial_nu['a']": lambda: RMSProp(0.1, initial_nu={"a": jnp.asarray([-1.0]), "b": 1.0}),
    "weight_decay": lambda: AdamW(0.1, weight_decay=-1.0),
    "convention": lambda: NAdam(0.1, convention="keras"),
    "bias_correction": lambda: NAdam(0.1, convention="torch", bias_correction=False),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_argument_is_named(name):
    """With what was given and what is allowed."""
    with as_users_run(), pytest.raises(ValueError, match=re.escape(name) + " must be .*got"):
        BAD[name]()


def test_a_second_moment_of_another_structure_is_refused():
    """By name, with both structures."""
    for optimizer in (RMSProp(0.1, initial_nu={"a": 1.0}), ScalarRMSProp(0.1, initial_nu=SQUARES)):
        with pytest.raises(ValueError, match=r"initial_nu must be a number, or .*; got"):
            iterate(optimizer, rough, START, 1)


def test_a_method_maps_over_its_rate_and_differentiates():
    """A derivative through ten steps is the difference quotient, to its own error of 1e-9."""

    def end(rate):
        run = iterate(NAdam(rate), rough, START, 10, measurements=())
        return ravel_pytree(jax.tree.map(lambda x: x[-1], run.params))[0]

    rates = jnp.asarray([0.01, 0.02])
    ends, slopes = jax.vmap(lambda rate: jax.jvp(end, (rate,), (jnp.ones(()),)))(rates)
    assert_trees_close(ends, jnp.stack([end(r) for r in rates]), rtol=1e-12)
    slope = (end(rates[0] + 1e-5) - end(rates[0] - 1e-5)) / 2e-5
    assert_trees_close(slopes[0], slope, rtol=1e-6, atol=1e-8)


def test_a_small_gradient_is_not_lost_where_nothing_is_kept():
    """At b2 = 0 the second moment is the square of the last gradient, however small that is."""

    def wall(w):
        return jnp.sum(jnp.where(w > 0.95, 1.0, 1e-5).astype(w.dtype) * (w - 0.95))

    start = jnp.asarray([1.0], jnp.float32)
    pairs = (
        (RMSProp(0.1, 0.0), optax.rmsprop(0.1, 0.0, eps_in_sqrt=False)),
        (Adam(0.1, 0.0, 0.0), optax.adam(0.1, 0.0, 0.0)),
    )
    for ours, theirs in pairs:
        runs = [iterate(one, wall, start, 4).params for one in (ours, theirs)]
        assert_trees_close(*runs, rtol=1e-6)


def test_numbers_beyond_the_precision_end_a_run_and_do_not_make_a_leap():
    """A nan in the second moment is no preconditioner of eps."""
    start = jnp.ones(1, jnp.float32)

    def steep(w):
        return jnp.sum(jnp.asarray(3e19, w.dtype) * jnp.sin(w))

    run = iterate(Adam(0.1), steep, start, 5, throw=False)
    assert float(jnp.nanmax(jnp.abs(run.params))) < 10
    near = iterate(Adam(0.1, b2=1 - 1e-8), lambda w: 0.5 * jnp.sum(w**2), start, 3)
    expected = jnp.asarray([1.0, 0.9, 0.8, 0.702], jnp.float32)
    assert_trees_close(near.params[:, 0], expected, rtol=0, atol=2e-3)


def test_a_run_goes_on_only_with_the_same_averages():
    """Another convention of the same method is told apart, by a sentence."""
    first = iterate(Adam(0.1), rough, START, 3)
    for other in (Adam(0.1, bias_correction=False), Adam(0.1, initial_nu=1.0)):
        if other.bias_correction:
            assert iterate(other, rough, None, 2, state=first.state).succeeded
        else:
            with pytest.raises(ValueError, match="state must be of the same optimizer"):
                iterate(other, rough, None, 2, state=first.state)


@pytest.mark.slow
def test_a_preconditioner_that_is_not_known_gives_no_sharpness():
    """Of an optax transformation with second moments, and of gradient flow."""

    def bowl(w):
        return 0.5 * jnp.sum(w**2)

    measured = {"measurements": PreconditionedCurvature()}
    name, start = "preconditioned_sharpness", jnp.ones(2)
    unknown = [
        iterate(optax.rmsprop(0.1), bowl, start, 2, **measured),
        simulate(GradientFlow(RMSProp(0.1, initial_nu=1.0)), bowl, start, 2, **measured),
    ]
    assert all(bool(jnp.all(jnp.isnan(run.observables[name]))) for run in unknown)
    known = iterate(optax.sgd(0.1), bowl, start, 2, **measured)
    assert_trees_close(known.observables[name], jnp.ones(3))
    # A parameter without a gradient does not hide the others.
    dead = iterate(RMSProp(0.1, eps=0.0), lambda w: 0.5 * w[0] ** 2, start, 2, **measured)
    assert bool(jnp.all(dead.observables[name] > 0))


def test_a_decay_that_outgrows_the_weights_is_always_unstable():
    """At eta weight_decay >= 2 each step flips and grows the weights on its own."""
    assert float(AdamW(1.0, weight_decay=3.0).critical_sharpness) == 0


def test_torchs_convention_is_the_formula_of_its_documentation():
    """Written out in Python: the momenta mu_k, and their products in both corrections."""
    eta, b1, b2, eps, w, m, nu, product = 0.1, 0.9, 0.99, 1e-8, 1.5, 0.0, 0.0, 1.0
    path = [w]
    for k in range(1, 21):
        now, ahead = (b1 * (1 - 0.5 * 0.96 ** (0.004 * j)) for j in (k, k + 1))
        product *= now
        gradient = w**3
        m, nu = b1 * m + (1 - b1) * gradient, b2 * nu + (1 - b2) * gradient**2
        direction = ahead * m / (1 - product * ahead) + (1 - now) * gradient / (1 - product)
        w -= eta * direction / ((nu / (1 - b2**k)) ** 0.5 + eps)
        path.append(w)
    optimizer = NAdam(eta, b1, b2, eps, convention="torch")
    run = iterate(optimizer, lambda w: 0.25 * jnp.sum(w**4), jnp.asarray([1.5]), 20)
    assert_trees_close(run.params[:, 0], jnp.asarray(path), rtol=1e-12)


@pytest.mark.parametrize(
    "measurement", [PreconditionedCurvature(), EffectiveLearningRate(RMSProp(0.1))]
)
def test_a_bare_path_has_no_preconditioner(measurement):
    """What P = 1 gives there would be taken for that of the optimizer; on some examples too."""
    data = chebyshev(examples=4, degree=1)
    loss = SupervisedPotential(MLP((1, 1), key=jax.random.key(0)), data.inputs, data.targets, mse)
    path = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), loss.params)
    for asked in (measurement, OnExamples(measurement, 2)):
        with pytest.raises(ValueError, match=r"needs the preconditioner.*`iterate`"):
            measure(asked, loss, path)
