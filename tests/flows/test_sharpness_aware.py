"""SAM and its flow against closed forms (arXiv 2010.01412, 2309.12488, 2301.08203)."""

import math

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.integrate

from flows import (
    SAM,
    Adam,
    Curvature,
    DenseRodState,
    GradientDescent,
    HeavyBall,
    Nesterov,
    PreconditionedCurvature,
    RodFlow,
    RollingBall,
    SharpnessAwareFlow,
    Threshold,
    critical_sharpness,
    iterate,
    simulate,
)
from potentials import Quadratic, SharpValley
from tests.helpers import as_users_run, assert_trees_close

ACCURATE = {
    "solver": diffrax.Dopri8(),
    "stepsize_controller": diffrax.PIDController(rtol=1e-12, atol=1e-13),
}
BOWL = Quadratic(jnp.asarray([3.0, 1.0, 0.5]))
START = jnp.asarray([0.3, -0.7, 1.1])


def curved(w: jax.Array) -> jax.Array:
    """A loss with all derivatives, along no axis and with its minimum away from the origin."""
    x = w - jnp.asarray([0.7, -1.1, 0.4], w.dtype)
    return jnp.sum(jnp.cosh(x)) + jnp.sin(x[0] * x[1]) + 0.3 * x[2] ** 3 * x[0]


SLOPE = jnp.asarray([1.6, -0.3, -0.6])


def threshold(eta: float, rho: float, length: jax.Array) -> jax.Array:
    """lambda* as arXiv 2309.12488 has it."""
    return length / (2 * rho) * (jnp.sqrt(1 + 8 * rho / (eta * length)) - 1)


def test_a_step_on_a_quadratic_multiplies_each_component_of_the_gradient():
    """By 1 - eta lambda_i (1 + rho lambda_i / |g|), exactly."""
    eta, rho = 0.4, 0.15
    optimizer = SAM(GradientDescent(eta), rho)
    gradient = BOWL.spectrum * START
    after = optimizer.step(optimizer.init(START), BOWL)
    factor = 1 - eta * BOWL.spectrum * (1 + rho * BOWL.spectrum / jnp.linalg.norm(gradient))
    found = BOWL.spectrum * optimizer.params(after) / gradient
    # Two sums of numbers of order 1, divided by one of order 0.5.
    assert jnp.max(jnp.abs(found - factor)) < 2e-15
    change = optimizer.increment(optimizer.init(START), BOWL).params
    assert_trees_close(change, optimizer.params(after) - START, rtol=1e-14)


@pytest.mark.parametrize(("eta", "lam"), [(0.1, 5.0), (0.3, 4.0), (0.5, 3.9)])
def test_below_the_edge_it_ends_in_a_two_cycle_on_its_threshold(eta, lam):
    """Half-length eta lambda rho/(2 - eta lambda), |g| lambda times that, and lambda* = lambda."""
    rho = 0.05
    optimizer, bowl = SAM(GradientDescent(eta), rho), Quadratic(jnp.asarray([lam, 0.4 * lam]))
    run = iterate(optimizer, bowl, jnp.asarray([0.5, 0.1]), 2000, save_every=2000)
    end = run.params[-1]
    half = eta * lam * rho / (2 - eta * lam)
    # The errors of lower modes decay; those of the length by 1 - eta lambda each step.
    assert abs(abs(float(end[0])) / half - 1) < 1e-13
    assert abs(float(end[1])) < 1e-15
    cycle = jnp.asarray([half, 0.0])
    assert_trees_close(optimizer.step(optimizer.init(cycle), bowl).params, -cycle, rtol=2e-15)
    found = critical_sharpness(optimizer, optimizer.init(cycle), bowl)
    assert abs(float(found) / lam - 1) < 1e-15
    assert_trees_close(found, threshold(eta, rho, jnp.asarray(lam * half)), rtol=1e-14)


