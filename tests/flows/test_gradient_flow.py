"""Gradient flow against exact solutions and against the optimizer that it models."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import optimistix
import pytest

from flows import (
    GradientDescent,
    GradientFlow,
    HeavyBall,
    Nesterov,
    RollingBall,
    RungeKuttaChebyshev,
    iterate,
    simulate,
)
from flows.optimizers.optax_optimizer import as_optimizer
from flows.solvers.choice import matrix_free
from potentials import Quadratic, ScalarProduct
from tests.helpers import as_users_run, assert_trees_close

SPECTRUM = jnp.asarray([3.0, 1.0, 0.1])
START = jnp.asarray([1.0, -2.0, 0.5])
SLOW = pytest.mark.slow


def test_descent_on_a_quadratic_equals_its_closed_form():
    """Each coordinate is multiplied by 1 - eta lambda per step, on both sides of stability."""
    for learning_rate in (0.1, 0.7):
        trajectory = iterate(GradientDescent(learning_rate), Quadratic(SPECTRUM), START, 20)
        factors = (1 - learning_rate * SPECTRUM)[None, :] ** np.arange(21.0)[:, None]
        # 20 products round 20 times.
        assert_trees_close(trajectory.params, factors * START[None, :], rtol=1e-13, atol=1e-15)


def test_flow_on_a_quadratic_equals_its_closed_form():
    """Each coordinate decays as exp(-eta lambda t)."""
    trajectory = simulate(GradientFlow(GradientDescent(0.2)), Quadratic(SPECTRUM), START, 20)
    factors = jnp.exp(-0.2 * SPECTRUM[None, :] * jnp.arange(21.0)[:, None])
    # The default tolerance of 1e-8 per step, over some 20 steps.
    assert_trees_close(trajectory.params, factors * START[None, :], rtol=1e-6, atol=1e-8)


def test_corrected_flow_on_a_quadratic_equals_its_closed_form():
    """The correction turns the rate eta lambda into eta lambda (1 + eta lambda / 2)."""
    flow = GradientFlow(GradientDescent(0.2), correction=True)
    trajectory = simulate(flow, Quadratic(SPECTRUM), START, 20)
    rates = 0.2 * SPECTRUM * (1 + 0.1 * SPECTRUM)
    factors = jnp.exp(-rates[None, :] * jnp.arange(21.0)[:, None])
    assert_trees_close(trajectory.params, factors * START[None, :], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("start", [(2.5, 0.5), (1.0, 0.2)])
def test_flow_on_a_product_conserves_the_imbalance_and_ends_at_its_sharpness(start):
    """x^2 - y^2 stays, and the end has sharpness sqrt(4 + (x0^2 - y0^2)^2) (THEORY 4)."""
    start = jnp.asarray(start)
    potential = ScalarProduct(2)
    trajectory = simulate(GradientFlow(GradientDescent(0.4)), potential, start, 200)
    imbalance = trajectory.params[:, 0] ** 2 - trajectory.params[:, 1] ** 2
    assert_trees_close(imbalance, jnp.full(201, imbalance[0]), rtol=1e-7, atol=1e-7)
    end = jax.hessian(potential)(trajectory.params[-1])
    assert_trees_close(
        jnp.linalg.eigvalsh(end)[-1], jnp.sqrt(4 + imbalance[0] ** 2), rtol=1e-6, atol=0.0
    )


def test_descent_on_a_product_follows_the_exact_law_of_the_imbalance():
    """x'^2 - y'^2 = (x^2 - y^2)(1 - eta^2 r^2), and the end point is THEORY 4's."""
    eta = 0.4
    start = jnp.asarray([2.5, 0.5])
    trajectory = iterate(GradientDescent(eta), ScalarProduct(2), start, 400)
    x, y = trajectory.params.T
    imbalance, residual = x**2 - y**2, x * y - 1
    expected = imbalance[:-1] * (1 - eta**2 * residual[:-1] ** 2)
    assert_trees_close(imbalance[1:], expected, rtol=1e-12, atol=1e-12)
    # THEORY 4 gives seven decimals.
    assert_trees_close(
        trajectory.params[-1], jnp.asarray([1.7365475, 0.5758553]), rtol=0.0, atol=1e-7
    )


