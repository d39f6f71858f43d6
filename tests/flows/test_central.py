"""Central Flow against the numbers of THEORY 2 and 4, its invariant, and its own predictions."""

import dataclasses
from functools import partial

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.integrate
import scipy.linalg
from jax import lax
from jax.flatten_util import ravel_pytree

from flows import (
    CentralFlow,
    CentralSolver,
    Curvature,
    GradientDescent,
    GradientFlow,
    HeavyBall,
    LossAndGradient,
    RMSProp,
    SimulationError,
    gram_operator,
    iterate,
    simulate,
    solve_complementarity,
    tracking_error,
)
from flows.central.interpolation import CentralInterpolation
from flows.central.place import Place
from flows.curvature.metric import DiagonalMetric, IdentityMetric
from flows.linear_algebra.packed_symmetric import unpack
from potentials import Quadratic, SharpValley, SharpValley2
from tests.helpers import as_users_run, assert_trees_close

# Where the one eigenvalue that can become critical is watched alone, with the closed form.
alone = pytest.mark.filterwarnings("ignore:the smallest of the 1 eigenvalues")

ETA = 0.3
OPTIMIZER = GradientDescent(ETA)
OPTIMIZER_SLOW = GradientDescent(0.1)
VALLEY = SharpValley(0.01)
START = jnp.asarray([0.0, 6.0])
END = jnp.asarray([-0.0029946, 6.6756492])


def valley_run(flow, steps=1000, save_every=50, **options):
    """The valley from (0, 6)."""
    return simulate(flow, VALLEY, START, steps, save_every=save_every, **options)


@alone
@pytest.mark.parametrize("relaxation_time", [0.25, 1.0, pytest.param(5.0, marks=pytest.mark.slow)])
def test_the_valley_ends_where_theory_says_whatever_the_relaxation(relaxation_time):
    """THEORY 2 gives the end point to seven decimals, and it does not depend on tau."""
    run = valley_run(CentralFlow(OPTIMIZER, rank=1, relaxation_time=relaxation_time))
    assert_trees_close(run.params[-1], END, rtol=0.0, atol=1e-5)


@alone
@pytest.mark.slow
@pytest.mark.parametrize("relaxation_time", [0.25, 1.0, 5.0])
@pytest.mark.parametrize("solver", [diffrax.Tsit5(), diffrax.Dopri8(), diffrax.Kvaerno3()])
def test_any_solver_integrates_it(solver, relaxation_time):
    """Explicit, high-order and implicit solvers of diffrax end at the same point.

    At rest there, from step 660 on, an implicit step is as long as one likes: the run is over in
    some 200 steps, where a root finder that judges rounding errors took up to 800,000.
    """
    run = valley_run(CentralFlow(OPTIMIZER, rank=1, relaxation_time=relaxation_time), solver=solver)
    assert_trees_close(run.params[-1], END, rtol=0.0, atol=1e-5)
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        assert int(run.stats["solver_steps"]) < 400


@pytest.mark.slow
@alone
@pytest.mark.parametrize("relaxation_time", [0.25, 1.0])
def test_euler_with_steps_of_the_relaxation_time_works_too(relaxation_time):
    """It is the time stepping of the paper's authors."""
    flow = CentralFlow(OPTIMIZER, rank=1, relaxation_time=relaxation_time)
    run = valley_run(flow, solver=diffrax.Euler(), dt0=relaxation_time)
    assert_trees_close(run.params[-1], END, rtol=0.0, atol=1e-5)


@pytest.mark.slow
def test_both_eigenvalues_of_the_second_valley_are_held_at_once():
    """The first reaches 2/eta near t = 310, the second near 1101; Sigma then has rank two."""
    start = jnp.asarray([0.0, 0.0, 4.0, 5.0, 0.2])
    flow = CentralFlow(OPTIMIZER, rank=3)
    run = simulate(flow, SharpValley2(0.01), start, 1400, save_every=10, measurements=())
    eigenvalues = run.observables["watched_eigenvalues"] * ETA / 2
    for mode, contact in ((0, 310), (1, 1101)):
        reached = int(run.steps[int(jnp.argmax(eigenvalues[:, mode] > 1 - 1e-4))])
        assert abs(reached - contact) < 20, (mode, reached)
    assert_trees_close(eigenvalues[-1, :2], jnp.ones(2), rtol=1e-6, atol=0.0)
    assert float(run.observables["critical_rank"][-1]) == 2
    assert float(run.observables["critical_rank"][60]) == 1
    assert float(jnp.max(run.observables["constraint_violation"])) < 1e-6 * 2 / ETA
    assert float(jnp.max(run.observables["sdcp_residual"])) < 1e-9