def test_a_cycle_along_a_lower_eigenvector_is_unstable():
    """A thousandth of the top eigenvector in it grows, until the cycle is along that."""
    eta, rho, lam = 0.3, 0.05, jnp.asarray([4.0, 2.0])
    half = eta * 2.0 * rho / (2 - eta * 2.0)
    optimizer = SAM(GradientDescent(eta), rho)
    run = iterate(optimizer, Quadratic(lam), jnp.asarray([1e-3 * half, half]), 400)
    lengths = jnp.abs(run.params)
    assert lengths[1, 0] > 1.3 * lengths[0, 0]
    assert_trees_close(lengths[-1], jnp.asarray([0.3 * 4 * rho / (2 - 0.3 * 4), 0.0]), atol=1e-12)


@pytest.mark.parametrize(
    "base",
    [
        GradientDescent(0.3),
        GradientDescent(0.3, weight_decay=0.5),
        HeavyBall(0.3, 0.2),
        Nesterov(0.3, 0.5),
        pytest.param(optax.sgd(0.3, momentum=0.2), marks=pytest.mark.slow),
    ],
    ids=["gradient descent", "weight decay", "heavy ball", "Nesterov", "optax"],
)
def test_any_optimizer_of_its_gradient_ends_at_its_own_threshold(base):
    """Where |g| = rho lambda^2 / (S - lambda), with S the threshold of what SAM wraps."""
    lam, rho = 2.5, 0.1
    optimizer, bowl = SAM(base, rho), Quadratic(jnp.asarray([lam]))
    run = iterate(optimizer, bowl, jnp.asarray([0.37]), 800, save_every=800)
    state = run.state.optimizer
    assert critical_sharpness(optimizer, state, bowl) == pytest.approx(lam, rel=1e-9)
    own = float(critical_sharpness(base))
    length = lam * abs(float(optimizer.params(state)[0]))
    assert length == pytest.approx(rho * lam**2 / (own - lam), rel=1e-9)
    # One step more than asked for, whose midpoints with the last are compared with flows.
    assert int(run.stats["gradient_evaluations"]) == 801 * 2


def test_the_threshold_is_the_edge_of_gradient_descent_where_gradients_are_long():
    """And zero, with a limit that is no nan, where there are none."""
    optimizer = SAM(GradientDescent(0.3), 0.1)
    lengths = jnp.asarray([0.0, 1e-8, 1.0, 1e8])
    lam = jax.vmap(lambda x: optimizer.critical_sharpness_at(x[None], Quadratic(jnp.ones(1))))
    found = lam(lengths)
    assert found[0] == 0
    assert_trees_close(found[1:3], threshold(0.3, 0.1, lengths[1:3]), rtol=1e-12)
    assert found[3] == pytest.approx(2 / 0.3, rel=1e-7)
    assert found[3] < 2 / 0.3


def test_unnormalised_it_has_one_threshold():
    """Where lambda (1 + rho lambda) = 2/eta, above which a small oscillation grows."""
    eta, rho = 0.4, 0.3
    optimizer = SAM(GradientDescent(eta), rho, normalised=False)
    lam = float(optimizer.critical_sharpness)
    assert eta * lam * (1 + rho * lam) == pytest.approx(2, rel=1e-14)
    for factor, grows in ((0.99, False), (1.01, True)):
        bowl = Quadratic(jnp.asarray([factor * lam]))
        run = iterate(optimizer, bowl, jnp.ones(1), 50, save_every=50)
        assert bool(jnp.abs(run.params[-1, 0]) > 1) is grows
    state = optimizer.init(jnp.ones(1))
    assert critical_sharpness(optimizer, state, bowl) == critical_sharpness(optimizer)


