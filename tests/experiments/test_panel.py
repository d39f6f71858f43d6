"""The panel: its numbers, its failures, its table, and the figure of it."""

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from jaxtyping import Array, PyTree

import figures
import flows
from experiments import ConfigError, load, load_config, run
from experiments.cli import main
from experiments.config.loader import validate
from experiments.panel.cases import CASES
from experiments.panel.comparison import compare
from experiments.panel.contestants import CONTESTANTS, Contestant
from experiments.panel.measures import MEASURES, half_differences, onset
from experiments.panel.resumed import resumed
from experiments.studies import StudyExperiment
from experiments.studies.panel import Panel
from flows.optimizers.optax_optimizer import as_optimizer
from potentials import Quartic, SharpValley
from tests.helpers import assert_trees_close

STEPS = 30


def short(name: str, **changes: Any) -> Any:
    """A case of the panel, of few steps."""
    return dataclasses.replace(CASES[name], steps=STEPS, **changes)


def from_step_1(run: flows.Trajectory) -> flows.Trajectory:
    """A run without its start, where there is no midpoint."""
    rows = (run.steps, run.params, run.observables)
    steps, params, observables = jax.tree.map(lambda x: x[1:], rows)
    return dataclasses.replace(run, steps=steps, params=params, observables=observables)


