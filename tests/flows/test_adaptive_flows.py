"""Central, Rod and stable flow of adaptive methods, and of learning rates that change with time.

Sources of the numbers: two independent computations of this project, one of them without this code,
and the two-cycles and multipliers that follow from the maps by hand.
"""

import dataclasses
import re
import warnings

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from flows import (
    Adam,
    AdamW,
    CentralFlow,
    Cost,
    DenseRodState,
    EffectiveLearningRate,
    GradientDescent,
    HeavyBall,
    NAdam,
    RMSProp,
    RodFlow,
    ScalarRMSProp,
    StableFlow,
    iterate,
    simulate,
)
from flows.central.place import Place
from flows.curvature.metric import DiagonalMetric
from flows.optimizers import adaptive
from flows.optimizers.adaptive import AbstractSecondMomentMethod, AdaptiveState
from flows.optimizers.second_moment import SecondMoment
from potentials import SharpValley
from tests.helpers import as_users_run, assert_trees_close

ETA = 0.04
VALLEY = SharpValley(ETA**2, 1.0)
COS, SIN = np.cos(0.5), np.sin(0.5)
TURN = jnp.asarray([[COS, SIN], [-SIN, COS]])
SHARE = jnp.asarray([COS, SIN])

EXACT = diffrax.PIDController(rtol=1e-9, atol=1e-11)


def turned_valley(w):
    """The valley in coordinates that are not the method's own."""
    return VALLEY(TURN @ w)


def with_nu(method, nu, loss, params, **options):
    """A method whose first step, from `params`, divides by `nu`; its eps is 0."""
    gradient, b2 = jax.grad(loss)(params), options["b2"]
    source = jnp.sum(gradient**2) if method is ScalarRMSProp else gradient**2
    initial = (nu - (1 - b2) * source) / b2
    return method(ETA, eps=0.0, initial_nu=initial, **options)


ON_THE_VALLEY = jnp.asarray([0.0, 1.0])
ON_THE_TURNED_VALLEY = jnp.linalg.solve(TURN, ON_THE_VALLEY)
# At the edge, where all |u_p| of a quasi-stationary RMSProp are equal.
TURNED_NU = (ETA * SHARE * (COS + SIN) / 2) ** 2


@pytest.mark.slow
@pytest.mark.parametrize("relaxation_time", [0.25, 5.0])
def test_central_flow_of_scalar_rmsprop_on_the_valley(relaxation_time):
    """Whatever the relaxation time: the state and what it predicts at t = 500 and 1000."""
    optimizer = with_nu(ScalarRMSProp, (ETA / 2) ** 2, VALLEY, ON_THE_VALLEY, b2=0.99)
    flow = CentralFlow(optimizer, 2, jnp.asarray(relaxation_time))
    run = simulate(
        flow, VALLEY, ON_THE_VALLEY, 1000, save_every=500, stepsize_controller=EXACT,
        measurements=EffectiveLearningRate(optimizer, save_every=500),
    )  # fmt: skip
    expected = jnp.asarray([[0.0004750415, 1.922072], [0.000373971, 2.539519]])
    assert_trees_close(run.params[1:], expected, rtol=2e-6, atol=0.0)
    nu = run.state.flow.second_moment
    assert_trees_close(nu, jnp.asarray(0.002581942), rtol=1e-6, atol=0.0)
    end = {name: np.asarray(value)[-1] for name, value in run.observables.items()}
    assert end["watched_eigenvalues"][0] == pytest.approx(2 / ETA, rel=1e-7)
    # X in the metric P / eta is X / eta in that of P.
    assert float(run.state.flow.covariance[jnp.asarray([0, 2])].sum()) / ETA == pytest.approx(
        0.000550643, rel=2e-6
    )
    assert end["predicted_loss"] == pytest.approx(-0.003513008, rel=1e-6)
    assert end["predicted_squared_gradient_norm"] == pytest.approx(0.002800954, rel=1e-6)
    assert end["effective_learning_rate"] == pytest.approx(ETA / np.sqrt(0.002581942), rel=1e-6)