@pytest.mark.slow
def test_the_onset_in_a_ravine_is_at_the_point_where_the_gradient_is_taken():
    """Along -epsilon y, |g| = epsilon and the perturbed point is rho lower: y - rho = lambda*."""
    eps, eta, rho = 0.01, 0.3, 0.001
    optimizer = SAM(GradientDescent(eta), rho)

    def ravine(w: jax.Array) -> jax.Array:
        return 0.5 * w[1] * w[0] ** 2 - eps * w[1]

    def multiplier(y: float) -> float:
        w = jnp.asarray([0.0, y])
        return float(
            jax.jacfwd(lambda w: optimizer.step(optimizer.init(w), ravine).params)(w)[0, 0]
        )

    found = float(optimizer.critical_sharpness_at(jnp.asarray([0.0, 1.0]), ravine))
    # The other factor, 1 + rho lambda/|g|, has the curvature y at w itself: of order rho^2/epsilon.
    assert multiplier(found + rho - 5e-4) > -1 > multiplier(found + rho + 5e-4)


@pytest.mark.parametrize(("rho", "above"), [(0.001, 0.0090), (0.01, 0.0097), (0.05, 0.0144)])
def test_in_the_sharp_valley_it_settles_where_the_threshold_is(rho, above):
    """At lambda*(mean |g|), and above that by (3/2) epsilon eta zeta (3 zeta - 1) = 0.009."""
    optimizer, start = SAM(GradientDescent(0.3), rho), jnp.asarray([0.02, 4.0])
    run = iterate(optimizer, SharpValley(0.01), start, 8000, save_every=1000, measurements=())
    state = run.state.optimizer
    last = iterate(optimizer, SharpValley(0.01), optimizer.params(state), 200)
    mean = jnp.mean(last.observables["gradient_norm"])
    height = jnp.mean(last.params[:, 1])
    assert height - threshold(0.3, rho, mean) == pytest.approx(above, abs=3e-4)


@pytest.mark.slow
def test_the_flow_is_of_its_order_in_the_learning_rate():
    """Exact in rho: the error over a fixed eta * steps falls as eta, and with correction as eta^2.

    The smoothing of the flow is far below what is seen here.
    """

    @jax.jit
    def errors(eta: jax.Array, steps: jax.Array) -> jax.Array:
        optimizer = SAM(GradientDescent(eta), 0.1)
        state = optimizer.init(SLOPE)
        step = lambda _, state: optimizer.step(state, curved)  # noqa: E731
        discrete = jax.lax.fori_loop(0, steps, step, state).params
        found = []
        for correction in (False, True):
            flow = SharpnessAwareFlow(optimizer, correction, smoothing=1e-9)
            end = diffrax.diffeqsolve(
                diffrax.ODETerm(flow.vector_field),
                diffrax.Tsit5(),
                0.0,
                steps.astype(float),
                0.1,
                state,
                args=curved,
                stepsize_controller=diffrax.PIDController(rtol=1e-11, atol=1e-12),
            ).ys.params[0]
            found.append(jnp.linalg.norm(end - discrete))
        return jnp.stack(found)

    steps = jnp.asarray([40, 80])
    coarse, fine = (errors(0.5 / n.astype(float), n) for n in steps)
    assert_trees_close(jnp.log2(coarse / fine), jnp.asarray([1.0, 2.0]), atol=0.015)


@pytest.mark.slow
def test_the_flow_and_its_correction_are_those_of_the_formula():
    """-eta G - (eta^2/2) DG G, two gradients and two products with Hessians."""
    eta = 0.2
    optimizer = SAM(GradientDescent(eta), 0.1, smoothing=0.05)
    plain, corrected = SharpnessAwareFlow(optimizer), SharpnessAwareFlow(optimizer, correction=True)
    state = plain.init(curved, SLOPE)
    gradient = optimizer.gradient(SLOPE, curved)
    derivative = jax.jacfwd(lambda w: optimizer.gradient(w, curved))(SLOPE)
    field = -eta * gradient
    assert_trees_close(plain.vector_field(0.0, state, curved).params, field, rtol=1e-14)
    field = field - 0.5 * eta**2 * derivative @ gradient
    assert_trees_close(corrected.vector_field(0.0, state, curved).params, field, rtol=1e-13)
    assert (int(plain.cost.gradients), int(plain.cost.hvps)) == (2, 0)
    assert (int(corrected.cost.gradients), int(corrected.cost.hvps)) == (2, 2)


