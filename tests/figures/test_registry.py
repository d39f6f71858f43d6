"""Which figures there are, and what they need, without importing what draws them."""

import subprocess
import sys

import pytest

import figures
from figures import Needs, registry


@pytest.mark.parametrize("name", list(figures.known()))
def test_what_the_source_says_is_what_the_decorator_registers(name):
    """Names and needs are read from the sources; the decorators, once imported, must agree."""
    read = figures.known()[name]
    draw = figures.FIGURES[name]
    needs, registered = registry._REGISTERED[name]
    assert (needs, registered) == (read, draw)


def test_names_are_known_without_a_plotting_library():
    """Listing experiments and refusing a misspelt figure must not take the time of matplotlib."""
    code = (
        "import sys, figures\n"
        "assert 'overview' in figures.known()\n"
        "print([m for m in ('matplotlib', 'xarray', 'jax', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def mine():
    """A figure as a plugin registers it, gone after the test."""

    @figures.figure("mine", needs=Needs(flow="my_flow"))
    def draw(tree):
        return figures.FIGURES["loss"](tree)

    yield draw
    registry.forget("mine")


def test_a_plugins_figure_is_drawn_by_its_name(mine):
    """It is one more of the figures, with what it needs."""
    assert figures.known()["mine"] == Needs(flow="my_flow")
    assert figures.FIGURES["mine"] is mine
    assert len(figures.FIGURES) == len(figures.known())


@pytest.mark.parametrize("taken", ["loss", "mine"])
def test_a_name_belongs_to_one_figure(taken, mine):
    """Neither one of ours nor another plugin's can be replaced by accident."""
    with pytest.raises(ValueError, match=f"there is a figure '{taken}' already"):
        figures.figure(taken)(lambda tree: None)
