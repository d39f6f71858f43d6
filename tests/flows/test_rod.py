"""Rod Flow against the numbers of THEORY 3 and 4, and its bad input."""

import diffrax
import jax
import jax.numpy as jnp
import optax
import pytest

from flows import (
    AbstractOptimizer,
    CentralFlow,
    Cost,
    DenseRodState,
    GradientDescent,
    HeavyBall,
    LowRankRodState,
    Nesterov,
    OptaxOptimizer,
    RodFlow,
    SimulationError,
    distance,
    iterate,
    simulate,
)
from flows.optimizers import phase_space
from potentials import Quadratic, Quartic, ScalarProduct, SharpValley
from tests.helpers import as_users_run, assert_trees_close

UNIT = GradientDescent(1.0)
MOMENTUM = [HeavyBall(1.0, 0.9), Nesterov(1.0, 0.9)]
SMALL = jnp.asarray([0.05])
VALLEY = SharpValley(0.01)
VALLEY_START = jnp.asarray([0.0, 6.0])
VALLEY_DESCENT = GradientDescent(0.3)
# Absolute tolerances below the smallest rod that matters: the onset on the valley starts from it.
RESOLVED = diffrax.PIDController(rtol=1e-8, atol=1e-12)
name = lambda optimizer: type(optimizer).__name__  # noqa: E731


def settle(optimizer, potential, steps=3000, rank=1):
    """The state of a long run from near the minimum, with one save."""
    flow = RodFlow(optimizer, rank, alignment=False)
    run = simulate(flow, potential, SMALL, steps, save_every=500, measurements=())
    return run.state.flow


@pytest.mark.slow
@pytest.mark.parametrize("curvature", [2.01, 2.1, 2.5])
def test_the_rod_settles_on_the_two_cycle_of_the_quartic(curvature):
    """Sigma* = S/Q - 2/(eta Q) and c = 0 (THEORY 3), which gradient descent's two-cycle has too."""
    end = settle(UNIT, Quartic(curvature, 1.0))
    expected = jnp.asarray([[curvature - 2.0]])
    assert_trees_close(end.covariance, expected, rtol=0.0, atol=1e-8)
    # The solver's tolerance of 1e-10 holds the stable centre.
    assert_trees_close(end.centre.params, jnp.zeros(1), rtol=0.0, atol=1e-8)


@pytest.mark.slow
def test_the_rod_vanishes_below_the_threshold():
    """S = 1.99: Sigma -> 0 at the rate of 0.02 per step."""
    end = settle(UNIT, Quartic(1.99, 1.0))
    assert float(end.covariance[0, 0]) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [MOMENTUM[0], pytest.param(MOMENTUM[1], marks=pytest.mark.slow)], ids=name
)
def test_with_momentum_the_rod_settles_on_the_two_cycle_too(optimizer):
    """a^2 = (S - threshold) / Q, and the rod lies along the two-cycle in phase space."""
    threshold = float(optimizer.critical_sharpness)
    end = settle(optimizer, Quartic(1.05 * threshold, 1.0))
    expected = jnp.asarray(0.05 * threshold)
    assert_trees_close(end.covariance[0, 0], expected, rtol=0.0, atol=1e-6)
    assert abs(float(jnp.linalg.det(end.covariance))) < 1e-9


def rate_of_growth(optimizer, factor):
    """The fastest rate of Sigma on a quadratic of `factor` times the critical sharpness.

    Sigma' = A Sigma A^T / 2 - 2 Sigma with A = DF has the eigenvalues |a|^2 / 2 - 2, a those of A.
    """
    potential = Quadratic((factor * optimizer.critical_sharpness)[None])
    flow = RodFlow(optimizer, rank=2)
    state = flow.init(potential, jnp.ones(1))
    state = jax.tree.map(jnp.zeros_like, state)

    def field(covariance):
        changed = DenseRodState(state.centre, covariance)
        return flow.vector_field(0.0, changed, potential).covariance

    units = [jnp.asarray(m) for m in ([[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]])]
    both = field(jnp.eye(2))
    mixed = field(jnp.ones((2, 2)))
    # The action on e1 e1^T, e2 e2^T and e1 e2^T + e2 e1^T.
    images = [*map(field, units), mixed - both]
    columns = [jnp.stack([m[0, 0], m[1, 1], m[0, 1]]) for m in images]
    return jnp.max(jnp.real(jnp.linalg.eigvals(jnp.stack(columns, axis=1))))


