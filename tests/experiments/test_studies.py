"""Studies: their parts, their conclusions, and that a run of one is a run like any other."""

import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import xarray as xr

import experiments
import flows
from experiments import ConfigError, DirectoryError, load, load_config, run
from experiments.cli import main
from experiments.config.build import build_study, precision
from experiments.config.loader import validate
from experiments.run_directory.directory import read_environment
from experiments.studies import StudyExperiment
from experiments.studies.central_scaling import CentralScaling
from experiments.sweep.grid import load_sweep
from tests.experiments.configs import STUDY, VALLEY, write
from tests.experiments.runs import assert_same_results

PARTS = ("deviation-0.01", "deviation-0.001", "energy-0", "energy-1")


def study(**changes: Any) -> StudyExperiment:
    """The small study with some keys of its table replaced."""
    loaded = validate({**STUDY, "study": {**STUDY["study"], **changes}})
    assert isinstance(loaded, StudyExperiment)
    return loaded


def quietly(path: Path, **options: Any) -> Any:
    """Run the small study without a bar."""
    return run(study(), path, progress=False, **options)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the small study."""
    path = tmp_path_factory.mktemp("studies") / "done"
    assert quietly(path).status == "finished"
    return path


def failing(monkeypatch: pytest.MonkeyPatch, part: str, error: Exception | KeyboardInterrupt):
    """Let a part raise instead of being computed."""
    original = CentralScaling.compute

    def compute(self: CentralScaling, name: str) -> xr.Dataset:
        if name == part:
            raise error
        return original(self, name)

    monkeypatch.setattr(CentralScaling, "compute", compute)


def conclusions(tree: xr.DataTree) -> Mapping[str, tuple[float, float]]:
    """Measured and predicted, by quantity."""
    data = tree["conclusions"].to_dataset()
    columns = (data[name].values.tolist() for name in ("quantity", "measured", "predicted"))
    return {quantity: (m, p) for quantity, m, p in zip(*columns, strict=True)}


@pytest.mark.slow
def test_a_study_directory_holds_its_parts_and_its_conclusions(done: Path) -> None:
    """One group each, with units on every variable, beside config and environment."""
    # Nothing is drawn at random, and a study that draws something has a seed in its own table.
    assert "precision" in read_environment(done)
    for held in (read_environment(done), tomllib.loads((done / "config.toml").read_text())):
        assert "seed" not in held
    assert {entry.name for entry in done.iterdir()} == {
        "config.toml",
        "environment.json",
        "results.zarr",
    }
    tree = load(done)
    assert set(tree.children) == {*PARTS, "conclusions"}
    assert (tree.attrs["kind"], tree.attrs["study_kind"]) == ("study", "central_scaling")
    assert tree.attrs["critical_sharpness"] == pytest.approx(2 / 0.3)
    for name in PARTS:
        for variable in tree[name].data_vars.values():
            assert variable.attrs["units"]
            assert variable.attrs["long_name"]


@pytest.mark.slow
def test_the_deviation_is_the_largest_distance_of_midpoints_from_the_flow(done: Path) -> None:
    """Of 30 steps, against the bare recursion and the stored flow."""
    data = load(done)["deviation-0.01"].to_dataset()
    path = [np.array([0.1, 2 / 0.3])]
    for _ in range(len(data["step"])):
        x, y = path[-1]
        path.append(path[-1] - 0.3 * np.array([(y + x) * x + x**2 / 2 - 0.01, x**2 / 2 - 0.01]))
    iterates = np.stack(path)
    y = (iterates[:-2] + 2 * iterates[1:-1] + iterates[2:])[:, 1] / 4
    assert np.abs(data["y"].values[1:] - y).max() < 1e-12
    assert data.attrs["largest_deviation"] == data["distance"].values.max()
    assert (data["distance"].values >= np.abs(data["y"] - data["centre_y"]).values - 1e-12).all()


@pytest.mark.slow
def test_conclusions_set_what_was_measured_beside_what_theory_says(done: Path) -> None:
    """One per epsilon, their power, and one per zeta."""
    found = conclusions(load(done))
    assert len(found) == 5
    measured, predicted = found["power of epsilon in the deviation"]
    assert predicted == 0.5
    # Two runs of a tenth of the full length: only the order is right.
    assert 0.3 < measured < 0.7
    assert found["(dE/dt3) / <y1^2> at zeta = 1"][1] == pytest.approx(0.09 * (2 - 9))
    assert np.isnan(found["largest deviation at epsilon = 0.01"][1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zeta", "rate"), [(0.0, 0.180006), (0.25, 0.129367), (0.5, -0.022499), (1.0, -0.629968)]
)
def test_the_energy_law_of_the_valley(zeta: float, rate: float) -> None:
    """The rates of THEORY.md section 4, to the accuracy to which a fit's details matter."""
    config = study(zetas=[zeta], energy_epsilon=1e-5, horizon=3.0)
    data = config.study.compute(f"energy-{zeta:g}")
    assert data.attrs["rate"] == pytest.approx(rate, abs=1e-5)
    assert data.attrs["predicted_rate"] == pytest.approx(0.09 * (2 - 9 * zeta**2))


