"""Ball-centre dynamics and the rolling ball against the numbers of THEORY 5."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.integrate

from flows import (
    RESULTS,
    BallCentreFlow,
    BallContactFlow,
    BallSolver,
    GradientDescent,
    RollingBall,
    SimulationError,
    drop,
    iterate,
    simulate,
)
from flows.ball.contacts import ContactSearch
from potentials import Quadratic, WeierstrassSine
from tests.helpers import as_users_run, assert_trees_close

BOWL = Quadratic([1.0])
TWO = jnp.asarray([2.0])
# Coarse grids suffice for a parabola: two contacts are far apart.
COARSE = 32
# Learning rate, radius and start of a ball on a scaled landscape.
SCALED = 0.8, 0.4, 1.5


@eqx.filter_jit
def contacts_at_one(optimizer, start, potential=BOWL):
    """The contact and the centre after one unit of flow time."""
    run = simulate(BallCentreFlow(optimizer), potential, start, 1, measurements=())
    return {**run.observables, "centre": run.params}


@pytest.fixture(scope="module")
def bowl():
    """Balls of several radii and learning rates on the parabola, all in one program."""
    cases = {
        "unit": (1.0, 0.5, 2.0, 1.0),
        "longer": (2.0, 0.5, 2.0, 1.0),
        "before": (0.47313, 2.0, 3.0, 1.0),
        "rest": (0.47314, 2.0, 3.0, 1.0),
        "later": (1.0, 2.0, 3.0, 1.0),
        "zero": (1.0, 0.0, 2.0, 1.0),
        "tiny": (1.0, 1e-3, 2.0, 1.0),
        "smaller": (1.0, 5e-4, 2.0, 1.0),
        "scaled": (*SCALED, 0.6),
    }
    values = (jnp.asarray(column) for column in zip(*cases.values(), strict=True))

    def one(rate, radius, start, scale):
        return contacts_at_one(RollingBall(rate, radius, scale, candidates=COARSE), start[None])

    found = jax.jit(jax.vmap(one))(*values)
    return {
        name: {key: np.asarray(value[i]) for key, value in found.items()}
        for i, name in enumerate(cases)
    }


def test_the_contact_on_the_parabola_is_where_the_theory_says(bowl):
    """F = t^2 / 2, rho = 0.5, from 2: 0.606877499821 at t = 1, 0.1022187 at t = 2."""
    # The solver's tolerance is 1e-8, and the interpolated save about as good.
    assert abs(bowl["unit"]["contact"][-1, 0] - 0.606877499821) < 1e-8
    assert abs(bowl["longer"]["contact"][-1, 0] - 0.1022187) < 1e-7


def test_the_ball_stays_at_its_distance(bowl):
    """The centre is put back after each step; saves between steps are interpolated."""
    for case in bowl.values():
        assert np.abs(case["surface_gap"]).max() < 1e-8


def test_the_ball_rests_on_two_contacts_from_the_time_that_the_theory_says(bowl):
    """Rho k = 2: contacts +-sqrt(3), height 2.5 from t = 0.4731386 on; one contact before."""
    assert bowl["before"]["contacts"][-1] == 1
    assert bowl["before"]["centre_height"][-1] > 2.5 + 1e-6
    for name in ("rest", "later"):
        end = {key: value[-1] for key, value in bowl[name].items()}
        assert end["contacts"] == 2
        assert abs(abs(end["contact"][0]) - np.sqrt(3)) < 1e-9
        assert abs(end["centre_height"] - 2.5) < 1e-9
        assert abs(end["centre"][0]) < 1e-9


def test_a_height_scale_enters_the_flow_as_the_contact_form_says(bowl):
    """F = 0.6 t^2 / 2: (w^2 - 0.6 rho / w) q' = -eta w^2 q, w^2 = 1 + 0.36 q^2, by scipy."""
    rate, radius, start = SCALED
    scale = 0.6

    def speed(t, q):
        w = np.sqrt(1 + (scale * q) ** 2)
        return -rate * w**2 * q / (w**2 - scale * radius / w)

    q = scipy.integrate.solve_ivp(speed, (0, 1), [start], rtol=1e-11, atol=1e-13).y[0, -1]
    end = {key: value[-1] for key, value in bowl["scaled"].items()}
    w = np.sqrt(1 + (scale * q) ** 2)
    assert abs(end["contact"][0] - q) < 1e-8
    assert abs(end["centre"][0] - (q - radius * scale * q / w)) < 1e-8
    assert abs(end["predicted_loss"] - q**2 / 2) < 1e-8
    assert abs(end["centre_height"] - (q**2 / 2 + radius / w / scale)) < 1e-8
    assert abs(end["radius_times_curvature"] - radius * scale / w**3) < 1e-8
    optimizer = RollingBall(rate, radius, scale)
    contact = BallContactFlow(optimizer)
    slope = contact.vector_field(0.0, contact.init(BOWL, jnp.asarray([q])), BOWL).params
    assert float(slope[0]) == pytest.approx(speed(0.0, q), rel=1e-9)
    critical = float(optimizer.critical_sharpness)
    assert rate * critical / (1 - scale * radius * critical) == pytest.approx(2.0, rel=1e-9)


