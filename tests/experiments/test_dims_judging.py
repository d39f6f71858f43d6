"""How studies of uncertainty judge: with made-up samples, in place of networks."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import potentials
from experiments import ConfigError, load_config
from experiments.config.build import build_study, precision
from experiments.studies import StudyExperiment, posteriors
from experiments.studies.dims_banana import DimsBanana
from experiments.studies.dims_ring import DimsRing
from experiments.studies.dims_uncertainty import METRICS, BananaSizes, DimsUncertainty
from experiments.uncertainty import scores
from experiments.uncertainty.examples import split_examples
from experiments.uncertainty.posteriors import Fit

SETTINGS: dict[str, Any] = {
    "hidden": 4,
    "samples": 4,
    "members": 2,
    "scales": (0.1, 0.3),
    "gravity": 10.0,
    "friction": 1.0,
    "tolerance": 1e-4,
    "max_time": 500.0,
}


def fit_of(outputs: Any) -> Fit:
    """Samples with these outputs, (samples, examples, outputs), whatever the inputs."""
    return Fit(lambda inputs: jnp.asarray(outputs), 1.0, 0.0)


def test_a_prediction_is_the_mean_of_the_samples_probabilities() -> None:
    """Of log odds 0 and log 9: (0.5 + 0.9) / 2, where the mean of the logits would give 0.75."""
    fit = fit_of([[[0.0, 0.0]], [[np.log(9.0), 0.0]]])
    assert scores.probabilities(fit, np.zeros((1, 1))) == pytest.approx(np.array([[0.7, 0.3]]))


def test_the_variance_of_a_regression_is_that_of_the_samples_and_of_the_noise() -> None:
    """Two samples 1 apart and noise 2: a normal of variance 1/4 + 4 around their mean."""
    data = potentials.Dataset(jnp.zeros((2, 1)), jnp.array([[0.5], [3.5]]))
    fit = fit_of([[[0.0], [1.0]], [[1.0], [2.0]]])
    mean, deviation = scores.regression_moments(fit, data.inputs)
    assert mean == pytest.approx([0.5, 1.5])
    assert deviation == pytest.approx([0.5, 0.5])
    expected = (np.log(2 * np.pi * 4.25) + (0 + 2.0**2 / 4.25) / 2) / 2
    assert scores.regression_score(data, 2.0)(fit) == pytest.approx(expected)


class Recorded:
    """A method whose log odds of class 1 are an input's first entry; it keeps what it is asked.

    `asked` are the inputs that predictions were made for, first those of the score that chooses;
    `hidden` the units of the networks.
    """

    def __init__(self, classes: int):
        self.classes = classes
        self.asked: list[np.ndarray] = []
        self.hidden: list[int] = []

    def choose(
        self, method: str, scales: Sequence[float], score: Callable[[Fit], float]
    ) -> tuple[Fit, float]:
        """Compute the score, and choose the last scale."""

        def predict(inputs: Any) -> Any:
            self.asked.append(np.asarray(inputs))
            return jnp.zeros((1, len(inputs), self.classes)).at[0, :, 1].set(inputs[:, 0])

        fit = Fit(predict, 1.0, 0.0)
        score(fit)
        return fit, scales[-1]


def record(monkeypatch: pytest.MonkeyPatch, classes: int) -> Recorded:
    """In place of a network and the methods around it; what it is trained on is asked first."""
    made = Recorded(classes)

    def train(study: Any, data: Any, seed: int, **options: Any) -> Any:
        made.asked.append(np.asarray(data.inputs))
        made.hidden.append(study.hidden)
        return made

    monkeypatch.setattr(posteriors, "train", train)
    return made


def table(**changes: Any) -> DimsUncertainty:
    """A study of two methods on wine."""
    given: dict[str, Any] = {
        "kind": "dims_uncertainty",
        "train": 40,
        "validation": 30,
        "data": ("wine",),
        "banana": BananaSizes(hidden=7, train=10),
        "smoothing": 0.05,
        "seeds": (3, 4, 5),
        "methods": ("laplace", "dims"),
    }
    return DimsUncertainty(**(given | SETTINGS | changes))


def banana() -> DimsBanana:
    """A study of one method on the banana problem."""
    return DimsBanana(
        kind="dims_banana",
        train=10,
        validation=30,
        noise=0.25,
        smoothing=0.05,
        seed=3,
        methods=("laplace",),
        **SETTINGS,
    )


@pytest.mark.parametrize(
    ("name", "train", "hidden", "classes"), [("wine", 40, 4, 3), ("banana", 10, 7, 2)]
)
def test_a_table_chooses_scales_with_validation_examples(
    monkeypatch: pytest.MonkeyPatch, name: str, train: int, hidden: int, classes: int
) -> None:
    """Not with those that judge; the banana problem has its own numbers of examples and units."""
    recorded = record(monkeypatch, classes)
    with precision("float64"):
        parts = split_examples(name, train, 30, 3)
        data = table(data=(name,), methods=("laplace",)).compute(f"{name}-3")
    trained, chose, judged = recorded.asked
    assert np.array_equal(trained, np.asarray(parts.train.inputs))
    assert np.array_equal(chose, np.asarray(parts.held_out.inputs))
    assert np.array_equal(judged, np.asarray(parts.test.inputs))
    assert (len(trained), recorded.hidden) == (train, [hidden])
    assert data["scale"].values == pytest.approx([0.3])


def test_a_map_chooses_scales_with_validation_examples_and_has_its_own_axes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The probability depends on the first coordinate alone, as 1 / (1 + exp(-x0))."""
    recorded = record(monkeypatch, 2)
    with precision("float64"):
        study = banana()
        first, rest = potentials.banana(70, 0.25, 3).split(10, 3)
        validation, test = rest.split(30, 3)
        data = study.compute("laplace")
    trained, chose, grid, judged = recorded.asked
    for inputs, expected in ((trained, first), (chose, validation), (judged, test)):
        assert np.array_equal(inputs, np.asarray(expected.inputs))
    assert len(grid) == data["probability"].size
    expected = 1 / (1 + np.exp(-data["x0"]))
    assert np.abs(data["probability"] - expected).max() < 1e-12