@pytest.mark.slow
def test_a_start_far_above_the_edge_is_warned_of():
    """Gradient descent diverges there within four steps, and the flow models no such thing."""
    start = jnp.asarray([3.0, 2.9])
    with pytest.warns(UserWarning, match=r"5\.4 times the critical sharpness, 20,"):
        simulate(CentralFlow(OPTIMIZER_SLOW), lambda w: jnp.sum(w**4), start, 1)


def three_valleys(w):
    """Three eigenvalues, y and a share of the others', that rise to 2/eta together."""
    x, y = w[:3], w[3:]
    bottom = 0.05 * jnp.sum((y - 8 - 0.1 * jnp.arange(3.0)) ** 2)
    return jnp.sum((0.5 * y + 0.01 * jnp.sum(y)) * x**2) + bottom + 0.002 * jnp.sum(x)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the smallest of the 1 eigenvalues")
def test_a_run_that_watches_too_few_eigenvalues_says_how_many_there_are():
    """And not that the flow is too stiff: no motion holds three eigenvalues along one mode."""
    start = jnp.asarray([0.0, 0.0, 0.0, 6.0, 6.1, 6.05])
    message = "3 eigenvalues of the Hessian are within 5% .* watches 1, .* a rank of at least 3, or"
    with pytest.raises(SimulationError, match=message):
        simulate(CentralFlow(OPTIMIZER, rank=1), three_valleys, start, 60, measurements=())


def _highest(w):
    """The largest eigenvalue of the valley's Hessian."""
    return jnp.linalg.eigvalsh(jax.hessian(VALLEY)(w))[-1]


@alone
@pytest.mark.parametrize("correction", [False, True])
def test_at_the_edge_the_sharpness_stands_still(correction):
    """The velocity has no component that changes the critical eigenvalue, corrected or not."""
    flow = CentralFlow(OPTIMIZER, rank=1, correction=correction)

    @jax.jit
    def velocity(point):
        """Of the flow, and of the sharpness, at the same x where the sharpness is 2/eta."""
        for _ in range(3):
            rise = jax.grad(_highest)(point)[1]
            point = point.at[1].add((2 / ETA - _highest(point)) / rise)
        state, failure = flow.project(flow.init(VALLEY, point), VALLEY)
        found = flow.vector_field(0.0, state, VALLEY).params
        return failure, state.covariance, jax.jvp(_highest, (point,), (found,))[1]

    failure, covariance, drift = velocity(END)
    assert int(failure) == 0
    assert float(covariance[0]) > 1e-3
    # The sharpness rises by 3e-3 per step without the oscillation; this is rounding.
    assert_trees_close(drift, jnp.asarray(0.0), rtol=0.0, atol=1e-11)


def _corrected_along_the_threshold(t, w):
    """-eta M (g + X dH / 2), M = I + (eta/2) H, with the X for which dH . dw/dt = 0."""
    (x, y), eps = w, 0.01
    gradient = np.array([x * y + 1.5 * x**2 - eps, 0.5 * x**2 - eps])
    hessian = np.array([[y + 3 * x, x], [x, 0.0]])
    u = np.linalg.eigh(hessian)[1][:, -1]
    rise = np.array([3 * u[0] ** 2 + 2 * u[0] * u[1], u[0] ** 2])
    m = np.eye(2) + 0.5 * ETA * hessian
    covariance = -2 * (rise @ m @ gradient) / (rise @ m @ rise)
    return -ETA * m @ (gradient + 0.5 * covariance * rise)


@pytest.mark.slow
@alone
def test_the_corrected_flow_runs_along_the_threshold():
    """From a start on it, with the solver made for it, where scipy integrates a closed form."""
    start = np.array([0.0, 2 / ETA])
    flow = CentralFlow(OPTIMIZER, rank=1, correction=True)
    run = simulate(flow, VALLEY, jnp.asarray(start), 100, save_every=20)
    sharpness = run.observables["watched_eigenvalues"][:, 0] * ETA / 2
    # The solver's tolerance is 1e-6 per step, and the path is interpolated between its steps.
    assert_trees_close(sharpness, jnp.ones(6), rtol=0.0, atol=1e-5)
    path = scipy.integrate.solve_ivp(
        _corrected_along_the_threshold, (0, 100), start, rtol=1e-10, atol=1e-12
    )
    assert_trees_close(run.params[-1], jnp.asarray(path.y[:, -1]), rtol=0.0, atol=1e-5)