@pytest.mark.slow
def test_central_flow_of_rmsprop_on_the_turned_valley():
    """The same for RMSProp, by the solver made for the flow and by one that is not."""
    optimizer = with_nu(RMSProp, TURNED_NU, turned_valley, ON_THE_TURNED_VALLEY, b2=0.99)
    flow = CentralFlow(optimizer, rank=2)
    options = {"save_every": 1000, "measurements": ()}
    run = simulate(
        flow, turned_valley, ON_THE_TURNED_VALLEY, 1000, stepsize_controller=EXACT, **options
    )
    end = {name: np.asarray(value)[-1] for name, value in run.observables.items()}
    assert_trees_close(run.params[-1], jnp.asarray([-1.267421, 2.320406]), rtol=2e-6, atol=0.0)
    assert_trees_close(
        run.state.flow.second_moment, jnp.asarray([0.003962868, 0.001186861]), rtol=2e-6, atol=0.0
    )
    assert float(run.state.flow.covariance[jnp.asarray([0, 2])].sum()) / ETA == pytest.approx(
        0.001058285, rel=2e-6
    )
    assert end["predicted_loss"] == pytest.approx(-0.003172347, rel=2e-6)
    assert end["predicted_squared_gradient_norm"] == pytest.approx(0.005601149, rel=2e-6)
    rates = ETA / flow.preconditioner(run.state.flow, turned_valley)
    assert_trees_close(rates, jnp.asarray([0.635412, 1.161075]), rtol=2e-6, atol=0.0)


def smooth_rate(t):
    """A learning rate that falls and rises, near 0.04."""
    return 0.04 + 0.01 * jnp.cos(0.05 * t)