@pytest.mark.slow
def test_an_interrupted_study_goes_on_with_the_first_part_that_is_missing(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done is not computed again, and the end is the same bit for bit."""
    with monkeypatch.context() as patch:
        failing(patch, "energy-0", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            quietly(tmp_path)
    with xr.open_datatree(tmp_path / "results.zarr", engine="zarr") as tree:
        assert set(tree.children) == set(PARTS[:2])
        assert tree.attrs["status"] == "interrupted"
        assert tree.attrs["message"] == "after 2 of 4 parts"
    with monkeypatch.context() as patch:
        failing(patch, "deviation-0.01", AssertionError("computed again"))
        assert quietly(tmp_path, resume=True).status == "finished"
    assert_same_results(done, tmp_path)
    assert quietly(tmp_path, resume=True).status == "finished"


@pytest.mark.slow
def test_a_part_that_was_torn_by_a_crash_is_computed_again(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part counts only once all of it is written."""
    from experiments.store.store import Store

    original = Store.update

    def update(self: Store, group: str, attributes: Mapping[str, Any]) -> None:
        if group == "deviation-0.001":
            raise RuntimeError("power")
        original(self, group, attributes)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "update", update)
        with pytest.raises(RuntimeError, match="power"):
            quietly(tmp_path)
    quietly(tmp_path, resume=True)
    assert_same_results(done, tmp_path)


