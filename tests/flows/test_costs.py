"""What the solvers made for a flow say that they spent, against evaluations of the loss."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from flows import (
    BallCentreFlow,
    BallSolver,
    CentralFlow,
    EdgeFlow,
    GradientDescent,
    HeavyBall,
    ParityFlow,
    RodFlow,
    RodSolver,
    RollingBall,
    simulate,
)
from potentials import SharpValley

pytestmark = pytest.mark.filterwarnings("ignore:the smallest of the 1 eigenvalues")

OPTIMIZER = GradientDescent(0.3)
STEPS = 3


class Counted(eqx.Module):
    """A sharp valley among other parameters that counts how often it is evaluated."""

    seen: list = eqx.field(static=True)

    def __call__(self, params):
        jax.debug.callback(lambda: self.seen.append(None))
        return SharpValley(0.01)(params[:2]) + 0.5 * jnp.sum(params[2:] ** 2)


def start(size):
    """Near the edge of stability of the valley."""
    return jnp.concatenate([jnp.asarray([0.02, 6.65]), jnp.full(size - 2, 0.1)])


def evaluations(potential, function, *arguments):
    """What a function returns, and how often it evaluates the potential."""
    jax.effects_barrier()
    potential.seen.clear()
    value = jax.block_until_ready(function(*arguments))
    jax.effects_barrier()
    return value, len(potential.seen)


def step_cost(flow, solver, size):
    """What the second step of length one says that it cost, and how often it evaluates."""
    potential, zero = Counted([]), jnp.zeros(())
    terms = diffrax.ODETerm(flow.vector_field)

    @jax.jit
    def begin(params):
        return solver.start(flow.init(potential, params), potential)

    @jax.jit
    def step(y0, state):
        never = jnp.asarray(False)
        done = solver.step(terms, zero, zero + 1, y0, potential, state, never)
        return done[0], done[3]

    # The first step of diffrax's own methods makes the evaluation that the others start with.
    here = step(*begin(start(size)))
    (_, state), evaluated = evaluations(potential, step, *here)
    return state.cost - here[1].cost, evaluated


# Each trace has another callback, and type checks of the tests draw random numbers.
@pytest.mark.filterwarnings("ignore:the loss draws from the random state")
@pytest.mark.slow
def test_what_central_flow_spends_at_the_edge_is_what_it_evaluates():
    """Per step: a gradient a stage, and the model with its responses, in the stats of a run."""
    flow, potential = CentralFlow(OPTIMIZER, rank=1, correction=True), Counted([])
    fixed = diffrax.ConstantStepSize()
    options = {"save_every": STEPS, "measurements": (), "stepsize_controller": fixed, "dt0": 1.0}
    first = simulate(flow, potential, start(3), STEPS, **options)

    def go_on(state):
        return simulate(flow, potential, None, STEPS, state=state, **options)

    run, evaluated = evaluations(potential, go_on, first.state)
    observe = eqx.filter_jit(flow.observables)
    _, observed = evaluations(potential, observe, run.state.flow, potential)
    stats = {name: int(value) for name, value in run.stats.items()}
    assert stats["solver_steps"] == stats["third_derivative_evaluations"] == STEPS
    # A product needs no evaluation of its own: it is linear in what the gradient left.
    counted = stats["gradient_evaluations"] + stats["third_derivative_evaluations"]
    assert counted == evaluated - observed
    # One with each of the three unit vectors, one with the third derivative, one in each stage.
    stages = stats["gradient_evaluations"] - 2 * STEPS
    assert stats["hvp_evaluations"] == STEPS * (3 + 1) + stages


@pytest.mark.slow
@pytest.mark.parametrize("dense_limit", [512, 0])
def test_what_rod_flow_spends_is_what_it_evaluates(dense_limit):
    """In either form, with the projections: gradients, and products that evaluate them again.

    With a factor, a stage takes the product at the centre alone, which gives the gradient too.
    """
    flow = RodFlow(OPTIMIZER, dense_limit=dense_limit, alignment=False)
    cost, evaluated = step_cost(flow, RodSolver(flow.equation), 3)
    assert int(cost.gradients) + int(cost.hvps) == evaluated
    assert int(cost.hvps) > 4
    assert (int(cost.hvps) == int(cost.gradients)) == (dense_limit > 0)


@pytest.mark.slow
def test_what_the_ball_spends_is_what_it_evaluates():
    """Beyond what is searched at once: a gradient an iteration, and the values of line searches."""
    flow = BallCentreFlow(RollingBall(0.05, 0.05), curvature=False)
    cost, evaluated = step_cost(flow, BallSolver(flow.equation), 20)
    assert int(cost.gradients) == evaluated > 6
    assert int(cost.hvps) > 0


FIXED = {
    "solver": diffrax.Tsit5(),
    "stepsize_controller": diffrax.ConstantStepSize(),
    "dt0": 0.5,
    "measurements": (),
}


@pytest.mark.parametrize(
    ("flow", "gradients", "hvps", "linearised"),
    [
        # 10 steps to where the flow begins, and 7 beyond.
        (ParityFlow(OPTIMIZER), 17, 0, 0),
        (ParityFlow(HeavyBall(0.3, 0.5), burn=12, half_width=8), 20, 0, 0),
        # The gradient at the start, and at the other end in 20 iterations, at each of three places;
        # there the whole Hessian, and that of the start along its eigenvectors.
        (ParityFlow(OPTIMIZER, start="split"), 61, 18, 3),
        (ParityFlow(OPTIMIZER, start="given", difference=jnp.full(3, 0.01)), 0, 0, 0),
        (EdgeFlow(OPTIMIZER, start="fit"), 17, 0, 0),
        (EdgeFlow(OPTIMIZER, start="top"), 1, 3, 1),
        (BallCentreFlow(RollingBall(0.05, 0.05)), 1, 0, 0),
    ],
)
def test_what_a_start_costs_is_what_it_evaluates(flow, gradients, hvps, linearised):
    """The products at a place share one evaluation, at which the gradient is made linear."""
    potential = Counted([])
    begin = jax.jit(lambda params: flow.counted_init(potential, params))
    (_, cost), evaluated = evaluations(potential, begin, start(3))
    assert (int(cost.gradients), int(cost.hvps)) == (gradients, hvps)
    assert evaluated == gradients + linearised


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flow", "gradients", "hvps"),
    [
        pytest.param(ParityFlow(OPTIMIZER), 17, 0, marks=pytest.mark.slow),
        (EdgeFlow(OPTIMIZER, start="top"), 1, 2),
    ],
)
def test_a_start_counts_in_the_run_that_it_starts(flow, gradients, hvps):
    """Tsit5 evaluates the field six times a step and once before; only the first run starts."""
    run = simulate(flow, SharpValley(0.01), start(2), 20, save_every=10, **FIXED)
    further = simulate(flow, SharpValley(0.01), None, 10, state=run.state, save_every=10, **FIXED)
    steps = 2 * (20 - flow.first_step)
    for stats, evaluated, first in ((run.stats, 6 * steps + 1, 1), (further.stats, 120, 0)):
        expected = {
            "gradient_evaluations": int(flow.cost.gradients) * evaluated + first * gradients,
            "hvp_evaluations": int(flow.cost.hvps) * evaluated + first * hvps,
        }
        assert {name: int(stats[name]) for name in expected} == expected
