"""Schedules of the learning rate, and weight decay: optax, closed forms, orders, bad input."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flows import (
    Adam,
    AdamW,
    BallCentreFlow,
    BallContactFlow,
    CentralFlow,
    EdgeFlow,
    GradientDescent,
    GradientFlow,
    HeavyBall,
    LossAndGradient,
    NAdam,
    Nesterov,
    ParityFlow,
    RMSProp,
    RodFlow,
    RollingBall,
    Schedule,
    Threshold,
    critical_sharpness,
    fixed_at,
    iterate,
    iterate_error,
    simulate,
)
from flows.core.optimizer import objective
from flows.optimizers.adaptive import AdaptiveState
from flows.optimizers.optax_optimizer import as_descent
from flows.optimizers.stability import threshold_at
from potentials import Quadratic, Quartic
from tests.helpers import as_users_run, assert_trees_close

BOWL = Quadratic(jnp.asarray([1.0, 4.0]))
START = jnp.asarray([1.0, -0.5])
COSINE = optax.warmup_cosine_decay_schedule(0.0, 0.3, 20, 150, 0.01)
ZERO = jnp.zeros(())
RAMP = optax.linear_schedule(0.1, 0.3, transition_steps=10)


def bent(w):
    """A loss whose Hessian is neither diagonal nor constant."""
    x, y = w
    return x**2 + 0.3 * x * y + 1.5 * y**2 + 0.1 * (x**4 + y**4)


class Ramp(eqx.Module):
    """A user's own schedule: its numbers are leaves."""

    start: jax.Array
    slope: jax.Array

    def __call__(self, t):
        return self.start + self.slope * t


def in_floats(t):
    """The schedule, evaluated at a float: optax itself divides whole steps in single precision."""
    return COSINE(t.astype(float))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param(GradientDescent(COSINE), optax.sgd(in_floats), marks=pytest.mark.slow),
        (HeavyBall(COSINE, 0.9), optax.sgd(in_floats, 0.9)),
        pytest.param(
            Nesterov(COSINE, 0.9),
            optax.sgd(in_floats, 0.9, nesterov=True),
            marks=pytest.mark.slow,
        ),
        (
            GradientDescent(COSINE, weight_decay=0.2),
            optax.chain(optax.add_decayed_weights(0.2), optax.sgd(in_floats)),
        ),
    ],
)
def test_steps_are_those_of_optax(ours, theirs):
    """Step t is taken with the schedule at t, the first with 0; in two segments too."""
    run = iterate(ours, bent, START, 200)
    assert_trees_close(run.params, iterate(theirs, bent, START, 200).params, 1e-12, 1e-12)
    half = iterate(ours, bent, START, 90)
    rest = iterate(ours, bent, None, 110, state=half.state)
    assert_trees_close(rest.params[-1], run.params[-1], 0.0, 0.0)


def test_a_constant_rate_leaves_states_as_they_are():
    """No counter, and no rate of decay to multiply by."""
    for optimizer in (GradientDescent(0.1), HeavyBall(0.1, 0.9), Nesterov(0.1, 0.9)):
        assert all(eqx.is_inexact_array(x) for x in jax.tree.leaves(optimizer.init(START)))
    assert GradientDescent(0.1, 0.0).weight_decay is None
    assert objective(GradientDescent(0.1), BOWL) is BOWL


def test_gradient_flow_integrates_the_schedule():
    """On a quadratic w(t) = exp(-lambda integral of eta), through the kink of a warmup."""
    run = simulate(GradientFlow(GradientDescent(COSINE)), BOWL, START, 200, save_every=20)
    times = jnp.linspace(0.0, 200.0, 200_001)
    areas = jnp.cumsum(0.5 * (jax.vmap(COSINE)(times[1:]) + jax.vmap(COSINE)(times[:-1]))) * 1e-3
    areas = jnp.concatenate([jnp.zeros(1), areas])[::20_000]
    expected = START[None] * jnp.exp(-areas[:, None] * jnp.asarray([[1.0, 4.0]]))
    assert_trees_close(run.params, expected, rtol=1e-5, atol=1e-8)


