"""What a loss closes over is read at each call; programs are shared where only values differ."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flows import (
    GradientDescent,
    GradientFlow,
    LossAndGradient,
    OnExamples,
    RollingBall,
    ScalarMeasurement,
    drop,
    exponential_map,
    ironed,
    iterate,
    measure,
    principal_curvature,
    sample_minima,
    simulate,
    top_eigenpairs,
)
from flows.core.captured import CapturedPotential, captured, captured_function
from potentials import MLP, SharpValley, SupervisedPotential, mse, two_moons
from tests.helpers import as_users_run, assert_trees_close, tree_allclose

DESCENT = GradientDescent(0.01)
START = jnp.asarray([0.5, 0.25])


class Bowl:
    """A plain class whose attribute a notebook changes between two calls."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, w):
        return self.scale * jnp.sum(w**2)

    def loss(self, w):
        """The same, as a bound method."""
        return self(w)

    def accuracy(self, w):
        """What a measurement may ask for."""
        return self.scale + 0 * w[0]


def of_bowl(bowl, w):
    """A function for `functools.partial`."""
    return bowl(w)


# The solver that compiles fastest.
EULER = {
    "solver": diffrax.Euler(),
    "stepsize_controller": diffrax.ConstantStepSize(),
    "dt0": 0.5,
}
CALLS = {
    "iterate": lambda loss: iterate(DESCENT, loss, START, 2).observables["loss"][0],
    "simulate": lambda loss: simulate(GradientFlow(DESCENT), loss, START, 2, **EULER).observables[
        "loss"
    ][0],
    "measure": lambda loss: measure(LossAndGradient(), loss, START[None])[0]["loss"][0],
    "sharpness": lambda loss: top_eigenpairs(loss, START).sharpness * jnp.sum(START**2) / 2,
    "ironed": lambda loss: ironed(loss, 0.0, lower=-1.0, upper=1.0, points=3).landscape[2] * 0.3125,
    "curvature": lambda loss: (
        principal_curvature(RollingBall(0.1, 0.01), loss, 0 * START) * jnp.sum(START**2) / 2
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_array_or_attribute_that_is_replaced_is_read_anew(call):
    """The second call gives the second loss, for every kind of callable, not the first one's."""
    bowl = Bowl(jnp.asarray(1.0))
    kinds = bowl, bowl.loss, functools.partial(of_bowl, bowl), lambda w: bowl.scale * jnp.sum(w**2)
    for scale in (jnp.asarray(1.0), jnp.asarray(11.0), 3.0):
        bowl.scale = scale
        for loss in kinds:
            expected = float(scale) * 0.3125
            assert float(CALLS[call](loss)) == pytest.approx(expected, rel=1e-6), type(loss)


@pytest.mark.slow
def test_samples_and_geodesics_and_drops_read_it_anew():
    """The places where a run ends on another surface."""
    bowl = Bowl(jnp.asarray(1.0))
    ends = []
    for scale in (1.0, 4.0):
        bowl.scale = jnp.asarray(scale)
        end, _ = exponential_map(bowl, START, jnp.asarray([[0.3, 0.1]]), time=1.0)
        contact = drop(RollingBall(0.1, radius=1.0), bowl, START)
        samples = sample_minima(bowl, 0 * START, jax.random.key(0), 1, speed=1.0)
        ends.append((end, contact, samples.stopping_time))
    for before, after in zip(*ends, strict=True):
        assert not tree_allclose(before, after, rtol=1e-3, atol=0.0)


def custom(scale):
    """A loss with a derivative of its own, captured arrays, a loop and a nested compilation."""

    @jax.custom_jvp
    def bend(x):
        return jnp.tanh(x)

    @bend.defjvp
    def _(primals, tangents):
        return bend(primals[0]), tangents[0] * scale

    @jax.jit
    def step(x, _):
        return bend(x * jnp.asarray(0.5)), None

    return lambda w: jnp.sum(jax.nn.relu(jax.lax.scan(step, w, None, length=3)[0]) ** 2)


@pytest.mark.parametrize("values", [np.arange(2.0), jnp.arange(2.0)])
def test_one_program_serves_all_values_of_a_captured_array(values):
    """As many compilations as shapes: none for values, or for the same function defined again."""
    runs = 0

    def loss_of(array):
        return lambda w: jnp.sum(jax.nn.relu(array * w) ** 2) + jax.nn.logsumexp(w)

    @eqx.filter_jit
    def program(potential):
        nonlocal runs
        runs += 1
        return potential(START)

    for scale in (1.0, 2.0, 5.0):
        loss = loss_of(scale * values)
        assert float(program(captured(loss, START))) == pytest.approx(float(loss(START)), rel=1e-12)
    assert runs == 1
    program(captured(loss_of(jnp.ones(1)), START))
    assert runs == 2


@pytest.mark.slow
def test_losses_that_differ_in_a_number_or_a_rule_are_not_mistaken_for_each_other():
    """A literal, an exponent, a derivative of one's own, an array that only its rule has."""
    losses = [
        lambda w: jnp.sum(0.5 * w**2),
        lambda w: jnp.sum(0.5000000001 * w**2),
        lambda w: jnp.sum(0.5 * w**3),
        lambda w: jnp.sum(0.5 * w**2)[None][0],
        custom(jnp.asarray(1.0)),
        custom(jnp.asarray(2.0)),
        custom(2.0),
    ]
    converted = [captured(loss, START) for loss in losses]
    assert len({id(c.trace) for c in converted}) == len(losses)
    for loss, one in zip(losses, converted, strict=True):
        for take in (jax.grad, jax.hessian):
            assert_trees_close(take(one)(START), take(loss)(START), rtol=1e-14, atol=0.0)
    assert captured(custom(2.0), START).trace is converted[-1].trace


def test_captured_arrays_are_differentiated_and_mapped():
    """A loss made inside a transformation closes over its tracers."""

    def end(scale):
        return iterate(DESCENT, lambda w: scale * jnp.sum(w**2), START, 3).params[-1]

    slope = jax.jit(jax.jacfwd(end))(jnp.asarray(2.0))
    exact = -6 * 0.01 * (1 - 0.04) ** 2 * START
    assert_trees_close(slope, exact, rtol=1e-12, atol=0.0)
    many = jax.vmap(end)(jnp.asarray([1.0, 2.0]))
    assert_trees_close(many[1], end(jnp.asarray(2.0)), rtol=1e-14, atol=0.0)


def test_a_potential_of_this_package_stays_itself_and_others_keep_their_attributes():
    """A measurement may ask a loss for more than its value."""
    assert captured(SharpValley(0.01), START) == SharpValley(0.01)

    class Module(eqx.Module):
        scale: jax.Array

        def __call__(self, w):
            return self.scale * jnp.sum(w**2)

        def accuracy(self, w):
            return self.scale + 0 * w[0]

    accuracy = ScalarMeasurement("accuracy", lambda potential, params: potential.accuracy(params))
    for make in (Module, Bowl):
        for scale in (3.0, 5.0):
            loss = make(jnp.asarray(scale))
            assert isinstance(captured(loss, START), CapturedPotential)
            run = iterate(DESCENT, loss, START, 1, measurements=(LossAndGradient(), accuracy))
            assert float(run.observables["accuracy"][1]) == scale
    with pytest.raises(AttributeError, match="precision"):
        _ = captured(lambda w: jnp.sum(w), START).precision


@pytest.mark.parametrize("draw", [np.random.rand, __import__("random").random])
def test_a_loss_that_draws_from_a_global_random_state_is_told(draw):
    """The draw happens once for each trace, which is not what stochastic training means."""
    with pytest.warns(UserWarning, match="draws from the random state of numpy or Python"):
        captured(lambda w: jnp.sum(w) * draw(), START)


def test_params_of_another_structure_are_refused():
    """The trace is for one."""
    with as_users_run(), pytest.raises(ValueError, match="must have the structure that the loss"):
        captured(lambda w: jnp.sum(w["a"]), {"a": START})({"b": START})


def test_what_measurements_and_schedules_read_is_read_anew():
    """A table of rates and a direction that a notebook replaces between two runs."""
    rates, direction = np.asarray([0.1, 0.1, 0.1]), np.asarray([1.0, 2.0])
    descent = GradientDescent(lambda t: jnp.asarray(rates)[t.astype(int)])
    along = ScalarMeasurement("along", lambda potential, w: jnp.asarray(direction) @ w)

    def bowl(w):
        return 0.5 * jnp.sum(w**2)

    def ends():
        discrete = iterate(descent, bowl, START, 2, measurements=along)
        flow = simulate(GradientFlow(descent), bowl, START, 2, measurements=along)
        measured, _ = measure(along, bowl, discrete.params)
        assert_trees_close(measured["along"], discrete.observables["along"], rtol=1e-14, atol=0.0)
        return discrete, flow

    for rate in (0.1, 0.5):
        rates = np.full(3, rate)
        direction = rate * np.asarray([1.0, 2.0])
        discrete, flow = ends()
        assert_trees_close(discrete.params[-1], (1 - rate) ** 2 * START, rtol=1e-14, atol=0.0)
        assert_trees_close(flow.params[-1], np.exp(-2 * rate) * START, rtol=1e-4, atol=0.0)
        for run in (discrete, flow):
            expected = run.params @ direction
            assert_trees_close(run.observables["along"], expected, rtol=1e-14, atol=0.0)


def test_a_measurement_on_a_part_of_the_examples_reads_anew():
    """The part is another potential, with fewer examples."""
    data = two_moons(examples=12)
    network = MLP((2, 3, 2), key=jax.random.key(0))
    loss = SupervisedPotential(network, data.inputs, data.targets, mse)
    scale = 1.0
    scaled = ScalarMeasurement("scaled", lambda potential, w: scale * potential(w))
    part = OnExamples(scaled, [0, 3])
    first = iterate(DESCENT, loss, loss.params, 1, measurements=part).observables["subset_scaled"]
    scale = 3.0
    second = iterate(DESCENT, loss, loss.params, 1, measurements=part).observables["subset_scaled"]
    assert_trees_close(second, 3 * first, rtol=1e-14, atol=0.0)


def test_a_function_is_traced_for_arguments_of_one_structure():
    """Others are refused, and modules of users keep their arrays as leaves."""

    class Ramp(eqx.Module):
        slope: jax.Array

        def __call__(self, t):
            return self.slope * t

    ramp = captured_function(Ramp(jnp.asarray(2.0)), jnp.zeros(()))
    slope = jax.grad(lambda f: f(jnp.asarray(3.0)), allow_int=True)(ramp).function.slope
    assert float(ramp(jnp.asarray(3.0))) == 6.0
    assert float(slope) == 3.0
    assert captured_function(ramp, jnp.zeros(())) is ramp
    with pytest.raises(ValueError, match="structure that the function was traced for"):
        ramp(jnp.zeros(()), jnp.zeros(()))


def test_a_function_is_not_differentiated_where_it_has_no_derivative():
    """A search in a loop, and a callback, of a loss with a rule of its own."""

    def loss(w):
        return jnp.sum(jax.nn.relu(w) ** 2 + jax.nn.relu(-w) ** 2)

    def halvings(potential, w):
        def worse(s):
            return potential(w - s * jax.grad(potential)(w)) > 0.5 * potential(w)

        return jax.lax.while_loop(worse, lambda s: 0.5 * s, jnp.asarray(4.0, w.dtype))

    def called_back(potential, w):
        like = jax.ShapeDtypeStruct((), w.dtype)
        return jax.pure_callback(lambda x: np.asarray(x), like, potential(w))

    measured = [ScalarMeasurement(f.__name__, f) for f in (halvings, called_back)]
    run = iterate(DESCENT, loss, START, 1, measurements=tuple(measured))
    assert float(run.observables["halvings"][0]) == 0.5
    assert float(run.observables["called_back"][0]) == float(loss(START))


def test_a_run_goes_on_though_a_number_that_its_measurement_reads_has_changed():
    """A run is known by its measurement's name, not by what was traced."""
    data = two_moons(examples=12)
    network = MLP((2, 3, 2), key=jax.random.key(0))
    loss = SupervisedPotential(network, data.inputs, data.targets, mse)
    flow, scale = GradientFlow(DESCENT), 1.0
    part = OnExamples(ScalarMeasurement("scaled", lambda potential, w: scale * potential(w)), 4)
    first = simulate(flow, loss, loss.params, 1, measurements=part, **EULER)
    scale = 2.0
    second = simulate(flow, loss, None, 1, measurements=part, **EULER, state=first.state)
    whole = simulate(flow, loss, loss.params, 2, measurements=part, **EULER)
    ends = [jax.tree.map(lambda x: x[-1], run.params) for run in (second, whole)]
    assert_trees_close(*ends, rtol=1e-8)
    last = [run.observables["subset_scaled"][-1] for run in (second, whole)]
    assert_trees_close(*last, rtol=1e-8)


def test_a_constant_function_gives_an_array():
    """JAX gives a number of its own for a literal."""
    for value in (0.25, jnp.asarray(0.25), 3):
        found = captured_function(lambda t, value=value: value, jnp.zeros(()))(jnp.ones(()))
        assert isinstance(found, jax.Array)
        assert float(found) == float(value)
    constant = captured(lambda w: jnp.asarray(2.0), START)(START)
    assert isinstance(constant, jax.Array)
    descent = GradientDescent(optax.constant_schedule(0.01))
    fixed, scheduled = (iterate(d, SharpValley(0.01), START, 3).params for d in (DESCENT, descent))
    assert_trees_close(scheduled, fixed, rtol=1e-15, atol=0.0)