@pytest.mark.parametrize("normalised", [True, False])
def test_to_first_order_in_the_radius_it_descends_a_penalised_loss(normalised):
    """L + rho |g|, or L + rho |g|^2/2: the difference of the gradients is of order rho^2."""
    errors = []
    for rho in (0.01, 0.005):
        optimizer = SAM(GradientDescent(0.1), rho, normalised=normalised)

        def penalised(w: jax.Array, rho: float = rho) -> jax.Array:
            square = jnp.sum(jax.grad(curved)(w) ** 2)
            return curved(w) + rho * (jnp.sqrt(square) if normalised else 0.5 * square)

        found = optimizer.gradient(SLOPE, curved)
        errors.append(float(jnp.linalg.norm(found - jax.grad(penalised)(SLOPE))))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.03)


@pytest.mark.slow
def test_on_a_quadratic_the_flow_is_one_scalar_equation():
    """g_i(t) = g_i(0) exp(-eta lambda_i t - eta rho lambda_i^2 T), with dT/dt = 1/|g|."""
    eta, rho, end = 0.1, 0.2, 4.0
    lam, first = np.asarray(BOWL.spectrum), np.asarray(BOWL.spectrum * START)

    def gradient(t: float, clock: float) -> np.ndarray:
        return first * np.exp(-eta * lam * t - eta * rho * lam**2 * clock)

    clock = scipy.integrate.solve_ivp(
        lambda t, y: [1 / np.linalg.norm(gradient(t, y[0]))],
        (0, end),
        [0.0],
        method="DOP853",
        rtol=1e-12,
        atol=1e-14,
    ).y[0, -1]
    flow = SharpnessAwareFlow(SAM(GradientDescent(eta), rho), smoothing=1e-9)
    run = simulate(flow, BOWL, START, int(end), save_every=int(end), **ACCURATE)
    expected = jnp.asarray(gradient(end, clock) / lam)
    assert_trees_close(run.params[-1], expected, rtol=1e-10, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("correction", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_flow_arrives_in_finite_time_and_slides(correction):
    """On lambda I after ln(1 + |w_0|/rho)/(eta lambda); the solver goes on with few steps."""
    eta, lam, rho = 0.2, 2.0, 0.1
    bowl, start = Quadratic(jnp.asarray([lam, lam])), jnp.asarray([0.6, 0.8])
    arrival = math.log(1 + 1 / rho) / (eta * lam)
    if correction:
        # Its rate is eta lambda + (eta lambda)^2/2, of |w| + rho.
        arrival /= 1 + 0.5 * eta * lam
    flow = SharpnessAwareFlow(SAM(GradientDescent(eta), rho), correction, smoothing=0.01)
    run = simulate(flow, bowl, start, 30, measurements=())
    distance = jnp.linalg.norm(run.params, axis=1)
    times = run.steps.astype(float)
    rate = eta * lam * (1 + (0.5 * eta * lam if correction else 0))
    expected = (1 + rho) * jnp.exp(-rate * times) - rho
    before = times < arrival - 1
    # The tolerance of the flow's solver is 1e-4.
    assert_trees_close(distance[before], expected[before], atol=1e-3)
    assert jnp.all(distance[times > arrival + 1] < 1e-5)
    at_rest = simulate(flow, bowl, None, 120, state=run.state, save_every=120, measurements=())
    assert int(run.stats["solver_steps"]) + int(at_rest.stats["solver_steps"]) < 250
    assert int(at_rest.stats["solver_steps"]) < 40


def test_the_smoothing_of_the_flow_is_that_of_the_optimizer_where_it_has_one():
    """Otherwise 0.01 rho/eta; the number that is given comes first."""
    for own, given, used in ((0.0, None, 0.005), (0.3, None, 0.3), (0.3, 0.2, 0.2)):
        flow = SharpnessAwareFlow(SAM(GradientDescent(0.2), 0.1, own), smoothing=given)
        assert float(flow.limit.optimizer.smoothing) == pytest.approx(used, rel=1e-15)
    decaying = SAM(GradientDescent(optax.linear_schedule(0.2, 0.0, 10)), 0.1)
    with pytest.raises(
        ValueError, match="smoothing must be given where the learning rate is a sch"
    ):
        SharpnessAwareFlow(decaying)
    flow = SharpnessAwareFlow(decaying, smoothing=0.1)
    early, late = (flow.vector_field(t, flow.init(BOWL, START), BOWL).params for t in (5.0, 10.0))
    assert_trees_close(early, -0.1 * flow.limit.optimizer.gradient(START, BOWL), rtol=1e-14)
    assert jnp.all(late == 0)


def cycle_with_smoothing(eta: float, lam: float, rho: float, smoothing: float) -> float:
    """The half-length of the cycle, where |g| is sqrt(g^2 + s^2) in its closed form."""
    length = eta * rho * lam**2 / (2 - eta * lam)
    return math.sqrt(length**2 - smoothing**2) / lam


def test_the_cycle_is_an_equilibrium_of_one_rod():
    """The rod's ends are the iterates, and its centre is their mean."""
    optimizer = SAM(GradientDescent(0.8), 0.1, 0.01)
    half = cycle_with_smoothing(0.8, 1.0, 0.1, 0.01)
    covariance = jnp.diag(jnp.asarray([half**2, 0.0]))
    state = DenseRodState(optimizer.init(jnp.zeros(2)), covariance)
    change = RodFlow(optimizer).vector_field(0.0, state, Quadratic(jnp.asarray([1.0, 0.5])))
    assert jnp.max(jnp.abs(change.covariance)) < 1e-16
    assert jnp.max(jnp.abs(change.centre.params)) < 1e-16


@pytest.mark.slow
def test_one_rod_ends_on_the_cycle():
    """To seven digits, in length and in place."""
    flow = RodFlow(SAM(GradientDescent(0.8), 0.1, 0.01), alignment=False)
    bowl, start = Quadratic(jnp.asarray([1.0, 0.5])), jnp.asarray([1.0, 0.7])
    run = simulate(flow, bowl, start, 100, save_every=50, measurements=())
    half = cycle_with_smoothing(0.8, 1.0, 0.1, 0.01)
    assert float(run.observables["rod_half_lengths"][-1, 0]) == pytest.approx(half, rel=1e-7)
    assert jnp.max(jnp.abs(run.params[-1])) < 1e-7


@pytest.mark.slow
def test_several_rods_at_a_centre_where_the_map_is_not_smooth_are_doubted():
    """They end at another centre than 0, between iterates that have none but 0 for their mean."""
    bowl, start = Quadratic(jnp.asarray([1.0, 0.5])), jnp.asarray([1.0, 0.7])
    flow = RodFlow(SAM(GradientDescent(0.8), 0.1, 1e-3), 2, alignment=False)
    options = {"save_every": 10, "measurements": ()}
    with pytest.warns(UserWarning, match="map of SAM is not smooth at the rods' centre.*rank = 1"):
        run = simulate(flow, bowl, start, 30, **options)
    assert jnp.max(jnp.abs(run.params[-1])) > 1e-3
    # Smooth over the length of the rod, it is right; and pytest makes an error of any warning.
    flow = RodFlow(SAM(GradientDescent(0.8), 0.1, 0.03), 2, alignment=False)
    run = simulate(flow, bowl, start, 50, **options)
    assert jnp.max(jnp.abs(run.params[-1])) < 1e-6


def test_a_kink_is_told_from_a_bend():
    """At half the length of a rod a smooth map has a quarter of its second difference."""
    valley, state = SharpValley(0.01), None
    for smoothing, quarter in ((0.0, False), (10.0, True)):
        flow = RodFlow(SAM(GradientDescent(0.3), 0.1, smoothing), 2, alignment=False)
        state = flow.init(valley, jnp.asarray([1e-3, 4.0]))
        rod = 0.1 * jnp.outer(jnp.asarray([1.0, 0.0]), jnp.asarray([1.0, 0.0]))
        state = type(state)(state.centre, rod)
        bend, halved = flow.equation.bends(state, valley)
        assert bend > 0.02
        assert bool(abs(halved / bend - 0.25) < 0.02) is quarter
        assert bool(flow.doubt(state, valley)) is not quarter


def test_where_the_gradient_is_zero_it_stays():
    """The perturbation of no direction is none, with and without smoothing, and nothing is nan."""
    for smoothing in (0.0, 0.1):
        optimizer = SAM(GradientDescent(0.1), 0.2, smoothing)
        state = optimizer.init(jnp.zeros(3))
        step = jax.jacfwd(lambda w, of=optimizer: of.step(of.init(w), BOWL).params)
        assert_trees_close(optimizer.step(state, BOWL).params, jnp.zeros(3), atol=0.0)
        assert jnp.all(jnp.isfinite(step(jnp.zeros(3))))


def test_the_threshold_along_a_run_is_measured():
    """At each save that at the gradient there, which costs one; also where eta is a schedule."""
    optimizer = SAM(GradientDescent(optax.linear_schedule(0.1, 0.3, 4)), 0.05)
    run = iterate(optimizer, BOWL, START, 4, measurements=Threshold(optimizer))
    lengths = jnp.linalg.norm(BOWL.spectrum[None] * run.params, axis=1)
    rates = jnp.linspace(0.1, 0.3, 5)
    expected = jax.vmap(lambda eta, g: threshold(eta, 0.05, g))(rates, lengths)
    assert_trees_close(run.observables["critical_sharpness"], expected, rtol=1e-12)
    assert int(run.stats["measurement_gradient_equivalents"]) == 5
    state = optimizer.init(START)
    assert critical_sharpness(optimizer, state, BOWL) == pytest.approx(
        float(expected[0]), rel=1e-12
    )


def test_radii_are_mapped_over_and_any_parameters_move_alike():
    """One program for all radii; a dictionary in float32 stays one."""

    def end(radius: jax.Array) -> jax.Array:
        return iterate(SAM(GradientDescent(0.1), radius), BOWL, START, 3).params[-1]

    radii = jnp.asarray([0.05, 0.2])
    ends = jax.jit(jax.vmap(end))(radii)
    assert_trees_close(ends[1], end(radii[1]), rtol=1e-14)
    split = {"x": START[:1].astype(jnp.float32), "y": START[1:].astype(jnp.float32)}

    def bowl(split: dict[str, jax.Array]) -> jax.Array:
        w = jnp.concatenate([split["x"], split["y"]])
        return 0.5 * jnp.sum(BOWL.spectrum.astype(w.dtype) * w**2)

    run = iterate(SAM(GradientDescent(0.1), 0.2), bowl, split, 3)
    assert {x.dtype for x in jax.tree.leaves(run.params)} == {jnp.dtype("float32")}
    found = jnp.concatenate([run.params["x"][-1], run.params["y"][-1]])
    assert_trees_close(found.astype(float), ends[1], rtol=1e-5)


def test_with_a_preconditioner_it_runs_but_has_no_threshold():
    """P^-1 H (1 + rho H/|g|) has no eigenvalues that those of P^-1 H decide."""
    optimizer = SAM(Adam(0.05), 0.05)
    run = iterate(optimizer, BOWL, START, 3, measurements=(Curvature(), PreconditionedCurvature()))
    assert jnp.all(run.params[-1] * START < START**2)
    # The metric is Adam's, and is not known to be the identity.
    assert jnp.all(jnp.isnan(run.observables["preconditioned_sharpness"]))
    with pytest.raises(ValueError, match=r"no curvature decides.*preconditioner.*got Adam"):
        critical_sharpness(optimizer, run.state.optimizer, BOWL)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SAM(GradientDescent(0.1), -0.1), "radius must be .*at least 0; got -0.1"),
        (lambda: SAM(GradientDescent(0.1), 0.1, -1.0), "smoothing must be .*at least 0.*got -1"),
        (
            lambda: SAM(GradientDescent(0.1), 0.1, 0.1, normalised=False),
            "smoothing must be 0 with normalised=False",
        ),
        (lambda: SAM(RollingBall(0.1, 0.5), 0.1), "optimizer must be one that takes one gradient"),
        (lambda: SAM(SAM(GradientDescent(0.1), 0.1), 0.1), "optimizer must be one that takes one"),
        (lambda: SAM("sgd", 0.1), "optimizer must be"),
        (
            lambda: SAM(GradientDescent(0.1), 0.1).critical_sharpness,
            "depends on the length of the gradient: ask for it at a state",
        ),
        (
            lambda: critical_sharpness(SAM(GradientDescent(0.1), 0.1)),
            r"flows.critical_sharpness\(optimizer, state, potential\)",
        ),
        (
            lambda: critical_sharpness(SAM(GradientDescent(0.1), 0.1), jnp.ones(2)),
            "potential must be given.*SAM depends on the gradient",
        ),
        (lambda: SharpnessAwareFlow(GradientDescent(0.1)), "optimizer must be SAM of Gradient"),
        (
            lambda: SharpnessAwareFlow(SAM(HeavyBall(0.1, 0.9), 0.1)),
            "SAM of another optimizer, with a smoothing above 0, there is GradientFlow",
        ),
        (
            lambda: SharpnessAwareFlow(SAM(GradientDescent(0.1), 0.1), smoothing=0.0),
            "smoothing must be .*above 0.*got 0",
        ),
    ],
)
def test_what_is_wrong_is_said(make, message):
    """The argument, what is allowed, and what was given."""
    with as_users_run(), pytest.raises(ValueError, match=message):
        make()


