"""Measurements, trajectories and tracking errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flows import (
    Curvature,
    GradientDescent,
    GradientFlow,
    LossAndGradient,
    ScalarMeasurement,
    concatenate,
    distance,
    iterate,
    measure,
    simulate,
    tracking_error,
)
from potentials import Quadratic, Rosenbrock, SharpValley
from tests.helpers import as_users_run, assert_trees_close

OPTIMIZER = GradientDescent(0.3)
START = jnp.asarray([0.1, 6.0])
VALLEY = SharpValley(0.01)


@pytest.mark.slow
def test_sharpness_is_tracked_along_both_kinds_of_run():
    """The saved eigenvalues are those of the Hessian at the saved parameters, every n-th save."""
    measurements = (LossAndGradient(), Curvature(2, every=3))
    for run in (
        iterate(OPTIMIZER, VALLEY, START, 12, measurements=measurements),
        simulate(GradientFlow(OPTIMIZER), VALLEY, START, 12, measurements=measurements),
    ):
        exact = jnp.linalg.eigvalsh(jax.vmap(jax.hessian(VALLEY))(run.params))[:, ::-1]
        sharpness = run.observables["sharpness"]
        assert_trees_close(sharpness[::3], exact[::3, 0], rtol=1e-10, atol=0.0)
        assert_trees_close(run.observables["eigenvalues"][::3], exact[::3], rtol=1e-10, atol=1e-10)
        assert bool(jnp.all(jnp.isnan(sharpness[1::3])))
        assert float(jnp.nanmax(run.observables["eigenvalue_residuals"])) < 1e-10


def test_loss_and_gradient_norm_are_those_of_the_potential():
    """They are evaluated at the saved parameters."""
    run = iterate(GradientDescent(1e-3), Rosenbrock(), jnp.asarray([-1.2, 1.0]), 10)
    assert_trees_close(run.observables["loss"], jax.vmap(Rosenbrock())(run.params))
    norms = jnp.linalg.norm(jax.vmap(jax.grad(Rosenbrock()))(run.params), axis=1)
    assert_trees_close(run.observables["gradient_norm"], norms)


def test_any_scalar_can_be_measured():
    """A function of the potential and the parameters, under its own name and description."""
    radius = ScalarMeasurement(
        "radius", lambda potential, params: jnp.linalg.norm(params), "distance from 0", "parameter"
    )
    run = iterate(OPTIMIZER, VALLEY, START, 4, measurements=(radius,))
    assert_trees_close(run.observables["radius"], jnp.linalg.norm(run.params, axis=1))
    attributes = run.to_dataset()["radius"].attrs
    assert attributes == {"units": "parameter", "long_name": "distance from 0"}


def test_midpoints_follow_their_definitions():
    """(w_{t-1} + 2 w_t + w_{t+1}) / 4 with w_0 at t = 0, and (w_t + w_{t+1}) / 2."""
    longer = iterate(OPTIMIZER, VALLEY, START, 9).params
    run = iterate(OPTIMIZER, VALLEY, START, 8)
    inner = 0.25 * (longer[:-2] + 2 * longer[1:-1] + longer[2:])
    assert_trees_close(run.midpoints("three_point"), jnp.concatenate([START[None], inner]))
    assert_trees_close(run.midpoints("two_point"), 0.5 * (longer[:-1] + longer[1:]))
    with as_users_run(), pytest.raises(ValueError, match="kind must be"):
        run.midpoints("median")


def test_an_oscillating_descent_has_a_still_midpoint():
    """On a quadratic at S = 2/eta exactly, gradient descent flips its sign and m_t is 0."""
    run = iterate(GradientDescent(1.0), Quadratic(jnp.asarray([2.0])), jnp.asarray([1.0]), 6)
    assert_trees_close(run.params[:, 0], jnp.asarray([1.0, -1, 1, -1, 1, -1, 1]))
    assert_trees_close(run.midpoints("three_point")[1:, 0], jnp.zeros(6))


def test_tracking_error_is_the_mean_distance_over_the_mean_displacement():
    """By its definition; 0 for the exact path, 1 for one that stands still."""
    flow = simulate(GradientFlow(OPTIMIZER), VALLEY, START, 20)
    discrete = iterate(OPTIMIZER, VALLEY, START, 20)
    midpoints = np.asarray(discrete.midpoints("three_point"))
    gaps = np.linalg.norm(np.asarray(flow.params) - midpoints, axis=1)
    assert_trees_close(distance(flow, discrete), jnp.asarray(gaps))
    displacement = np.linalg.norm(midpoints - midpoints[:1], axis=1)
    expected = jnp.asarray(gaps.mean() / displacement.mean())
    assert_trees_close(tracking_error(flow, discrete), expected)
    still = simulate(GradientFlow(GradientDescent(1e-12)), VALLEY, START, 20)
    assert_trees_close(tracking_error(still, discrete), jnp.asarray(1.0), rtol=1e-6)


@pytest.mark.slow
def test_a_batch_of_trajectories_is_mapped_over():
    """Midpoints, distance and tracking error under `jax.vmap` equal those of each run alone."""
    rates = jnp.asarray([0.1, 0.3])

    def pair(rate):
        optimizer = GradientDescent(rate)
        return tuple(
            run(model, VALLEY, START, 8, save_every=2)
            for run, model in ((simulate, GradientFlow(optimizer)), (iterate, optimizer))
        )

    flows, discrete = jax.vmap(pair)(rates)
    for index, rate in enumerate(rates):
        flow, alone = pair(rate)
        for name, mapped, single in (
            ("error", jax.vmap(tracking_error)(flows, discrete), tracking_error(flow, alone)),
            ("distance", jax.vmap(distance)(flows, discrete), distance(flow, alone)),
            (
                "midpoints",
                jax.vmap(lambda run: run.midpoints("three_point"))(discrete),
                alone.midpoints("three_point"),
            ),
        ):
            # The flow's solver sees other rounding under vmap: its tolerance.
            assert_trees_close({name: mapped[index]}, {name: single}, rtol=1e-6, atol=1e-8)
        one = jax.tree.map(lambda x, index=index: x[index], discrete)
        assert dict(one.to_dataset().sizes) == {"step": 5, "parameter": 2}


@pytest.mark.parametrize(
    ("name", "hint", "ask"),
    [
        ("midpoints", "vmap", lambda flows, discrete: discrete.midpoints("three_point")),
        ("distance", "vmap", distance),
        ("tracking_error", "vmap", tracking_error),
        ("concatenate", "vmap", lambda flows, discrete: concatenate([discrete, discrete])),
        ("to_dataset", "", lambda flows, discrete: discrete.to_dataset()),
        ("message", "", lambda flows, discrete: discrete.message),
    ],
)
def test_a_batch_of_trajectories_is_refused_where_one_is_needed(name, hint, ask):
    """With what to do about it."""
    runs = simulate(GradientFlow(OPTIMIZER), VALLEY, START, 4), iterate(OPTIMIZER, VALLEY, START, 4)
    flows, discrete = jax.tree.map(lambda x: jnp.stack([x, x]), runs)
    message = rf"{name} is of one trajectory; .* steps of shape \(2, 5\). Take one out.*{hint}"
    with pytest.raises(ValueError, match=message):
        ask(flows, discrete)


def test_a_dataset_needs_values():
    """Inside a transformation there are none yet."""
    run = iterate(OPTIMIZER, VALLEY, START, 4)
    with pytest.raises(ValueError, match=r"call it outside of jax\.jit and jax\.vmap"):
        jax.jit(lambda run: run.to_dataset())(run)


def test_tracking_refuses_what_cannot_be_compared():
    """Two flows, two optimizers, or different saves."""
    flow = simulate(GradientFlow(OPTIMIZER), VALLEY, START, 20)
    discrete = iterate(OPTIMIZER, VALLEY, START, 20)
    sparse = iterate(OPTIMIZER, VALLEY, START, 20, save_every=5)
    with pytest.raises(ValueError, match="flow must be the trajectory of a flow"):
        distance(discrete, discrete)
    with pytest.raises(ValueError, match="discrete must be the trajectory of an optimizer"):
        distance(flow, flow)
    with pytest.raises(ValueError, match="saved at the same steps"):
        distance(flow, sparse)
    with pytest.raises(ValueError, match="must follow each other"):
        concatenate([discrete, discrete])
    with pytest.raises(ValueError, match="at least one"):
        concatenate([])


def test_dataset_is_labelled():
    """Coordinates, dimensions, units and one line for every variable; the stats as attributes."""
    measurements = (LossAndGradient(), Curvature(2))
    run = simulate(GradientFlow(OPTIMIZER), VALLEY, START, 6, measurements=measurements)
    dataset = run.to_dataset()
    assert dict(dataset.sizes) == {"step": 7, "mode": 2, "parameter": 2}
    assert dataset["eigenvalues"].dims == ("step", "mode")
    assert dataset["step"].attrs["units"] == "optimizer steps"
    for variable in dataset.data_vars.values():
        assert variable.attrs["units"]
        assert variable.attrs["long_name"]
    np.testing.assert_array_equal(dataset["params"], run.params)
    assert dataset.attrs["gradient_evaluations"] == int(run.stats["gradient_evaluations"])
    assert "params" not in run.to_dataset(params=False)


def test_gradient_evaluations_are_counted_as_made():
    """The count reported for an explicit solver is the number of calls that are made."""
    calls = []

    def counted(params):
        jax.debug.callback(lambda: calls.append(None))
        return jnp.sum(jnp.cos(params))

    run = simulate(GradientFlow(OPTIMIZER), counted, jnp.ones(2), 8, measurements=())
    jax.effects_barrier()
    # Each save evaluates the loss once for the flow's prediction of it.
    assert len(calls) == int(run.stats["gradient_evaluations"]) + 9
    calls.clear()
    run = iterate(OPTIMIZER, counted, jnp.ones(2), 8, measurements=())
    jax.effects_barrier()
    assert len(calls) == int(run.stats["gradient_evaluations"]) == 9


def test_names_of_measurements_must_differ():
    """Two measurements of the same name would overwrite each other."""
    with pytest.raises(ValueError, match="distinct names; got 'loss' twice"):
        iterate(OPTIMIZER, VALLEY, START, 4, measurements=(LossAndGradient(), LossAndGradient()))


def test_any_path_can_be_measured_in_pieces():
    """The midpoints of a run: their loss and sharpness, the same in one call and in two."""
    midpoints = iterate(OPTIMIZER, VALLEY, START, 9).midpoints("three_point")
    measurements = (LossAndGradient(), Curvature(2, every=2))
    whole, _ = measure(measurements, VALLEY, midpoints)
    assert_trees_close(whole["loss"], jax.vmap(VALLEY)(midpoints))
    first, state = measure(measurements, VALLEY, midpoints[:5])
    second, _ = measure(measurements, VALLEY, midpoints[5:], state)
    joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    assert_trees_close(joined, whole, rtol=1e-12, atol=1e-12)
    assert bool(jnp.all(jnp.isnan(whole["sharpness"][1::2])))


def test_a_path_to_measure_is_arrays_with_a_common_leading_axis():
    """Anything else is refused with what to pass instead."""
    run = iterate(OPTIMIZER, VALLEY, START, 9)
    for params, message in (
        (run, r"params must be arrays .* got a Trajectory: pass trajectory\.params"),
        ({"a": jnp.ones(3), "b": jnp.ones((2, 3))}, r"common leading axis .*\(2, 3\), \(3,\)"),
        (jnp.asarray(1.0), r"params must be arrays .* got shapes \(\)"),
        (jnp.ones((0, 2)), r"T of at least 1.* got shapes \(0, 2\)"),
        ([1.0, 2.0], r"params must be arrays .* got 1\.0"),
        ({}, "params must be arrays .* got none"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(Curvature(1), VALLEY, params)


def test_as_many_eigenvalues_as_there_are_are_tracked_up_to_three():
    """Where no number is given, whatever the number of parameters, also where none is measured."""
    curvature = Curvature(every=2)
    for size, count in ((1, 1), (2, 2), (3, 3), (4, 3)):
        assert curvature.init(VALLEY, jnp.ones(size)).modes.shape[1:] == (count, size)
    spectrum = jnp.asarray([3.0, 1.0])
    values, _ = measure(curvature, Quadratic(spectrum), jnp.ones((2, 2)))
    assert_trees_close(values["eigenvalues"][0], spectrum, rtol=1e-10, atol=0.0)
    assert bool(jnp.all(jnp.isnan(values["eigenvalues"][1])))