# At the threshold and moving along it: one critical direction, or two.
EDGES = {
    1: (VALLEY, jnp.asarray([0.0, 2 / ETA - 0.01])),
    2: (SharpValley2(0.01), jnp.asarray([0.0, 0.0, 6.66, 6.664, 0.0])),
}


@eqx.filter_jit
def whole_derivatives(potential, w):
    """Gradient, Hessian and third derivative; compiled once for all points of a potential."""
    hessian = jax.hessian(potential)
    return jax.grad(potential)(w), hessian(w), jax.jacfwd(hessian)(w)


solve_compiled = jax.jit(solve_complementarity)


def dense_velocity(potential, w, count, *, threshold, tau, correction, preconditioner):
    """-eta M P^-1 (g + X . dH / 2) from whole derivatives, M = 1 + (eta/2) P^-1 H, and X."""
    gradient, hessian, third = whole_derivatives(potential, w)
    values, vectors = scipy.linalg.eigh(np.asarray(hessian), np.diag(preconditioner))
    values, modes = values[::-1][:count], vectors[:, ::-1][:, :count].T
    slopes = jnp.einsum("ip,jq,pqr->ijr", modes, modes, third)
    move = jnp.diag(1 / preconditioner)
    if correction:
        move = move + 0.5 * ETA * move @ hessian @ move
    linear = jnp.diag(threshold - values) / tau + ETA * slopes @ (move @ gradient)
    roots = jnp.linalg.cholesky(move)
    covariance = solve_compiled(linear, gram_operator(slopes @ roots, ETA / 2)).solution
    force = gradient + 0.5 * jnp.einsum("ij,ijr->r", covariance, slopes)
    return -ETA * move @ force, covariance


EXACT = {
    "stepsize_controller": diffrax.PIDController(rtol=1e-8, atol=1e-10),
    "measurements": (),
}