class Wave(eqx.Module):
    """A schedule of any size, which is as long as it is small: eta(t) = s (1 + sin(3 s t) / 2)."""

    size: jax.Array

    def __call__(self, t):
        return self.size * (1 + 0.5 * jnp.sin(3 * self.size * t))


RATES = {
    "decay": lambda eta: GradientDescent(eta, 0.3),
    "momentum": lambda eta: HeavyBall(eta, 0.5),
}


@pytest.mark.parametrize(
    "correction", [pytest.param(False, marks=pytest.mark.slow), True], ids=["plain", "corrected"]
)
@pytest.mark.parametrize(
    "make",
    [RATES["decay"], pytest.param(RATES["momentum"], marks=pytest.mark.slow)],
    ids=RATES,
)
def test_the_flow_is_of_first_order_and_corrected_of_second(correction, make):
    """At a fixed eta * steps, eta(t) = s (1 + sin(3 s t) / 2): the correction has dF/dt too."""
    precisely = {"stepsize_controller": diffrax.PIDController(rtol=1e-9, atol=1e-11)}
    errors = []
    # One program for both: the larger rate is looked at halfway.
    for scale, row in ((0.01, 1), (0.005, 2)):
        optimizer = make(Wave(jnp.asarray(scale)))
        flow = GradientFlow(optimizer, correction)
        run = simulate(flow, bent, START, 160, save_every=80, measurements=(), **precisely)
        path = iterate(optimizer, bent, START, 160, save_every=80, measurements=()).params
        errors.append(float(jnp.linalg.norm(run.params[row] - path[row])))
    assert abs(np.log2(errors[0] / errors[1]) - (2 if correction else 1)) < 0.15, errors


@pytest.mark.slow
def test_the_parity_flow_follows_every_iterate_through_a_warmup():
    """To the edge and over it, where an oscillation grows: as the orbit of the doubled map."""
    loss, start = Quartic(5.0, 1.0), jnp.asarray([0.2])
    optimizer = GradientDescent(optax.warmup_constant_schedule(0.38, 0.42, 40))
    discrete = iterate(optimizer, loss, start, 80)
    errors = [
        float(iterate_error(simulate(ParityFlow(model, order=order), loss, start, 80), discrete))
        for model, order in ((optimizer, 1), (optimizer, 3), (GradientDescent(0.42), 3))
    ]
    assert errors[1] < 1e-3 < errors[0] < 0.05 < errors[2]


@pytest.mark.slow
@pytest.mark.parametrize("start", ["top", pytest.param("fit", marks=pytest.mark.slow)])
def test_edge_flow_follows_a_schedule_to_the_two_cycle(start):
    """On S w^2 / 2 - w^4 / 4 it ends at a^2 = S - 2/eta, with the last eta."""
    loss = Quartic(2.2, 1.0)
    optimizer = GradientDescent(optax.linear_schedule(0.7, 1.0, transition_steps=60))
    run = simulate(EdgeFlow(optimizer, start=start), loss, jnp.asarray([0.3]), 200)
    assert_trees_close(run.observables["half_difference_length"][-1], jnp.sqrt(0.2), rtol=1e-3)
    early = simulate(EdgeFlow(optimizer), loss, jnp.asarray([0.3]), 10)
    assert float(early.observables["half_difference_length"][-1]) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        lambda optimizer: optimizer,
        pytest.param(GradientFlow, marks=pytest.mark.slow),
        lambda optimizer: GradientFlow(optimizer, correction=True),
        pytest.param(EdgeFlow, marks=pytest.mark.slow),
        pytest.param(lambda o: ParityFlow(o, start="split"), marks=pytest.mark.slow),
    ],
    ids=["optimizer", "gradient", "corrected", "edge", "parity"],
)
def test_weight_decay_is_descent_on_the_augmented_loss(model):
    """L + lambda |w|^2 / 2, for the optimizer and for each of its flows."""
    loss, start = Quartic(2.1, 1.0), jnp.asarray([0.2])
    decayed, plain = (model(GradientDescent(0.9, decay)) for decay in (0.3, 0.0))
    ends = []
    for one, potential in (
        (decayed, loss),
        (plain, objective(GradientDescent(0.9, 0.3), loss)),
    ):
        run = iterate if isinstance(one, GradientDescent) else simulate
        ends.append(run(one, potential, start, 40, measurements=LossAndGradient()).params)
    assert_trees_close(ends[0], ends[1], rtol=1e-7, atol=1e-10)