def test_a_ball_without_a_radius_follows_gradient_flow(bowl):
    """On the landscape itself, to 2 / e at t = 1."""
    end = {key: value[-1] for key, value in bowl["zero"].items()}
    # As accurate as the solver, 1e-8.
    assert abs(end["contact"][0] - 2 / np.e) < 1e-8
    assert abs(end["centre_height"] - 2 / np.e**2) < 1e-8


def test_small_balls_follow_gradient_flow_to_first_order(bowl):
    """On the parabola gradient flow is at 2 / e; half the radius has half the error."""
    errors = [bowl[name]["contact"][-1, 0] - 2 / np.e for name in ("tiny", "smaller")]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.01)


@pytest.mark.slow
def test_the_flow_is_differentiated_in_start_and_radius():
    """Through the nearest point, by the implicit function theorem, against differences."""
    optimizer = RollingBall(1.0, 0.5, candidates=COARSE)
    run = {"solver": diffrax.Heun(), "dt0": 0.25, "measurements": ()}
    run |= {"adjoint": diffrax.ForwardMode()}
    fixed = diffrax.ConstantStepSize()

    def end(values):
        ball = eqx.tree_at(lambda o: o.radius, optimizer, values[1])
        flow = BallCentreFlow(ball, curvature=False)
        path = simulate(flow, BOWL, values[:1], 1, stepsize_controller=fixed, **run)
        return path.observables["contact"][-1, 0]

    point, direction = jnp.asarray([2.0, 0.5]), jnp.asarray([1.0, 0.3])
    steps = jnp.asarray([2e-4, 1e-4, 0.0, -1e-4, -2e-4])
    both = jax.jit(jax.vmap(lambda s: jax.jvp(end, (point + s * direction,), (direction,))))
    values, slopes = both(steps)
    # Fourth-order central differences.
    difference = (8 * (values[1] - values[3]) - (values[0] - values[4])) / 12e-4
    assert_trees_close(slopes[2], difference, rtol=1e-6)
    # A fixed step of 0.25 is a rough approximation of the flow that the other tests pin down.
    assert abs(float(slopes[2])) > 0.1


def test_a_step_is_differentiated_backwards_as_forwards():
    """The transpose of the implicit function theorem."""

    def step(values):
        optimizer = RollingBall(0.3, values[1], candidates=COARSE)
        return optimizer.step(optimizer.init(values[:1]), BOWL).params[0]

    point, direction = jnp.asarray([2.0, 0.5]), jnp.asarray([1.0, 0.3])
    backwards, forwards = jax.jit(
        lambda p: (jax.grad(step)(p) @ direction, jax.jvp(step, (p,), (direction,))[1])
    )(point)
    assert_trees_close(backwards, forwards, rtol=1e-12)


