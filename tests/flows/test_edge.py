"""Edge Flow against closed forms, two-cycles, and gradient descent."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

from flows import (
    EdgeFlow,
    EdgeState,
    GradientDescent,
    GradientFlow,
    HeavyBall,
    ParityFlow,
    iterate,
    simulate,
    tracking_error,
)
from flows.edge.equation import EdgeEquation
from potentials import Quadratic, SharpValley
from tests.helpers import as_users_run, assert_trees_close

ACCURATE = {
    "solver": diffrax.Tsit5(),
    "stepsize_controller": diffrax.PIDController(rtol=1e-9, atol=1e-11),
}
SLOW = pytest.mark.slow
ETA = 0.3
VALLEY, ABOVE = SharpValley(0.01), jnp.asarray([0.0, 6.0])


def well(w: jax.Array) -> jax.Array:
    """The quartic well of sharpness 2.1, whose two-cycle at learning rate 1 is w = +-sqrt(0.1)."""
    return jnp.sum(0.5 * 2.1 * w**2 - 0.25 * w**4)


def curved(w: jax.Array) -> jax.Array:
    """A loss with all derivatives, along no axis and with its minimum away from the origin."""
    x = w - jnp.asarray([0.7, -1.1, 0.4], w.dtype)
    return jnp.sum(jnp.cosh(x)) + jnp.sin(x[0] * x[1]) + 0.3 * x[2] ** 3 * x[0]


@pytest.mark.parametrize("growth", [pytest.param("linear", marks=SLOW), "log"])
def test_on_a_quadratic_the_half_difference_is_a_matrix_exponential(growth):
    """The centre is exp(-eta H t) c_0; for linear growth a v = exp((eta H - 2) t) a_0 v_0."""
    spectrum = jnp.asarray([7.0, 6.0, 1.0])
    start, difference = jnp.asarray([1.0, -2.0, 0.5]), jnp.asarray([0.1, 0.2, -0.3])
    flow = EdgeFlow(GradientDescent(ETA), growth=growth, start="given", difference=difference)
    run = simulate(flow, Quadratic(spectrum), start, 10, **ACCURATE)
    factors = jnp.exp(ETA * spectrum[None, :] * run.steps[:, None].astype(float))
    assert_trees_close(run.params, (start - difference)[None] / factors, rtol=1e-6, atol=1e-8)
    halves = run.observables["half_difference"]
    expected = difference[None] * factors
    # The direction turns in the same way for both growth rates.
    assert_trees_close(
        halves / jnp.linalg.norm(halves, axis=1, keepdims=True),
        expected / jnp.linalg.norm(expected, axis=1, keepdims=True),
        rtol=1e-6,
        atol=1e-8,
    )
    if growth == "linear":
        decay = jnp.exp(-2.0 * run.steps.astype(float))[:, None]
        assert_trees_close(halves, expected * decay, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_logarithmic_growth_is_exact_along_an_eigenvector():
    """A step of gradient descent multiplies an oscillation by 1 - eta lambda, in size."""
    start = jnp.asarray([0.0, 3.0])
    flow = EdgeFlow(GradientDescent(ETA), start="given", difference=jnp.asarray([0.0, 0.5]))
    run = simulate(flow, Quadratic(jnp.asarray([1.0, 8.0])), start, 5, **ACCURATE)
    expected = 0.5 * (0.3 * 8.0 - 1) ** run.steps.astype(float)
    assert_trees_close(run.observables["half_difference_length"], expected, rtol=1e-7)


@pytest.mark.parametrize("growth", ["linear", "log"])
def test_the_rod_has_the_two_cycle_of_the_quartic_as_an_equilibrium(growth):
    """a^2 = S - 2 at learning rate 1 (THEORY 8.1)."""
    flow = EdgeFlow(GradientDescent(1.0), growth=growth)
    state = EdgeState(jnp.zeros(1), jnp.ones(1), 0.5 * jnp.log(jnp.asarray(0.1)))
    for change in jax.tree.leaves(flow.vector_field(0.0, state, well)):
        assert jnp.max(jnp.abs(change)) < 1e-13


@pytest.mark.slow
@pytest.mark.parametrize(
    ("growth", "rate"), [pytest.param("linear", 0.1, marks=SLOW), ("log", 0.09531017980432493)]
)
def test_the_curvature_at_the_centre_has_no_two_cycle_of_the_quartic(growth, rate):
    """The centre stays at 0, where the curvature is 2.1, and the length grows without bound."""
    start = jnp.asarray([0.1])
    flow = EdgeFlow(GradientDescent(1.0), "centre", growth, start="given", difference=start)
    run = simulate(flow, well, start, 40, **ACCURATE)
    assert_trees_close(run.params, jnp.zeros((41, 1)), atol=0.0)
    lengths = 0.1 * jnp.exp(rate * run.steps.astype(float))
    assert_trees_close(run.observables["half_difference_length"], lengths, rtol=1e-6)
    assert lengths[-1] > 10 * 0.1**0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("growth", "error"), [pytest.param("linear", 0.00348, marks=SLOW), ("log", 0.00173)]
)
def test_the_length_follows_gradient_descent_to_the_two_cycle(growth, error):
    """The error of |d| over its mean, converged; THEORY 8.5 has 0.0033 and 0.0016, from a start
    and over steps that it does not say.
    """
    start = jnp.asarray([0.05])
    discrete = iterate(GradientDescent(1.0), well, start, 200)
    run = simulate(EdgeFlow(GradientDescent(1.0), growth=growth), well, start, 200, **ACCURATE)
    expected = jnp.abs(discrete.params[:, 0])
    difference = jnp.abs(run.observables["half_difference_length"] - expected)
    assert jnp.mean(difference) / jnp.mean(expected) == pytest.approx(error, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("growth", "error", "peak", "peak_step"),
    [
        pytest.param("linear", 0.110, 7.3828, 463, marks=pytest.mark.slow),
        ("log", 0.0597, 7.4320, 480),
    ],
)
def test_the_valley_is_tracked_as_well_as_theory_says(growth, error, peak, peak_step):
    """THEORY 8.5 and 8.7; gradient descent's largest y is 7.4348, at step 481."""
    optimizer = GradientDescent(ETA)
    discrete = iterate(optimizer, VALLEY, ABOVE, 1000, measurements=())
    run = simulate(EdgeFlow(optimizer, growth=growth), VALLEY, ABOVE, 1000, measurements=())
    assert tracking_error(run, discrete) == pytest.approx(error, rel=0.03)
    heights = run.params[:, 1]
    assert jnp.max(heights) == pytest.approx(peak, abs=1e-3)
    assert abs(int(jnp.argmax(heights)) - peak_step) <= 1
    # The length of v is an invariant of the equation; the solver's error may change it.
    assert jnp.linalg.norm(run.state.flow.direction) == pytest.approx(1, abs=1e-3)