def test_euler_with_unit_steps_is_gradient_descent():
    """One unit of flow time is one optimizer step, so Euler with dt = 1 is the optimizer."""
    potential, start = ScalarProduct(2), jnp.asarray([1.5, 0.3])
    flow = GradientFlow(GradientDescent(0.3))
    euler = simulate(flow, potential, start, 30, solver=diffrax.Euler(), dt0=1.0)
    discrete = iterate(GradientDescent(0.3), potential, start, 30)
    assert_trees_close(euler.params, discrete.params, rtol=1e-13, atol=1e-14)


def _slopes(errors: np.ndarray) -> np.ndarray:
    return np.log2(errors[:-1] / errors[1:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "order"),
    [
        (diffrax.Euler(), 1),
        pytest.param(diffrax.Heun(), 2, marks=SLOW),
        (RungeKuttaChebyshev(spectral_radius=1.0), 2),
        pytest.param(diffrax.Bosh3(), 3, marks=SLOW),
        pytest.param(diffrax.Dopri5(), 5, marks=SLOW),
        (diffrax.Tsit5(), 5),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, diffrax.AbstractSolver) else None,
)
def test_fixed_step_solvers_converge_at_their_order(solver, order):
    """Halving the step divides the error of gradient flow by 2^order, against the exact flow."""
    potential, start = Quadratic(jnp.asarray([1.0, 0.4])), jnp.asarray([1.0, 1.0])

    @jax.vmap
    def end(dt0: jax.Array) -> jax.Array:
        return simulate(
            GradientFlow(GradientDescent(0.5)),
            potential,
            start,
            4,
            save_every=4,
            solver=solver,
            stepsize_controller=diffrax.ConstantStepSize(),
            dt0=dt0,
            measurements=(),
        ).params[-1]

    exact = jnp.exp(-2.0 * jnp.asarray([1.0, 0.4]))
    ends = end(4.0 / jnp.asarray([16.0, 32.0, 64.0]))
    errors = np.linalg.norm(np.asarray(ends - exact[None, :]), axis=1)
    # The next order bends the slope in proportion to the step: extrapolate that away.
    slopes = _slopes(errors)
    assert abs(2 * slopes[1] - slopes[0] - order) < 0.1, (errors, slopes)


def test_chebyshev_steps_damp_what_is_stiff_and_follow_what_is_slow():
    """A step h with h rho = 0.59 s^2, s = 24 stages: every rate up to rho decays."""
    rho, slow = 340.0, jnp.asarray([1e-4, 1e-5])
    rates = jnp.concatenate([jnp.linspace(0.01, 1.0, 100), slow])
    run = simulate(
        GradientFlow(GradientDescent(rho)),
        Quadratic(rates),
        jnp.ones(102),
        4,
        solver=RungeKuttaChebyshev(spectral_radius=rho, most_stages=24),
        stepsize_controller=diffrax.ConstantStepSize(),
        dt0=1.0,
        measurements=(),
    )
    # The scheme's damping is a third of 2/13 per step.
    factors = run.params[1:, :100] / run.params[:-1, :100]
    assert float(jnp.max(jnp.abs(factors))) < 1 - 0.3 * 2 / 13
    exact = jnp.exp(-rho * slow[None, :] * jnp.arange(5.0)[:, None])
    # A scheme of order two errs by less than (h lambda)^3 / 6 per step, and h lambda is 0.034.
    assert_trees_close(run.params[:, 100:], exact, rtol=4 * 0.034**3 / 6, atol=0.0)
    assert int(run.stats["solver_steps"]) == 4


OF_ANY_RATE = {
    "descent": GradientDescent,
    "heavy ball": lambda rate: HeavyBall(rate, 0.5),
    "nesterov": lambda rate: Nesterov(rate, 0.5),
    "optax momentum": lambda rate: optax.sgd(rate, momentum=0.5),
    "optax adamw": lambda rate: optax.adamw(rate, b1=0.5, b2=0.5, eps=0.1, weight_decay=0.1),
    "optax schedule-free": lambda rate: optax.contrib.schedule_free_sgd(rate, b1=0.5),
}