@pytest.mark.parametrize("optimizer", MOMENTUM, ids=name)
def test_with_momentum_the_rod_loses_stability_at_the_threshold(optimizer):
    """Sigma decays a thousandth below 3.8 / eta (1.357142857 / eta), and grows above."""
    assert float(rate_of_growth(optimizer, 0.999)) < 0 < float(rate_of_growth(optimizer, 1.001))


@pytest.mark.slow
@pytest.mark.parametrize("curvature", [1.0, 2.0, 2.3])
def test_the_rate_of_growth_on_a_quadratic(curvature):
    """It is d log Sigma / dt = eta^2 S^2 / 2 - 2 at c = 0, in the field and along a run."""
    potential = Quadratic(jnp.asarray([curvature]))
    flow = RodFlow(UNIT, alignment=False)
    state = DenseRodState(flow.init(potential, jnp.zeros(1)).centre, jnp.asarray([[1e-3]]))
    found = flow.vector_field(0.0, state, potential).covariance / state.covariance
    rate = jnp.asarray([[0.5 * curvature**2 - 2]])
    assert_trees_close(found, rate, rtol=1e-6, atol=1e-12)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(flow.vector_field),
        diffrax.Tsit5(),
        t0=0.0,
        t1=5.0,
        dt0=0.1,
        y0=state,
        args=potential,
        stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-15),
    )
    grown = jnp.log(solution.ys.covariance[0] / state.covariance) / 5.0
    assert_trees_close(grown, rate, rtol=0.0, atol=1e-6)


def test_one_rod_is_the_flow_of_the_paper():
    """The vector field equals the equations of arXiv 2602.01480, written out."""
    potential, eta, point = ScalarProduct(3), 0.37, jnp.asarray([1.1, 0.7, -0.4])
    root = jax.random.normal(jax.random.key(3), (3, 3)) / 3
    flow = RodFlow(GradientDescent(eta))
    state = flow.init(potential, point)
    state = DenseRodState(state.centre, root @ root.T)
    values, vectors = jnp.linalg.eigh(state.covariance)
    rod = jnp.sqrt(values[-1]) * vectors[:, -1]
    c = state.centre.params
    gradient, hessian = jax.jit(jax.grad(potential)), jax.jit(jax.hessian(potential))
    plus, minus = gradient(c + rod), gradient(c - rod)
    hessians = hessian(c + rod) + hessian(c - rod)
    velocity = -(eta / 2) * (plus + minus) - (eta**2 / 8) * hessians @ (plus + minus)
    outer = plus[:, None] * plus[None, :] + minus[:, None] * minus[None, :]
    change = (eta**2 / 4) * outer - 2 * state.covariance
    found = jax.jit(lambda state: flow.vector_field(0.0, state, potential))(state)
    assert_trees_close(found.centre.params, velocity, rtol=1e-12, atol=1e-13)
    assert_trees_close(found.covariance, change, rtol=1e-12, atol=1e-13)


def test_it_starts_between_the_first_two_iterates():
    """At c = (z_0 + z_1)/2 with Sigma = d_0 d_0^T, in phase space."""
    potential, start = ScalarProduct(2), jnp.asarray([1.5, 0.3])
    optimizer = HeavyBall(0.2, 0.7)
    first = optimizer.init(start)
    second = optimizer.step(first, potential)
    state = RodFlow(optimizer).init(potential, start)
    half = jnp.concatenate([second.params - first.params, second.momentum]) / 2
    assert_trees_close(state.centre.params, (first.params + second.params) / 2, rtol=1e-14)
    assert_trees_close(state.covariance, half[:, None] * half[None, :], rtol=1e-14, atol=1e-15)


def valley_run(flow, steps=1000, save_every=4, **options):
    """The valley from (0, 6)."""
    options = {"save_every": save_every, "measurements": (), **options}
    return simulate(flow, VALLEY, VALLEY_START, steps, **options)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the smallest of the 1 eigenvalues")
