"""Rod Flow with a factor of Sigma: agreement with the dense form, and positivity of both."""

import diffrax
import equinox as eqx
import hypothesis
import jax
import jax.numpy as jnp
import pytest
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from flows import (
    Cost,
    GradientDescent,
    HeavyBall,
    LowRankRodState,
    RodFlow,
    RodSolver,
    simulate,
)
from flows.core.optimizer import AbstractDescent
from flows.linear_algebra.low_rank_sums import truncated
from potentials import Quadratic, Quartic
from tests.helpers import assert_trees_close

ETA = 0.7
INPUTS = jax.random.normal(jax.random.key(0), (24, 16))
TARGETS = jnp.sin(2 * INPUTS[:, :3])


def network(params):
    """A network of 380 parameters, which descends at the edge of stability from the start."""
    hidden = jnp.tanh(INPUTS @ params["a"])
    return 0.5 * jnp.mean(jnp.sum((hidden @ params["b"] - TARGETS) ** 2, axis=1))


def network_start():
    """Weights of unit scale."""
    keys = jax.random.split(jax.random.key(0))
    return {
        "a": jax.random.normal(keys[0], (16, 20)) / 5,
        "b": jax.random.normal(keys[1], (20, 3)) / 4,
    }


@pytest.mark.slow
def test_both_forms_agree_on_a_network_at_the_edge():
    """Over 40 steps with two rods: the centre to 1e-4 of the way, Sigma to 4e-3.

    These are the errors of the dense form, whose tolerance is a hundred times its own here, to
    save time: at its own, over 100 steps, they agree to 7e-6 and 1.9e-4, and with tolerances of the
    factor that are 10 and 100 times as small to 1.3e-6 and 4e-5, and 4.5e-7 and 1e-5. So it is the
    solver's error.
    """
    runs = []
    for limit in (512, 0):
        flow = RodFlow(GradientDescent(ETA), 2, alignment=False, dense_limit=limit)
        options = {"save_every": 10, "measurements": ()}
        if limit:
            options["stepsize_controller"] = diffrax.PIDController(rtol=1e-6, atol=1e-8)
        runs.append(simulate(flow, network, network_start(), 40, **options))
    dense, factored = runs
    travelled = jnp.linalg.norm(ravel_pytree(jax.tree.map(lambda x: x[-1] - x[0], dense.params))[0])
    apart = ravel_pytree(jax.tree.map(lambda x, y: x[-1] - y[-1], dense.params, factored.params))[0]
    rows, covariance = factored.state.flow.factor, dense.state.flow.covariance
    difference = jnp.linalg.norm(rows.T @ rows - covariance) / jnp.linalg.norm(covariance)
    assert float(jnp.linalg.norm(apart)) < 1e-4 * float(travelled)
    assert float(difference) < 4e-3
    # As many rods as carry the share, and no more than one beyond.
    for share in (0.5, 0.9, 0.999):
        flow = RodFlow(GradientDescent(ETA), "auto", share=share, dense_limit=0)
        squares = jnp.sum(flow.equation.rods(factored.state.flow) ** 2, axis=1)
        total, used = jnp.sum(rows**2), int(jnp.sum(squares > 0))
        assert float(jnp.sum(squares)) >= share * float(total)
        assert used == 2 or float(jnp.sum(squares[: used - 2])) < share * float(total)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [GradientDescent(1.0), pytest.param(HeavyBall(0.6, 0.3), marks=pytest.mark.slow)],
)
def test_both_forms_agree_on_a_well_of_one_parameter(optimizer):
    """Where the factor has as many rows as Sigma, nothing is truncated: both solvers, one path."""
    threshold = float(optimizer.critical_sharpness)
    potential = Quartic(1.05 * threshold, 1.0)
    ends = []
    for limit in (512, 0):
        flow = RodFlow(optimizer, 1, alignment=False, dense_limit=limit)
        run = simulate(flow, potential, jnp.asarray([0.05]), 100, save_every=50, measurements=())
        ends.append(run.observables["rod_half_lengths"][-1])
    # The factor's solver takes steps to 1e-6, of which there are some hundred.
    assert_trees_close(ends[1], ends[0], rtol=1e-4, atol=0.0)


@pytest.mark.slow
def test_the_tangent_field_of_a_factor_is_that_of_sigma():
    """With a factor of full rank, (Z^T Z)' is dSigma/dt itself."""
    potential = Quadratic(jnp.asarray([2.1, 0.7, 0.2]))
    factor = jax.random.normal(jax.random.key(1), (3, 3)) / 5
    centre = RodFlow(GradientDescent(1.0)).init(potential, jnp.ones(3)).centre
    for rank in (1, 3):
        flow = RodFlow(GradientDescent(1.0), rank)
        state = LowRankRodState(centre, factor)
        found = flow.vector_field(0.0, state, potential)
        change = found.factor.T @ factor + factor.T @ found.factor
        slope = flow.equation.slope(state, potential)
        expected = slope.sources.T @ slope.sources - 2 * factor.T @ factor
        # The pseudo-inverse is regularised at 1e-12 of the trace.
        assert_trees_close(change, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_by_hand_a_factor_follows_the_solver():
    """The tangent field through diffrax's Tsit5 ends where the flow's own solver does."""
    potential, start = Quartic(2.1, 1.0), jnp.asarray([0.3])
    flow = RodFlow(GradientDescent(1.0), alignment=False, dense_limit=0)
    run = simulate(flow, potential, start, 20, save_every=20, measurements=())
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(flow.vector_field),
        diffrax.Tsit5(),
        t0=0.0,
        t1=20.0,
        dt0=0.01,
        y0=flow.init(potential, start),
        args=potential,
        stepsize_controller=diffrax.PIDController(rtol=1e-7, atol=1e-9),
    )
    length = jnp.sqrt(jnp.sum(solution.ys.factor[0] ** 2))[None]
    assert_trees_close(run.observables["rod_half_lengths"][-1], length, rtol=1e-4, atol=0.0)