def distances(make, correction: bool) -> jax.Array:
    """How far a flow ends from its optimizer after 80, 160 and 320 steps of a fixed length."""
    potential, start = ScalarProduct(2), jnp.asarray([1.6, 0.4])

    @jax.jit
    @jax.vmap
    def one(steps):
        optimizer = as_optimizer(make(2.0 / steps.astype(float)))
        flow = GradientFlow(optimizer, correction=correction)
        step = jnp.asarray(0.125)

        def runge_kutta(i, z):
            t = step * i.astype(float)
            along = lambda k, h: jax.tree.map(lambda x, dx: x + h * dx, z, k)  # noqa: E731
            k1 = flow.vector_field(t, z, potential)
            k2 = flow.vector_field(t + step / 2, along(k1, step / 2), potential)
            k3 = flow.vector_field(t + step / 2, along(k2, step / 2), potential)
            k4 = flow.vector_field(t + step, along(k3, step), potential)
            mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4)
            return along(mean, step)

        end = jax.lax.fori_loop(0, 8 * steps, runge_kutta, flow.init(potential, start))
        last = jax.lax.fori_loop(
            0, steps, lambda _, z: optimizer.step(z, potential), optimizer.init(start)
        )
        return jnp.linalg.norm(flow.params(end) - optimizer.params(last))

    return one(jnp.asarray([80, 160, 320]))


@pytest.mark.parametrize("make", OF_ANY_RATE)
def test_flow_approaches_the_optimizer_at_first_order_in_the_learning_rate(make):
    """At a fixed eta * steps the distance is O(eta), for reduced and for phase-space flows."""
    errors = np.asarray(distances(OF_ANY_RATE[make], False))
    assert abs(_slopes(errors)[-1] - 1) < 0.15, errors


@pytest.mark.parametrize("make", ["descent", "heavy ball", "nesterov", "optax momentum"])
def test_corrected_flow_approaches_the_optimizer_at_second_order(make):
    """It is O(eta^2), with momentum too."""
    errors = np.asarray(distances(OF_ANY_RATE[make], True))
    assert abs(_slopes(errors)[-1] - 2) < 0.05, errors


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param(HeavyBall, marks=SLOW), Nesterov])
def test_flow_with_momentum_on_a_quadratic_equals_its_closed_forms(kind):
    """exp(-eta lambda t / (1 - beta)); corrected, the exponential of DF - DF^2 / 2."""
    optimizer, steps = kind(0.05, 0.6), 12
    flow = GradientFlow(optimizer)
    run = simulate(flow, Quadratic(SPECTRUM), START, steps, measurements=())
    factors = jnp.exp(-0.05 / 0.4 * SPECTRUM[None, :] * jnp.arange(steps + 1.0)[:, None])
    assert_trees_close(run.params, factors * START[None, :], rtol=1e-6, atol=1e-8)

    corrected = GradientFlow(optimizer, correction=True)
    end = simulate(corrected, Quadratic(SPECTRUM), START, steps, save_every=steps).params[-1]
    for curvature, first, last in zip(SPECTRUM, START, end, strict=True):
        # The map of (w, m): m' = beta m + lambda w, and what each moves by.
        g, m = jnp.asarray([curvature, 0.0]), jnp.asarray([curvature, 0.6])
        move = -0.05 * (m if kind is HeavyBall else g + 0.6 * m)
        change = jnp.stack([move, m - jnp.asarray([0.0, 1.0])])
        generator = change - 0.5 * change @ change
        expected = jax.scipy.linalg.expm(steps * generator)[0, 0] * first
        assert_trees_close(last, expected, rtol=1e-6, atol=1e-8)


def test_the_correction_of_descent_is_that_of_backward_error_analysis():
    """-eta g - (eta^2 / 2) H g, at a point."""
    potential, params = ScalarProduct(2), jnp.asarray([1.5, 0.3])
    flow = GradientFlow(GradientDescent(0.3), correction=True)
    slope = flow.vector_field(0.0, flow.init(potential, params), potential).params
    g, hessian = jax.grad(potential)(params), jax.hessian(potential)(params)
    assert_trees_close(slope, -0.3 * g - 0.5 * 0.3**2 * hessian @ g, rtol=1e-14, atol=0.0)


def test_at_whole_times_the_flow_moves_as_the_optimizer_steps():
    """By step(z) - z, with the count of that step; its state has the names of optax."""
    potential, params = ScalarProduct(2), jnp.asarray([1.5, 0.3])
    optimizer = as_optimizer(optax.adam(0.1))
    flow = GradientFlow(optax.adam(0.1))
    state = optimizer.init(params)
    for count in range(4):
        point = eqx.filter(state, eqx.is_inexact_array)
        slope = flow.vector_field(float(count), point, potential)
        state, before = optimizer.step(state, potential), state
        for moved in (lambda s: s.params, lambda s: s.transformation[0].mu):
            assert_trees_close(moved(slope), moved(state) - moved(before), rtol=1e-13, atol=1e-14)
        assert slope.transformation[0].count is None


