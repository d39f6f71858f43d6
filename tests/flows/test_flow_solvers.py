"""The solvers made for a flow: which flow they integrate, and how their steps fail."""

import dataclasses

import diffrax
import jax
import jax.numpy as jnp
import pytest
from jax import lax

from flows import (
    CentralFlow,
    CentralSolver,
    GradientDescent,
    GradientFlow,
    RodFlow,
    RungeKuttaChebyshev,
    SimulationError,
    simulate,
)
from flows.central import flow as central
from flows.central.equation import CentralEquation
from potentials import Quadratic, SharpValley
from tests.helpers import assert_trees_close

pytestmark = pytest.mark.filterwarnings("ignore:the smallest of the 1 eigenvalues")

SLOW = CentralFlow(GradientDescent(0.1), rank=1)
VALLEY = SharpValley(0.01)
START = jnp.asarray([0.0, 6.65])
FIXED = diffrax.ConstantStepSize()


def kinked(params):
    """A parabola without second derivatives where w_0 < 1/2, though with all first ones."""
    kink = lax.cond(params[0] < 0.5, lambda z: jnp.abs(0 * z) ** 1.5, lambda z: 0 * z, params[0])
    return 1.5 * jnp.sum(params**2) + kink


@pytest.mark.slow
def test_a_solver_is_used_for_the_flow_of_the_run_and_no_other_kind():
    """Whichever flow of its kind it holds: the run's learning rate is the run's flow's."""
    flow = CentralFlow(GradientDescent(0.3), rank=1)
    own = simulate(flow, VALLEY, START, 20, save_every=20)
    other = simulate(flow, VALLEY, START, 20, save_every=20, solver=CentralSolver(SLOW.equation))
    assert_trees_close(other.params, own.params, rtol=0.0, atol=0.0)
    with pytest.raises(ValueError, match=r"solver must be one for GradientFlow.*made for Central"):
        simulate(
            GradientFlow(GradientDescent(0.1)),
            VALLEY,
            START,
            20,
            solver=CentralSolver(SLOW.equation),
        )
    with pytest.raises(ValueError, match="most_stages must be at least 2; got 1"):
        CentralSolver(SLOW.equation, most_stages=1)


@pytest.mark.slow
def test_a_fixed_step_that_fails_ends_the_run_with_the_reason():
    """Nothing rejects it, so that it must not be taken."""
    options = {"stepsize_controller": FIXED, "dt0": 0.5}
    with pytest.raises(SimulationError, match=r"stopped at step 2.*: the eigenvectors") as caught:
        simulate(SLOW, kinked, jnp.asarray([1.0, 0.3]), 10, **options)
    kept = caught.value.trajectory
    expected = jnp.exp(-0.3 * jnp.arange(3.0))[:, None] * jnp.asarray([[1.0, 0.3]])
    # Order two at steps of half the optimizer's.
    assert_trees_close(kept.params, expected, rtol=2e-3, atol=0.0)


@pytest.mark.parametrize(
    "kind", [*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("central", "rod")), "rkc"]
)
def test_a_fixed_step_that_is_too_long_for_the_stages_ends_the_run(kind):
    """The stabilised methods are not stable there."""
    optimizer = GradientDescent(0.3)
    flow, solver = {
        "central": (CentralFlow(optimizer, rank=1), None),
        "rod": (RodFlow(optimizer, dense_limit=0), None),
        "rkc": (GradientFlow(optimizer), RungeKuttaChebyshev(2.0, most_stages=4)),
    }[kind]
    with pytest.raises(SimulationError, match=r"was too long for .* give a smaller dt0"):
        simulate(
            flow, VALLEY, START, 200, save_every=200, solver=solver,
            stepsize_controller=FIXED, dt0=200.0,
        )  # fmt: skip


def test_the_spectral_radius_is_found_on_the_way():
    """Also where it becomes a thousand times as large on the way; and its cost is counted."""

    def bowl(w: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum(w**2) + 1000 * jnp.minimum(w[1] - 0.5, 0) ** 2

    run = simulate(
        GradientFlow(GradientDescent(0.1)), bowl, jnp.asarray([3.0, 2.0]), 400, save_every=400,
        solver=RungeKuttaChebyshev(None, most_stages=64), measurements=(),
        stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-7),
    )  # fmt: skip
    assert_trees_close(jax.grad(bowl)(run.params[-1]), jnp.zeros(2), atol=1e-3)
    # The fastest rate is 200 per step, of which an explicit method without stages takes a third.
    assert 2 * int(run.stats["solver_steps"]) < int(run.stats["gradient_evaluations"]) < 6000


@pytest.mark.slow
def test_in_single_precision_too_a_long_run_tells_what_failed(float32):
    """Before the step size falls below what single precision resolves."""
    del float32
    flow = CentralFlow(GradientDescent(0.1), rank=1)
    with pytest.raises(SimulationError, match="the eigenvectors of the Hessian did not converge"):
        simulate(flow, kinked, jnp.asarray([1.0, 0.3]), 300)


@pytest.mark.slow
def test_a_run_goes_on_with_another_learning_rate():
    """At the edge, which is lower then; what would change the state's shape is refused."""
    flow = CentralFlow(GradientDescent(0.3), rank=1)
    state = simulate(flow, VALLEY, START, 20, save_every=20).state
    faster = CentralFlow(GradientDescent(0.32), rank=1)
    run = simulate(faster, VALLEY, None, 20, save_every=20, state=state)
    edge = run.observables["watched_eigenvalues"][-1]
    assert_trees_close(edge, jnp.asarray([2 / 0.32]), rtol=1e-6, atol=0.0)
    for name, value in (("rank", 2), ("correction", True)):
        other = CentralFlow(flow.optimizer, **{"rank": 1, name: value})
        with pytest.raises(ValueError, match=rf"flow\.{name} must be \w+, as in .* got {value}"):
            simulate(other, VALLEY, None, 20, save_every=20, state=state)