def panel(**changes: Any) -> StudyExperiment:
    """The built-in panel, with two cases and two flows."""
    study = {"kind": "panel", "cases": ["valley-edge", "quartic"], "flows": ["gradient", "rod-r"]}
    loaded = validate({"name": "tiny-panel", "figures": ["panel"], "study": study | changes})
    assert isinstance(loaded, StudyExperiment)
    return loaded


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a panel of two short cases and two flows."""
    path = tmp_path_factory.mktemp("panel") / "done"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("valley-edge", "quartic"):
            patch.setitem(CASES, name, short(name))
        assert run(panel(), path, progress=False).status == "finished"
    return path


@pytest.mark.slow
def test_errors_are_those_of_the_flows_package_by_hand() -> None:
    """From step 0, against runs that are made here."""
    row = compare(short("valley-edge"), ["gradient", "parity-2"])
    assert [(entry.flow, entry.outcome) for entry in row.entries] == [
        ("gradient", "done"),
        ("parity-2", "done"),
    ]
    optimizer, valley = flows.GradientDescent(0.3), SharpValley(0.001)
    start = jnp.asarray([0.001**0.5, 2 / 0.3])
    discrete = flows.iterate(optimizer, valley, start, STEPS)
    gradient, parity = (entry.values for entry in row.entries)
    by_hand = from_step_1(flows.simulate(flows.GradientFlow(optimizer), valley, start, STEPS))
    error = float(flows.tracking_error(by_hand, discrete))
    assert gradient["tracking_error"] == pytest.approx(error, rel=1e-12)
    assert np.isnan(gradient["iterate_error"])
    assert np.isnan(gradient["peak_error"])
    # By the flow's own solver, to its tolerance.
    split = flows.ParityFlow(optimizer, 2, "split")
    by_hand = from_step_1(flows.simulate(split, valley, start, STEPS))
    for name, measured in (
        ("tracking_error", flows.tracking_error(by_hand, discrete)),
        ("iterate_error", flows.iterate_error(by_hand, discrete)),
    ):
        assert parity[name] == pytest.approx(float(measured), rel=0.2)
        assert parity[name] < 0.3 * gradient["tracking_error"]
    # 4 gradients at each of 6 stages of some steps of the solver.
    assert parity["gradients_per_step"] > 24 / 4


@pytest.mark.slow
def test_flows_start_at_the_burn_of_one_discrete_run() -> None:
    """A flow on parameters at w_b, the parity flow by its fit; all are compared from there on."""
    row = compare(short("quartic", burn=10), ["gradient", "parity-2"])
    optimizer, well, start = flows.GradientDescent(1.0), Quartic(2.1, 1.0), jnp.asarray([0.05])
    discrete = flows.iterate(optimizer, well, start, STEPS)
    begin = discrete.params[10]
    flow = flows.simulate(flows.GradientFlow(optimizer), well, begin, STEPS - 10)
    midpoints = np.asarray(discrete.midpoints("three_point"))[10:, 0]
    distances = np.abs(np.asarray(flow.params)[:, 0] - midpoints)
    moved = np.abs(midpoints - midpoints[0])
    gradient, parity = (entry.values for entry in row.entries)
    assert gradient["tracking_error"] == pytest.approx(distances.mean() / moved.mean(), rel=1e-9)
    assert parity["iterate_error"] < 1e-3
    assert abs(parity["peak_error"]) < 1e-3
    # (L(c+d) + L(c-d)) / 2, of a loss that changes from one two-cycle's length to the next.
    assert parity["loss_error"] < 0.1


def test_the_loss_and_the_oscillation_are_measured_as_described() -> None:
    """On iterates (-1)^t a_t the half-difference is the mean length of neighbours."""
    optimizer, well, start = flows.GradientDescent(1.0), Quartic(2.1, 1.0), jnp.asarray([0.05])
    discrete = flows.iterate(optimizer, well, start, STEPS)
    lengths = np.abs(np.asarray(discrete.params)[:, 0])
    expected = (lengths[:-2] + 2 * lengths[1:-1] + lengths[2:]) / 4
    found = half_differences(discrete)
    assert np.isnan(found[0])
    assert_trees_close(found[1:-1], expected, 1e-12, 0.0)
    assert onset(np.array([0.0, 0.05, 0.2, 1.0]), 1.0) == 2
    assert np.isnan(onset(np.array([0.0, 0.05]), 1.0))


@pytest.mark.parametrize("transformation", [optax.adam(0.01), optax.rmsprop(0.01)])
def test_a_resumed_optimizer_goes_on_with_its_state_and_its_counters(
    transformation: optax.GradientTransformation,
) -> None:
    """Its steps are those of the uninterrupted run."""
    optimizer, valley = as_optimizer(transformation), SharpValley(0.01)
    start = jnp.asarray([0.3, 5.0])
    later = resumed(optimizer, valley, start, 7)
    there = flows.iterate(optimizer, valley, start, 12).params
    on = flows.iterate(later, valley, start, 5).params
    assert_trees_close(on, there[7:], 1e-12, 1e-14)
    # And as a map of phase space, whose counters a flow takes from its time.
    flow = flows.GradientFlow(later)
    state = eqx.filter_jit(flow.init)(valley, start)
    rate = flow.vector_field(0.0, state, valley)
    assert_trees_close(flow.params(state) + flow.params(rate), there[8], 1e-12, 1e-14)


@pytest.mark.slow
def test_a_flow_that_fails_or_does_not_apply_is_an_entry_with_its_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And does not keep the others from their numbers."""
    few = dataclasses.replace(
        CONTESTANTS["gradient-corrected"], integrator=lambda: {"max_solver_steps": 1}
    )
    monkeypatch.setitem(CONTESTANTS, "gradient-corrected", few)
    row = compare(short("quartic"), ["rod-r", "gradient", "gradient-corrected"])
    rod, gradient, corrected = row.entries
    assert rod.outcome == "does not apply"
    assert rod.message == "the case has one parameter, and so one rod."
    assert gradient.outcome == "done"
    assert corrected.outcome == "failed"
    assert "GradientFlow" in corrected.message
    assert "\n" not in corrected.message
    assert set(corrected.values) == set(MEASURES)
    assert np.isnan(list(corrected.values.values())).all()


@pytest.mark.slow
def test_an_optimizer_with_momentum_has_rods_and_no_central_flow() -> None:
    """The reason is the one that the flow gives."""
    row = compare(
        dataclasses.replace(CASES["adam"], steps=70, problem=CASES["valley"].problem, burn=20),
        ["central", "rod-1"],
    )
    assert [entry.outcome for entry in row.entries] == ["does not apply", "done"]
    assert "without memory of its direction" in row.entries[0].message


def test_the_store_has_one_table_of_all_numbers(done: Path) -> None:
    """Case by flow by measure, equal to the parts."""
    tree = load(done)
    assert set(tree.children) == {"valley-edge", "quartic", "table", "conclusions"}
    table = tree["table"].to_dataset()
    assert table["value"].dims == ("case", "flow", "measure")
    assert list(table["measure"].values) == list(MEASURES)
    for case in table["case"].values:
        part = tree[case].to_dataset()
        for measure in MEASURES:
            np.testing.assert_array_equal(
                table["value"].sel(case=case, measure=measure).values, part[measure].values
            )
            assert part[measure].attrs["units"]
        assert list(part["outcome"].values) == list(table["outcome"].sel(case=case).values)
    assert table["outcome"].sel(case="quartic", flow="rod-r").item() == "does not apply"
    conclusions = tree["conclusions"].to_dataset()
    assert conclusions["measured"].values[-1] == 0