@pytest.mark.slow
def test_centre_form_and_contact_form_agree_in_two_dimensions():
    """Anisotropic bowl, rho = 0.2, from (1, 1.5): (7.0081e-5, 0.93931220) at t = 1."""
    potential, start = Quadratic([4.0, 0.5]), jnp.asarray([1.0, 1.5])
    optimizer = RollingBall(1.0, 0.2, candidates=9)
    centre = contacts_at_one(optimizer, start, potential)["contact"][-1]
    options = {
        "stepsize_controller": diffrax.PIDController(rtol=1e-10, atol=1e-12),
        "measurements": (),
    }
    contact = simulate(BallContactFlow(optimizer), potential, start, 1, **options).params[-1]
    assert_trees_close(contact, jnp.asarray([7.0081e-5, 0.93931220]), rtol=0.0, atol=5e-9)
    assert_trees_close(centre, contact, rtol=0.0, atol=1e-8)


def test_any_solver_of_diffrax_integrates_the_field_by_hand():
    """Without re-projection the distance drifts with the tolerance, by 4e-6 at 1e-6."""
    flow = BallCentreFlow(RollingBall(1.0, 0.5, candidates=COARSE))
    start = flow.init(BOWL, TWO)

    @jax.jit
    def drift(tolerance):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(flow.vector_field),
            diffrax.Tsit5(),
            t0=0.0,
            t1=1.0,
            dt0=0.01,
            y0=start,
            args=BOWL,
            stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        )
        end = jax.tree.map(lambda x: x[0], solution.ys)
        return flow.observables(end, BOWL)["surface_gap"]

    loose, tight = (abs(float(drift(jnp.asarray(t)))) for t in (1e-5, 1e-8))
    assert tight < 5e-8
    assert loose < 5e-5
    assert tight < loose


def test_the_discrete_ball_loses_its_stability_where_the_theory_says():
    """Eta sigma / (1 - rho sigma) = 2: on the parabola with rho = 0.5 at eta = 1."""
    rates = jnp.asarray([0.98, 1.02])

    def growth(rate):
        optimizer = RollingBall(rate, 0.5, candidates=COARSE)
        path = iterate(optimizer, BOWL, jnp.asarray([1e-3]), 2, measurements=()).params[:, 0]
        return path[1] / path[0], optimizer.critical_sharpness

    factors, critical = jax.jit(jax.vmap(growth))(rates)
    # Near the minimum an iterate is multiplied by 1 - eta / (1 - rho), to O(1e-6).
    assert_trees_close(factors, 1 - 2 * rates, rtol=1e-4)
    assert_trees_close(critical, 2 / (rates + 1.0), rtol=1e-12)


def test_the_discrete_ball_tends_to_the_flow_with_the_learning_rate(bowl):
    """The error at t = 1 is of order 1."""

    @jax.jit
    def end(steps):
        rate = 1 / steps.astype(float)
        optimizer = RollingBall(rate, 0.5, candidates=COARSE)
        return jax.lax.fori_loop(
            0, steps, lambda _, s: optimizer.step(s, BOWL), optimizer.init(TWO)
        ).params[0]

    limit = bowl["unit"]["contact"][-1, 0]
    errors = [abs(float(end(jnp.asarray(steps))) - limit) for steps in (100, 200)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.05)


def test_a_ball_of_radius_zero_is_gradient_descent_to_second_order():
    """W' = w - eta g + O(eta^2)."""
    rates = jnp.asarray([1e-3, 5e-4])

    def step(rate):
        optimizer = RollingBall(rate, 0.0, candidates=COARSE)
        return optimizer.step(optimizer.init(TWO), BOWL).params[0] - (2 - 2 * rate)

    errors = jax.jit(jax.vmap(step))(rates)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.01)


def test_a_scaled_landscape_is_a_scaled_metric():
    """A ball on a L is RollingBall(eta, rho, a) on L, with the learning rate of L."""
    start, scale = jnp.asarray([1.5]), 0.6
    scaled = RollingBall(0.1, 0.4, scale, candidates=COARSE)
    plain = RollingBall(0.1 / scale, 0.4, candidates=COARSE)
    one = iterate(scaled, BOWL, start, 4, measurements=())
    other = iterate(plain, Quadratic([scale]), start, 4, measurements=())
    assert_trees_close(one.params, other.params, rtol=1e-9)