def test_two_rods_see_the_onset_on_the_valley_that_one_rod_misses():
    """One rod ends at y = 9.001; two turn back, and stay nearer to GD than the central flow.

    Two rods are at y = 6.63861 at t = 1000, whatever the solver. The default tolerances hold 1e-3
    all along: an onset that is resolved less well swings with another phase.
    """
    discrete = iterate(VALLEY_DESCENT, VALLEY, VALLEY_START, 1000, save_every=4, measurements=())
    one = valley_run(RodFlow(VALLEY_DESCENT, 1, alignment=False), stepsize_controller=RESOLVED)
    two = valley_run(RodFlow(VALLEY_DESCENT, 2, alignment=False))
    central = valley_run(CentralFlow(VALLEY_DESCENT, rank=1))
    exact = valley_run(
        RodFlow(VALLEY_DESCENT, 2, alignment=False),
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-20),
    )
    assert_trees_close(two.params, exact.params, rtol=0.0, atol=1e-3)
    assert_trees_close(one.params[-1, 1], jnp.asarray(9.001), rtol=0.0, atol=1e-3)
    assert_trees_close(two.params[-1, 1], jnp.asarray(6.63861), rtol=0.0, atol=1e-3)
    mean = {run: float(jnp.mean(distance(x, discrete))) for run, x in (("c", central), ("2", two))}
    assert mean["2"] < 0.9 * mean["c"], mean


@pytest.mark.slow
def test_two_rods_end_where_gradient_descent_does_on_the_valley():
    """The mean of the two-cycle, 2/eta + (3/2) eps eta zeta (3 zeta - 1) + O(eps^2) (THEORY 4)."""
    run = valley_run(RodFlow(VALLEY_DESCENT, 2, alignment=False), 4000)
    expected = jnp.asarray(2 / 0.3 + 1.5 * 0.01 * 0.3 * 2)
    assert_trees_close(run.params[-1, 1], expected, rtol=0.0, atol=1e-4)


@pytest.mark.slow
def test_automatic_rods_see_the_onset_too():
    """They are at least two, so that on the valley they are both."""
    automatic = valley_run(RodFlow(VALLEY_DESCENT, "auto", alignment=False), 500, save_every=100)
    two = valley_run(RodFlow(VALLEY_DESCENT, 2, alignment=False), 500, save_every=100)
    assert_trees_close(automatic.params, two.params, rtol=1e-6, atol=1e-6)


def test_automatic_rods_are_as_many_as_carry_the_share():
    """And one more, faded in from where the share is just carried."""
    state = DenseRodState(jnp.zeros(6), jnp.diag(jnp.asarray([0.6, 0.3, 0.08, 0.015, 0.005, 0.0])))
    for share, kept, last in (
        (0.5, 2, 1.0),
        # Two rods leave 0.1: all of the fourth is kept where that is twice what may be left.
        (0.95, 4, 1.0),
        (0.93, 4, 0.1 / 0.07 - 1),
    ):
        rods = RodFlow(UNIT, "auto", share=share).equation.rods(state)
        squares = jnp.sum(rods**2, axis=1)
        assert int(jnp.sum(squares > 0)) == kept, (share, squares)
        full = jnp.asarray([0.6, 0.3, 0.08, 0.015, 0.005, 0.0])
        assert_trees_close(squares[kept - 1] / full[kept - 1], jnp.asarray(last), rtol=1e-9)


