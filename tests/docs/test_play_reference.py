"""What the page to touch is tested against is still what eosflows computes."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import assert_trees_close

PLAY = Path(__file__).parents[2] / "docs" / "play"

# The page is compared to 1e-8 with what is written, which other flags of the compiler made.
TOLERANCE = 1e-10


@pytest.fixture(scope="module")
def script():
    """The script that wrote the reference."""
    spec = importlib.util.spec_from_file_location("play_reference", PLAY / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written():
    """The committed reference."""
    return json.loads((PLAY / "reference.json").read_text())


def check(found, expected, tolerance=TOLERANCE):
    """Two entries have the same keys, and the same values; numbers may differ by rounding."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, list):
            wanted = np.asarray(value)
            atol = tolerance * (1 + np.abs(wanted).max())
            assert_trees_close(np.asarray(found[key]), wanted, rtol=0.0, atol=atol)
        else:
            assert found[key] == value, key


def test_losses(script, written):
    """Their values, the numbers of the pits, and all derivatives of the formula."""
    check(script.pits(), json.loads((PLAY / "src" / "pits.json").read_text()))
    for setting in written["settings"]:
        value = float(script.loss_of(setting["loss"])(np.asarray(setting["point"])))
        assert abs(value - setting["derivatives"][0]) < TOLERANCE
    check(script.setting("formula"), written["settings"][-1])


@pytest.mark.slow
def test_fields_of_some_flows(script, written):
    """Those of a few families, on the formula, whose derivatives are the fullest."""
    entries = [entry for entry in written["fields"] if entry["loss"] == "formula"]
    compared = []
    for (about, flow), entry in zip(script.contestants("formula"), entries, strict=True):
        if about in ({"flow": "corrected"}, {"flow": "rod", "rank": 2}):
            check({"loss": "formula", **about, **script.field("formula", flow)}, entry)
            compared.append(about["flow"])
    assert compared == ["corrected", "rod"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["valley", "quartic", "product", "ring", "pits", "formula"])
def test_all_fields(name, script, written):
    """The start and the vector field of every flow of a loss."""
    entries = [entry for entry in written["fields"] if entry["loss"] == name]
    for found, entry in zip(script.fields(name), entries, strict=True):
        check(found, entry)


@pytest.mark.slow
def test_discrete_paths(script, written):
    """Gradient descent, the heavy ball and the rolling ball in the valley."""
    entries = [entry for entry in written["discrete"] if entry["loss"] == "valley"]
    for found, entry in zip(script.discrete("valley"), entries, strict=True):
        check(found, entry, tolerance=1e-9)


@pytest.mark.slow
def test_a_path(script, written):
    """That of the particle, whose equation is not stiff."""
    entry = next(entry for entry in written["paths"] if entry["loss"] == "ring")
    about, flow = next(c for c in script.contestants("ring") if c[0]["flow"] == "mechanics")
    assert entry["flow"] == about["flow"]
    found = np.asarray(script.path("ring", flow, entry["steps"]))
    assert_trees_close(found, np.asarray(entry["path"]), rtol=0.0, atol=1e-9)