def test_the_direction_keeps_its_length_and_its_length_does_not_matter():
    """The change of v is normal to v, and a longer v is the same direction."""
    flow = EdgeFlow(GradientDescent(ETA))
    direction = jnp.asarray([0.36, 0.48, -0.8])
    state = EdgeState(jnp.asarray([1.0, 0.2, -0.5]), direction, jnp.log(jnp.asarray(0.3)))
    change = flow.vector_field(0.0, state, curved)
    assert abs(direction @ change.direction) < 1e-15
    longer = EdgeState(state.centre, 2 * direction, state.log_length)
    assert_trees_close(flow.vector_field(0.0, longer, curved), change, rtol=1e-13, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_the_curvature_of_a_short_rod_is_not_lost_to_rounding(dtype):
    """s(a) = s(0) + O(a^2) down to lengths at which a difference of gradients has no digits."""
    equation = EdgeEquation(jnp.asarray(ETA), "rod", "log")
    centre = jnp.asarray([1.0, 0.2, -0.5])
    direction = jnp.asarray([0.36, 0.48, -0.8])

    @jax.jit
    def curvature(length: jax.Array) -> jax.Array:
        state = EdgeState(centre.astype(dtype), direction.astype(dtype), jnp.log(length))
        return equation.forces(state, curved).curvature

    limit = direction @ jax.hessian(curved)(centre) @ direction
    # (g_+ - g_-)/2a by its Taylor series, from derivatives in float64.
    slope = lambda x: jax.grad(curved)(centre + x * direction) @ direction  # noqa: E731
    third = jax.jacfwd(jax.jacfwd(jax.jacfwd(slope)))(0.0)
    rounding = float(jnp.finfo(dtype).eps) ** (2 / 3)
    for exponent in range(-30, 0):
        length = 10.0**exponent
        expected = limit + third * length**2 / 6
        found = float(curvature(jnp.asarray(length, dtype)))
        assert found == pytest.approx(float(expected), abs=10 * rounding + length**4)


def test_the_top_start_splits_the_first_iterate_along_the_sharpest_direction():
    """w_0 = c + a v, and along v the first step leads to c - a v."""
    optimizer, start = GradientDescent(ETA), jnp.asarray([1.0, 0.2, -0.5])
    flow = EdgeFlow(optimizer)
    state = flow.init(curved, start)
    values, vectors = jnp.linalg.eigh(jax.hessian(curved)(start))
    assert abs(state.direction @ vectors[:, jnp.argmax(values)]) == pytest.approx(1, abs=1e-12)
    assert_trees_close(state.centre + state.half_difference, start, rtol=1e-14)
    step = iterate(optimizer, curved, start, 1).params[1] - start
    assert step @ state.direction == pytest.approx(-2 * float(state.length), rel=1e-12)


@pytest.mark.slow
def test_a_fitted_start_is_that_of_the_parity_flow():
    """All flows of a network's run can start at one step; this one's centre and half-difference."""
    optimizer = GradientDescent(ETA)
    start = jnp.asarray([0.1, 6.65])
    flow = EdgeFlow(optimizer, start="fit", burn=8)
    parity = ParityFlow(optimizer, burn=8).init(VALLEY, start)
    state = flow.init(VALLEY, start)
    assert flow.first_step == 8
    assert_trees_close(state.centre, parity.centre.params, rtol=1e-14)
    assert_trees_close(state.half_difference, parity.half_difference.params, rtol=1e-13)
    run = simulate(flow, VALLEY, start, 12)
    assert run.steps.tolist() == [8, 9, 10, 11, 12]


@pytest.mark.slow
def test_parameters_of_any_structure_and_optax_move_alike():
    """A dictionary of parameters and `optax.sgd` are the flat run of `GradientDescent`."""
    start = jnp.asarray([0.05, 6.6])
    given = {"start": "given", "difference": jnp.asarray([0.03, 0.01])}
    flat = simulate(EdgeFlow(GradientDescent(ETA), **given), VALLEY, start, 5)

    def loss(w: dict[str, jax.Array]) -> jax.Array:
        return VALLEY(jnp.stack([w["x"], w["y"][0]]))

    def split(w: jax.Array) -> dict[str, jax.Array]:
        return {"x": w[..., 0], "y": w[..., 1:]}

    given = {"start": "given", "difference": split(given["difference"])}
    run = simulate(EdgeFlow(optax.sgd(ETA), **given), loss, split(start), 5)
    assert_trees_close(run.params, split(flat.params), rtol=1e-12)
    assert_trees_close(run.observables, flat.observables, rtol=1e-12)


@pytest.mark.slow
def test_vmap_and_grad_go_through_a_run():
    """A batch of learning rates is the single runs; the derivative is that of differences."""

    def end(learning_rate: jax.Array) -> jax.Array:
        flow = EdgeFlow(GradientDescent(learning_rate))
        # Steps of one length: their program compiles in half the time.
        start = jnp.asarray([0.1, 6.7])
        steps = {"solver": diffrax.Heun(), "dt0": 0.25}
        run = simulate(flow, VALLEY, start, 4, save_every=4, measurements=(), **steps)
        return run.params[-1, 1] + run.observables["half_difference_length"][-1]

    step = 1e-4
    rates = jnp.asarray([ETA, ETA - step, ETA + step])
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(end)))(rates)
    assert_trees_close(values[0], end(rates[0]), rtol=1e-12)
    # The differences' error is of the order of step^2.
    assert_trees_close(slopes[0], (values[2] - values[1]) / (2 * step), rtol=1e-5, atol=0.0)