MOVING = {
    "scalar": (ScalarRMSProp, {"b2": 0.9, "eps": 1e-3}, {}),
    "each": (RMSProp, {"b2": 0.95, "eps": 1e-3, "bias_correction": True}, {"alternation": True}),
    "eps in the root": (RMSProp, {"b2": 0.9, "eps": 0.0, "eps_root": 1e-5}, {}),
    "scheduled": (RMSProp, {"b2": 0.9, "eps": 1e-3, "bias_correction": True}, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MOVING)
def test_central_flow_keeps_a_critical_eigenvalue_at_a_threshold_that_moves(kind):
    """By whole derivatives: lambda_1(P^-1 H) and S change alike, with w, nu and time moving."""
    method, settings, options = MOVING[kind]
    w, time = jnp.asarray([-1.1, 2.0]), jnp.asarray(3.0)
    hessian = jax.jit(jax.hessian(turned_valley))
    nu = jnp.asarray(4e-3) if method is ScalarRMSProp else jnp.asarray([4e-3, 1.5e-3])

    def top(w, nu, time):
        average = method(1.0, **settings).average
        diagonal = average.diagonal(w, average.preconditioner(nu, time + 1))
        root = jnp.sqrt(diagonal)
        return jnp.linalg.eigvalsh(hessian(w) / root[:, None] / root[None, :])[-1]

    critical = top(w, nu, time)

    def rate(t):
        # The threshold is where the eigenvalue is at this time.
        scale = 2 / (critical * smooth_rate(time))
        return scale * (smooth_rate(t) if kind == "scheduled" else smooth_rate(time))

    given = rate if kind == "scheduled" else rate(time)
    flow = CentralFlow(method(given, **settings), rank=1, **options)
    counted = kind == "scheduled" or settings.get("bias_correction", False)
    start = dataclasses.replace(
        flow.init(turned_valley, w), second_moment=nu, time=time if counted else None
    )
    state, failure = flow.project(start, turned_valley)
    assert int(failure) == 0
    assert float(state.covariance[0]) > 1e-6
    motion = flow.vector_field(0.0, state, turned_valley)
    passing = jnp.ones(()) if counted else jnp.zeros(())
    change = jax.jvp(top, (w, nu, time), (motion.params, motion.second_moment, passing))[1]
    wanted = jax.grad(lambda t: 2 / rate(t))(time) if kind == "scheduled" else 0.0
    # Without the oscillation it would rise through the threshold a thousand times as fast.
    still = jax.jvp(
        top, (w, nu, time), (-rate(time) * jax.grad(turned_valley)(w), 0 * nu, 0 * passing)
    )[1]
    assert abs(float(change - wanted)) < 1e-6 * max(abs(float(still)), abs(float(wanted)), 1.0)


@pytest.mark.slow
def test_a_scheduled_central_flow_holds_the_edge_while_the_threshold_moves():
    """Gradient descent with a learning rate that rises: the eigenvalue falls with 2 / eta(t)."""

    def rate(t):
        return 0.3 + 0.0002 * t

    valley, start = SharpValley(0.01), jnp.asarray([0.0, 6.65])
    flow = CentralFlow(GradientDescent(rate), rank=2)
    run = simulate(flow, valley, start, 200, save_every=50, measurements=())
    sharpness = run.observables["watched_eigenvalues"][:, 0]
    expected = 2 / rate(run.steps[1:].astype(float))
    assert_trees_close(sharpness[1:], expected, rtol=1e-5, atol=0.0)
    assert float(run.state.flow.time) == pytest.approx(200)


@pytest.mark.slow
def test_central_flow_follows_weight_decay():
    """It is the flow of the loss with the decay's potential, but predicts the loss itself."""
    valley, start = SharpValley(0.01), jnp.asarray([0.0, 6.55])
    decayed = GradientDescent(0.3, weight_decay=0.1)
    assert float(decayed.critical_sharpness) == pytest.approx(2 / 0.3 - 0.1)
    options = {"save_every": 100, "measurements": ()}
    run = simulate(CentralFlow(decayed, rank=2), valley, start, 100, **options)
    penalty = lambda w: valley(w) + 0.05 * jnp.sum(w**2)  # noqa: E731
    same = simulate(CentralFlow(GradientDescent(0.3), rank=2), penalty, start, 100, **options)
    assert_trees_close(run.params, same.params, rtol=1e-9, atol=1e-9)
    end = {name: values[-1] for name, values in run.observables.items()}
    assert float(end["watched_eigenvalues"][0]) < 2 / 0.3 - 0.1 + 1e-6
    trace = float(jnp.sum(end["variances"]))
    expected = float(valley(run.params[-1])) + 0.5 * (2 / 0.3 - 0.1) * trace
    assert float(end["predicted_loss"]) == pytest.approx(expected, rel=1e-6)


WARMUP = optax.linear_schedule(0.0, 0.3, transition_steps=20)


def test_a_learning_rate_may_start_at_zero():
    """Nothing moves at first, and the threshold is infinite there: no oscillation, and no nan."""
    valley, start = SharpValley(0.01), jnp.asarray([0.1, 6.0])
    flow = CentralFlow(RMSProp(WARMUP, initial_nu=1.0), rank=1)

    @jax.jit
    def at_first():
        state, failure = flow.project(flow.init(valley, start), valley)
        return state, failure, flow.vector_field(0.0, state, valley)

    state, failure, motion = at_first()
    assert int(failure) == 0
    assert float(state.covariance[0]) == 0
    assert_trees_close(motion.params, jnp.zeros(2), rtol=0.0, atol=0.0)
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves((state, motion)))


@pytest.mark.slow
def test_a_run_through_a_warmup_from_zero_follows_the_optimizer():
    """Central flow beside RMSProp."""
    warmup = WARMUP
    valley, start = SharpValley(0.01), jnp.asarray([0.1, 6.0])
    optimizer = RMSProp(warmup, initial_nu=1.0)
    flow = CentralFlow(optimizer, rank=2)
    run = simulate(flow, valley, start, 20, save_every=10, measurements=())
    path = iterate(optimizer, valley, start, 20, save_every=10, measurements=())
    moved = float(jnp.max(jnp.abs(path.params[-1] - start)))
    assert moved > 0.05
    assert float(jnp.max(jnp.abs(run.params - path.params))) < 0.15 * moved


def well(w):
    """(w^2)/2 - w^4/4, on which the amplitude of a two-cycle is 1 / threshold."""
    return jnp.sum(0.5 * w**2 - 0.25 * w**4)


def bowl(w):
    """A quadratic, on which the amplitude is the same."""
    return 0.5 * jnp.sum(w**2)


CYCLES = {
    "rmsprop": (RMSProp(0.2, 0.99, 0.0), -0.005051),
    "nadam": (NAdam(0.2, 0.9, 0.99, 0.0, bias_correction=False), -0.001750),
    "adam": (Adam(0.2, 0.9, 0.99, 0.0, bias_correction=False), 0.122434),
    "adam, long memory": (Adam(0.2, 0.9, 0.999, 0.0, bias_correction=False), 0.045807),
    "adam, little momentum": (Adam(0.2, 0.1, 0.99, 0.0, bias_correction=False), -0.002616),
}


