"""Figures of descent on manifolds."""

import numpy as np
import pytest

import figures
from tests.figures.manifold_trees import MANIFOLDS, descent
from tests.figures.trees import valley


def test_the_threshold_is_drawn_in_the_panel_of_the_riemannian_sharpness():
    """In it only: the sharpness of the ambient space has none."""
    panels = figures.draw("manifolds", descent()).axes
    names = [panel.get_ylabel().splitlines()[0] for panel in panels]
    assert names == ["loss", "Riemannian", "constraint"]
    drawn = [[line.get_gid() for line in panel.get_lines()] for panel in panels]
    assert ["critical" in gids for gids in drawn] == [False, True, False]


def test_each_method_has_a_panel_with_its_threshold():
    """In the order of the config, below loss and accuracy of all."""
    axes = figures.draw("manifold_digits", MANIFOLDS["manifold_digits"]).axes
    assert [one.get_title(loc="left") or one.get_title() for one in axes[2:]] == [
        "SGD, flat, η = 0.5",
        "RGD, oblique, η = 0.5",
    ]
    lines = {line.get_gid(): line for line in axes[3].get_lines()}
    np.testing.assert_array_equal(lines["RGD, oblique/threshold"].get_ydata(), np.full(5, 4.0))


@pytest.mark.parametrize("name", MANIFOLDS)
def test_results_of_another_kind_are_refused(name):
    """With what is needed."""
    with pytest.raises(ValueError, match=r"manifold"):
        figures.draw(name, valley(steps=10))