# A central flow takes long to compile, of which both of the first parts have one.
@pytest.mark.parametrize("diverging", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_part_that_diverges_is_named_and_does_not_stop_the_others(
    diverging: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conclusions are drawn from the rest."""
    error = flows.SimulationError("CentralFlow stopped at step 3: no more numbers.", None)
    for part in PARTS[:diverging]:
        failing(monkeypatch, part, error)
    result = quietly(tmp_path)
    assert result.status == "diverged"
    assert result.message.startswith("deviation-0.01: CentralFlow stopped at step 3")
    assert set(result.tree().children) == {*PARTS[diverging:], "conclusions"}
    assert "power of epsilon in the deviation" not in conclusions(result.tree())


@pytest.mark.slow
def test_a_study_keeps_to_the_rules_of_the_directory(done: Path) -> None:
    """Refused where a run is, resumed with the same config alone."""
    with pytest.raises(DirectoryError, match=r"--resume.*--overwrite"):
        quietly(done)
    with pytest.raises(DirectoryError, match=r"study.horizon was 0.3, is 0.6"):
        run(study(horizon=0.6), done, resume=True)


@pytest.mark.slow
def test_the_command_line_runs_shows_and_draws_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table has the conclusions; exit codes are those of a run."""
    file = write(tmp_path / "mine.toml", tomli_w.dumps({**STUDY, "figures": ["central_scaling"]}))
    path = str(tmp_path / "run")
    assert main(["run", str(file), "--out", path, "--set", "study.zetas=[1.0]"]) == 0
    assert "power of epsilon in the deviation" in capsys.readouterr().out
    picture = tmp_path / "run" / "figures" / "central_scaling.png"
    assert picture.exists()
    picture.unlink()
    assert main(["figure", path]) == 0
    assert picture.exists()
    assert main(["show", path]) == 0
    assert "predicted" in capsys.readouterr().out
    failing(monkeypatch, "energy-0", flows.SimulationError("stopped at step 7.", None))
    assert main(["run", str(file), "--out", path, "--overwrite"]) == 3
    assert "energy-0: stopped at step 7" in capsys.readouterr().err


def test_a_study_names_the_key_of_what_its_potential_cannot_be() -> None:
    """As an experiment does: a key that the config has."""
    loaded = load_config("ball-digits-mlp", ["study.potential.data.examples=100000"])
    assert isinstance(loaded, StudyExperiment)
    with pytest.raises(
        ConfigError, match=r"study\.potential\.data\.examples: given 100000; must be at most"
    ):
        build_study(loaded, "mine")
    says = r"study\.potential\.start: given \[1\.0, 2\.0\]; must be left out"
    with pytest.raises(ConfigError, match=says):
        load_config("dims-energy", ["study.potential.start=[1.0, 2.0]"])


def test_a_seed_that_would_have_no_effect_is_refused() -> None:
    """A study's own seed is in its table; a sweep over another would repeat one run."""
    with pytest.raises(ConfigError, match=r"seed: unknown key \(allowed here: .*study\)"):
        load_config("dims-ring", ["seed=7"])
    with pytest.raises(ConfigError, match="seed: unknown key"):
        load_sweep("dims-regression", (), ("seed=0:10",))
    assert load_sweep("dims-regression", (), ("study.seed=0:10",)).sweep.names == ("seed",)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "central_scalin"}, r"study\.kind: given 'central_scalin'; must be one of"),
        ({"epsilons": [0.1]}, r"study\.epsilons: given .*; must have at least 2 entries"),
        ({"epsilons": [0.1, 0.1]}, r"study\.epsilons: given .*; must differ"),
        ({"epsilons": [0.1, 0.0]}, r"study\.epsilons\[1\]: given 0\.0; must be greater than 0"),
        ({"zeta": 1.0}, r"study\.zeta: unknown key; did you mean 'zetas'"),
        ({"energy_epsilon": 1e-9}, r"study\.energy_epsilon: given 1e-09; horizon / epsilon must"),
        ({"horizon": 1e-3}, r"study\.horizon: given 0\.001; must be at least 0\.02"),
    ],
)
def test_a_study_with_bad_values_is_refused(changes: dict[str, Any], says: str) -> None:
    """The message names the key, what was given and what is allowed."""
    with pytest.raises(ConfigError, match=says):
        study(**changes)


def test_a_study_is_no_experiment(tmp_path: Path) -> None:
    """Keys and figures of the one are not those of the other."""
    with pytest.raises(ConfigError, match=r"steps: unknown key \(allowed here: .*study\)"):
        validate({**STUDY, "steps": 3})
    with pytest.raises(ConfigError, match="figures: given 'loss'; a study of this kind has cen"):
        validate({**STUDY, "figures": ["loss"]})
    with pytest.raises(ConfigError, match=r"figures: given 'dims_valley', .* kind 'dims_paths'"):
        validate({**VALLEY, "figures": ["dims_valley"]})
    with pytest.raises(ConfigError, match="study: given 3; must be a table"):
        validate({**STUDY, "study": 3})


def test_studies_are_found_and_read_without_what_they_are_computed_with() -> None:
    """Each module that is named by a kind is found; a misspelt key needs neither jax nor xarray."""
    heavy = "('jax', 'xarray', 'flows', 'sklearn', 'matplotlib')"
    code = "import sys; from experiments.studies.experiment import STUDIES; print(*STUDIES);"
    code += f"sys.exit(any(name in sys.modules for name in {heavy}))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    folder = Path(experiments.__file__).parent
    modules = {path.stem for path in folder.glob("studies/[!_]*_*.py")}
    assert set(found.stdout.split()) == {*modules, "panel"}


def test_what_a_study_keeps_lives_as_long_as_a_run() -> None:
    """A config of which many are held, as in a sweep, keeps no data and no trained network."""
    config = load_config("dims-banana")
    assert isinstance(config, StudyExperiment)
    with precision(config.precision):
        built = build_study(config, "mine")
        built.compute("data")
    assert built.parts == config.study.parts
    assert "_examples" in vars(built)
    assert set(vars(config.study)) == set(type(config.study).model_fields)
