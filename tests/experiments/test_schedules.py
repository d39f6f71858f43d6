"""Schedules and weight decay in configs: optax's functions, messages, stores, sweeps, plugins."""

import inspect
import tomllib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flows
from experiments import ConfigError, load, load_config, load_sweep, run_sweep
from experiments.config.build import build, precision
from experiments.config.loader import to_toml, validate
from experiments.report.summary import SWEEP
from experiments.runs.experiment_task import ExperimentTask
from experiments.tables.schedules import SCHEDULES
from tests.experiments.runs import quietly
from tests.helpers import assert_trees_close

# Every schedule function that a kind stands for, with what is left out of it since it jumps.
FUNCTIONS = {
    "constant": optax.constant_schedule,
    "linear": optax.linear_schedule,
    "polynomial": optax.polynomial_schedule,
    "cosine_decay": optax.cosine_decay_schedule,
    "exponential_decay": optax.exponential_decay,
    "piecewise_interpolate": optax.piecewise_interpolate_schedule,
    "warmup_constant": optax.warmup_constant_schedule,
    "warmup_cosine": optax.warmup_cosine_decay_schedule,
    "warmup_exponential_decay": optax.warmup_exponential_decay_schedule,
}
JUMPS = {"staircase"}
GIVEN = {
    "value": 0.2,
    "init_value": 0.1,
    "end_value": 0.05,
    "peak_value": 0.3,
    "power": 2.0,
    "transition_steps": 10,
    "warmup_steps": 5,
    "decay_steps": 20,
    "decay_rate": 0.9,
    "interpolate_type": "cosine",
    "boundaries_and_scales": ((4, 2.0), (8, 0.5)),
}
WARMUP = "{kind='warmup_cosine', init_value=0, peak_value=0.3, warmup_steps=6, decay_steps=18}"
SMALL = ("steps=20", "flows=[{kind='gradient'}]", "figures=['overview']")


def with_rate(table: str) -> str:
    """An assignment of the learning rate."""
    return f"optimizer.learning_rate={table}"


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_kind_is_a_function_of_optax(kind):
    """Its keys are the arguments, with their defaults, and it gives the same numbers."""
    table, parameters = SCHEDULES.entries[kind], inspect.signature(FUNCTIONS[kind]).parameters
    fields = {name: one for name, one in table.model_fields.items() if name != "kind"}
    assert set(fields) == set(parameters) - JUMPS
    for name, one in fields.items():
        default = parameters[name].default
        if name != "boundaries_and_scales":  # Without these it would be constant.
            assert one.is_required() == (default is inspect.Parameter.empty), name
            assert one.is_required() or one.default == default, name
    given = {name: GIVEN[name] for name in fields if name in GIVEN}
    schedule = table(kind=kind, **given).build()
    arguments = {k: dict(v) if isinstance(v, tuple) else v for k, v in given.items()}
    expected = FUNCTIONS[kind](**arguments)
    for t in (0.0, 2.5, 7.0, 30.0):
        assert float(flows.Schedule(schedule)(t)) == float(flows.Schedule(expected)(t))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("'fast'", "learning_rate: given 'fast'; must be a number, or a table .* warmup_cosine"),
        ("true", "learning_rate: given true; must be a number, or a table"),
        ("-0.1", "learning_rate: given -0.1; must be greater than 0"),
        ("{}", "learning_rate.kind: missing; must be one of constant, cosine_decay"),
        ("{kind='warmup_cosin'}", "did you mean 'warmup_cosine'"),
        (
            WARMUP.replace("peak", "top"),
            r"top_value: unknown key; did you mean 'peak_value'\? \(allowed here",
        ),
        (WARMUP.replace("0.3", "-0.3"), "peak_value: given -0.3; must be greater than 0"),
        (WARMUP.replace("18", "6"), "decay_steps: given 6; must be above warmup_steps = 6"),
        (
            "{kind='polynomial', init_value=0.1, end_value=0.2, power=0.5, transition_steps=9}",
            "power: given 0.5; must be at least 1: below, the schedule has no finite rate",
        ),
        (
            "{kind='cosine_decay', init_value=0.1, decay_steps=9, exponent=0.9}",
            "exponent: given 0.9; must be at least 1",
        ),
        (
            "{kind='piecewise_interpolate', init_value=0.1, interpolate_type='linear', "
            "boundaries_and_scales=[[9, 0.5], [3, 0.1]]}",
            r"boundaries_and_scales: given the steps \[9, 3\]",
        ),
    ],
)
def test_mistakes_are_named(table, message):
    """By key, with what is allowed."""
    with pytest.raises(ConfigError, match=message):
        load_config("valley", [with_rate(table)])


