"""The built-in experiments: each runs, and shows what its description says."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
import xarray as xr
from jaxtyping import Array, PyTree

from experiments import Experiment, builtin_names, load_config, run
from experiments.config.build import build, build_study, precision
from experiments.config.schema import Config
from experiments.studies import AbstractStudy, StudyExperiment
from experiments.sweep import points
from experiments.tables import SweepExperiment
from experiments.uncertainty.methods import METHODS
from flows import AbstractFlow, AbstractOptimizer, Potential
from tests.experiments.configs import values

SHORT = ["steps=8", "save_every=4", "checkpoint.every=8", "curvature.every=8", "figures=[]"]
# Compiling takes most of a short run, and less for a small network.
SMALL = ["potential.model.channels=[2]", "potential.data.examples=20"]
# What runs here; flows of the edge of stability run in tests of their own.
RUN = {"valley": [], "digits-cnn": SMALL, "rod-momentum": []}
UNABRIDGED = ("scalar-product", "quartic-descent", "quadratic-stability")
# The kinds of these run in tests of their own, smaller.
STUDIES_TESTED = ("central-scaling", "rod-quartic", "panel")
# The friction laws, and the posteriors, have tests of their own; each compiles for seconds.
VISCOUS = "study.frictions=[{label='viscous', friction={kind='viscous', coefficient=1.0}}]"
TINY = ["study.samples=4", "study.scales=[0.1]", "study.hidden=4"]
# Of each sort one that compiles for a short time runs always, and the others with the slow tests.
QUICK = ("valley", "ball-minima", "thresholds-optax", "sam-cycle")
# Which parts are computed of the other studies (all, if none are named), and what makes them small.
STUDIES = {
    "ball-minima": (["weierstrass_sine"], ["study.points=20001", "study.radii=[0.03]"]),
    "ball-ironing": (["radius-0.1"], ["study.points=20001", "study.terms=8"]),
    "ball-pits": (["ground", "radius-0.02", "radius-1"], ["study.horizon=5.0", "study.saves=5"]),
    "ball-unreachable": (["quadratic"], ["study.points=2", "study.horizon=0.5"]),
    "ball-limit": (["learning_rate"], ["study.horizon=0.2", "study.steps=[4, 8, 16]"]),
    "ball-digits-mlp": (
        ["radius-0.02", "flow-0.02"],
        [
            "study.radii=[0.02]",
            "study.steps=2",
            "study.save_every=1",
            "study.potential.model.hidden=[4]",
            "study.potential.data.examples=20",
        ],
    ),
    "adaptive-order": (["alternation-0.9"], ["study.points=2", "study.horizon=0.4"]),
    "adaptive-valley": (["rmsprop"], ["study.steps=10", "study.models=['central', 'rod']"]),
    "manifold-edges": (
        ["circle", "mean", "toda"],
        ["study.rates=4", "study.spreads=3", "study.horizon=2"],
    ),
    "manifold-digits-mlp": (
        ["rsam-stiefel-0.2"],
        [
            "study.steps=2",
            "study.save_every=1",
            "study.potential.model.hidden=[4]",
            "study.potential.data.examples=20",
        ],
    ),
    "parity-order": (["order-2"], ["study.points=2", "study.horizon=20.0"]),
    "parity-rounding": (["float64"], ["study.steps=60"]),
    "parity-two-cycles": (
        ["gradient_descent"],
        ["study.steps=150", "study.points=3", "study.orders=[2]"],
    ),
    "glass-powers": (
        ["relu", "examples"],
        [
            "study.activations=['relu']",
            "study.width=2",
            "study.examples=10",
            "study.numbers=[10, 40]",
            "study.lengths=4",
            "study.probes=2",
            "study.sigma=0.3",
            "study.shortest=0.03",
        ],
    ),
    "alice-flow": (["order"], ["study.horizon=1.0", "study.shares=[0.1, 0.05]"]),
    "alice-terms": (["both"], ["study.shares=[0.1]", "study.examples=10", "study.steps=2"]),
    "adam-bursts": (
        ["rmsprop-b2-0.99"],
        ["study.methods=[{kind='rmsprop', b2=0.99}]", "study.steps=50"],
    ),
    "thresholds-optax": (["gradient"], []),
    "sam-cycle": (["sam"], ["study.points=3"]),
    "dims-ring": ([], ["study.speeds=[1.0]", "study.samples=8"]),
    "dims-energy": ([], [VISCOUS, "study.horizon=1.0", "study.saves=10"]),
    "dims-limit": ([], ["study.frictions=[4.0, 8.0, 16.0]"]),
    "dims-valley": ([], [VISCOUS, "study.horizon=1.0", "study.saves=10"]),
    "dims-regression": ([], [*TINY, "study.methods=['laplace']", "study.train=4"]),
    "dims-banana": ([], [*TINY, "study.methods=['map']", "study.train=6"]),
    "dims-uncertainty": (
        ["digits-0"],
        [
            *TINY,
            "study.members=1",
            "study.train=9",
            "study.data=['digits']",
            "study.tolerance=1e-2",
        ],
    ),
}
# How close the balls come to what is predicted of them, in so small a study: orders are measured
# far from the limit, and a coarse grid misses minima that are closest to each other.
AGREEMENT = {
    "ball-limit": {"rel": 0.15},
    "ball-unreachable": {"abs": 1e-9},
    "ball-ironing": {"abs": 0.0},
    "ball-minima": {"rel": 0.05},
    "manifold-edges": {"abs": 1e-7},
    # That of the rod flow is the largest.
    "adam-bursts": {"rel": 0.01},
    "thresholds-optax": {"rel": 1e-8},
    "sam-cycle": {"abs": 1e-8},
}
# Traced for seconds, and others of the same flows are traced always.
LONG_TO_TRACE = (
    "central-chebyshev",
    "central-digits-cnn",
    "nadam-digits-mlp",
    "parity-adam",
    "parity-digits-mlp",
    "rmsprop-digits-mlp",
    "rod-digits-cnn",
)
OTHERS = {*builtin_names()} - {*STUDIES_TESTED, *STUDIES, *UNABRIDGED, *QUICK}


def named(names: Iterable[str]) -> list[Any]:
    """The names as cases of a test, slow where they are not among the quick ones."""
    return [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in sorted(names)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in LONG_TO_TRACE else ())
        for name in sorted(OTHERS)
    ],
)
def test_every_other_built_in_moves(name: str) -> None:
    """Traced, not compiled: a step, or a flow's rate, has the shapes of what it changes."""
    config = load_config(name)
    if isinstance(config, SweepExperiment):
        config = points(config)[0].config
    assert isinstance(config, Experiment)
    with precision(config.precision):
        built = build(config, name)
        params = built.params
        after = eqx.filter_eval_shape(stepped, built.optimizer, built.potential, params)
        assert shapes(after) == shapes(params)
        for one in built.flows:
            begin, rate, observed = eqx.filter_eval_shape(moved, one.flow, built.potential, params)
            assert shapes(begin) == shapes(rate)
            assert set(one.flow.variables) == set(observed)
    assert {flow.label for flow in built.flows} == {flow.label for flow in config.flows}


