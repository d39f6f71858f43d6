"""How flows compare with the optimizer: from made-up trajectories, one by one and as a batch."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flows
from experiments.compare.comparison import Comparison, planned
from flows.core.trajectory import BoundaryIterates
from tests.helpers import assert_trees_close

COUNT, SIZE, MODES = 6, 3, 2
COMPARISON = Comparison(frozenset({("three_point", 0), ("two_point", 0)}), True, ())


def iterates(seed: int) -> np.ndarray:
    """A made-up path, with one iterate more than is saved."""
    return np.random.default_rng(seed).normal(size=(COUNT + 1, SIZE))


def optimizer(path: np.ndarray, stop: float = np.nan) -> flows.Trajectory:
    """The trajectory of an optimizer along a path, whose rows do not count from `stop` on."""
    return flows.Trajectory(
        steps=jnp.arange(COUNT),
        params=jnp.asarray(path[:-1]),
        observables={},
        state=None,
        stats={},
        result=flows.RESULTS.successful,
        stopped_at=jnp.asarray(float(stop)),
        neighbour_source=BoundaryIterates(jnp.asarray(path[0]), jnp.asarray(path[-1])),
    )


def flow(seed: int, midpoint: flows.Midpoint = "three_point") -> flows.Trajectory:
    """The trajectory of a flow that predicts variances along directions."""
    generator = np.random.default_rng(seed + 100)
    one = optimizer(generator.normal(size=(COUNT + 1, SIZE)))
    directions = generator.normal(size=(COUNT, MODES, SIZE))
    return dataclasses.replace(
        one,
        observables={
            "variances": jnp.ones((COUNT, MODES)),
            "directions": jnp.asarray(directions),
        },
        neighbour_source=None,
        midpoint=midpoint,
        variables=(
            ("variances", flows.Variable("parameter^2", "variances", ("mode",))),
            ("directions", flows.Variable("1", "directions", ("mode", "parameter"))),
        ),
    )


def cut(trajectory: flows.Trajectory, count: int) -> flows.Trajectory:
    """The first rows, as a single run that stopped there has them."""
    source = trajectory.neighbour_source
    assert isinstance(source, BoundaryIterates)
    after = trajectory.params[count]
    return dataclasses.replace(
        trajectory,
        steps=trajectory.steps[:count],
        params=trajectory.params[:count],
        neighbour_source=BoundaryIterates(source.before, after),
    )


def test_each_quantity_is_that_of_its_formula() -> None:
    """Distances to both kinds of midpoints, displacements, half-differences and variances."""
    path, discrete = iterates(0), optimizer(iterates(0))
    firsts = COMPARISON.first_points(discrete)
    three = np.concatenate([path[:1], (path[:-2] + 2 * path[1:-1] + path[2:]) / 4])
    two = (path[:-1] + path[1:]) / 2
    models = (flow(0), three), (flow(0, "two_point"), two)
    for one, midpoints in models:
        found = COMPARISON.flow(one, discrete, firsts, 0).observables
        centres, directions = np.asarray(one.params), np.asarray(one.observables["directions"])
        expected = {
            "distance": np.linalg.norm(centres - midpoints, axis=1),
            "displacement": np.linalg.norm(midpoints - midpoints[0], axis=1),
            "measured_variances": np.einsum("tmp,tp->tm", directions, path[:-1] - centres) ** 2,
            "variances": np.ones((COUNT, MODES)),
        }
        assert_trees_close(found, expected, rtol=1e-13, atol=1e-15)
    measured, _ = COMPARISON.optimizer(discrete, jnp.sum)
    halves = np.linalg.norm(np.diff(path, axis=0), axis=1) / 2
    assert_trees_close(measured.observables["half_difference"], halves, rtol=1e-13)


@pytest.mark.parametrize("stop", [COUNT, 4, 1])
def test_a_batch_is_compared_as_its_runs_are_one_by_one(stop: int) -> None:
    """A run that stopped has nan in a batch, and fewer rows by itself; its flow goes on."""
    stopped = iterates(1)
    stopped[stop:-1] = np.nan
    runs = [optimizer(iterates(0)), optimizer(stopped, stop if stop < COUNT else np.nan)]
    models = [flow(seed) for seed in range(2)]

    def compared(one: flows.Trajectory, discrete: flows.Trajectory) -> flows.Trajectory:
        measured, _ = COMPARISON.optimizer(discrete, jnp.sum)
        beside = COMPARISON.flow(one, discrete, COMPARISON.first_points(discrete), 0)
        halves = measured.observables["half_difference"]
        # Rows that do not count are nan in a batch, and are not there in a single run.
        missing = len(one.steps) - len(halves)
        padded = jnp.pad(halves, (0, missing), constant_values=jnp.nan)
        observables = {**beside.observables, "half_difference": padded}
        return dataclasses.replace(beside, observables=observables)

    stacked = [jax.tree.map(lambda *rows: jnp.stack(rows), *each) for each in (models, runs)]
    together = eqx.filter_jit(eqx.filter_vmap(compared))(*stacked).observables
    single = cut(runs[1], stop) if stop < COUNT else runs[1]
    alone = [compared(models[0], runs[0]), compared(models[1], single)]
    for row, one in enumerate(alone):
        at_row = jax.tree.map(lambda x, row=row: x[row], together)
        assert_trees_close(at_row, one.observables, rtol=1e-14, atol=0.0)
    nans = np.isnan(np.asarray(together["distance"][1]))
    # The midpoint of the last row needs the iterate after it.
    np.testing.assert_array_equal(
        nans, np.arange(COUNT) >= (max(stop - 1, 1) if stop < COUNT else COUNT)
    )


def test_a_flow_goes_on_without_the_optimizer() -> None:
    """With nan in what compares them, whether its piece is empty or there is none."""
    discrete = optimizer(iterates(0))
    firsts = COMPARISON.first_points(discrete)
    for stopped in (None, cut(discrete, 0)):
        found = COMPARISON.flow(flow(0), stopped, firsts, 0).observables
        for name in ("distance", "displacement", "measured_variances"):
            assert len(found[name]) == COUNT
            assert np.isnan(found[name]).all()


def test_what_is_measured_depends_on_the_flows_of_the_run() -> None:
    """Half-differences for a rod without momentum, midpoints for predicted variances."""
    descent, heavy = flows.GradientDescent(0.1), flows.HeavyBall(0.1, 0.5)
    measurements = (flows.LossAndGradient(), flows.Curvature(2))
    plain = planned(descent, [flows.GradientFlow(descent)], measurements)
    assert plain == Comparison(frozenset({("three_point", 0)}), False, ())
    assert planned(descent, [flows.RodFlow(descent)], measurements).half_differences
    assert not planned(heavy, [flows.RodFlow(heavy)], measurements).half_differences
    central = flows.CentralFlow(descent, rank=1, directions=True)
    measured = planned(descent, [central], measurements).midpoint_measurements
    assert [type(one) for one in measured] == [flows.ScalarMeasurement, flows.Curvature]


def test_what_is_measured_at_midpoints_has_the_same_names_in_a_piece_without_rows() -> None:
    """The optimizer may stop right where a piece begins."""
    measurements = (flows.LossAndGradient(), flows.Curvature(2))
    descent = flows.GradientDescent(0.1)
    central = flows.CentralFlow(descent, rank=1, directions=True)
    comparison = planned(descent, [central], measurements)
    potential = jax.jit(lambda w: 0.5 * jnp.sum(jnp.square(w)))
    whole = optimizer(iterates(0))
    measured, state = comparison.optimizer(whole, potential)
    empty, after = comparison.optimizer(cut(whole, 0), potential, state)
    assert {"midpoint_loss", "midpoint_sharpness", "midpoint_eigenvalues"} == {
        *empty.observables
    } - {"half_difference"}
    assert measured.observables.keys() == empty.observables.keys()
    assert dict(empty.variables)["midpoint_loss"].description == "loss at the iterates' midpoint"
    for name, values in empty.observables.items():
        assert values.shape == (0, *measured.observables[name].shape[1:])
        assert values.dtype == measured.observables[name].dtype
    assert after is state
