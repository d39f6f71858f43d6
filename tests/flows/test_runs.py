"""simulate and iterate as a user meets them: any loss, any pytree, vmap, grad, pieces, failures."""

import sys
import types

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flows import (
    RESULTS,
    TIME,
    AbstractFlow,
    GradientDescent,
    GradientFlow,
    SimulationError,
    concatenate,
    iterate,
    simulate,
)
from flows.runs.segments import segment_length
from tests.helpers import assert_trees_close

START = {"a": jnp.ones(3), "b": jnp.full((2, 2), 0.3)}
FLOW = GradientFlow(GradientDescent(0.1))


def loss(params) -> jax.Array:
    """A user's own function of a dict of arrays of different shapes."""
    return 0.5 * jnp.sum(params["a"] ** 2) + jnp.sum(jnp.cos(params["b"]))


def runner(kind: str):
    """Both entry points under one signature, for a learning rate and keyword options."""
    if kind == "iterate":
        return lambda rate, params, steps, **options: iterate(
            GradientDescent(rate), options.pop("potential", loss), params, steps, **options
        )
    return lambda rate, params, steps, **options: simulate(
        GradientFlow(GradientDescent(rate)),
        options.pop("potential", loss),
        params,
        steps,
        **options,
    )


both = pytest.mark.parametrize("kind", ["iterate", "simulate"])
# For what the two share.
one_quick = pytest.mark.parametrize(
    "kind", ["iterate", pytest.param("simulate", marks=pytest.mark.slow)]
)


@one_quick
def test_a_users_function_of_a_dict_works(kind):
    """A plain lambda and a dict of arrays: the path, the loss along it and the counts."""
    trajectory = runner(kind)(0.1, START, 50)
    assert trajectory.params["a"].shape == (51, 3)
    assert trajectory.params["b"].shape == (51, 2, 2)
    assert_trees_close(trajectory.steps, jnp.arange(51, dtype=jnp.int32))
    assert_trees_close(trajectory.observables["loss"], jax.vmap(loss)(trajectory.params))
    assert bool(trajectory.succeeded)
    assert trajectory.message == ""
    assert int(trajectory.stats["gradient_evaluations"]) > 0


