"""Runs that branch off a step of another run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import ConfigError, DirectoryError, branch, load, load_config
from experiments.cli import main
from potentials import SharpValley
from tests.experiments.configs import VALLEY, config
from tests.experiments.runs import quietly
from tests.helpers import assert_trees_close

# A momentum, which the stored parameters do not tell, and one flow.
BASE = {key: value for key, value in VALLEY.items() if key != "curvature"}
BASE |= {
    "optimizer": {"kind": "heavy_ball", "learning_rate": 0.1, "momentum": 0.5},
    "flows": [{"kind": "gradient", "label": "gradient_flow"}],
}


def off(origin, at, changes, path):
    """Branch quietly."""
    return branch(origin, at, changes, path, draw=False, progress=False)


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A run of 12 steps, with checkpoints every 4."""
    path = tmp_path_factory.mktemp("branching") / "origin"
    quietly(config(BASE), path)
    return path


@pytest.fixture(scope="module")
def slower(origin):
    """A branch with half the rate from step 4 on."""
    path = origin.parent / "slower"
    off(origin, 4, ["optimizer.learning_rate=0.05"], path)
    return path


@pytest.mark.parametrize("at", [4, pytest.param(10, marks=pytest.mark.slow)])
def test_a_branch_without_changes_is_the_rest_of_the_run(at, origin, tmp_path):
    """Step for step: computed from the start, and from a checkpoint before the step."""
    off(origin, at, [], tmp_path / "same")
    whole, rest = load(origin), load(tmp_path / "same")
    for name in ("discrete", "gradient_flow"):
        left, right = whole[name].to_dataset(), rest[name].to_dataset()
        assert right["step"].values.tolist() == list(range(at, 13))
        for variable in left.data_vars:
            before, after = left[variable].values[at:], right[variable].values
            # A solver that stops at another step is the same to its tolerance.
            assert_trees_close(after, before, 1e-12 if at == 4 else 1e-6, 1e-12)
    assert rest.attrs["origin"] == str(origin)
    assert rest.attrs["origin_changes"] == []
    assert load_config(tmp_path / "same" / "config.toml").origin.step == at


def test_a_branch_with_another_rate_takes_its_first_step_with_it(origin, slower):
    """As by hand from the iterate and the momentum there; nothing of the old rate is left."""
    whole, rest = load(origin), load(slower)
    before, here = whole["discrete"]["params"].values[3:5]
    potential = SharpValley(0.01)
    # m' = beta m + g, w' = w - eta m'.
    path, momentum = [here], (before - here) / 0.1
    for _ in range(8):
        momentum = 0.5 * momentum + np.asarray(jax.grad(potential)(jnp.asarray(path[-1])))
        path.append(path[-1] - 0.05 * momentum)
    assert_trees_close(rest["discrete"]["params"].values, np.asarray(path), 1e-12, 1e-14)
    assert rest.attrs["origin_changes"] == ["optimizer.learning_rate was 0.1, is 0.05"]
    assert rest["discrete"].attrs["first_step"] == 4


@pytest.mark.slow
def test_a_branch_is_a_run_that_goes_on_and_is_branched_off(origin, slower, tmp_path):
    """It needs its origin no more once it has a checkpoint."""
    changes = ["optimizer.learning_rate=0.05", "flows=[]"]
    off(origin, 4, [*changes, "steps=8"], tmp_path / "longer")
    longer = load_config(tmp_path / "longer" / "config.toml", ["steps=12"])
    origin.rename(tmp_path / "gone")
    try:
        quietly(longer, tmp_path / "longer", resume=True)
    finally:
        (tmp_path / "gone").rename(origin)
    off(slower, 8, ["flows=[]"], tmp_path / "twice")
    expected = load(slower)["discrete"]["params"].values
    for name, rows in (("longer", expected), ("twice", expected[4:])):
        found = load(tmp_path / name)["discrete"]["params"].values
        assert_trees_close(found, rows, 1e-12, 1e-14)


@pytest.mark.parametrize(
    ("at", "changes", "says"),
    [
        (13, ["steps=20"], r"origin.step: given 13; .* a multiple of 1 from 1 to 12, such as 12"),
        (4, ["seed=1"], r"seed: given 1; must be 0"),
        (4, ["optimizer={kind='gradient_descent',learning_rate=1}"], "optimizer must be HeavyBall"),
        (4, ["flows=[{kind='gradient',label='other'}]"], r"flows\[0\].label: given 'other'; .* gr"),
        (4, ["curvature={eigenvalues=1}"], r"optimizer: does not go on .*: measurements must be"),
        (12, [], r"must be below steps = 12: ask for more steps"),
    ],
)
def test_what_cannot_branch_off_is_refused_and_leaves_nothing(at, changes, says, origin, tmp_path):
    """In a sentence with the key, before the directory is made."""
    with pytest.raises(ConfigError, match=says):
        off(origin, at, changes, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_command_line_branches_off_and_draws_both(origin, slower, tmp_path, capsys):
    """In one figure with a colour for each; what cannot be is said, with exit code 2."""
    assert main(["branch", str(origin), "--at", "13", "--set", "steps=20"]) == 2
    assert "origin.step: given 13" in " ".join(capsys.readouterr().err.split())
    together = ["figure", str(origin), str(slower), "--out", str(tmp_path)]
    assert main([*together, "loss"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["loss-with-slower.png"]
    assert main([*together, "central"]) == 2
    assert main(["figure", str(origin), "loss", "--animate"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "figure 'central' draws one run; several are drawn by distance" in said
    assert "figure 'loss' does not move; those that do: paths" in said


def test_a_branch_does_not_replace_what_it_goes_on_from(origin, slower):
    """Nor a run further up, nor a folder that holds one or lies in one."""
    before = {path: path.read_bytes() for path in origin.rglob("*") if path.is_file()}
    for start, out in ((origin, origin), (slower, origin), (origin, origin / "in")):
        with pytest.raises(DirectoryError, match="which the run goes on from; choose another"):
            branch(start, 8, [], out, overwrite=True, draw=False, progress=False)
    assert {path: path.read_bytes() for path in origin.rglob("*") if path.is_file()} == before
