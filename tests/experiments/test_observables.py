"""What configs measure besides: by `[[measurements]]`, and the sharpness unasked."""

from pathlib import Path

import numpy as np
import pytest

import flows
from experiments import ConfigError, run
from experiments.config.build import build, precision
from experiments.config.loader import validate
from experiments.report import summary
from experiments.sweep import points
from experiments.tables import Experiment, SweepExperiment
from experiments.tables.experiment import FEW_PARAMETERS
from tests.experiments.configs import NETWORK, VALLEY, config, values
from tests.experiments.runs import quietly

BARE = {key: value for key, value in VALLEY.items() if key != "curvature"}
NO_TABLE = {key: value for key, value in NETWORK.items() if key != "curvature"}
OF_EXAMPLES = (
    {"kind": "gauss_newton"},
    {"kind": "class_losses"},
    {"kind": "subset_curvature", "examples": 5},
)


def test_a_run_measures_what_its_tables_say_and_draws_it(tmp_path: Path) -> None:
    """And by default the sharpness, of two parameters."""
    tables = [
        {"kind": "spectral_density", "points": 20, "every": 2},
        {"kind": "eigenvector_overlap", "eigenvalues": 2},
        {"kind": "critical_learning_rate"},
        {"kind": "group_sharpness"},
    ]
    names = ["spectral_density", "eigenvector_overlaps", "group_sharpness"]
    once = {"checkpoint": {"every": 2}, "flows": []}
    loaded = config(BARE, steps=2, measurements=tables, figures=names, **once)
    result = run(loaded, tmp_path, progress=False)
    assert sorted(path.stem for path in (tmp_path / "figures").iterdir()) == sorted(names)
    tree = result.tree()
    assert values(tree, "discrete", "spectral_density").shape == (3, 20)
    assert values(tree, "discrete", "eigenvector_overlaps").shape == (3, 2, 2)
    eigenvalues = values(tree, "discrete", "eigenvalues")
    assert eigenvalues.shape == (3, 2)
    trace = values(tree, "discrete", "hessian_trace")
    assert trace[[0, 2]] == pytest.approx(eigenvalues.sum(axis=1)[[0, 2]], rel=1e-12)
    assert np.isnan(trace[1])
    assert np.isfinite(values(tree, "discrete", "step_sharpness")).all()
    assert tree["discrete"].attrs["groups"] == ["params"]
    assert values(tree, "discrete", "group_sharpness")[:, 0] == pytest.approx(eigenvalues[:, 0])


def built(loaded: Experiment) -> set[type]:
    """The measurements of a config, built."""
    with precision(loaded.precision):
        return {type(one) for one in build(loaded, loaded.name).measurements}


def test_the_sharpness_is_measured_unasked_where_it_costs_little() -> None:
    """Of few parameters; not of a network, not in a sweep, and not where that is said."""
    assert flows.Curvature in built(config(BARE))
    assert flows.Curvature not in built(config(BARE, curvature={"eigenvalues": 0}))
    assert flows.Curvature not in built(config(NO_TABLE))
    over = [{"key": "optimizer.learning_rate", "values": [0.1, 0.2]}]
    sweep = validate({**BARE, "sweep": {"over": over}})
    assert isinstance(sweep, SweepExperiment)
    assert not any(flows.Curvature in built(point.config) for point in points(sweep))


def test_a_figure_of_the_sharpness_needs_no_table_where_it_is_measured_unasked() -> None:
    """Elsewhere it is asked for: at once of a network, otherwise when parameters are counted."""
    assert config(BARE, figures=["sharpness"]).figures == ("sharpness",)
    with pytest.raises(ConfigError, match=r"figures: given 'sharpness', which needs .*add it"):
        config(NO_TABLE, figures=["sharpness"])
    start = [1.0] * (FEW_PARAMETERS + 1)
    many = {"kind": "quadratic", "spectrum": start, "start": start}
    with pytest.raises(ConfigError, match=r"figures: given 'sharpness', which needs .*add it"):
        built(config(BARE, potential=many, flows=[], figures=["sharpness"]))


@pytest.mark.parametrize("table", OF_EXAMPLES)
def test_a_measurement_of_examples_is_refused_before_the_run_where_there_are_none(table) -> None:
    """By the key of its table; a classifier has them."""
    with pytest.raises(
        ConfigError, match=r"measurements\[0\]: potential must be a potentials\.Sup"
    ):
        built(config(BARE, flows=[], measurements=[table]))
    data = {"kind": "digits", "examples": 10}
    network = {**NETWORK["potential"], "model": {"kind": "mlp", "hidden": [2]}, "data": data}
    assert built(config(NO_TABLE, potential=network, flows=[], measurements=[table]))


def test_a_figure_needs_its_measurement() -> None:
    """The table to add is named."""
    with pytest.raises(
        ConfigError, match=r"needs a table \[\[measurements\]\] of kind 'spectral_de"
    ):
        config(figures=["spectral_density"])


def test_the_table_says_why_a_column_is_empty(tmp_path: Path) -> None:
    """With a sentence below it, and nothing where all columns have values."""
    bare = config(flows=[], steps=2, curvature={"eigenvalues": 0}, checkpoint={"every": 2})
    shown = summary.table(quietly(bare, tmp_path).tree())
    said = str(shown.caption)
    assert "no sharpness: it is measured with a table [curvature]" in said
    assert "no tracking error: the config has no [[flows]]" in said
    cells = {str(column.header): list(column.cells) for column in shown.columns}
    assert cells["max\nsharpness"] == cells["tracking\nerror"] == ["-"]