def test_thresholds_with_weight_decay_and_schedules():
    """2/eta - lambda, at least 0, as optax's own map has it; at a step, or late in a run."""
    decayed = GradientDescent(0.5, weight_decay=1.0)
    chain = optax.chain(optax.add_decayed_weights(1.0), optax.sgd(0.5))
    assert_trees_close(decayed.critical_sharpness, jnp.asarray(3.0), 1e-15)
    assert_trees_close(critical_sharpness(chain), decayed.critical_sharpness, rtol=1e-8)
    assert float(GradientDescent(0.5, 5.0).critical_sharpness) == 0

    ramp = GradientDescent(RAMP)
    assert_trees_close(critical_sharpness(ramp), jnp.asarray(2 / 0.3), rtol=1e-14)
    state = iterate(ramp, BOWL, START, 4).state.optimizer
    # The state is one step ahead of the last that was saved.
    assert int(state.count) == 5
    for value in (critical_sharpness(ramp, state), fixed_at(ramp, 5.0).critical_sharpness):
        assert_trees_close(value, jnp.asarray(2 / 0.2), rtol=1e-14)
    assert_trees_close(HeavyBall(RAMP, 0.5).limit_rate, jnp.asarray(0.6), rtol=1e-14)
    assert float(critical_sharpness(fixed_at(GradientDescent(COSINE), 0))) == np.inf


@pytest.mark.slow
def test_the_threshold_along_a_run_is_two_over_the_rate():
    """At each saved step, whatever the interval of the saves."""
    optimizer = GradientDescent(RAMP)
    flow, well, start = EdgeFlow(optimizer, start="fit", burn=9), Quartic(5.0, 1.0), START[:1]
    runs = (
        iterate(optimizer, well, start, 12, save_every=3, measurements=Threshold(optimizer, 3)),
        simulate(flow, well, start, 18, save_every=3, measurements=Threshold(optimizer, 3, 9)),
    )
    for run in runs:
        expected = 2 / jax.vmap(RAMP)(run.steps.astype(float))
        assert_trees_close(run.observables["critical_sharpness"], expected, rtol=1e-14)


def test_a_schedule_of_arrays_jits_vmaps_and_differentiates():
    """Its leaves are those of the optimizer: a new value compiles nothing, and has a derivative."""
    traces = []

    @eqx.filter_jit
    def end(schedule):
        traces.append(1)
        return iterate(GradientDescent(schedule), BOWL, START, 10).params[-1]

    def ramp(slope):
        return Ramp(jnp.asarray(0.1), slope)

    slopes = jnp.asarray([0.0, 0.005, 0.01])
    single = jnp.stack([end(ramp(slope)) for slope in slopes])
    assert len(traces) == 1
    assert_trees_close(eqx.filter_vmap(lambda s: end(ramp(s)))(slopes), single, rtol=1e-14)
    assert_trees_close(end(Ramp(jnp.asarray(0.1), slopes[1])), single[1], 0.0, 0.0)
    slope = jax.grad(lambda s: end(ramp(s))[0])(slopes[1])
    # w_10 is the product of 1 - eta(t).
    rates = 0.1 + 0.005 * jnp.arange(10.0)
    expected = -jnp.prod(1 - rates) * jnp.sum(jnp.arange(10.0) / (1 - rates))
    assert_trees_close(slope, expected, rtol=1e-12)


@pytest.mark.slow
def test_a_flow_differentiates_in_its_schedule():
    """Through the solver: w(10) = exp(-10 a - 50 s)."""

    def end(slope):
        flow = GradientFlow(GradientDescent(Ramp(jnp.asarray(0.1), slope)))
        return simulate(flow, BOWL, START, 10).params[-1, 0]

    slope = jax.grad(end)(jnp.asarray(0.005))
    assert_trees_close(slope, jnp.asarray(-50 * np.exp(-1.25)), rtol=1e-4)