def test_a_mean_over_seeds_has_its_standard_error() -> None:
    """Of 1, 2 and 6: the mean 3 and sqrt((4 + 1 + 9) / 2 / 3); of one seed there is none."""
    study = table()
    runs = {}
    for seed, value in zip((3, 4, 5), (1.0, 2.0, 6.0), strict=True):
        values = np.full((2, len(METRICS)), np.nan)
        values[1, METRICS.index("brier")] = value
        variables = {
            "value": (("method", "metric"), values),
            "kept": ("method", np.ones(2)),
            "training_loss": ("method", np.array([0.0, 1e-9 * value])),
        }
        runs[f"wine-{seed}"] = xr.Dataset(variables, attrs={"data": "wine", "seed": seed})
    found = {one.quantity: one for one in study.conclude(runs)}
    brier = found["wine, brier: dims"]
    assert brier.measured == pytest.approx(3.0)
    assert brier.standard_error == pytest.approx(np.sqrt(7 / 3))
    assert found["wine, largest training loss"].measured == pytest.approx(6e-9)
    (alone,) = (
        one
        for one in study.conclude({"wine-5": runs["wine-5"]})
        if one.quantity == "wine, brier: dims"
    )
    assert (alone.measured, alone.standard_error) == (6.0, None)


def test_a_map_of_no_samples_at_all_has_conclusions() -> None:
    """Its metrics are not numbers, which a store leaves out of the attributes."""
    study = banana()
    data = xr.Dataset({"probability": (("x0", "x1"), np.full((3, 3), np.nan))}, attrs={"kept": 0.0})
    found = {one.quantity: one.measured for one in study.conclude({"laplace": data})}
    assert found["laplace: share of samples that count"] == 0.0
    assert np.isnan(found["laplace: nll of other points"])


def test_a_ring_tells_who_rests_and_how_far_from_the_circle() -> None:
    """Three of four; a loss of E / grav at distance sqrt(E / grav) / r, to first order."""
    study = DimsRing(
        kind="dims_ring",
        radius=2.0,
        gravity=10.0,
        friction=0.5,
        speeds=(3.0,),
        samples=4,
        tolerance=1e-9,
        max_time=200.0,
        seed=0,
    )
    # The loss (|w|^2 - r^2)^2 / 4 is tolerance / gravity = 1e-10 there; the last one still moves.
    radii = np.sqrt(4 + 2 * np.array([0.0, 1e-5, 5e-6, 1.0]))
    variables = {
        "params": (("sample", "parameter"), np.stack([radii, 0 * radii], axis=1)),
        "angle": ("sample", np.array([0.0, 1.0, -1.0, 90.0])),
        "stopping_time": ("sample", np.array([1.0, 2.0, 6.0, 200.0])),
        "converged": ("sample", np.array([True, True, True, False])),
    }
    data = xr.Dataset(variables, attrs={"speed": 3.0})
    found = {one.quantity: one for one in study.conclude({"speed-3": data})}
    rested = found["share of samples at rest at speed 3"]
    assert (rested.measured, rested.predicted) == (0.75, 1.0)
    farthest = found["largest r | |w| - r | / sqrt(E / grav) at speed 3 (at most)"]
    # The second order is smaller by a factor of 1e-5.
    assert farthest.measured == pytest.approx(1.0, rel=1e-4)
    spread = found["deviation of the angle at speed 3 (v / (gamma r))"]
    assert (spread.measured, spread.predicted) == (pytest.approx(np.sqrt(2 / 3)), 3.0)
    assert found["mean stopping time at speed 3"].measured == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        # 3 weights for each unit, one of the two outputs: 4 * 4 + 1.
        ("dims-banana", ["hidden=4"], r"study\.hidden: given 4, a network of 17 independent wei"),
        ("dims-regression", ["hidden=3"], r"study\.hidden: .* 10 .* for 12 .* at least 4"),
        ("dims-uncertainty", ["banana.train=90"], r"study\.banana\.hidden: given 16, .* 65 .* 90"),
        ("dims-uncertainty", ["hidden=1"], r"study\.hidden: given 1, .* 160 independent targets"),
        ("dims-uncertainty", ["banana.train=360"], r"study\.banana\.train: given 360; .* 410"),
    ],
)
def test_networks_without_more_weights_than_targets_are_refused(
    name: str, changes: list[str], says: str
) -> None:
    """They have no set of minima."""
    config = load_config(name, [f"study.{one}" for one in changes])
    assert isinstance(config, StudyExperiment)
    with precision("float64"), pytest.raises(ConfigError, match=says):
        build_study(config, name)