@pytest.mark.slow
def test_single_precision_runs_in_single_precision():
    """Every array is float32, and the flow is that of double precision.

    Gradient descent is not: in single precision its oscillation restarts from rounding errors here.
    """
    optimizer = GradientDescent(ETA)
    run = simulate(EdgeFlow(optimizer), VALLEY, ABOVE.astype(jnp.float32), 1000)
    dtypes = {x.dtype for x in jax.tree.leaves((run.params, run.observables))}
    assert dtypes == {jnp.dtype("float32")}
    discrete = iterate(optimizer, VALLEY, ABOVE, 1000)
    in_double = eqx.tree_at(lambda x: x.params, run, run.params.astype(float))
    assert tracking_error(in_double, discrete) == pytest.approx(0.0597, rel=0.05)


@pytest.mark.slow
def test_without_an_oscillation_the_centre_is_on_gradient_flow():
    """A length below the smallest number is zero, and nothing is nan."""
    start = jnp.asarray([0.3, 4.0])
    flow = EdgeFlow(GradientDescent(ETA), start="given", difference=jnp.zeros(2))
    run = simulate(flow, VALLEY, start, 40)
    assert all(jnp.all(jnp.isfinite(x)) for x in run.observables.values())
    assert jnp.all(run.observables["half_difference_length"][1:] == 0)
    centre = simulate(GradientFlow(GradientDescent(ETA)), VALLEY, start, 40)
    # The default tolerance is 1e-4 per step.
    assert_trees_close(run.params, centre.params, rtol=1e-3, atol=1e-3)