class Halved(AbstractDescent):
    """A user's own descent, without memory: w' = w - eta g / 2."""

    learning_rate: jax.Array
    weight_decay: None = None

    def init(self, params):
        return (params,)

    def increment(self, state, potential):
        return (-0.5 * self.learning_rate * jax.grad(potential)(state[0]),)

    def step(self, state, potential):
        return (state[0] + self.increment(state, potential)[0],)

    def params(self, state):
        return state[0]

    @property
    def critical_sharpness(self):
        return 4 / self.learning_rate

    @property
    def cost(self):
        return Cost(gradients=1)


def test_any_descent_takes_the_steps_that_gradient_descent_does():
    """Its rates are real too: a long step has more stages than the method for momentum."""
    potential, start, ends = Quartic(2.1, 1.0), jnp.asarray([0.3]), []
    for optimizer in (GradientDescent(1.0), Halved(jnp.asarray(2.0))):
        flow = RodFlow(optimizer, alignment=False, dense_limit=0)
        solver, terms = RodSolver(flow.equation), diffrax.ODETerm(flow.vector_field)

        @jax.jit
        def step(solver=solver, terms=terms, flow=flow):
            y0, own = solver.start(flow.init(potential, start), potential)
            zero = jnp.zeros(())
            taken = solver.step(terms, zero, zero + 2, y0, potential, own, jnp.asarray(False))
            return flow.params(taken[0]), taken[0].factor, taken[3].cost - own.cost

        ends.append(step())
    assert int(ends[0][2].gradients) > 2 * 3
    assert_trees_close(ends[1], ends[0], rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@hypothesis.given(st.integers(0, 10_000), st.integers(1, 4))
def test_truncation_is_the_best_positive_approximation(seed, count):
    """It equals the leading positive part of the sum, found by decomposing it."""
    keys = jax.random.split(jax.random.key(seed), 4)
    blocks = [jax.random.normal(k, (3, 6)) for k in keys[:3]]
    weights = list(jax.random.normal(keys[3], (3,)))
    rows = truncated(blocks, weights, count)
    total = sum(w * a.T @ a for w, a in zip(weights, blocks, strict=True))
    values, vectors = jnp.linalg.eigh(total)
    leading = jnp.maximum(values[::-1][:count], 0)
    expected = (vectors[:, ::-1][:, :count] * leading[None, :]) @ vectors[:, ::-1][:, :count].T
    assert_trees_close(rows.T @ rows, expected, rtol=1e-8, atol=1e-8)


class Well(eqx.Module):
    """A quartic well in one direction, quadratics in two others: one program for all of them."""

    curvature: jax.Array
    quartic: jax.Array

    def __call__(self, w):
        well = 0.5 * self.curvature * w[0] ** 2 - 0.25 * self.quartic * w[0] ** 4
        return well + 0.5 * (0.8 * w[1] ** 2 + 0.1 * w[2] ** 2)


FINITE = {"allow_nan": False, "allow_infinity": False}


@pytest.mark.slow
@hypothesis.settings(max_examples=10)
@hypothesis.given(
    curvature=st.floats(0.1, 2.9, **FINITE),
    quartic=st.sampled_from([0.0, 0.3, 1.0]),
    start=st.floats(0.01, 0.3, **FINITE),
    rate=st.floats(0.1, 1.0, **FINITE),
    form=st.sampled_from([(1, 512), (3, 512), (1, 0), (2, 0)]),
)
def test_the_rods_stay_positive_and_finite(curvature, quartic, start, rate, form):
    """In both forms, for random quadratics and quartics, learning rates, ranks and starts."""
    flow = RodFlow(GradientDescent(rate), form[0], alignment=False, dense_limit=form[1])
    potential = Well(jnp.asarray(curvature), jnp.asarray(quartic))
    # Above the edge a quadratic's rods grow without bound: ten steps leave them finite.
    run = simulate(
        flow, potential, jnp.full(3, start), 10, save_every=5, measurements=(), throw=False
    )
    state = run.state.flow
    if isinstance(state, LowRankRodState):
        covariance = state.factor.T @ state.factor
    else:
        covariance = state.covariance
    values = jnp.linalg.eigvalsh(covariance)
    assert bool(run.succeeded), run.message
    assert bool(jnp.all(jnp.isfinite(covariance)))
    assert float(values[0]) >= -1e-12 * float(values[-1])