def test_a_schedule_of_optax_is_no_descent_with_a_constant_rate():
    """It is not taken for one, with a decay neither."""
    assert as_descent(optax.sgd(RAMP)) is None
    assert as_descent(optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1))) is None
    assert as_descent(GradientDescent(RAMP)) is not None


@pytest.mark.parametrize(
    ("rate", "sentence"),
    [
        ("fast", "must be a number; got 'fast'"),
        (lambda t: jnp.ones(2) * t, r"must be .* an array of shape \(2,\)"),
        (lambda t: jnp.nan * t, "must be .* gives nan for step 0"),
        (lambda t: t - 1, "must be .* gives -1 for step 0"),
        (Schedule(lambda t: t - 1), "must be .* gives -1 for step 0"),
        (lambda t: t > 0, "must be .* dtype bool"),
        (
            lambda t: 0.1 if t < 3 else 0.2,
            "must be .* that JAX can trace; .* TracerBoolConversionError",
        ),
        (lambda: 0.1, "must be .* that JAX can trace; .* TypeError"),
        (optax.sgd, "must be .* that JAX can trace"),
    ],
)
def test_what_is_no_schedule_is_refused(rate, sentence):
    """In a sentence, when the optimizer is made."""
    for make in (GradientDescent, lambda eta: HeavyBall(eta, 0.9)):
        with as_users_run(), pytest.raises(ValueError, match=f"learning_rate {sentence}"):
            make(rate)


@pytest.mark.slow
def test_a_state_with_another_counter_is_refused():
    """A flow with a schedule counts its steps, and one without does not."""
    constant, scheduled = (
        CentralFlow(RMSProp(rate, initial_nu=1.0), rank=1) for rate in (0.01, RAMP)
    )
    state = simulate(constant, BOWL, START, 2, save_every=2).state
    with pytest.raises(ValueError, match=r"state must be of the same flow.*is a schedule or is no"):
        simulate(scheduled, BOWL, None, 2, state=state)


def test_a_schedule_that_jumps_is_named():
    """Not the optimizer's map, which is smooth."""
    jump = optax.piecewise_constant_schedule(0.1, {5: 0.5})
    with pytest.raises(ValueError, match=r"must have schedules that change smoothly.*'sign'"):
        RodFlow(GradientDescent(jump)).init(BOWL, START)


def test_central_flow_names_what_to_write_for_a_schedule_of_optax():
    """Which hides it."""
    with pytest.raises(ValueError, match=r"Write GradientDescent\(schedule\) for optax\.sgd"):
        CentralFlow(optax.sgd(RAMP))


def test_weight_decay_that_is_unstable_by_itself():
    """No curvature is stable; the flow's threshold, of the loss with the decay, is 2/eta still."""
    optimizer = GradientDescent(0.5, weight_decay=5.0)
    assert float(optimizer.critical_sharpness) == 0
    assert float(CentralFlow(optimizer).equation.rates(None, jnp.float64)[1]) == 4


@pytest.mark.parametrize("make", [Adam, lambda eta: AdamW(eta, weight_decay=0.5), NAdam])
def test_early_thresholds_are_those_of_the_corrected_momentum(make):
    """THEORY 7.2: 1 - b1^k times Adam's late one; as a step's own weights give it for each."""
    optimizer = make(0.1)
    if make is Adam:
        for k, expected in ((1, 3.8), (2, 7.22), (6, 17.80524), (21, 33.84208), (101, 37.99909)):
            assert_trees_close(threshold_at(optimizer, k - 1) * 0.1, expected, rtol=1e-6)
    zero, one = jnp.zeros(1), jnp.ones(1)
    for k in (1, 3):
        # On a two-cycle m' alternates too: m = -(1 - b1) g / (1 + b1), and P^-1 g is S w there.
        momentum = -(1 - 0.9) / (1 + 0.9) * one
        state = AdaptiveState(zero, None, momentum, count=jnp.asarray(k - 1))
        weight = -optimizer.move(state, one, one)[0] / 0.1
        decay = getattr(optimizer, "weight_decay", 0.0)
        assert_trees_close(threshold_at(optimizer, k - 1), (2 / 0.1 - decay) / weight, rtol=1e-12)