def rod_on_the_cycle(optimizer, loss, alternation):
    """The rod flow, and its state that lies along the two-cycle +-a; nu = g(a)^2."""
    a = 1 / optimizer.critical_sharpness
    gradient = jax.grad(loss)(a * jnp.ones(1))
    share = optimizer.momentum_share
    rod, momentum = [a], None
    if share is not None:
        # m = -+ (1 - b1) g(a) / (1 + b1), the other way round: it lags behind.
        rod.append(-(1 - share) / (1 + share) * gradient[0])
        momentum = jnp.zeros(1)
    rod = jnp.stack(rod)
    centre = AdaptiveState(jnp.zeros(1), None, momentum)
    flow = RodFlow(optimizer, alternation=alternation, alignment=False)
    return flow, DenseRodState(centre, jnp.outer(rod, rod), gradient**2)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind.startswith("adam") else pytest.mark.slow)
        for kind in CYCLES
    ],
)
def test_a_two_cycle_is_a_fixed_point_of_the_rod_flow_and_as_stable(kind):
    """Rest on a well and a bowl; the growth rate there, near the logarithm of the multiplier."""
    optimizer, growth = CYCLES[kind]
    for loss, alternation in ((well, False), (bowl, True)):
        flow, state = rod_on_the_cycle(optimizer, loss, alternation)
        rest = flow.vector_field(0.0, state, loss)
        assert_trees_close(rest, jax.tree.map(jnp.zeros_like, rest), rtol=0.0, atol=1e-15)
    flow, state = rod_on_the_cycle(optimizer, bowl, False)
    flat, unravel = ravel_pytree(state)

    def field(z):
        return ravel_pytree(flow.vector_field(0.0, unravel(z), bowl))[0]

    # The amplitude, nu and the rest span very different scales: differences relative to each.
    step = 1e-6 * jnp.maximum(jnp.abs(flat), 1e-3)
    columns = [
        (field(flat + h * e) - field(flat - h * e)) / (2 * h)
        for h, e in zip(step, jnp.eye(flat.size), strict=True)
    ]
    rates = np.linalg.eigvals(np.stack(columns, axis=1))
    assert max(rates.real) == pytest.approx(growth, rel=2e-3)