def test_a_panel_goes_on_with_the_first_case_that_is_missing(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A case that is done is not run again."""
    del done  # Compiled what is run here.
    for name in ("valley-edge", "quartic"):
        monkeypatch.setitem(CASES, name, short(name))

    def interrupted() -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(CASES, "quartic", short("quartic", problem=interrupted))
        with pytest.raises(KeyboardInterrupt):
            run(panel(), tmp_path, progress=False, draw=False)
    monkeypatch.setitem(CASES, "valley-edge", short("valley-edge", problem=interrupted))
    result = run(panel(), tmp_path, progress=False, draw=False, resume=True)
    assert result.status == "finished"
    assert "table" in result.tree().children


def test_the_command_prints_the_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And chooses cases and flows by --set."""
    monkeypatch.setitem(CASES, "quartic", short("quartic"))
    choice = ["--set", "study.cases=['quartic']", "--set", "study.flows=['gradient', 'rod-r']"]
    path = tmp_path / "run"
    assert main(["panel", "--out", str(path), *choice]) == 0
    printed = capsys.readouterr().out
    assert "error of each flow" in printed
    (line,) = (line for line in printed.splitlines() if line.strip().startswith("quartic"))
    error = float(load(path)["quartic"].to_dataset()["tracking_error"].values[0])
    assert line.split() == ["quartic", f"{error:.3g}", "-"]
    assert (path / "figures" / "panel.png").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cases": ["vally"]}, r"study\.cases\[0\]: given 'vally'; .*valley"),
        ({"flows": ["rodd"]}, r"study\.flows\[0\]: given 'rodd'; .*rod-1"),
        ({"cases": ["quartic", "quartic"]}, r"study\.cases: given .*; must hold each entry once"),
        ({"flows": []}, r"study\.flows: given \[\]; must have at least 1"),
    ],
)
def test_an_unknown_name_is_refused_with_those_that_there_are(
    changes: dict[str, Any], says: str
) -> None:
    """Before anything is run."""
    with pytest.raises(ConfigError, match=says):
        panel(**changes)


def test_the_built_in_panel_names_every_case_and_every_flow() -> None:
    """So that a new one is not forgotten there."""
    config = load_config("panel")
    assert isinstance(config, StudyExperiment)
    assert isinstance(config.study, Panel)
    assert config.study.parts == tuple(CASES)
    assert config.study.flows == tuple(CONTESTANTS)
    assert any(isinstance(one, Contestant) and not one.published for one in CONTESTANTS.values())


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_optimizer_of_every_case_moves_its_start(name: str) -> None:
    """Traced, not compiled: a step has the shapes of what it changes."""
    case = CASES[name]
    potential, params = case.problem()
    optimizer = as_optimizer(case.optimizer())

    def moved(params: PyTree[Array], potential: flows.Potential) -> PyTree[Array]:
        return optimizer.params(optimizer.step(optimizer.init(params), potential))

    after = eqx.filter_eval_shape(moved, params, potential)
    after = jax.tree.map(lambda x: (x.shape, x.dtype), after)
    assert after == jax.tree.map(lambda x: (x.shape, x.dtype), params)
    assert case.steps > case.burn


def test_the_figure_has_a_number_or_a_hatch_in_every_cell(done: Path) -> None:
    """Drawn from the store."""
    tree = load(done)
    drawn = figures.draw("panel", tree)
    axes = drawn.axes[0]
    table = tree["table"].to_dataset()
    errors = table["value"].sel(measure="tracking_error")
    assert len(axes.texts) + len(axes.patches) == errors.size
    assert len(axes.texts) == int(np.isfinite(errors).sum())
    assert [text.get_text() for text in axes.get_yticklabels()] == ["valley-edge", "quartic"]
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == ["does not apply"]


def test_a_store_without_a_table_has_no_figure() -> None:
    """The message says what it would need."""
    with pytest.raises(ValueError, match="figure 'panel' needs the group 'table'"):
        figures.draw("panel", xr.DataTree())