def test_the_observables_are_what_they_say():
    """The predicted loss is the mean over both ends; an evaluation costs 2 gradients and 1 HVP."""
    flow = EdgeFlow(GradientDescent(ETA))
    state = EdgeState(
        jnp.asarray([1.0, 0.2, -0.5]), jnp.asarray([0.36, 0.48, -0.8]), jnp.log(jnp.asarray(0.3))
    )
    found = flow.observables(state, curved)
    assert set(found) == set(flow.variables)
    half = 0.3 * state.direction
    assert_trees_close(found["half_difference"], half, rtol=1e-14)
    ends = [curved(state.centre + sign * half) for sign in (1, -1)]
    assert_trees_close(found["predicted_loss"], (ends[0] + ends[1]) / 2, rtol=1e-14)
    along = [jax.grad(curved)(state.centre + sign * half) @ state.direction for sign in (1, -1)]
    assert_trees_close(found["direction_curvature"], (along[0] - along[1]) / 0.6, rtol=1e-13)
    assert (int(flow.cost.gradients), int(flow.cost.hvps)) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": HeavyBall(0.1, 0.9)}, "optimizer must be GradientDescent.*HeavyBall"),
        (
            {"optimizer": optax.adam(0.1)},
            "optimizer must be GradientDescent.*without memory; got Grad",
        ),
        ({"curvature": "rods"}, 'curvature must be "rod" or "centre"; got \'rods\''),
        ({"growth": "exp"}, 'growth must be "log" or "linear"; got \'exp\''),
        ({"start": "split"}, 'start must be "top" or "fit" or "given"; got \'split\''),
        ({"start": "given"}, "difference must be given with start"),
        ({"difference": jnp.ones(2)}, "difference must be given with start"),
        ({"start": "given", "difference": jnp.ones(2, int)}, "difference must be a float array"),
        ({"burn": 10}, "burn must be 0 or None with start='top'.*got 10"),
        ({"start": "fit", "burn": 3}, "burn must be at least half_width.*burn=3 and half_width=7"),
        ({"start": "fit", "degree": 7}, "degree must be below half_width"),
        ({"half_width": 0}, "half_width must be an integer of at least 1"),
    ],
)
def test_wrong_arguments_are_refused_with_a_sentence(arguments, message):
    """The argument, what is allowed, and what was given."""
    with as_users_run(), pytest.raises(ValueError, match=message):
        EdgeFlow(**{"optimizer": GradientDescent(0.1), **arguments})


def test_a_difference_unlike_the_parameters_is_refused():
    """Its structure, shapes and dtype are the parameters'."""
    for difference in (jnp.ones(3), jnp.ones(2, jnp.float32), {"w": jnp.ones(2)}):
        flow = EdgeFlow(GradientDescent(0.1), start="given", difference=difference)
        with pytest.raises(ValueError, match="difference must be like the parameters"):
            flow.init(VALLEY, ABOVE)