ROWS = [
    pytest.param(0.99, False, 1, 4.57e-3, marks=pytest.mark.slow),
    (0.99, True, 1, 1e-4),
    pytest.param(0.9, False, 1, 4.15e-2, marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize(("b2", "alternation", "rank", "expected"), ROWS)
def test_rod_flow_of_rmsprop_on_the_turned_valley(b2, alternation, rank, expected):
    """Tracking error over 1000 steps at the edge, from a start on the two-cycle."""
    start = ON_THE_TURNED_VALLEY + jnp.asarray([0.02, 0.02])
    optimizer = with_nu(RMSProp, TURNED_NU, turned_valley, start, b2=b2)
    flow = RodFlow(optimizer, rank, alternation=alternation, alignment=False)
    run = simulate(flow, turned_valley, start, 1000, measurements=())
    path = iterate(optimizer, turned_valley, start, 1001, measurements=()).params
    midpoints = (path[1:] + path[:-1]) / 2
    distances = jnp.linalg.norm(run.params - midpoints, axis=1)
    moved = jnp.linalg.norm(midpoints - midpoints[:1], axis=1)
    error = float(jnp.mean(distances) / jnp.mean(moved))
    if expected < 1e-3:
        assert error < 1e-3
    else:
        assert error == pytest.approx(expected, rel=0.1)


class ScalarNAdam(AbstractSecondMomentMethod):
    """NAdam with one nu, the average of |g|^2, without bias correction: w and m move by one P."""

    learning_rate: jax.Array
    b1: jax.Array
    b2: jax.Array
    initial_nu: jax.Array
    initial_momentum: jax.Array

    def init(self, params):
        nu = self.average.init(params, self.initial_nu)
        return AdaptiveState(params, nu, self.initial_momentum)

    def step(self, state, potential):
        return adaptive.step(self, state, potential)

    def increment(self, state, potential):
        return adaptive.increment(self, state, potential)

    def params(self, state):
        return state.params

    def preconditioner(self, state, potential):
        return adaptive.preconditioner_of(self, state, potential)

    def move(self, state, gradient, preconditioner):
        momentum = self.b1 * state.momentum + (1 - self.b1) * gradient
        direction = self.b1 * momentum + (1 - self.b1) * gradient
        return -self.learning_rate * direction / preconditioner

    @property
    def average(self):
        return SecondMoment(self.b2, jnp.zeros(()), jnp.zeros(()), True, False)

    @property
    def momentum_share(self):
        return self.b1

    @property
    def critical_sharpness(self):
        b1 = self.b1
        return 2 * (1 + b1) / ((1 - b1) * (1 + 2 * b1) * self.learning_rate)

    @property
    def cost(self):
        return Cost(gradients=1)


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "alternation"), [(1, False), (1, True), (2, True)])
def test_rod_flow_of_nadam_with_one_rate_on_the_valley(rank, alternation):
    """At the threshold 2/ETA, from the two-cycle: 3.1e-3, whether or not nu alternates.

    With one rate its alternation is not correlated with the gradient's.
    """
    start, half, b1 = jnp.asarray([ETA / 2, 1.0]), ETA / 2, 0.9
    eta = half * 2 * (1 + b1) / ((1 - b1) * (1 + 2 * b1))
    momentum = -(1 - b1) / (1 + b1) * jax.grad(VALLEY)(start)
    values = map(jnp.asarray, (eta, b1, 0.99, half**2, momentum))
    optimizer = ScalarNAdam(*values)
    assert float(optimizer.critical_sharpness) == pytest.approx(2 / ETA, rel=1e-12)
    flow = RodFlow(optimizer, rank, alternation=alternation, alignment=False)
    run = simulate(flow, VALLEY, start, 1000, measurements=())
    path = iterate(optimizer, VALLEY, start, 1001, measurements=()).params
    midpoints = (path[1:] + path[:-1]) / 2
    distances = jnp.linalg.norm(run.params - midpoints, axis=1)
    moved = jnp.linalg.norm(midpoints - midpoints[:1], axis=1)
    assert float(jnp.mean(distances) / jnp.mean(moved)) == pytest.approx(3.13e-3, rel=0.02)
    assert float(midpoints[-2, 1]) == pytest.approx(6.075172, abs=1e-6)
    assert float(run.params[-2, 1]) == pytest.approx(6.06245, abs=2e-5)


# Each with bias corrections; the schedule of a constant is found by the same operations.
RATES = {
    "constant": pytest.param(5e-4, marks=pytest.mark.slow),
    "scheduled": lambda t: 5e-4 * (1 + 0.02 * t),
}


@pytest.mark.slow
@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_a_rod_knows_the_time_between_two_steps(rate):
    """Bias corrections and a schedule: Adam's first steps."""
    quartic = lambda w: jnp.sum(w**4) / 4 + jnp.sum(w**2) / 2  # noqa: E731
    start, optimizer = jnp.asarray([1.0, 0.5]), Adam(rate, 0.5, 0.9, initial_nu=1.0)
    run = simulate(RodFlow(optimizer, alignment=False), quartic, start, 40, measurements=())
    path = iterate(optimizer, quartic, start, 41, measurements=()).params
    midpoints = (path[1:] + path[:-1]) / 2
    error = jnp.max(jnp.abs(run.params - midpoints)) / jnp.max(jnp.abs(path[-1] - start))
    assert float(error) < 2e-2


@pytest.mark.slow
def test_a_transformation_with_a_counter_moves_in_its_own_phase_space():
    """The nu of `optax.adam` is in the rods' space; far below the edge that is the same flow."""
    start = jnp.asarray([1.0, 0.5])
    quartic = lambda w: jnp.sum(w**4) / 4 + jnp.sum(w**2) / 2  # noqa: E731
    ends = [
        simulate(RodFlow(optimizer, alignment=False), quartic, start, 20, measurements=()).params[
            -1
        ]
        for optimizer in (optax.adam(1e-3, 0.5, 0.99), Adam(1e-3, 0.5, 0.99))
    ]
    assert_trees_close(ends[0], ends[1], rtol=2e-3, atol=0.0)