@pytest.mark.slow
def test_observables_say_how_the_rods_lie():
    """At the two-cycle of an anisotropic well: lengths, alignment, loss, sharpness."""

    def potential(w):
        return Quartic(2.1, 1.0)(w[:1]) + 0.5 * 0.3 * w[1] ** 2

    run = simulate(
        RodFlow(UNIT, 2), potential, jnp.asarray([0.2, 0.5]), 400, save_every=100, measurements=()
    )
    last = {key: value[-1] for key, value in run.observables.items()}
    assert_trees_close(last["rod_half_lengths"][0], jnp.sqrt(jnp.asarray(0.1)), rtol=1e-6)
    assert_trees_close(last["rod_alignments"][0], jnp.asarray(1.0), rtol=1e-6)
    assert_trees_close(last["centre_sharpness"], jnp.asarray(2.1), rtol=1e-6)
    assert_trees_close(last["rods_used"], jnp.asarray(2.0))
    # (S/2) a^2 - (Q/4) a^4 at a^2 = 0.1.
    assert_trees_close(last["predicted_loss"], jnp.asarray(0.105 - 0.0025), rtol=1e-6)
    dataset = run.to_dataset()
    assert dataset["rod_half_lengths"].dims == ("step", "rod")
    assert dataset["predicted_loss"].attrs["units"] == "loss"


@pytest.mark.slow
def test_it_jits_maps_and_differentiates():
    """Over learning rates; the derivative of the end agrees with finite differences."""
    potential, start = ScalarProduct(2), jnp.asarray([1.5, 0.3])

    def end(rate):
        flow = RodFlow(HeavyBall(rate, 0.5), 2, alignment=False)
        options = {"dt0": 0.25, "solver": diffrax.Heun(), "measurements": (), "save_every": 4}
        controller = diffrax.ConstantStepSize()
        run = simulate(flow, potential, start, 4, stepsize_controller=controller, **options)
        return jnp.sum(run.params[-1])

    step = 1e-5
    rates = jnp.asarray([0.2, 0.3, 0.2 + step, 0.2 - step])
    mapped, slopes = jax.jit(jax.vmap(jax.value_and_grad(end)))(rates)
    assert_trees_close(mapped[0], end(rates[0]), rtol=1e-9, atol=1e-11)
    assert_trees_close(slopes[0], (mapped[2] - mapped[3]) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank must be an integer of at least 1; got 0"),
        ({"rank": "many"}, "rank must be an integer of at least 1; got 'many'"),
        ({"rank": 3}, "rank must be at most the dimension of the optimizer's phase space, 2; got"),
        ({"optimizer": 0.1}, "optimizer must be an optimizer such as GradientDescent"),
        ({"share": 1.0}, "share must be at least 0 and below 1; got 1.0"),
        ({"alignment": 1}, "alignment must be True or False; got 1"),
        ({"dense_limit": -1}, "dense_limit must be an integer of at least 0; got -1"),
    ],
)
def test_wrong_arguments(arguments, message):
    """Each is named, with what was given."""
    with as_users_run(), pytest.raises(ValueError, match=message):
        simulate(RodFlow(**{"optimizer": VALLEY_DESCENT, **arguments}), VALLEY, VALLEY_START, 10)