@pytest.mark.slow
def test_the_flow_of_an_optimizer_that_counts_goes_on_at_its_time():
    """In segments, and from the state of an earlier run: bias corrections and schedules go on."""
    potential, start = ScalarProduct(2), jnp.asarray([1.5, 0.3])
    schedule = optax.exponential_decay(0.1, 3, 0.5)
    flow = GradientFlow(optax.adam(schedule))
    whole = simulate(flow, potential, start, 8, measurements=())
    cut = simulate(flow, potential, start, 8, segment=2, measurements=())
    assert_trees_close(cut.params, whole.params, rtol=1e-7, atol=1e-9)
    first = simulate(flow, potential, start, 4, measurements=())
    later = simulate(flow, potential, None, 4, state=first.state, measurements=())
    assert_trees_close(later.params, whole.params[5:], rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_flow_of_bare_sgd_is_that_of_gradient_descent():
    """Optax's transformation is taken as it is, and its rate may be mapped over."""
    potential, start = ScalarProduct(2), jnp.asarray([1.5, 0.3])

    def end(optimizer):
        return simulate(GradientFlow(optimizer), potential, start, 4, measurements=()).params[-1]

    rates = jnp.asarray([0.1, 0.3])
    ours, theirs = (jax.vmap(lambda r, f=f: end(f(r)))(rates) for f in (GradientDescent, optax.sgd))
    assert_trees_close(ours, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (
            optax.lookahead(optax.sgd(0.1), 5, 0.5),
            r"state.transformation.steps_since_sync of OptaxOptimizer does not advance by one",
        ),
        (
            optax.MultiSteps(
                optax.sgd(0.1), 2, accumulator_dtype=jnp.float64
            ).gradient_transformation(),
            r"does not advance by one at each step",
        ),
        (
            optax.sgd(lambda step: jnp.asarray([0.1, 0.2, 0.3])[step]),
            r"the counters of OptaxOptimizer must be whole numbers of steps \(.*index",
        ),
        (optax.noisy_sgd(0.1, key=0), r"rng_key of OptaxOptimizer .* cannot move continuously"),
        (optax.lion(0.1), "must have a smooth map; a step of OptaxOptimizer uses 'sign'"),
        (RollingBall(0.1, 0.1), "state.started of RollingBall has dtype bool"),
    ],
    ids=["lookahead", "multisteps", "table", "noisy", "lion", "ball"],
)
def test_an_optimizer_without_a_flow_on_phase_space(optimizer, message):
    """Its part that does not move continuously is named."""
    with pytest.raises(ValueError, match=message):
        GradientFlow(optimizer).init(ScalarProduct(2), jnp.asarray([1.5, 0.3]))


def test_costs_are_those_of_the_map():
    """One gradient, and with the correction as many Hessian-vector products."""
    for flow, hvps in (
        (GradientFlow(GradientDescent(0.1)), 0),
        (GradientFlow(HeavyBall(0.1, 0.5), correction=True), 1),
        (GradientFlow(optax.adam(0.1)), 0),
    ):
        assert (int(flow.cost.gradients), int(flow.cost.hvps)) == (1, hvps)


