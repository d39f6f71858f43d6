"""The studies of adaptive methods: growth rates at two-cycles, and thresholds of optax."""

import math

import numpy as np
import pytest

from experiments import ConfigError, load_config
from experiments.config.build import build_study, precision
from experiments.studies import AbstractStudy, StudyExperiment
from experiments.studies.adam_bursts import fitted_rate

# THEORY 7.3: growth per step by the multiplier, and of the rod flow, in the order of the config.
RATES = {
    "rmsprop-b2-0.99": (-0.005025, -0.005051),
    "nadam-b1-0.9-b2-0.99": (-0.001674, -0.001750),
    "adam-b1-0.1-b2-0.99": (-0.002543, -0.002616),
    "adam-b1-0.9-b2-0.999": (0.048243, 0.045807),
    "adam-b1-0.9-b2-0.99": (0.134254, 0.122434),
}


def study_of(name: str, *changes: str) -> AbstractStudy:
    """The study of a built-in config."""
    loaded = load_config(name, list(changes))
    assert isinstance(loaded, StudyExperiment)
    with precision("float64"):
        return build_study(loaded, "mine")


# Each compiles for seconds.
CASES = [pytest.param(part, marks=pytest.mark.slow) for part in [*RATES][:-1]] + [[*RATES][-1]]


@pytest.mark.slow
@pytest.mark.parametrize("part", CASES)
def test_iterates_leave_or_approach_the_two_cycle_as_theory_says(part: str) -> None:
    """And those that leave it burst, to several times its amplitude and past the edge."""
    study = study_of("adam-bursts")
    assert set(study.parts) == set(RATES)
    with precision("float64"):
        data = study.compute(part)
    multiplier, rod = RATES[part]
    assert data.attrs["multiplier_growth"] == pytest.approx(multiplier, rel=3e-4)
    assert data.attrs["rod_growth"] == pytest.approx(rod, rel=1e-3)
    # What is not linear grows as the deviation, up to a thousandth of the two-cycle.
    assert data.attrs["growth"] == pytest.approx(data.attrs["multiplier_growth"], rel=1e-3)
    late = data["amplitude"].values[-375:]
    ratio = data["sharpness_ratio"].values[-375:]
    if multiplier > 0:
        assert late.max() > 2
        assert late.min() < 0.1
        assert ratio.max() > 1.005
    else:
        # 1500 steps are few for NAdam.
        assert np.abs(late - 1).max() < 0.15
        assert np.abs(ratio - 1).max() < 0.01


def test_a_rate_is_fitted_before_a_deviation_is_large() -> None:
    """The rest of it does not count; nor does one that is never small."""
    deviation = np.concatenate([1e-6 * np.exp(0.1 * np.arange(60)), np.ones(40)])
    assert fitted_rate(deviation) == pytest.approx(0.1, rel=1e-12)
    decaying = np.maximum(1e-6 * np.exp(-0.5 * np.arange(100)), 1e-15)
    assert fitted_rate(decaying) == pytest.approx(-0.5, rel=1e-12)
    assert math.isnan(fitted_rate(np.ones(20)))


@pytest.mark.slow
def test_transformations_without_a_threshold_are_found_to_have_none() -> None:
    """Those that jump at rest are refused; the thresholds of others are rows of `validate`."""
    study = study_of("thresholds-optax", "study.families=['none']")
    data = study.compute("none")
    measured = dict(zip(data["transformation"].values, data["measured"].values, strict=True))
    assert math.isinf(measured.pop("polyak_sgd"))
    assert set(measured) == {"lion", "sign_sgd", "muon"}
    assert np.isnan(list(measured.values())).all()
    assert all(data["reason"].values)
    (counted,) = study.conclude({"none": data})
    assert counted.measured == counted.predicted == 4


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("adam-bursts", "study.methods=[{kind='rmsprop', b1=0.9, b2=0.9}]", "b1: .*no momentum"),
        ("adam-bursts", "study.methods=[{kind='adam', b2=0.9}]", "b1: missing; Adam needs"),
        ("adam-bursts", "study.methods=[{kind='adam', b1=1.0, b2=0.9}]", "b1.*less than 1"),
        (
            "adam-bursts",
            "study.methods=[{kind='rmsprop', b2=0.9}, {kind='rmsprop', b2=0.9}]",
            r"methods\[1\].*each must be its own",
        ),
        ("thresholds-optax", "study.families=['sign']", r"families\[0\].*must be"),
        ("thresholds-optax", "study.families=['none', 'none']", "families.*each entry once"),
    ],
)
def test_studies_without_a_run_are_refused(name: str, changes: str, message: str) -> None:
    """With the key to blame."""
    with pytest.raises(ConfigError, match=message):
        load_config(name, [changes])