@pytest.mark.slow
def test_stable_flow_is_the_limit_of_small_steps():
    """The error falls as eta at a fixed eta t, for momentum and bias corrections too."""
    quartic = lambda w: jnp.sum(w**4) / 4 + jnp.sum(w**2) / 2  # noqa: E731
    start, errors = jnp.asarray([1.0, 0.5]), []
    for eta in (2e-3, 1e-3):
        # The memory of both averages is a fixed part of the run.
        optimizer = Adam(eta, 1 - 4 * eta, 1 - 2 * eta, initial_nu=1.0)
        steps = round(0.4 / eta)
        run = simulate(StableFlow(optimizer), quartic, start, steps, measurements=())
        path = iterate(optimizer, quartic, start, steps, measurements=()).params
        errors.append(float(jnp.max(jnp.abs(run.params - path))))
    slopes = np.log2(np.asarray(errors[:-1]) / np.asarray(errors[1:]))
    assert np.all(slopes > 0.9), errors
    assert errors[-1] < 2e-3


def test_stable_flow_of_rmsprop_decays_as_it_must():
    """On a bowl at a fixed ratio r = nu / w^2, which is rho / (rho - 2 c) with dw/dt = -c w."""
    eta, b2 = 1e-3, 0.9
    optimizer = RMSProp(eta, b2, 0.0, initial_nu=1.0)
    run = simulate(StableFlow(optimizer), bowl, jnp.ones(1), 500, measurements=())
    w, nu = float(run.params[-1, 0]), float(run.state.flow.second_moment[0])
    # Quasi-stationary: nu follows w^2 with the lag 1 / rho.
    lag = b2 / (1 - b2)
    speed = eta * w / np.sqrt(nu)
    assert nu == pytest.approx((w + lag * speed) ** 2, rel=1e-3)