def test_a_schedule_goes_through_a_written_config():
    """Whatever the optimizer; single keys can be set, but not below a number."""
    others = {"gradient_descent": "", "optax": ", name='adam'", "rolling_ball": ", radius=0.1"}
    for kind in ("gradient_descent", "heavy_ball", "nesterov", "optax", "rolling_ball"):
        more = others.get(kind, ", momentum=0.9")
        optimizer = f"optimizer={{kind='{kind}', learning_rate={WARMUP}{more}}}"
        changed = ["flows=[{kind='ball_centre'}]"] if kind == "rolling_ball" else []
        config = load_config(
            "valley", [optimizer, *changed, "optimizer.learning_rate.peak_value=0.2"]
        )
        assert config.optimizer.learning_rate.peak_value == 0.2
        assert validate(tomllib.loads(to_toml(config))) == config
    with pytest.raises(ConfigError, match=r"learning_rate is 0\.3, not a table that 'kind' could"):
        load_config("valley", ["optimizer.learning_rate.kind=linear"])
    ball = f"optimizer={{kind='rolling_ball', radius={WARMUP}, learning_rate=0.1}}"
    with pytest.raises(ConfigError, match="radius: given a table; must be a number"):
        load_config("valley", [ball, "flows=[]"])


@pytest.mark.slow
def test_a_run_stores_its_threshold_as_a_curve(tmp_path):
    """2/eta at each saved step of the discrete run, through a resumed run too, and no constant."""
    more = ("save_every=2", "checkpoint.every=10", "curvature.every=2")
    short = [*SMALL, *more, with_rate(WARMUP)]
    for steps, options in ((10, {}), (20, {"resume": True})):
        config = load_config("valley", [*short, f"steps={steps}"])
        quietly(config, tmp_path / "run", **options)
    tree = load(tmp_path / "run")
    found = tree["discrete"]["critical_sharpness"]
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.3, 6, 18)
    steps = jnp.asarray(found["step"].values, float)
    expected = 2 / jax.vmap(flows.Schedule(schedule))(steps)
    assert len(found) == 11
    assert_trees_close(jnp.asarray(found.values), expected, rtol=1e-13)
    assert found.attrs["units"] == "loss / parameter^2"
    assert found.attrs["long_name"]
    assert "critical_sharpness" not in tree["gradient"]
    assert not np.isfinite(tree.attrs.get("critical_sharpness", np.nan))
    assert tree.attrs["learning_rate"].startswith("warmup_cosine(init_value=0.0, peak_value=0.3")


def attributes(path: Path, *overrides: str) -> dict[str, Any]:
    """Those that the store of a run gets."""
    config = load_config("valley", overrides)
    with precision(config.precision):
        return ExperimentTask(path, config, build(config, "valley")).attributes


def test_a_scheduled_transformation_of_optax_has_no_constant_threshold(tmp_path):
    """Its number late in a run would be wrong before."""
    linear = "{kind='linear', init_value=0.01, end_value=0.1, transition_steps=50}"
    for rate, known in ((linear, False), ("0.1", True)):
        optimizer = f"optimizer={{kind='optax', name='sgd', learning_rate={rate}}}"
        assert np.isfinite(attributes(tmp_path, optimizer)["critical_sharpness"]) == known


@pytest.mark.slow
def test_a_sweep_varies_a_key_of_a_schedule(tmp_path):
    """In batches, of other potentials, and alone; without one number for the threshold."""
    keys = ("optimizer.learning_rate.peak_value=0.2,0.3", "potential.zeta=1.0,1.1")
    sweep = load_sweep("valley", (*SMALL, "flows=[]", with_rate(WARMUP)), keys)
    run_sweep(sweep, tmp_path / "sweep", draw=False, progress=False)
    data = load(tmp_path / "sweep")[SWEEP].to_dataset()
    assert data["final_loss"].sizes["peak_value"] == 2
    assert np.isfinite(data["final_loss"]).all()
    assert float(data["final_loss"].diff("peak_value").max()) < 0
    assert np.isnan(data["critical_sharpness"]).all()


def test_weight_decay_is_a_key_of_gradient_descent(tmp_path):
    """With its threshold and the formula of it."""
    for decay, label in ((0.5, "(2 - eta lambda)/eta"), (0.0, "2/eta")):
        found = attributes(tmp_path, f"optimizer.weight_decay={decay}")
        assert found["critical_sharpness"] == 2 / 0.3 - decay
        assert found["critical_label"] == label
    with pytest.raises(ConfigError, match="weight_decay: given -1; must be at least 0"):
        load_config("valley", ["optimizer.weight_decay=-1"])