def test_a_rolling_ball_takes_a_schedule():
    """Each step is one with the rate of its count; the threshold follows."""
    bowl, start = Quadratic(jnp.asarray([0.5, 1.0, 1.5])), jnp.asarray([1.0, -0.5, 0.3])
    ball = RollingBall(RAMP, 0.2)
    path = iterate(ball, bowl, start, 3, measurements=()).params

    @jax.jit
    def after(rate, params):
        one = RollingBall(rate, 0.2)
        return one.step(one.init(params), bowl).params

    for k in range(3):
        assert_trees_close(path[k + 1], after(0.1 + 0.02 * k, path[k]), rtol=1e-12)
    assert float(critical_sharpness(ball)) == pytest.approx(2 / (0.3 + 0.4), rel=1e-12)
    early = critical_sharpness(ball, ball.init(start))
    assert float(early) == pytest.approx(2 / (0.1 + 0.4), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("flow", [BallCentreFlow, BallContactFlow])
def test_the_flow_of_a_ball_with_a_schedule_is_slower_and_faster_on_the_same_path(flow):
    """Its time is the integral of eta: after 10 steps of the ramp, that of 10 steps of 0.2."""
    bowl, start = Quadratic(jnp.asarray([0.5, 1.0, 1.5])), jnp.asarray([1.0, -0.5, 0.3])
    options = {"stepsize_controller": diffrax.PIDController(rtol=1e-9, atol=1e-11)}
    ramp, constant = (
        simulate(flow(RollingBall(eta, 0.2)), bowl, start, 10, measurements=(), **options).params
        for eta in (Ramp(jnp.asarray(0.1), jnp.asarray(0.02)), Ramp(jnp.asarray(0.2), ZERO))
    )
    assert_trees_close(ramp[-1], constant[-1], rtol=1e-7)
    # Halfway it has come as far as 3.75 steps of 0.2.
    assert jnp.linalg.norm(ramp[5] - start) < jnp.linalg.norm(constant[4] - start)
    assert jnp.linalg.norm(ramp[5] - start) > jnp.linalg.norm(constant[3] - start)


@pytest.mark.parametrize(
    "flow", [pytest.param(BallCentreFlow, marks=pytest.mark.slow), BallContactFlow]
)
def test_a_ball_with_a_schedule_goes_on_as_if_it_had_not_stopped(flow):
    """A segment's clock starts at 0, and the schedule does not."""
    bowl, start = Quadratic(jnp.asarray([0.5, 1.0])), jnp.asarray([1.0, -0.5])
    model = flow(RollingBall(Ramp(jnp.asarray(0.1), jnp.asarray(0.05)), 0.2))
    # The solver that compiles fastest.
    options = {"solver": diffrax.Euler(), "dt0": 0.5, "measurements": ()}
    options |= {"stepsize_controller": diffrax.ConstantStepSize()}
    whole = simulate(model, bowl, start, 4, **options).params
    pieces = simulate(model, bowl, start, 4, **options, segment=2)
    assert_trees_close(pieces.params, whole, rtol=1e-6)
    state = simulate(model, bowl, start, 2, **options).state
    resumed = simulate(model, bowl, None, 2, **options, state=state)
    assert_trees_close(resumed.params[-1], whole[-1], rtol=1e-6)


def test_other_misuse_is_refused():
    """Where one number is needed, and where a schedule has no place."""
    with pytest.raises(ValueError, match="learning_rate must not end at zero where one number"):
        critical_sharpness(GradientDescent(optax.linear_schedule(0.1, 0.0, 10)))
    with pytest.raises(ValueError, match=r"state must be one of this optimizer.*`count`"):
        critical_sharpness(GradientDescent(RAMP), GradientDescent(0.1).init(START))
    with as_users_run():
        with pytest.raises(ValueError, match=r"function must be a function; got 0\.1"):
            Schedule(0.1)
        with pytest.raises(ValueError, match="must be a number, not a function of the step"):
            RollingBall(0.1, RAMP)
        for decay in (-0.1, "much", np.nan):
            with pytest.raises(ValueError, match="weight_decay must be"):
                GradientDescent(0.1, decay)
        with pytest.raises(ValueError, match="save_every must be"):
            Threshold(GradientDescent(RAMP), 0)