BAD = {
    "adam": (lambda: CentralFlow(Adam(0.1)), "momentum makes it burst at the edge"),
    "adamw": (lambda: CentralFlow(AdamW(0.1)), "momentum makes it burst at the edge"),
    "heavy ball": (lambda: CentralFlow(HeavyBall(0.1, 0.9)), "without memory of its direction"),
    "corrected": (
        lambda: CentralFlow(RMSProp(0.1), correction=True),
        "correction must be False for an adaptive method",
    ),
    "alternation of one nu": (
        lambda: CentralFlow(ScalarRMSProp(0.1), alternation=True),
        "alternation must be False for ScalarRMSProp",
    ),
    "alternation of none": (
        lambda: CentralFlow(GradientDescent(0.1), alternation=True),
        "alternation must be False for GradientDescent",
    ),
    "no average": (lambda: CentralFlow(RMSProp(0.1, 0.0)), "must average squared gradients"),
    "no average beside rods": (
        lambda: RodFlow(RMSProp(0.1, 0.0)),
        "must average squared gradients",
    ),
    "no average, stable": (lambda: StableFlow(Adam(0.1, 0.9, 0.0)), "must average squared"),
    "corrected, scheduled": (
        lambda: CentralFlow(GradientDescent(smooth_rate), correction=True),
        "correction must be False for a learning rate that is a schedule",
    ),
    "rods that alternate": (
        lambda: RodFlow(HeavyBall(0.1, 0.9), alternation=True),
        "alternation must be False for an optimizer without a second moment",
    ),
    "torch's momentum": (
        lambda: RodFlow(NAdam(0.1, convention="torch")),
        'optimizer must have convention="optax"',
    ),
    "torch's momentum, stable": (
        lambda: StableFlow(NAdam(0.1, convention="torch")),
        'optimizer must have convention="optax"',
    ),
    "stable flow of descent": (
        lambda: StableFlow(GradientDescent(0.1)),
        "optimizer must be ScalarRMSProp, RMSProp, Adam, AdamW or NAdam",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_refused_with_the_reason(kind):
    """A sentence with what was given and what is allowed."""
    make, message = BAD[kind]
    with as_users_run(), pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("count", [3, 30])
def test_the_correction_for_alternation_is_the_mean_of_the_two_ends(count):
    """With bias correction too: K / P against the mean of 1 / P at nu +- kappa (s_+ - s_-) / 2."""
    b2, gradient = 0.9, 0.02
    flow = CentralFlow(RMSProp(0.01, b2, 0.0, bias_correction=True), alternation=True)
    weight, swing = 1 - b2**count, 1e-2
    # An oscillation +-swing of the gradient around a centre of 0.02, whose average nu_hat is.
    nu = weight * (gradient**2 + swing**2)
    place = Place(jnp.zeros(1), jnp.full(1, nu), jnp.asarray(count - 1.0))
    found = flow.equation.preconditioning.at(place, jnp.full(1, gradient))
    tilt = (1 - b2) / (1 + b2) * 0.5 * ((gradient + swing) ** 2 - (gradient - swing) ** 2)
    ends = [(gradient + s * swing) / np.sqrt((nu + s * tilt) / weight) for s in (1, -1)]
    # What the oscillation adds to the mean step, to second order, relative to g / P.
    expected = np.mean(ends) / (gradient / np.sqrt(nu / weight))
    loss = 1 - float(found.descent[0] * found.diagonal[0])
    assert loss == pytest.approx(1 - expected, rel=0.3)


@pytest.mark.slow
def test_a_parameter_without_gradient_does_not_spoil_the_preconditioner():
    """Its nu is 0, and with eps = 0 so is P; no mean counts it, and its direction is as it was."""
    loss = lambda w: 0.5 * (w[0] ** 2 + 2 * w[1] ** 2)  # noqa: E731
    optimizer = RMSProp(0.01, 0.9, 0.0)
    for flow in (RodFlow(optimizer), CentralFlow(optimizer, 1), StableFlow(optimizer)):
        state = flow.init(loss, jnp.ones(3))
        diagonal = flow.preconditioner(state, loss)
        assert float(diagonal[2]) == 0
        metric = DiagonalMetric(diagonal)
        assert float(metric.inverse(jnp.ones(3))[2]) == 1
        rate = EffectiveLearningRate(optimizer).measure_in(
            metric, loss, jnp.ones(3), None, jnp.asarray(0)
        )[0]["effective_learning_rate"]
        assert float(rate) == pytest.approx(0.01 / float(jnp.mean(diagonal[:2])), rel=1e-12)
        assert all(
            bool(jnp.all(jnp.isfinite(x)))
            for x in jax.tree.leaves(flow.vector_field(0.0, state, loss))
        )


def test_an_nu_of_another_structure_is_refused():
    """By each flow, before anything runs."""
    optimizer = RMSProp(0.1, initial_nu=jnp.ones(3))
    for flow in (CentralFlow(optimizer), RodFlow(optimizer), StableFlow(optimizer)):
        with pytest.raises(ValueError, match="initial_nu must be"):
            simulate(flow, bowl, jnp.ones(2), 5)


def test_a_short_memory_is_warned_of():
    """With the number."""
    with pytest.warns(UserWarning, match=r"b2 = 0.5 averages squared gradients over 2.0 steps"):
        CentralFlow(RMSProp(0.1, 0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CentralFlow(RMSProp(0.1, 0.9))


FLOWS = {
    "stable": StableFlow,
    "central": lambda o: CentralFlow(o, 1),
    "rod": lambda o: RodFlow(o, alignment=False),
}


@pytest.mark.slow
@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_they_jit_map_and_differentiate(flow):
    """Over the learning rate, through a run at the edge."""
    start = ON_THE_TURNED_VALLEY + jnp.asarray([0.02, 0.02])

    def end(flow, rate):
        optimizer = RMSProp(rate, 0.95, 0.0, 1e-3)
        run = simulate(flow(optimizer), turned_valley, start, 4, save_every=4, measurements=())
        return jnp.sum(run.params[-1])

    rates = jnp.asarray([0.03, 0.04])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        together = jax.jit(jax.vmap(lambda rate: end(flow, rate)))(rates)
        single = end(flow, rates[1])
        slope = jax.jit(jax.grad(lambda rate: end(flow, rate)))(rates[1])
    assert_trees_close(together[1], single, rtol=1e-6, atol=1e-9)
    assert np.isfinite(float(slope))
    assert float(slope) != 0
