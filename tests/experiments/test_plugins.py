"""A user's own kinds in a config: by --import, from an installed package, and at --resume."""

import importlib.metadata
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import experiments
from experiments import ConfigError, UserError, load, load_config
from experiments.cli import main
from experiments.tables import kinds, plugins

MINE = '''
import jax.numpy as jnp
import flows
from matplotlib.figure import Figure
from experiments import Needs, register_figure, register_flow, register_measurement
from experiments import register_optimizer, register_potential


class Bowl:
    """steepness |w|^2 / 2."""

    def __init__(self, steepness: float = 1.0):
        if steepness <= 0:
            raise ValueError(f"steepness must be above 0; got {steepness}.")
        self.steepness = steepness

    def __call__(self, params):
        return 0.5 * self.steepness * jnp.sum(params**2)

    def init(self, key):
        return jnp.asarray([1.0, -2.0])


def half(learning_rate: float) -> flows.AbstractOptimizer:
    return flows.GradientDescent(learning_rate / 2)


def shrunk(optimizer: flows.AbstractOptimizer, times: int = 1) -> flows.AbstractFlow:
    return flows.GradientFlow(flows.GradientDescent(optimizer.learning_rate / times))


def largest(power: float = 1.0) -> flows.AbstractMeasurement:
    return flows.ScalarMeasurement("largest", lambda _, w: jnp.max(jnp.abs(w)) ** power)


def draw(tree):
    figure = Figure()
    figure.add_subplot().plot(tree["discrete"]["largest"])
    return figure


register_potential("bowl", Bowl)
register_optimizer("half", half, critical_label="4/eta")
register_flow("shrunk", shrunk)
register_measurement("largest", largest)
register_figure("largest", draw, needs=Needs(flow="shrunk"))
'''
CONFIG = """
name = "mine"
steps = 4
figures = ["largest"]
potential = { kind = "bowl", steepness = 2.0 }
optimizer = { kind = "half", learning_rate = 0.1 }
flows = [{ kind = "shrunk", times = 2 }]
measurements = [{ kind = "largest", power = 2.0 }]
"""

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line; return its exit code and what it says on stderr."""

    def run(*words: Any) -> tuple[int, str]:
        code = main([str(word) for word in words])
        return code, " ".join(capsys.readouterr().err.split())

    return run


@pytest.fixture
def mine(tmp_path: Path) -> tuple[Path, Path]:
    """A user's Python file with kinds of every sort, and a config that uses all of them."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "mine.toml").write_text(CONFIG)
    return tmp_path / "mine.py", tmp_path / "mine.toml"


@pytest.mark.slow
def test_a_config_of_own_kinds_runs_and_draws_and_goes_on(
    call: Call, mine: tuple[Path, Path], tmp_path: Path
) -> None:
    """Each kind is used: its numbers are in the store, and the figure is drawn."""
    file, config = mine
    out = tmp_path / "run"
    assert call("run", config, "--import", file, "--out", out) == (0, "")
    tree = load(out)
    # w' = w - (0.1 / 2) 2 w: the entry that starts at -2 is largest.
    expected = [(2 * 0.9**step) ** 2 for step in range(5)]
    assert tree["discrete"]["largest"].values == pytest.approx(expected, rel=1e-12)
    assert tree.attrs["critical_sharpness"] == pytest.approx(2 / 0.05)
    assert "shrunk" in tree.children
    assert (out / "figures" / "largest.png").exists()
    code, said = call("run", config, "--out", out, "--set", "steps=8", "--resume")
    assert code == 2
    assert "cannot resume, it ran with --import mine.py: go on with the same" in said
    assert (
        call("run", config, "--import", file, "--out", out, "--set", "steps=8", "--resume")[0] == 0
    )
    assert load(out)["discrete"].sizes["step"] == 9
    file.write_text(MINE.replace("** power", "** power + 0"))
    words = ("run", config, "--import", file, "--out", out, "--set", "steps=12", "--resume")
    code, said = call(*words)
    assert code == 2
    assert "mine.py" in said
    assert load(out)["discrete"].sizes["step"] == 9


SHARPNESS_AWARE = """
import flows
from experiments import register_optimizer


def aware(learning_rate: float, adaptive: bool = True) -> flows.AbstractOptimizer:
    make = flows.Adam if adaptive else flows.GradientDescent
    return flows.SAM(make(learning_rate), 0.05)


register_optimizer("aware", aware)
"""


