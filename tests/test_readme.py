"""Whether what README says can be typed works."""

import importlib.util
import re
import shlex
from pathlib import Path

import jax
import pytest

from experiments import load
from experiments.cli import main
from experiments.config.loader import to_toml, validate
from tests.experiments.configs import VALLEY

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_the_readme_has_an_example():
    """A changed fence would otherwise leave nothing to run."""
    assert BLOCKS


@pytest.mark.slow
@pytest.mark.parametrize("code", BLOCKS)
def test_every_python_block_of_the_readme_runs(code, capsys):
    """Each block is complete in itself, and what it prints is finite."""
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert printed.strip()
    assert not re.search(r"\b(nan|inf)\b", printed)


def test_the_python_blocks_of_the_readme_run_in_jaxs_own_precision(float32, capsys):
    """As a user's session runs them: float32, and promotion as JAX does it by itself."""
    spaces = [{"__name__": "readme"} for _ in BLOCKS]
    going_on = re.search(r"`(simulate\([^`]*state=flow\.state\))`", README)
    assert going_on
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for code, names in zip(BLOCKS, spaces, strict=True):
            exec(compile(code, "README.md", "exec"), names)
        # The one line outside of a block, in the names of the block that it is about.
        further = eval(going_on[1], spaces[0])
    assert further.steps.tolist() == list(range(51, 101))
    printed = capsys.readouterr().out
    assert printed.count("\n") >= len(BLOCKS)
    assert not re.search(r"\b(nan|inf)\b", printed)


def test_the_commands_of_the_readme_work_one_after_the_other(tmp_path, monkeypatch, capsys):
    """In one folder, in their order: none is in the way of a later one."""
    monkeypatch.chdir(tmp_path)
    mine = {**VALLEY, "name": "mine", "steps": 4, "checkpoint": {"every": 4}, "flows": []}
    (tmp_path / "my.toml").write_text(to_toml(validate(mine)), encoding="utf-8")
    commands = re.findall(r"^ {4}eosflows (.*?)(?:  +#.*)?$", README, flags=re.MULTILINE)
    commands = [command.replace("--at 300", "--at 4") for command in commands]
    ran = set()
    for command in commands:
        words = shlex.split(command)
        ran.add(words[0])
        if words[0] == "validate":
            continue  # It takes no config, and is tested by itself.
        if words[0] == "report" and importlib.util.find_spec("bokeh") is None:
            continue  # An extra, which is tested where it is installed.
        assert main([*words, *_shorter(command)]) == 0, (command, capsys.readouterr().err)
    assert ran == {
        *("list", "run", "branch", "sweep", "show", "figure", "export", "report", "panel"),
        "validate",
    }
    for name, size in (("digits-mlp-sweep", 10), ("phase-diagram", 4)):
        assert load(tmp_path / "runs" / name)["sweep"].to_dataset()["status"].size == size


def _shorter(command):
    """The words that leave of a command's work little but where its results go."""
    short = ("steps=4", "curvature.eigenvalues=1", "figures=[]")
    settings = {
        "panel": ("study.cases=['quartic']", "study.flows=['gradient']", "figures=[]"),
        "run valley": (*short, "flows=[]"),
        "run runs/valley/config.toml": ("steps=8",),
        "sweep phase-diagram": ("sweep.over.0.points=2", "sweep.over.1.points=2"),
        "sweep digits-mlp": (
            *short,
            "flows=[]",
            "curvature.every=1",
            "potential={kind='quadratic', spectrum=[3.0, 1.0], start=[1.0, 1.0]}",
        ),
    }
    found = [words for start, words in settings.items() if f"{command} ".startswith(f"{start} ")]
    options = [option for words in found for word in words for option in ("--set", word)]
    # A run that asks for no figures has none to draw without a name.
    names = ["loss"] * (command == "figure runs/valley runs/slower")
    return [*options, *names, *["--no-figures"] * command.startswith("sweep")]


def test_every_file_that_the_readme_links_to_exists():
    """Pictures and links inside the repository lead somewhere."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_that_the_readme_names_exists():
    """Its commands can be typed as they stand."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", README, flags=re.MULTILINE))
    assert {"demo", "test"} <= named <= targets