def test_a_fixed_step_starts_with_the_learning_rate_of_the_run():
    """And not with the slope that the run before ended with, which no error estimate would see."""
    options = {"solver": diffrax.Tsit5(), "stepsize_controller": FIXED, "dt0": 0.25}
    potential, start = Quadratic(jnp.asarray([1.0, 0.5])), jnp.ones(2)
    first = simulate(GradientFlow(GradientDescent(0.1)), potential, start, 2, **options)
    flow = GradientFlow(GradientDescent(0.5))
    run = simulate(flow, potential, None, 2, state=first.state, **options)
    # exp(-0.1 2) to start from, and 2 steps more at the other rate.
    expected = jnp.exp(-jnp.asarray([1.0, 0.5]) * 1.2)
    assert_trees_close(run.params[-1], expected, rtol=1e-7, atol=0.0)


def softening(params):
    """Three curvatures 1 + w_3 of the same size, which lead up to and beyond 2/eta = 2."""
    return 0.5 * (1 + params[3]) * jnp.sum(params[:3] ** 2) + 0.05 * (params[3] - 1.2) ** 2


@pytest.fixture
def few_at_first(monkeypatch):
    """Let `rank="auto"` begin with two eigenvalues: fewer compile in less time."""
    monkeypatch.setattr(central, "_FIRST_MODES", 2)


@pytest.mark.slow
@pytest.mark.usefixtures("few_at_first")
@pytest.mark.filterwarnings("ignore:the start's sharpness is 2.5 times")
def test_a_start_far_above_the_edge_is_watched_in_full_from_its_first_row():
    """More eigenvalues than the first two, before anything is integrated."""
    flow, start = CentralFlow(GradientDescent(1.0), rank="auto"), jnp.asarray([1e-3] * 3 + [4.0])
    run = simulate(flow, softening, start, 1)
    first = run.observables["watched_eigenvalues"][0, :3]
    # The cross derivatives, of 1e-3, change them by 1e-6 / 5.
    assert_trees_close(first, jnp.full(3, 5.0), rtol=1e-6, atol=0.0)
    assert float(run.observables["watched_eigenvalues"][1, 0]) < 5.0


@pytest.mark.slow
@pytest.mark.usefixtures("few_at_first")
def test_a_failure_where_more_eigenvalues_are_watched_is_told_with_its_time(monkeypatch):
    """The run ends where it stood, and no later row is kept."""
    response = CentralEquation.response

    def failing(self, forces, model, solution):
        found = response(self, forces, model, solution)
        failure = jnp.ones((), jnp.int32) if model.curvature.size > 3 else found.failure
        return dataclasses.replace(found, failure=failure)

    monkeypatch.setattr(CentralEquation, "response", failing)
    flow = CentralFlow(GradientDescent(1.0), rank="auto")
    start = jnp.asarray([1e-3] * 3 + [0.0])
    with pytest.raises(SimulationError, match=r"stopped at step \d+: the eigenv") as caught:
        simulate(flow, softening, start, 40, segment=4)
    stopped = int(caught.value.trajectory.stopped_at)
    assert stopped % 4 == 0
    assert caught.value.trajectory.steps.tolist() == list(range(stopped + 1))


@pytest.mark.slow
def test_an_implicit_solver_builds_no_jacobian_of_a_large_state():
    """A covariance has P^2 entries: what counts is the state, not the parameters."""
    size = 24
    potential = Quadratic(jnp.linspace(0.5, 2.0, size))
    flow = RodFlow(GradientDescent(0.1))

    def end(solver):
        return simulate(flow, potential, jnp.ones(size), 2, save_every=2, solver=solver).params

    program = jax.make_jaxpr(end, static_argnums=0)(diffrax.Kvaerno3()).jaxpr
    shapes = {value.aval.shape for equation in _equations(program) for value in equation.outvars}
    assert all(sum(length >= size**2 for length in shape) < 2 for shape in shapes)
    # From (w_0 + w_1) / 2, with the rod's correction: dc/dt = -(r + r^2 / 2) c for r = eta lambda.
    rates = 0.1 * potential.spectrum
    expected = (1 - rates / 2) * jnp.exp(-2 * (rates + rates**2 / 2))
    assert_trees_close(end(diffrax.Kvaerno3())[-1], expected, rtol=1e-5, atol=0.0)


def _equations(jaxpr):
    """All equations of a program, those of its loops and branches too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)


@pytest.mark.slow
def test_with_any_solver_saves_between_steps_are_where_the_projection_leads():
    """What a projection finds has no slope: between two steps it is interpolated."""
    flow = CentralFlow(GradientDescent(0.3), rank=2)
    valley, start = SharpValley(0.01), jnp.asarray([0.0, 6.3])
    run = simulate(flow, valley, start, 20, save_every=5, solver=diffrax.Tsit5())
    exact = jax.vmap(lambda w: jnp.linalg.eigvalsh(jax.hessian(valley)(w))[-1])(run.params)
    # They change by 0.01 within a step; the interpolation is linear.
    assert_trees_close(run.observables["watched_eigenvalues"][:, 0], exact, rtol=0.0, atol=1e-5)