@pytest.fixture(scope="module")
def rough():
    """The ball of radius 0.03 on the sum of 100 sines, dropped at 2."""
    optimizer = RollingBall(1.0, 0.03, candidates=1024)
    start = drop(optimizer, WeierstrassSine(100), TWO)
    flow = BallCentreFlow(optimizer, curvature=False)
    return simulate(flow, WeierstrassSine(100), start, 1, measurements=())


@pytest.mark.slow
def test_a_dropped_ball_lies_on_the_ironed_landscape(rough):
    """y_c(2) = 1.148979, and its centre is over 2."""
    assert_trees_close(rough.params[0], TWO, rtol=0.0, atol=1e-9)
    height = rough.observables["centre_height"][0]
    assert_trees_close(height, jnp.asarray(1.148979), rtol=0.0, atol=5e-7)


@pytest.mark.slow
def test_on_the_sum_of_sines_the_ball_rests_on_a_crease(rough):
    """At (1.998324, 1.147387), on two contacts."""
    assert_trees_close(rough.params[-1], jnp.asarray([1.998324]), rtol=0.0, atol=5e-7)
    height = rough.observables["centre_height"][-1]
    assert_trees_close(height, jnp.asarray(1.147387), rtol=0.0, atol=5e-7)
    assert rough.observables["contacts"].tolist() == [1.0, 2.0]


@pytest.mark.slow
def test_in_two_dimensions_the_ball_slides_along_a_crease():
    """In a groove too sharp for it, rho k = 2, it moves along at eta times the groove's slope."""

    def groove(p):
        return 0.5 * 4.0 * p[1] ** 2 + 0.5 * p[0]

    optimizer = RollingBall(1.0, 0.5, candidates=11)
    flow = BallCentreFlow(optimizer, curvature=False)
    run = simulate(flow, groove, jnp.asarray([0.0, 1.0]), 3, measurements=())
    assert run.observables["contacts"].tolist() == [1.0, 2.0, 2.0, 2.0]
    assert_trees_close(run.params[1:, 1], jnp.zeros(3), rtol=0.0, atol=1e-9)
    speeds = run.params[2:, 0] - run.params[1:-1, 0]
    assert_trees_close(speeds, jnp.asarray([-0.5, -0.5]), rtol=1e-7)


def test_a_start_that_cuts_the_landscape_is_reported_with_the_largest_radius():
    """At t = 0.5 the ball touches the other wall too if its radius is w = sqrt(1.25)."""
    optimizer, start = RollingBall(0.1, 2.0, candidates=COARSE), jnp.asarray([0.5])
    says = r"stopped at step 0: the ball at the start cuts .* 1\.11803.*drop\(optimizer, pot"
    with pytest.raises(SimulationError, match=says):
        simulate(BallCentreFlow(optimizer), BOWL, start, 1, measurements=())
    with pytest.raises(SimulationError, match=says.replace("step 0", "step 1")) as caught:
        iterate(optimizer, BOWL, start, 4, measurements=())
    assert caught.value.trajectory.params.tolist() == [[0.5]]
    contact = drop(optimizer, BOWL, start)
    run = iterate(optimizer, BOWL, contact, 4, measurements=())
    assert bool(run.succeeded)


def test_with_three_parameters_the_curvature_shows_that_a_start_cuts():
    """On 2 |w|^2 the curvature across the slope is 4 / sqrt(1 + 16 |w|^2), the largest."""
    well, start = Quadratic([4.0, 4.0, 4.0]), jnp.asarray([0.5, 0.3, 0.2])
    limit = float(jnp.sqrt(1 + 16 * start @ start)) / 4
    radii = jnp.asarray([1.01 * limit, 0.99 * limit])

    def step(radius):
        optimizer = RollingBall(0.1, radius)
        return optimizer.failure(optimizer.step(optimizer.init(start), well))

    failures, details = jax.jit(jax.vmap(step))(radii)
    assert failures.tolist() == [2, 0]
    assert float(details[0]) == pytest.approx(limit, rel=1e-9)