def stepped(optimizer: AbstractOptimizer, potential: Potential, params: PyTree[Array]):
    """Where a step of the optimizer leads."""
    return optimizer.params(optimizer.step(optimizer.init(params), potential))


def moved(flow: AbstractFlow, potential: Potential, params: PyTree[Array]):
    """A flow's state, its rate of change, and the observables."""
    state = flow.init(potential, params)
    return state, flow.vector_field(0.0, state, potential), flow.observables(state, potential)


def shapes(tree: PyTree[Array]) -> list[tuple[tuple[int, ...], str]]:
    """Shape and dtype of every leaf."""
    return [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("name", named(RUN))
def test_built_ins_run(name: str, tmp_path: Path) -> None:
    """With every trajectory, and curvature that is finite."""
    check_that_it_runs(load_config(name, [*SHORT, *RUN[name]]), tmp_path / name)


@pytest.mark.parametrize("name", named(STUDIES))
def test_studies_compute_their_parts(name: str) -> None:
    """One of each sort, and finite conclusions from what there is."""
    parts, changes = STUDIES[name]
    config = load_config(name, changes)
    assert isinstance(config, StudyExperiment)
    with precision(config.precision):
        study = build_study(config, name)
        assert {*parts} <= {*study.parts}
        found = {part: study.compute(part) for part in parts or study.parts}
        conclusions = study.conclude(found)
    for one in conclusions:
        if name in AGREEMENT and one.predicted is not None:
            assert one.measured == pytest.approx(one.predicted, **AGREEMENT[name]), one.quantity
    if name == "ball-pits":
        # A small ball falls into the pits that are nearest, a large one rolls over all of them.
        apart, together = (one.measured for one in conclusions)
        assert apart > 0.1
        assert together < 1e-6
    if name == "dims-uncertainty":
        check_uncertainty(found, study)
    for data in found.values():
        # What a data set has not, such as other images, is not a number.
        assert not any(np.isinf(variable.values).any() for variable in data.values())
    assert conclusions
    assert np.isfinite([one.measured for one in conclusions]).all()


def check_uncertainty(found: dict[str, xr.Dataset], study: AbstractStudy) -> None:
    """Every method is judged by every metric, and its samples and members are counted.

    A network of rank 4 tells five classes apart, whose logits have one number too many.
    """
    conclusions = {one.quantity for one in study.conclude(found)}
    assert study.attributes["smoothing"] == 0.05
    for data in found.values():
        assert tuple(data["method"].values) == METHODS
        values = data["value"]
        assert np.isfinite(values).all()
        for metric, most in (("brier", 2), ("ece", 1), ("accuracy", 1), ("auroc", 1)):
            one = values.sel(metric=metric)
            assert ((one >= 0) & (one <= most)).all()
        assert (data["training_loss"] <= 1e-8).all()
        assert (data["kept"] == 1).all()
        scales = dict(zip(METHODS, data["scale"].values, strict=True))
        assert scales["dims"] == scales["laplace"] == 0.1
        assert np.isnan([scales["map"], scales["deep_ensemble"]]).all()
    for method in ("dims", "riemannian_laplace", "deep_ensemble"):
        assert f"digits, share of samples that count: {method}" in conclusions
    assert "digits, largest training loss" in conclusions


def check_that_it_runs(config: Config, path: Path) -> None:
    """Run a config of eight steps and look at what it stored."""
    assert isinstance(config, Experiment)
    result = run(config, path, draw=False, progress=False)
    assert result.status == "finished"
    tree = result.tree()
    for label in ("discrete", *(flow.label for flow in config.flows)):
        np.testing.assert_array_equal(values(tree, label, "step"), [0, 4, 8])
        assert np.isfinite(values(tree, label, "loss")).all()
        assert np.isfinite(values(tree, label, "sharpness")[[0, 2]]).all()


@pytest.mark.slow
def test_scalar_product_ends_where_the_closed_form_says(tmp_path: Path) -> None:
    """Gradient flow conserves x^2 - y^2 and ends at sharpness sqrt(4 + (x0^2 - y0^2)^2)."""
    tree = run(load_config("scalar-product"), tmp_path / "run", draw=False, progress=False).tree()
    flow = tree["gradient_flow"].to_dataset()
    x, y = flow["params"].values.T
    # The solver's tolerance is 1e-8 per step, and the end is reached exponentially.
    assert np.abs(x**2 - y**2 - 6.0).max() < 1e-6
    assert flow["sharpness"].values[-1] == pytest.approx(np.sqrt(40.0), rel=1e-6)
    end = values(tree, "discrete", "params")[-1]
    assert end == pytest.approx([1.7365475, 0.5758553], abs=1e-6)


@pytest.mark.slow
def test_quartic_descent_settles_on_the_two_cycle(tmp_path: Path) -> None:
    """a^2 = S/Q - 2/(eta Q) = 0.1, around a flow that goes to the minimum."""
    tree = run(load_config("quartic-descent"), tmp_path / "run", draw=False, progress=False).tree()
    last = values(tree, "discrete", "params")[-2:, 0]
    assert last**2 == pytest.approx(0.1, rel=1e-6)
    assert last[0] * last[1] < 0
    assert abs(values(tree, "gradient_flow", "params")[-1, 0]) < 1e-6


@pytest.mark.slow
def test_quadratic_stability_grows_along_the_sharp_direction_alone(tmp_path: Path) -> None:
    """Each coordinate follows (1 - eta lambda)^t."""
    config = load_config("quadratic-stability", ["flows=[]", "figures=[]"])
    tree = run(config, tmp_path / "run", draw=False, progress=False).tree()
    steps = values(tree, "discrete", "step")[:, None]
    rates = 1 - 0.1 * np.array([20.2, 2.0])
    expected = np.array([0.1, 1.0]) * rates**steps
    np.testing.assert_array_almost_equal_nulp(
        values(tree, "discrete", "params")[:10], expected[:10], 64
    )
    assert np.abs(values(tree, "discrete", "params") - expected).max() < 1e-12