@pytest.mark.slow
def test_an_own_optimizer_without_a_threshold_runs_without_one(call: Call, tmp_path: Path) -> None:
    """SAM of Adam is a local threshold by its class, and has none; SAM of descent has one."""
    file, config = tmp_path / "aware.py", tmp_path / "aware.toml"
    file.write_text(SHARPNESS_AWARE)
    config.write_text(
        """
        name = "aware"
        steps = 2
        potential = { kind = "quadratic", spectrum = [1.0, 2.0] }
        optimizer = { kind = "aware", learning_rate = 0.1 }
        """
    )
    for adaptive in ("true", "false"):
        out = tmp_path / adaptive
        words = ("--import", file, "--out", out, "--set", f"optimizer.adaptive={adaptive}")
        assert call("run", config, *words) == (0, "")
        tree = load(out)
        assert ("critical_sharpness" in tree["discrete"]) is (adaptive == "false")
    # lambda* at |g|.
    length = np.linalg.norm(tree["discrete"]["params"].values[0] * [1.0, 2.0])
    expected = length / 0.1 * ((1 + 8 * 0.05 / (0.1 * length)) ** 0.5 - 1)
    assert tree["discrete"]["critical_sharpness"].values[0] == pytest.approx(expected, rel=1e-12)


def test_own_kinds_are_gone_after_the_command(call: Call, mine: tuple[Path, Path]) -> None:
    """Nothing that a file registers outlives the command that imported it."""
    file, config = mine
    assert call("run", config, "--import", file, "--set", "potential.steepness=x")[0] == 2
    with pytest.raises(ConfigError, match=r"potential\.kind: given 'bowl'; must be one of"):
        load_config(config)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("potential.steepness=-1.0", "potential.steepness: given -1.0; must be above 0"),
        ("potential.steep=1.0", "potential.steep: unknown key; did you mean 'steepness'?"),
        ("flows.0.times=0.5", "flows[0].times: given 0.5; must be a whole number"),
        ("optimizer.learning_rate='fast'", "optimizer.learning_rate: given 'fast'; must be a"),
        ("measurements.0.kind=smallest", "measurements[0].kind: given 'smallest'; must be one of"),
        ("flows=[]", "figures: given 'largest', which needs a flow of kind 'shrunk'"),
    ],
)
def test_bad_values_of_own_kinds_are_refused_by_key(
    call: Call, mine: tuple[Path, Path], tmp_path: Path, setting: str, says: str
) -> None:
    """As for the kinds that are built in."""
    file, config = mine
    words = ("run", config, "--import", file, "--out", tmp_path / "run", "--set", setting)
    code, said = call(*words)
    assert code == 2
    assert says in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "expected a Python file"),
        ("def f(:", "is no Python"),
        ("import math\n\nmath.sqrt(-1)\n", "line 3"),
        ("import math\n", "registers nothing"),
        (
            "import flows\nfrom experiments import register_flow as r\n"
            "r('a', flows.GradientFlow)\nr('a', flows.GradientFlow)\n",
            "the flow 'a' is registered already",
        ),
        (
            "import flows\nfrom experiments import register_flow as r\n"
            "r('central', flows.GradientFlow)\n",
            "the flow 'central' is built in; choose another name for yours",
        ),
        ("raise SystemExit(3)", "SystemExit"),
    ],
    ids=["missing", "syntax", "raises", "nothing", "twice", "built-in", "exit"],
)
def test_a_file_that_cannot_be_imported_is_refused_in_a_sentence(
    call: Call, tmp_path: Path, text: str | None, says: str
) -> None:
    """The file is named, and the line where there is one; nothing runs."""
    file = tmp_path / "bad.py"
    if text is not None:
        file.write_text(text)
    code, said = call("run", "valley", "--import", file, "--out", tmp_path / "run")
    assert code == 2
    assert says in said
    assert "bad.py" in said
    assert not (tmp_path / "run").exists()


def test_a_config_itself_imports_nothing(call: Call, tmp_path: Path) -> None:
    """A stranger's config runs no code: there is no key for it."""
    (tmp_path / "mine.toml").write_text(CONFIG + 'import = "mine.py"\n')
    code, said = call("run", tmp_path / "mine.toml")
    assert code == 2
    assert "import: unknown key" in said


def test_a_kind_that_no_config_can_construct_is_refused() -> None:
    """The argument that has no value in TOML is named."""

    def flow(optimizer: object, matrix: object) -> object:
        return optimizer, matrix

    with pytest.raises(TypeError, match="no value for its argument 'matrix'"):
        experiments.register_flow("of_a_matrix", flow)


def test_an_installed_package_brings_its_kinds(tmp_path: Path, monkeypatch: Any) -> None:
    """A module that an entry point names is imported when kinds are first looked up."""
    code = textwrap.dedent(
        """
        import flows
        from experiments import register_flow

        register_flow("from_a_package", flows.GradientFlow)
        """
    )
    (tmp_path / "a_package_of_kinds.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    point = importlib.metadata.EntryPoint("kinds", "a_package_of_kinds", "eosflows.plugins")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [point])
    monkeypatch.setattr(plugins, "_packages", {})
    try:
        plugins.import_installed()
        found = load_config("valley", ["flows=[{kind='from_a_package'}]"])
        assert [flow.kind for flow in found.flows] == ["from_a_package"]
    finally:
        kinds.forget("the package a_package_of_kinds")
    missing = importlib.metadata.EntryPoint("gone", "no_such_module_anywhere", "eosflows.plugins")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [missing])
    with pytest.raises(UserError, match="its plugin 'gone' cannot be imported"):
        plugins.import_installed()