@pytest.mark.parametrize("kind", ["iterate", pytest.param("simulate", marks=pytest.mark.slow)])
def test_vmap_over_learning_rates_and_starts_equals_the_loop(kind):
    """One compiled call for 100 learning rates and starts gives what 100 calls give."""
    rates = jnp.linspace(0.01, 0.5, 100)
    starts = jax.vmap(lambda s: jax.tree.map(lambda x: s * x, START))(jnp.linspace(0.5, 2.0, 100))
    run = runner(kind)
    mapped = jax.jit(jax.vmap(lambda rate, start: run(rate, start, 20).params))(rates, starts)
    for i in (0, 17, 42, 99):
        alone = run(rates[i], jax.tree.map(lambda x, i=i: x[i], starts), 20).params
        # The compiler orders additions differently under vmap.
        assert_trees_close(jax.tree.map(lambda x, i=i: x[i], mapped), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@both
def test_derivatives_with_respect_to_the_learning_rate_are_right(kind):
    """Reverse mode through the whole run agrees with the closed form."""
    run = runner(kind)

    def end(rate):
        return run(rate, START, 10, save_every=10, measurements=()).params["a"][-1, 0]

    slope = jax.grad(end)(0.1)
    exact = -10 * 0.9**9 if kind == "iterate" else -10 * np.exp(-1.0)
    # The gradient of an adaptive solve is that of the steps it took: solver tolerance.
    assert_trees_close(slope, jnp.asarray(exact), rtol=1e-6, atol=0.0)


def test_reverse_mode_goes_through_a_number_that_the_loss_reads():
    """It is chosen where anything of a run is traced, not its start or its flow alone."""

    def end(depth):
        flow = GradientFlow(GradientDescent(0.1))
        return simulate(flow, lambda w: 0.5 * depth * w[0] ** 2, jnp.ones(1), 2).params[-1, 0]

    # The solver's tolerance.
    assert_trees_close(jax.grad(end)(1.0), jnp.asarray(-0.2 * np.exp(-0.2)), rtol=1e-6, atol=0.0)


@both
def test_new_hyperparameters_do_not_trace_again(kind):
    """A new learning rate, start and potential data run the same program."""
    traces = []

    class Bowl(eqx.Module):
        depth: jax.Array

        def __call__(self, params):
            traces.append(None)
            return 0.5 * self.depth * jnp.sum(params**2)

    run = runner(kind)
    run(0.1, jnp.ones(2), 6, potential=Bowl(jnp.asarray(1.0)))
    first = len(traces)
    again = run(0.3, 2 * jnp.ones(2), 6, potential=Bowl(jnp.asarray(0.5)))
    # One more is the check of the potential's shape, which runs outside of the program.
    assert len(traces) <= first + 1
    if kind == "iterate":
        assert_trees_close(again.params[-1], 2 * 0.85**6 * jnp.ones(2), rtol=1e-13)


@both
def test_pieces_equal_the_uninterrupted_run_bit_for_bit(kind):
    """Going on from `.state` at the end of a segment gives the same numbers as not stopping."""
    run = runner(kind)
    whole = run(0.1, START, 50, segment=5)
    first = run(0.1, START, 30, segment=5)
    rest = run(0.1, None, 20, segment=5, state=first.state)
    joined = concatenate([first, rest])
    assert_trees_close(joined.steps, whole.steps)
    assert_trees_close(joined.params, whole.params, rtol=0.0, atol=0.0)
    assert_trees_close(joined.observables, whole.observables, rtol=0.0, atol=0.0)
    assert_trees_close(joined.stats, whole.stats)


@pytest.mark.slow
@both
def test_saving_less_often_saves_the_same_states(kind):
    """Every fifth step of a run is what saving every fifth step gives."""
    run = runner(kind)
    dense, sparse = run(0.2, START, 20), run(0.2, START, 20, save_every=5)
    assert_trees_close(sparse.steps, jnp.arange(0, 21, 5, dtype=jnp.int32))
    every_fifth = jax.tree.map(lambda x: x[::5], dense.params)
    assert_trees_close(sparse.params, every_fifth, rtol=1e-9, atol=1e-10)
    if kind == "iterate":
        for midpoint in ("three_point", "two_point"):
            every_fifth = jax.tree.map(lambda x: x[::5], dense.midpoints(midpoint))
            assert_trees_close(sparse.midpoints(midpoint), every_fifth, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("saves", "length"),
    [(300, 150), (1000, 250), (256, 256), (40, 40), (257, 256), (1, 1)],
)
def test_segments_have_one_length_where_that_is_not_much_shorter(saves, length):
    """The longest of at most 256 saves that divides their number, as 257 has none."""
    assert segment_length(None, saves, 8) == length
    assert segment_length(7, saves, 8) == min(7, saves)


@pytest.mark.parametrize("cut", ["segments", pytest.param("pieces", marks=pytest.mark.slow)])
def test_neighbours_are_the_iterates_beside_however_the_run_is_cut(cut):
    """In segments that divide the run or not, under vmap too; joined, with or without a gap."""
    path = iterate(GradientDescent(0.2), loss, START, 13).params

    def assert_beside(run):
        before, after = jnp.maximum(run.steps - 1, 0), run.steps + 1
        assert_trees_close(run.neighbours.previous, jax.tree.map(lambda x: x[before], path))
        assert_trees_close(run.neighbours.next, jax.tree.map(lambda x: x[after], path))

    def go_on(start, steps, **options):
        return iterate(GradientDescent(0.2), loss, None, steps, state=start.state, **options)

    if cut == "pieces":
        short = iterate(GradientDescent(0.2), loss, START, 4)
        skipped, sparse = go_on(short, 4), go_on(short, 8, save_every=4)
        for rest in (go_on(short, 8), sparse, go_on(skipped, 4)):
            assert_beside(concatenate([short, rest]))
        return
    for segment in (1, 5):
        assert_beside(iterate(GradientDescent(0.2), loss, START, 12, segment=segment))
    starts = jax.tree.map(lambda x: jnp.stack([x, x]), START)
    mapped = jax.vmap(lambda s: iterate(GradientDescent(0.2), loss, s, 12, segment=5))(starts)
    lane = jax.tree.map(lambda x: x[1], mapped.neighbours.next)
    assert_trees_close(lane, jax.tree.map(lambda x: x[1:], path), rtol=1e-12, atol=1e-12)


def test_descent_that_diverges_names_the_step_and_keeps_what_came_before():
    """The step is the first whose parameters overflow, also between two saves."""
    start, factor = jnp.ones(2), 1 - 3.0 * 1e10
    # |w_t| = |factor|^t first exceeds the largest double at this step.
    overflow = int(np.ceil(np.log(np.finfo(float).max) / np.log(abs(factor))))
    for save_every in (1, 4):
        with pytest.raises(SimulationError, match=f"stopped at step {overflow}:") as caught:
            iterate(
                GradientDescent(3.0),
                lambda p: 0.5e10 * jnp.sum(p**2),
                start,
                100,
                save_every=save_every,
                measurements=(),
            )
        kept = caught.value.trajectory
        steps = jnp.arange(0, overflow, save_every, dtype=jnp.int32)
        assert_trees_close(kept.steps, steps)
        assert bool(jnp.all(jnp.isfinite(kept.params)))
        assert bool(kept.result == RESULTS.nonfinite)


def falling(params) -> jax.Array:
    """A loss that is minus infinity where a parameter reaches 2.5, with a slope of -1."""
    return jnp.where(params[0] >= 2.5, -jnp.inf, 0.0) - params[0]


@pytest.mark.parametrize(
    ("kind", "save_every", "segment"),
    [
        ("iterate", 1, None),
        pytest.param("simulate", 1, None, marks=pytest.mark.slow),
        pytest.param("iterate", 2, 1, marks=pytest.mark.slow),
        ("simulate", 2, 1),
    ],
)
def test_a_loss_that_stops_being_finite_ends_the_run(kind, save_every, segment):
    """At the first save where it does, however the run is cut; the rows before are kept."""
    options = {"save_every": save_every, "segment": segment, "potential": falling}
    run = runner(kind)(0.5, jnp.asarray([0.25]), 12, throw=False, **options)
    # The parameter is (t + 1/2) / 2, and 2.75 at step 5, 3.25 at step 6.
    stop = 5 if save_every == 1 else 6
    assert run.message == f"stopped at step {stop}: the loss is no longer finite"
    assert bool(run.result == RESULTS.nonfinite)
    steps = np.arange(0, stop, save_every)
    np.testing.assert_array_equal(run.steps, steps)
    assert_trees_close(run.params[:, 0], jnp.asarray((steps + 0.5) / 2), rtol=1e-6)
    assert bool(jnp.all(jnp.isfinite(run.observables["loss"])))
    if kind == "iterate":
        assert_trees_close(run.midpoints("two_point")[:, 0], jnp.asarray((steps + 1) / 2))
    with pytest.raises(SimulationError, match="the loss is no longer finite"):
        runner(kind)(0.5, jnp.asarray([0.25]), 12, **options)


@both
def test_a_loss_that_is_not_measured_is_not_judged(kind):
    """The parameters stay finite."""
    run = runner(kind)(0.5, jnp.asarray([0.25]), 12, potential=falling, measurements=())
    assert bool(run.succeeded)


@both
def test_a_start_whose_loss_is_not_finite_is_kept(kind):
    """There is nothing before it."""
    run = runner(kind)(0.5, jnp.asarray([3.0]), 4, potential=falling, throw=False)
    assert run.message == "stopped at step 0: the loss is no longer finite"
    np.testing.assert_array_equal(run.params, [[3.0]])


@one_quick
def test_a_loss_that_stops_being_finite_is_told_under_vmap(kind):
    """Per lane, in runs of several segments."""
    starts = jnp.asarray([[0.25], [-9.0]])
    options = {"potential": falling, "segment": 2, "throw": False}
    runs = jax.vmap(lambda start: runner(kind)(0.5, start, 12, **options))(starts)
    assert runs.succeeded.tolist() == [False, True]
    lane = jax.tree.map(lambda x: x[0], runs)
    assert lane.message == "stopped at step 5: the loss is no longer finite"


def test_flow_that_blows_up_names_the_time_and_keeps_what_came_before():
    """dw/dt = 4 w^3 reaches infinity at t = 1 / (8 w0^2), which the adaptive solver finds."""
    flow = GradientFlow(GradientDescent(1.0))
    start = (8 * jnp.asarray([2.5])) ** -0.5
    trajectory = simulate(flow, lambda p: -jnp.sum(p**4), start, 20, throw=False)
    assert not bool(trajectory.succeeded)
    assert_trees_close(trajectory.stopped_at, jnp.asarray(2.5), rtol=0.0, atol=1e-6)
    assert "stopped at step 2.5" in trajectory.message
    assert_trees_close(trajectory.steps, jnp.arange(3, dtype=jnp.int32))
    exact = (20.0 - 8.0 * jnp.arange(3.0)[:, None]) ** -0.5
    assert_trees_close(trajectory.params, exact, rtol=1e-6, atol=0.0)
    fixed = simulate(
        flow, lambda p: -jnp.sum(p**4), start, 20, solver=diffrax.Euler(), dt0=0.5, throw=False
    )
    assert bool(fixed.result == RESULTS.nonfinite)
    assert bool(jnp.all(jnp.isfinite(fixed.params)))
    with pytest.raises(SimulationError, match="step size fell below its minimum"):
        simulate(flow, lambda p: -jnp.sum(p**4), start, 20)


def test_solver_step_budget_is_a_named_failure():
    """Too few solver steps for a segment stop the run with what to do about it."""
    with pytest.raises(SimulationError, match="max_solver_steps was reached"):
        simulate(FLOW, loss, START, 50, save_every=50, max_solver_steps=3)


def test_failures_under_vmap_are_told_per_run():
    """With throw=False each lane says how it ended, and the healthy ones are unharmed."""
    rates = jnp.asarray([0.1, 1e200, 0.2])
    runs = jax.vmap(lambda rate: iterate(GradientDescent(rate), loss, START, 5, throw=False))(rates)
    assert_trees_close(np.asarray(runs.succeeded), np.asarray([True, False, True]))
    alone = iterate(GradientDescent(0.2), loss, START, 5)
    last = jax.tree.map(lambda x: x[2], runs.params)
    assert_trees_close(last, alone.params, rtol=1e-12, atol=1e-12)


def test_segments_of_one_length_share_one_program():
    """The first one of a flow too: however many there are, no more is traced."""
    traces = []

    class Traced(AbstractFlow):
        midpoint = None
        time_unit = TIME

        def init(self, potential, params):
            return params

        def vector_field(self, t, state, args):
            traces.append(None)
            return jax.tree.map(jnp.negative, jax.grad(args)(state))

        def params(self, state):
            return state

        def observables(self, state, potential):
            return {}

    traced = []
    for steps in (2.0, 2.0, 6.0):
        before = len(traces)
        simulate(Traced(), loss, START, steps, save_every=1.0, segment=2)
        traced.append(len(traces) - before)
    assert traced[0] > traced[1] == traced[2]


@pytest.mark.slow
@both
def test_a_batch_returns_every_member_unless_it_is_asked_to_raise(kind):
    """One that fails ends none of the others; each says by itself how it ended."""
    run = runner(kind)
    starts = jnp.asarray([[0.25], [-9.0]])

    def batch(**options):
        return jax.vmap(lambda start: run(0.5, start, 12, potential=falling, **options))(starts)

    members = [jax.tree.map(lambda x, i=i: x[i], batch()) for i in range(2)]
    assert members[0].message == "stopped at step 5: the loss is no longer finite"
    assert float(members[0].stopped_at) == 5
    assert members[1].message == ""
    assert_trees_close(members[1].params[-1], jnp.asarray([-3.0]), rtol=1e-6)
    with pytest.raises(eqx.EquinoxRuntimeError, match="stopped early; leave throw=True out"):
        batch(throw=True)


def test_a_notebook_shows_a_line_that_is_written_over(monkeypatch, capsys):
    """Where standard error is no terminal, and IPython has a kernel."""
    kernel = types.SimpleNamespace(kernel=object())
    notebook = types.SimpleNamespace(get_ipython=lambda: kernel)
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    simulate(FLOW, loss, START, 18, segment=6, progress=True)
    shown = capsys.readouterr().err
    last = shown.rstrip().split("\r")[-1]
    assert last.startswith(f"GradientFlow {'#' * 30} 18/18 "), shown
    assert last.endswith("0 s left")
    assert shown.endswith("\n")
    monkeypatch.setattr(notebook, "get_ipython", lambda: None)
    simulate(FLOW, loss, START, 18, segment=6, progress=True)
    assert capsys.readouterr().err == ""


def test_progress_does_not_change_the_numbers():
    """A callback sees every segment, up to the end, and the path is the same to the bit."""
    seen = []
    plain = simulate(FLOW, loss, START, 18, segment=6)
    shown = simulate(
        FLOW, loss, START, 18, segment=6, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(6, 18), (12, 18), (18, 18)]
    assert_trees_close(shown.params, plain.params, rtol=0.0, atol=0.0)


def test_float32_stays_in_float32(float32):
    """Parameters, path and observables keep single precision in both runs."""
    del float32
    start = {"a": jnp.ones(3, jnp.float32), "b": jnp.full((2, 2), 0.3, jnp.float32)}
    for kind in ("iterate", "simulate"):
        trajectory = runner(kind)(0.1, start, 30)
        arrays = (trajectory.params, trajectory.observables)
        assert {x.dtype for x in jax.tree.leaves(arrays)} == {jnp.dtype("float32")}
    exact = jnp.exp(jnp.asarray(-3.0)) * jnp.ones(3)
    assert_trees_close(trajectory.params["a"][-1], exact, rtol=1e-3, atol=0.0)


@pytest.mark.slow
def test_float32_parameters_stay_so_with_double_precision_switched_on():
    """Hyperparameters in double precision do not promote single-precision parameters."""
    start = jnp.ones(3, jnp.float32)
    for kind in ("iterate", "simulate"):
        trajectory = runner(kind)(0.1, start, 8, potential=lambda p: jnp.sum(p**2))
        assert trajectory.params.dtype == jnp.dtype("float32")


@pytest.mark.slow
def test_a_flow_that_fails_in_its_first_interval_keeps_its_start():
    """The start is finite, so it is part of what came before."""
    flow = GradientFlow(GradientDescent(1e30))
    run = simulate(flow, lambda p: 0.5 * jnp.sum(p**2), jnp.ones(2), 5, throw=False)
    assert not bool(run.succeeded)
    assert_trees_close(run.params, jnp.ones((1, 2)))