def test_the_smoothing_of_sam_does_with_a_schedule():
    """None can be chosen there if it has none."""
    rate = optax.linear_schedule(0.1, 0.2, 20)
    with pytest.raises(ValueError, match="smoothing must be given where the learning rate is"):
        SharpnessAwareFlow(SAM(GradientDescent(rate), 0.05))
    own = SharpnessAwareFlow(SAM(GradientDescent(rate), 0.05, 0.01))
    given = SharpnessAwareFlow(SAM(GradientDescent(rate), 0.05), smoothing=0.01)
    start, bowl = jnp.asarray([1.0]), lambda w: 0.5 * jnp.sum(w**2)
    fields = [flow.vector_field(3.0, flow.init(bowl, start), bowl) for flow in (own, given)]
    assert_trees_close(fields[0], fields[1], rtol=1e-14, atol=0.0)


def test_with_radius_0_it_is_the_optimizer():
    """Its steps, and its threshold where there is a gradient."""
    base = HeavyBall(0.1, 0.9)
    optimizer = SAM(base, 0.0)
    start = optimizer.init(jnp.ones_like(BOWL.spectrum))
    one, other = (method.step(start, BOWL) for method in (optimizer, base))
    assert_trees_close(one, other, 1e-14, 0.0)
    assert float(critical_sharpness(optimizer, one, BOWL)) == pytest.approx(38.0)


def test_parameters_are_no_state():
    """Who has them asks the optimizer."""
    with pytest.raises(ValueError, match=r"state must be one of SAM, .*critical_sharpness_at\(par"):
        critical_sharpness(SAM(GradientDescent(0.1), 0.05), jnp.ones(2), lambda w: w @ w)