def test_a_ball_dropped_on_an_axis_of_symmetry_lies_on_the_walls():
    """Not at the bottom, a saddle of the distance: rho k = 8, sqrt(63) / 4 from the axis."""
    contact = drop(RollingBall(0.1, 2.0), Quadratic([4.0, 4.0, 4.0]), jnp.zeros(3))
    assert float(jnp.linalg.norm(contact)) == pytest.approx(np.sqrt(63) / 4, rel=1e-6)


def test_a_contact_is_not_the_nearest_if_a_search_ended_at_a_nearer_point():
    """In a groove rho k = 2 the bottom is where the distance is largest, at once found."""

    @jax.jit
    def found(x, y):
        search = ContactSearch(candidates=COARSE, iterations=1)
        surface = RollingBall(0.1, 2.0).surface(BOWL, TWO)
        return search(surface, x, y, y, jnp.zeros(1)).converged

    assert not bool(found(jnp.zeros(1), jnp.asarray(2.0)))


def test_a_step_that_fails_says_so_to_a_controller_that_rejects_none():
    """A constant step size accepts whatever comes: the ball may not just stay where it was."""
    flow = BallCentreFlow(RollingBall(1.0, 0.5, iterations=1), curvature=False)
    well = Quadratic([1.0, 2.0, 3.0])

    @jax.jit
    def step():
        solver, terms = BallSolver(flow.equation), diffrax.ODETerm(flow.vector_field)
        state, own = solver.start(flow.init(well, jnp.ones(3)), well)
        _, _, _, after, result = solver.step(terms, 0.0, 0.5, state, well, own, False)
        return own.failure, after.failure, result == RESULTS.nonlinear_divergence

    before, after, reported = step()
    assert (int(before), int(after), bool(reported)) == (0, 1, True)


def test_a_loss_may_be_more_precise_than_its_parameters():
    """All of the ball is in the parameters' precision."""
    start = jnp.asarray([2.0], jnp.float32)
    x, y = RollingBall(0.1, 0.5).centre(lambda p: BOWL(p.astype(jnp.float64)), start)
    assert x.dtype == y.dtype == jnp.float32


def test_a_projection_that_does_not_converge_names_step_and_residual():
    """What was computed before is kept."""
    optimizer = RollingBall(0.3, 0.5, candidates=COARSE, iterations=1)
    says = r"stopped at step \d+: the point .* not found: residual 0?\.?\d.* `iterations`"
    with pytest.raises(SimulationError, match=says) as caught:
        iterate(optimizer, BOWL, TWO, 10, measurements=())
    assert caught.value.trajectory.params[0, 0] == 2.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": -0.1}, "radius must be a finite number, at least 0; got -0.1"),
        ({"height_scale": 0.0}, "height_scale must be a finite number above 0; got 0.0"),
        ({"learning_rate": 0}, "learning_rate must be a finite number above 0; got 0"),
        ({"candidates": 4}, "candidates must be at least 8; got 4"),
        ({"iterations": 0}, "iterations must be an integer of at least 1; got 0"),
        ({"tolerance": -1.0}, "tolerance must be a finite number above 0; got -1.0"),
    ],
)
def test_wrong_arguments_of_the_ball(arguments, message):
    """Each is named, with what was given."""
    with pytest.raises(ValueError, match=message):
        RollingBall(**{"learning_rate": 0.1, "radius": 0.1, **arguments})


def test_wrong_arguments_of_the_flows():
    """An optimizer of another kind has no radius."""
    for flow in (BallCentreFlow, BallContactFlow):
        for optimizer in (GradientDescent(0.1), optax.sgd(0.1)):
            with as_users_run(), pytest.raises(ValueError, match="optimizer must be a RollingBall"):
                flow(optimizer)
    with as_users_run(), pytest.raises(ValueError, match="curvature must be True or False; got 1"):
        BallCentreFlow(RollingBall(0.1, 0.1), curvature=1)


def test_a_new_radius_does_not_compile_again():
    """Hyperparameters are leaves."""
    traces = []

    @eqx.filter_jit
    def step(optimizer):
        traces.append(None)
        return optimizer.init(TWO)

    step(RollingBall(0.1, 0.5))
    step(RollingBall(0.2, jnp.asarray(0.3), 2.0))
    assert len(traces) == 1