@pytest.mark.parametrize(
    ("transformation", "message"),
    [
        (optax.noisy_sgd(0.1, key=0), r"state.transformation\[\d\].*cannot move continuously"),
        (optax.sign_sgd(0.1), "a step of OptaxOptimizer uses 'sign', which jumps: its derivative"),
    ],
    ids=["key", "sign"],
)
def test_an_optimizer_that_no_flow_can_carry(transformation, message):
    """The leaf of the state, or the derivative, is named."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        pytest.raises(ValueError, match=message),
    ):
        simulate(RodFlow(transformation), VALLEY, VALLEY_START, 10)


def test_a_map_without_derivative_is_refused():
    """Where it cannot be computed, before the run; where it is not finite, with the step."""

    @jax.custom_vjp
    def backwards_only(params):
        return jnp.sum(params**2)

    @jax.custom_vjp
    def slope(params):
        return 2 * params

    slope.defvjp(lambda p: (2 * p, None), lambda _, t: (2 * t,))
    # The gradient is defined, and calls a function that has no forward derivative.
    backwards_only.defvjp(lambda p: (jnp.sum(p**2), p), lambda p, t: (t * slope(p),))
    with pytest.raises(ValueError, match=r"directional derivative DF\(z\) . v of a step of Gradi"):
        simulate(RodFlow(UNIT), backwards_only, jnp.ones(2), 10)

    # The root of a second moment that starts at zero has no derivative where no gradient comes.
    optimizer = OptaxOptimizer(optax.rmsprop(0.1, eps_in_sqrt=False))
    for dense_limit in (512, 0):
        flow = RodFlow(optimizer, alignment=False, dense_limit=dense_limit)
        with (
            jax.numpy_dtype_promotion("standard"),
            pytest.raises(
                SimulationError, match=r"step 0: the directional derivative DF . F of the"
            ),
        ):
            simulate(flow, lambda p: 0.5 * p[0] ** 2, jnp.ones(2), 10, save_every=10)


@pytest.mark.slow
def test_a_derivative_that_ends_on_the_way_is_reported_with_the_step():
    """A factor's step looks at the slope where it leads, and at no point beyond."""

    @jax.custom_jvp
    def slope(w):
        return w

    # A value everywhere, a derivative only above 1/2.
    slope.defjvp(lambda w, t: (w[0], jnp.where(w[0] < 0.5, jnp.nan, 1.0) * t[0]))

    @jax.custom_jvp
    def bowl(w):
        return 0.5 * jnp.sum(w**2)

    bowl.defjvp(lambda w, t: (bowl(w[0]), jnp.sum(slope(w[0]) * t[0])))
    flow = RodFlow(GradientDescent(0.1), alignment=False, dense_limit=0)
    with pytest.raises(SimulationError, match=r"the directional derivative DF \. F") as raised:
        simulate(flow, bowl, jnp.ones(2), 20)
    # exp(-t / 10) falls to 1/2 at t = 6.9; steps are at most 8 long.
    assert 0 < float(raised.value.trajectory.stopped_at) < 16


class Preconditioned(AbstractOptimizer):
    """A user's own optimizer, without increments: w' = w - eta D^-1 g."""

    scales: jax.Array

    def init(self, params):
        return (params,)

    def step(self, state, potential):
        return (state[0] - 0.3 * jax.grad(potential)(state[0]) / self.scales,)

    def params(self, state):
        return state[0]

    @property
    def critical_sharpness(self):
        return jnp.asarray(jnp.nan)

    @property
    def cost(self):
        return Cost(gradients=1)


@pytest.mark.slow
def test_any_smooth_map_is_modelled():
    """A user's optimizer, and rmsprop of optax as it is, are tracked while they descend."""
    potential, start = ScalarProduct(2), jnp.asarray([1.5, 0.3])
    own = Preconditioned(jnp.asarray([1.0, 2.0]))
    theirs = optax.rmsprop(0.01, eps=1e-3)
    with jax.numpy_dtype_promotion("standard"):
        for optimizer, bound in ((own, 1e-2), (theirs, 2e-2)):
            flow = RodFlow(optimizer, alignment=False)
            run = simulate(flow, potential, start, 20, measurements=())
            discrete = iterate(flow.optimizer, potential, start, 20, measurements=())
            assert float(jnp.max(distance(run, discrete))) < bound, distance(run, discrete)


def test_forms_are_chosen_by_size():
    """A matrix up to the limit, a factor of a few rows more than rods beyond."""
    potential, start = ScalarProduct(2), jnp.asarray([1.5, 0.3])
    flow = RodFlow(UNIT)
    assert isinstance(flow.init(potential, start), DenseRodState)
    large = RodFlow(UNIT, 1, dense_limit=0).init(potential, start)
    assert isinstance(large, LowRankRodState)
    assert large.factor.shape == (2, 2)  # not more rows than numbers


def test_an_optimizer_without_counters_is_not_asked_for_them(monkeypatch):
    """The check runs operation by operation, each compiled by itself."""

    def asked(optimizer, params):
        raise AssertionError(f"{optimizer} has no counters")

    monkeypatch.setattr(phase_space, "_check_counters", asked)
    for optimizer in (GradientDescent(0.1), HeavyBall(0.1, 0.5)):
        phase_space.check_phase_space(optimizer, Quadratic(jnp.ones(2)), jnp.ones(2), counters=True)
    with pytest.raises(AssertionError, match="has no counters"):
        phase_space.check_phase_space(
            OptaxOptimizer(optax.adam(0.1)), Quadratic(jnp.ones(2)), jnp.ones(2), counters=True
        )