@pytest.mark.slow
def test_implicit_solvers_need_no_jacobian_of_many_parameters():
    """Beyond 512 parameters their equations are solved by products alone, to the same path."""
    rates = jnp.logspace(-2, 2, 600)
    stiff = lambda w: 0.5 * jnp.sum(rates * w**2) + 0.25 * jnp.sum(w**4)  # noqa: E731
    controller = diffrax.PIDController(rtol=1e-7, atol=1e-9)
    ends = [
        simulate(
            GradientFlow(GradientDescent(1.0)),
            stiff,
            jnp.ones(600),
            2,
            save_every=2,
            solver=solver,
            stepsize_controller=controller,
            measurements=(),
        ).params[-1]
        for solver in (diffrax.Kvaerno3(), diffrax.Tsit5())
    ]
    # Some twenty steps of error 1e-7 each, of numbers up to 1.
    assert_trees_close(ends[0], ends[1], rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("method", [diffrax.VeryChord, optimistix.Chord, optimistix.Newton])
def test_a_root_finder_keeps_its_tolerances_without_a_jacobian(method):
    """Numbers stay numbers, and marks of the controller's tolerances stay marks, each by itself."""
    explicit = method(rtol=1e-6, atol=1e-7, norm=optimistix.rms_norm)
    marked = diffrax.with_stepsize_controller_tols(method)()
    for finder in (explicit, marked, eqx.tree_at(lambda f: f.rtol, marked, 1e-6)):
        found = matrix_free(diffrax.Kvaerno3(root_finder=finder), 600).root_finder
        assert isinstance(found, optimistix.Newton)
        assert isinstance(found.linear_solver, lx.GMRES)
        assert (found.rtol, found.atol, found.norm) == (finder.rtol, finder.atol, finder.norm)


@pytest.mark.parametrize(
    "finder",
    [
        diffrax.VeryChord(rtol=1e-6, atol=1e-6, linear_solver=lx.GMRES(rtol=1e-2, atol=1e-2)),
        optimistix.LevenbergMarquardt(rtol=1e-6, atol=1e-6),
    ],
)
def test_a_chosen_linear_solver_or_another_root_finder_stays(finder):
    """Beyond 512 parameters too."""
    solver = diffrax.Kvaerno3(root_finder=finder)
    assert matrix_free(solver, 600) is solver


def test_implicit_steps_of_a_fixed_size_need_no_controller_for_many_parameters():
    """With tolerances of its own, implicit Euler divides each of 600 coordinates by 1 + dt rate."""
    rates = jnp.linspace(0.5, 2.0, 600)
    trajectory = simulate(
        GradientFlow(GradientDescent(1.0)),
        lambda w: 0.5 * jnp.sum(rates * w**2),
        jnp.ones(600),
        2,
        save_every=2,
        solver=diffrax.ImplicitEuler(root_finder=diffrax.VeryChord(rtol=1e-9, atol=1e-9)),
        stepsize_controller=diffrax.ConstantStepSize(),
        dt0=0.5,
        measurements=(),
    )
    # Four steps, each solved to 1e-9.
    assert_trees_close(trajectory.params[-1], (1 + 0.5 * rates) ** -4, rtol=0.0, atol=1e-8)


@pytest.mark.slow
def test_implicit_solver_takes_few_steps_where_the_flow_is_stiff():
    """With eta lambda = 2e3 Kvaerno5 agrees with the exact flow in far fewer steps than Tsit5."""
    potential = Quadratic(jnp.asarray([1e4, 1.0]))
    flow = GradientFlow(GradientDescent(0.2))
    start = jnp.asarray([1.0, 1.0])
    tolerances = diffrax.PIDController(rtol=1e-6, atol=1e-9)
    runs = {
        name: simulate(flow, potential, start, 20, solver=solver, stepsize_controller=tolerances)
        for name, solver in (("implicit", diffrax.Kvaerno5()), ("explicit", diffrax.Tsit5()))
    }
    exact = jnp.stack([jnp.zeros(()), jnp.exp(jnp.asarray(-0.2 * 20))])
    # The tolerance of 1e-6 per step, over some tens of steps.
    assert_trees_close(runs["implicit"].params[-1], exact, rtol=1e-4, atol=1e-7)
    steps = {name: int(run.stats["solver_steps"]) for name, run in runs.items()}
    assert steps["implicit"] * 50 < steps["explicit"], steps


def test_by_hand_diffrax_gives_what_simulate_gives():
    """The flow is a plain vector field: diffeqsolve with the same solver gives the same path."""
    flow = GradientFlow(GradientDescent(0.3))
    potential, start = ScalarProduct(2), jnp.asarray([1.5, 0.3])
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(flow.vector_field),
        diffrax.Tsit5(),
        t0=0.0,
        t1=10.0,
        dt0=None,
        y0=flow.init(potential, start),
        args=potential,
        saveat=diffrax.SaveAt(ts=jnp.arange(11.0)),
        stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-10),
    )
    trajectory = simulate(flow, potential, start, 10)
    # diffrax starts with dt0 = 0.01 here and simulate with its estimate: the tolerance is shared.
    assert_trees_close(solution.ys.params, trajectory.params, rtol=1e-8, atol=1e-9)


def test_a_flow_of_something_else_is_refused():
    """The constructor names the argument."""
    with as_users_run(), pytest.raises(ValueError, match="optimizer must be an optimizer such as"):
        GradientFlow(0.1)
    with as_users_run(), pytest.raises(ValueError, match="correction must be True or False"):
        GradientFlow(GradientDescent(0.1), correction="yes")