@pytest.mark.slow
@pytest.mark.parametrize(("critical", "correction"), [(1, False), (2, True)])
def test_a_run_integrates_the_vector_field(critical, correction):
    """Where its steps end, the solver's slope is the vector field, and a dense computation's."""
    (potential, start), count = EDGES[critical], critical + 1
    flow = CentralFlow(OPTIMIZER, rank=count, correction=correction)
    field = jax.jit(lambda state: flow.vector_field(0.0, state, potential).params)
    run = simulate(flow, potential, start, 4, save_every=4, **EXACT)
    for _ in range(3):
        run = simulate(flow, potential, None, 4, save_every=4, state=run.state, **EXACT)
        state, slope = run.state.flow, run.state.solver.slope
        # Of the modes near the threshold: the others have no part in the oscillation.
        expected, covariance = dense_velocity(
            potential, state.params, critical, threshold=2 / ETA, tau=0.25, correction=correction,
            preconditioner=np.ones(start.size),
        )  # fmt: skip
        variances = jnp.linalg.eigvalsh(covariance)
        assert int(jnp.sum(variances > 1e-3)) == critical
        assert float(jnp.max(jnp.abs(slope))) > 1e-4
        assert_trees_close(field(state), expected, rtol=0.0, atol=1e-11)
        assert_trees_close(slope, expected, rtol=0.0, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(("critical", "correction"), [(1, False), (2, True)])
def test_its_own_solver_ends_where_that_of_diffrax_does(critical, correction):
    """Along the threshold, with one critical direction and with two."""
    potential, start = EDGES[critical]
    flow = CentralFlow(OPTIMIZER, rank=critical + 1, correction=correction)
    ends = [
        simulate(flow, potential, start, 16, save_every=16, solver=solver, **EXACT).params[-1]
        for solver in (None, diffrax.Tsit5())
    ]
    assert_trees_close(ends[0], ends[1], rtol=0.0, atol=1e-6)


METRIC = np.asarray([0.5, 2.0, 1.5, 1.2, 0.7])


def edge_in_a_metric(correction):
    """The equation in a fixed metric, that in the rescaled coordinates, and the latter's loss.

    The curvature P^(-1/2) H P^(-1/2) has the top eigenvalue 6.67 at `start`, and 6.6 below it.
    """
    root = jnp.sqrt(METRIC)
    equation = CentralFlow(OPTIMIZER, rank=3, correction=correction).equation
    potential = SharpValley2(0.01)
    start = jnp.asarray([0.0, 0.0, 6.66 * METRIC[0], 6.664 * METRIC[1], 0.0])
    return (
        dataclasses.replace(equation, metric=DiagonalMetric(jnp.asarray(METRIC))),
        equation,
        potential,
        lambda v: potential(v / root),
        start,
    )


@pytest.mark.slow
@pytest.mark.parametrize("correction", [True])
def test_in_a_metric_it_is_the_flow_of_the_rescaled_coordinates(correction):
    """In P^(1/2) w, whose flow needs no metric: each step of the solver, and where it ends."""
    weighted, plain, potential, rescaled, start = edge_in_a_metric(correction)
    flow, root = CentralFlow(OPTIMIZER, rank=3, correction=correction), jnp.sqrt(METRIC)

    def path(equation, loss, w):
        solver, terms = CentralSolver(equation), diffrax.ODETerm(flow.vector_field)

        def step(carry, t):
            done = solver.step(terms, t, t + 0.5, carry[0], loss, carry[1], jnp.asarray(False))
            return (done[0], done[3]), (done[0].params, done[3].slope, done[3].failure)

        begin = solver.start(flow.init(loss, w), loss)
        (end, _), found = lax.scan(step, begin, 0.5 * jnp.arange(16.0))
        return found, end

    (points, slopes, failures), end = jax.jit(lambda: path(weighted, potential, start))()
    (others, rates, _), mapped = jax.jit(lambda: path(plain, rescaled, root * start))()
    assert int(jnp.max(failures)) == 0
    # Eigenvectors are found to 1e-6, in other coordinates in other iterations.
    assert_trees_close(points * root[None], others, rtol=0.0, atol=1e-8)
    assert_trees_close(slopes * root[None], rates, rtol=0.0, atol=1e-8)
    projector = (end.modes * root[None]).T @ (end.modes * root[None])
    assert_trees_close(projector, mapped.modes.T @ mapped.modes, rtol=0.0, atol=1e-8)
    identity = end.modes @ weighted.metric.apply(end.modes).T
    assert_trees_close(identity, jnp.eye(3), rtol=0.0, atol=1e-12)
    expected, covariance = dense_velocity(
        potential, points[-1], 3, threshold=2 / ETA, tau=0.25, correction=correction,
        preconditioner=METRIC,
    )  # fmt: skip
    assert int(jnp.sum(jnp.linalg.eigvalsh(covariance) > 1e-3)) >= 1
    assert_trees_close(slopes[-1], expected, rtol=0.0, atol=1e-5)


def test_the_identity_is_the_metric_that_is_all_ones():
    """And what a flow of gradient descent has."""
    equation = CentralFlow(OPTIMIZER, rank=1).equation
    assert isinstance(equation.metric, IdentityMetric)
    ones = dataclasses.replace(equation, metric=DiagonalMetric(jnp.ones(2)))
    modes, place = jnp.ones((1, 2)), Place(END)
    linearised = jax.linearize(jax.grad(VALLEY), END)
    at = [
        e.respond(linearised, e.curvature_model(VALLEY, place, modes)[0], place)
        for e in (equation, ones)
    ]
    assert_trees_close(at[0], at[1], rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("correction", [False, True])
def test_away_from_the_edge_it_is_gradient_flow(correction):
    """On a quadratic below the threshold, and with the correction too: exp(-rate t)."""
    spectrum, start = jnp.asarray([3.0, 1.0]), jnp.asarray([1.0, -1.0])
    central = CentralFlow(OPTIMIZER, rank=1, correction=correction)
    run = simulate(central, Quadratic(spectrum), start, 10, measurements=())
    rates = ETA * spectrum * (1 + 0.5 * ETA * spectrum * float(correction))
    expected = jnp.exp(-rates[None, :] * jnp.arange(11.0)[:, None]) * start[None, :]
    assert_trees_close(run.params, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@alone
def test_predicted_averages_are_those_of_gradient_descent():
    """Over the last cycles on the valley: loss and squared gradient norm, to a few per cent."""
    run = valley_run(CentralFlow(OPTIMIZER, rank=1), 4000)
    discrete = iterate(OPTIMIZER, VALLEY, START, 4000, measurements=(LossAndGradient(),))
    late = slice(-200, None)
    excess = run.observables["predicted_loss"][-1] - VALLEY(run.params[-1])
    midpoints = jax.vmap(VALLEY)(discrete.midpoints("three_point")[late])
    measured = jnp.mean(discrete.observables["loss"][late] - midpoints)
    # Sigma is predicted to first order in eps = 0.01, whose square root sets the deviations.
    assert_trees_close(excess, measured, rtol=0.15, atol=0.0)
    squared = jnp.mean(discrete.observables["gradient_norm"][late] ** 2)
    predicted = run.observables["predicted_squared_gradient_norm"][-1]
    assert_trees_close(predicted, squared, rtol=0.15, atol=0.0)


@alone
def test_it_tracks_gradient_descent_where_gradient_flow_does_not():
    """On the valley beyond the threshold."""
    discrete = iterate(OPTIMIZER, VALLEY, START, 1000, save_every=50)
    central = tracking_error(valley_run(CentralFlow(OPTIMIZER, rank=1)), discrete)
    gradient = tracking_error(valley_run(GradientFlow(OPTIMIZER)), discrete)
    assert float(central) < 0.3 * float(gradient)


@pytest.mark.slow
@alone
@pytest.mark.filterwarnings("ignore:the start's sharpness is 1.13 times")
def test_a_start_above_the_threshold_relaxes_to_it():
    """The excess decays as exp(-t / tau), for any solver, and then the threshold holds."""
    start = jnp.asarray([0.01, 7.5])
    for options in ({}, {"solver": diffrax.Tsit5()}):
        run = simulate(
            CentralFlow(OPTIMIZER, rank=1, relaxation_time=4.0), VALLEY, start, 20, **options
        )
        excess = run.observables["watched_eigenvalues"][:, 0] - 2 / ETA
        expected = excess[0] * jnp.exp(-jnp.arange(21.0) / 4.0)
        # Between the steps of a solver eigenvalues are interpolated on a straight line.
        assert_trees_close(excess, expected, rtol=0.0, atol=4e-3)


def test_between_steps_parameters_bend_and_the_rest_goes_straight():
    """Ends, slopes at the ends, and the middle of what is linear."""
    flow = CentralFlow(OPTIMIZER, rank=2)
    before = flow.init(VALLEY, START)
    after = jax.tree.map(lambda x: x + 1.0, before)
    ends = jnp.asarray([[0.5, -1.0], [0.1, 0.2]]), jnp.asarray([[2.0, 3.0], [0.4, -0.3]])
    nodes = before.params, before.params + jnp.asarray([0.3, 0.9]), after.params
    k0, k1 = map(tuple, ends)
    between = CentralInterpolation(2.0, 4.0, before, after, nodes, k0, k1)
    assert_trees_close(between.evaluate(2.0), before)
    assert_trees_close(between.evaluate(4.0), after)
    middle = between.evaluate(3.0)
    assert_trees_close(middle.modes, before.modes + 0.5, rtol=1e-14, atol=1e-14)
    assert_trees_close(middle.params, nodes[1], rtol=1e-14, atol=1e-14)
    inside = 1e-9
    for time, slope in zip(
        (2.0, 3.0 - inside, 3.0, 4.0), (k0[0], k1[0], k0[1], k1[1]), strict=True
    ):
        rate = jax.jacfwd(lambda t: between.evaluate(t).params)(time)
        # A slope is that over a part, which has the length 1 here; curvatures are below 30.
        assert_trees_close(rate, slope, rtol=1e-7, atol=1e-7)
    change = jax.tree.map(lambda a, b: b - a, before, between.evaluate(3.0))
    assert_trees_close(between.evaluate(2.0, 3.0), change)


@pytest.mark.parametrize(
    "optimizer", [GradientDescent(0.02), RMSProp(0.02)], ids=["descent", "RMSProp"]
)
def test_third_derivatives_that_go_on_changing_make_the_model_one_of_second_order(optimizer):
    """Eigenvalues after a curved path: errors of order h^3, of h^2 where dH stays."""
    rows = jax.random.normal(jax.random.key(0), (6, 4))
    loss = lambda w: jnp.sum(jnp.cosh(rows @ w))  # noqa: E731
    # With that time to relax, all eigenvalues are near the threshold.
    flow = CentralFlow(optimizer, rank=2, relaxation_time=5.0)
    equation, middle = flow.equation, jnp.asarray([0.3, -0.2, 0.1, 0.4])
    place, modes = flow.init(loss, middle).place, jnp.eye(2, 4)

    def at(time):
        params = middle + time * jnp.asarray([0.5, 0.2, -0.4, 0.3]) + time**2 * 0.3
        if place.second_moment is None:
            return dataclasses.replace(place, params=params)
        growth = 1 + time * jnp.asarray([0.5, -0.3, 0.2, 0.8])
        nu = jax.tree.map(lambda nu: nu * growth, place.second_moment)
        return dataclasses.replace(place, params=params, second_moment=nu)

    def eigenvalues(model, where, move):
        weight = unpack(equation.weight(model, where), 2)
        root = jnp.linalg.inv(jnp.linalg.cholesky(weight))
        return jnp.linalg.eigvalsh(root @ unpack(model.curvature_after(move), 2) @ root.T)

    def error(step, goes_on):
        (before, earlier), (model, now) = (
            equation.curvature_model(loss, at(t), modes) for t in (-step, 0.0)
        )
        assert bool(jnp.all(model.near))
        assert bool(model.converged)
        if goes_on:
            turn = now @ equation.metric_at(at(0.0)).apply(earlier).T
            left, _, right = jnp.linalg.svd(turn)
            model = equation.bent(model, before, left @ right, jnp.asarray(step), at(0.0))
        expected = eigenvalues(model.after(jnp.asarray(step)), at(step), at(step).params - middle)
        there, _ = equation.curvature_model(loss, at(step), modes)
        return jnp.max(jnp.abs(expected - eigenvalues(there, at(step), None)))

    for goes_on, order in ((False, 2), (True, 3)):
        errors = jnp.stack([error(step, goes_on) for step in (0.04, 0.02, 0.01)])
        slopes = jnp.log2(errors[:-1] / errors[1:])
        # The next order in h changes a slope by about h.
        assert_trees_close(slopes[-1], jnp.asarray(float(order)), rtol=0.0, atol=0.25)


@pytest.mark.parametrize(
    "metric", [IdentityMetric(), DiagonalMetric(jnp.asarray([1.0, 2.0, 0.5, 4.0]))]
)
def test_a_model_some_time_later_is_that_of_its_later_third_derivatives(metric):
    """Force, change along a velocity and operator, all without building these derivatives."""
    rows = jax.random.normal(jax.random.key(0), (6, 4))
    loss = lambda w: jnp.sum(jnp.cosh(rows @ w))  # noqa: E731
    flow = CentralFlow(GradientDescent(0.02), rank=2, relaxation_time=5.0)
    equation = dataclasses.replace(flow.equation, metric=metric)
    places = [Place(0.1 * jnp.asarray([t, 2.0, -1.0, 3.0])) for t in (0.0, 1.0)]
    before, model = (equation.curvature_model(loss, p, jnp.eye(2, 4))[0] for p in places)
    bent = equation.bent(model, before, jnp.eye(2), jnp.asarray(0.5), places[1])
    later = bent.after(jnp.asarray(0.7))
    derivatives = model.derivatives + 0.7 * (model.derivatives - before.derivatives) / 0.5
    velocity, covariance = jnp.asarray([1.0, -2.0, 0.5, 3.0]), jnp.asarray([0.3, -0.1, 0.2])
    close = partial(assert_trees_close, rtol=1e-12, atol=1e-12)
    close(later.along(velocity), derivatives @ velocity)
    close(later.force(covariance), covariance @ derivatives)
    close(later.operator_now(), 0.02 / 2 * derivatives @ metric.inverse(derivatives).T)


class Valleys:
    """Several independent sharp valleys that reach the threshold at the same time."""

    def __call__(self, params):
        x, y = params
        return 0.5 * jnp.sum((y + x) * x**2) - 0.05 * jnp.sum(x + y)


@pytest.mark.slow
def test_a_mode_that_overtakes_a_near_one_has_no_known_change():
    """It had no third derivatives, and keeps those that it has: z moves by eta g in each step.

    The second eigenvalue passes the first within the first step. Both stay below the threshold,
    where the flow is gradient flow.
    """
    threshold = 2 / 0.3

    def loss(w):
        first, second = 0.951 * threshold, threshold * (0.935 + 0.5 * w[2])
        return 0.5 * first * w[0] ** 2 + 0.5 * second * w[1] ** 2 - 0.2 * w[2]

    options = {"stepsize_controller": diffrax.ConstantStepSize(), "dt0": 1.0, "measurements": ()}
    flow = CentralFlow(GradientDescent(0.3), rank=2)
    with pytest.warns(UserWarning, match="came within 5% of the critical sharpness"):
        run = simulate(flow, loss, jnp.zeros(3), 2, **options)
    assert_trees_close(run.params[:, 2], 0.06 * jnp.arange(3.0), rtol=0.0, atol=1e-12)


@pytest.mark.slow
def test_rank_auto_watches_as_many_as_become_critical():
    """Five critical directions of ten, where four are watched at first."""
    start = jnp.stack([jnp.zeros(5), 6.4 + 0.02 * jnp.arange(5.0)])
    run = simulate(CentralFlow(OPTIMIZER, rank="auto"), Valleys(), start, 60, save_every=20)
    assert float(run.observables["critical_rank"][-1]) == 5
    assert run.observables["variances"].shape == (4, 10)
    watched = run.observables["watched_eigenvalues"]
    assert_trees_close(watched[-1, :5], jnp.full(5, 2 / ETA), rtol=1e-5, atol=0.0)


@pytest.mark.slow
def test_too_few_watched_eigenvalues_are_told():
    """A fixed rank that another eigenvalue may escape is warned about."""
    start = jnp.stack([jnp.zeros(2), jnp.asarray([6.5, 3.0])])
    with pytest.warns(
        UserWarning, match="smallest of the 1 eigenvalues .* within 5% of the critical"
    ):
        simulate(CentralFlow(OPTIMIZER, rank=1), Valleys(), start, 20, save_every=20)


def test_without_second_derivatives_the_run_stops_with_the_reason():
    """At a kink the eigenvectors do not exist: said so, with the step."""
    with pytest.raises(SimulationError, match="step 0: the eigenvectors of the Hessian"):
        simulate(
            CentralFlow(OPTIMIZER, rank=1),
            lambda p: jnp.sum(jnp.abs(p) ** 1.5),
            jnp.zeros(2),
            10,
        )


@pytest.mark.slow
@alone
def test_where_second_derivatives_end_so_does_the_run_with_what_came_before():
    """The step is named, and the earlier saves are those of gradient flow."""

    def potential(params):
        # The second derivative of |z|^1.5 at 0 does not exist; the first one is 0.
        kink = lax.cond(
            params[0] < 0.5, lambda z: jnp.abs(0 * z) ** 1.5, lambda z: 0 * z, params[0]
        )
        return 1.5 * jnp.sum(params**2) + kink

    with pytest.raises(SimulationError, match=r"stopped at step 2.*: the eigenvectors") as caught:
        simulate(CentralFlow(OPTIMIZER_SLOW, rank=1), potential, jnp.asarray([1.0, 0.3]), 10)
    kept = caught.value.trajectory
    assert kept.steps.tolist() == [0, 1, 2]
    expected = jnp.exp(-0.3 * jnp.arange(3.0))[:, None] * jnp.asarray([[1.0, 0.3]])
    # The solver's tolerance is 1e-6 per step, of which there are few and long ones.
    assert_trees_close(kept.params, expected, rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("size", [3, 600])
def test_where_no_curvature_is_positive_there_is_gradient_flow(size):
    """The top eigenvalues are zero to rounding, and their eigenvectors, any, matter to nothing."""
    normal = jax.random.normal(jax.random.key(1), (size,)) / jnp.sqrt(size)
    flow, start = CentralFlow(OPTIMIZER, rank=1), jnp.ones(size)

    def concave(w):
        return -0.5 * (normal @ w) ** 2

    @jax.jit
    def at(w):
        state, failure = flow.project(flow.init(concave, w), concave)
        return failure, flow.vector_field(0.0, state, concave).params

    failure, velocity = at(start)
    assert int(failure) == 0
    assert_trees_close(velocity, ETA * (normal @ start) * normal, rtol=1e-12)


@pytest.mark.slow
@alone
def test_it_jits_and_vmaps():
    """One program for several learning rates."""
    rates = jnp.asarray([0.28, 0.3])

    def end(rate):
        flow = CentralFlow(GradientDescent(rate), rank=1)
        start = jnp.asarray([0.01, 6.6])
        return simulate(flow, VALLEY, start, 40, save_every=40, measurements=()).params[-1]

    mapped = jax.jit(jax.vmap(end))(rates)
    assert_trees_close(mapped, jnp.stack([end(r) for r in rates]), rtol=1e-5, atol=1e-7)


def test_its_field_jits_vmaps_and_differentiates():
    """At the edge, against differences."""
    flow = CentralFlow(OPTIMIZER, rank=1)
    point = jnp.asarray([0.02, 6.7])

    def field(w):
        state = flow.project(flow.init(VALLEY, w), VALLEY)[0]
        return flow.vector_field(0.0, state, VALLEY).params

    step, direction = 1e-6, jnp.asarray([0.6, 0.8])
    points = point[None] + step * jnp.asarray([-1.0, 0.0, 1.0])[:, None] * direction[None]
    at, along = jax.jit(jax.vmap(lambda w: jax.jvp(field, (w,), (direction,))))(points)
    assert_trees_close(along[1], (at[2] - at[0]) / (2 * step), rtol=1e-5, atol=1e-6)


def test_it_differentiates_backwards_where_eigenvectors_stand_still():
    """An Euler step between separate wells: whichever the basis of two modes, a plane is in it."""
    flow, spectrum = CentralFlow(OPTIMIZER, rank=2), jnp.asarray([3.0, 1.0])

    def potential(w):
        return 0.5 * jnp.sum(spectrum * w**2) + jnp.sum(w**4) / 12

    def end(w):
        state = dataclasses.replace(flow.init(potential, w), modes=jnp.eye(2))
        rate = flow.vector_field(0.0, state, potential)
        moved = jax.tree.map(lambda y, f: y + 0.25 * f, state, rate)
        state, _ = flow.project(moved, potential)
        return (state.params @ state.modes.T) @ state.modes

    slope = jax.jit(jax.jacrev(end))(jnp.ones(2))
    expected = jnp.diag(1 - 0.25 * ETA * (spectrum + 1))
    assert_trees_close(slope, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank must be an integer of at least 1; got 0"),
        ({"rank": 17}, "rank must be at most 16"),
        ({"rank": "all"}, "rank must be an integer of at least 1; got 'all'"),
        ({"rank": 3}, "rank must be at most the number of parameters, 2; got 3"),
        ({"relaxation_time": 0.0}, "relaxation_time must be a finite number above 0; got 0.0"),
        ({"relaxation_time": -1}, "relaxation_time must be a finite number above 0; got -1"),
        ({"correction": 1}, "correction must be True or False; got 1"),
        ({"optimizer": 0.1}, "optimizer must be an optimizer such as GradientDescent"),
        ({"optimizer": HeavyBall(0.1, 0.9)}, "optimizer must be GradientDescent.* got HeavyBall"),
        ({"optimizer": optax.adam(0.1)}, "optimizer must be GradientDescent.* without memory"),
    ],
)
def test_wrong_arguments(arguments, message):
    """Each is named."""
    with as_users_run(), pytest.raises(ValueError, match=message):
        valley_run(CentralFlow(**{"optimizer": OPTIMIZER, **arguments}), 10, 10)


def test_as_many_eigenvalues_as_there_are_are_watched_up_to_four():
    """Without a rank it starts as with that one, which any number of parameters has."""
    for size in (1, 2, 4, 6):
        params = jnp.ones(size)
        given = CentralFlow(OPTIMIZER, rank=min(size, 4))
        start = CentralFlow(OPTIMIZER).init(Quadratic(params), params)
        assert_trees_close(start, given.init(Quadratic(params), params), rtol=0.0, atol=0.0)


@pytest.mark.slow
def test_network_run_holds_its_eigenvalues_at_the_threshold():
    """Beyond the dense limit, with the iterative eigenvectors: lambda_1 <= 2/eta after contact."""
    key = jax.random.key(0)
    inputs = jax.random.normal(key, (24, 24))
    targets = jnp.sin(2 * inputs[:, :3])

    def loss(params):
        hidden = jnp.tanh(inputs @ params["a"])
        return 0.5 * jnp.mean(jnp.sum((hidden @ params["b"] - targets) ** 2, axis=1))

    keys = jax.random.split(key)
    params = {
        "a": jax.random.normal(keys[0], (24, 20)) / 5,
        "b": jax.random.normal(keys[1], (20, 3)) / 4,
    }
    assert ravel_pytree(params)[0].size > 512
    eta = 0.49
    flow = CentralFlow(GradientDescent(eta), rank=3)
    run = simulate(flow, loss, params, 200, save_every=10, measurements=(Curvature(1),))
    sharpness = run.observables["sharpness"] * eta / 2
    contact = int(jnp.argmax(sharpness > 1 - 1e-4))
    assert 0 < contact < 15, sharpness
    assert float(jnp.max(sharpness[contact:])) < 1 + 1e-3
    assert float(jnp.min(sharpness[contact:])) > 1 - 1e-2
