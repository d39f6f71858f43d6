"""The figures of dissipative mechanics: what the tree says is what is drawn."""

import numpy as np
import pytest

import figures
from tests.figures.dims_trees import DIMS, limit, paths, regression, ring, tree, uncertainty
from tests.helpers import assert_trees_close


def line(axes, gid):
    """The line of a panel with this gid."""
    (found,) = [one for one in axes.get_lines() if one.get_gid() == gid]
    return found


@pytest.mark.parametrize("name", DIMS)
def test_each_says_what_it_needs(name):
    """Without its data a sentence."""
    with pytest.raises(ValueError, match=f"figure '{name}' needs"):
        figures.draw(name, tree({}))


def test_the_ring_has_a_panel_per_speed_and_says_who_is_not_at_rest():
    """Sorted by speed, with the samples that are at rest."""
    panels = figures.draw("dims_ring", ring()).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["speed 0.5", "speed 1"]
    points = np.asarray(line(panels[1], "speed-1/params").get_xydata())
    assert_trees_close(points, ring()["speed-1"]["params"].values)
    moving = figures.draw("dims_ring", ring(converged=False)).axes[0]
    assert "4 not at rest" in moving.texts[0].get_text()


def test_energies_and_paths_are_those_of_the_tree_and_differ_in_grey():
    """On a logarithmic scale, with line styles and markers."""
    made = paths()
    (left, right) = figures.draw("dims_energy", made).axes
    for axes in (left, right):
        drawn = line(axes, "viscous/total_energy")
        assert_trees_close(np.asarray(drawn.get_ydata()), made["viscous"]["total_energy"].values)
        assert axes.get_yscale() == "log"
    other = line(left, "quadratic/total_energy")
    assert line(left, "viscous/total_energy").get_linestyle() != other.get_linestyle()
    axes = figures.draw("dims_valley", made).axes[0]
    path = np.asarray(line(axes, "quadratic/params").get_xydata())
    assert_trees_close(path, made["quadratic"]["params"].values)


def test_errors_and_bands_are_those_of_the_tree():
    """The error against friction; and the mean with its scale and who counts."""
    axes = figures.draw("dims_limit", limit()).axes[0]
    drawn = np.asarray(line(axes, "from_rest/error").get_xydata())
    assert_trees_close(drawn[:, 1], drawn[:, 0] ** -2)
    panel = figures.draw("dims_regression", regression()).axes[0]
    mean = np.asarray(line(panel, "dims/mean").get_xydata())
    assert_trees_close(mean[:, 1], mean[:, 0])
    assert panel.get_title(loc="left") == "DiMS, σ = 0.3 (50% at rest)"


def test_a_title_says_which_samples_count():
    """Members of an ensemble do not come to rest, they are trained."""
    made = tree({"deep_ensemble": regression()["dims"].to_dataset()})
    panel = figures.draw("dims_regression", made).axes[0]
    assert panel.get_title(loc="left") == "deep ensemble, σ = 0.3 (50% trained)"


def test_the_table_has_means_and_standard_errors():
    """Mean 2 and 4 of values 2 apart, with the error 1; no panel for what was not measured."""
    panels = figures.draw("dims_uncertainty", uncertainty()).axes
    assert len(panels) == 1
    (container,) = panels[0].containers
    points, _, (bars,) = container
    assert_trees_close(np.asarray(points.get_xdata()), np.array([2.0, 4.0]))
    ends = np.array([segment[:, 0] for segment in bars.get_segments()])
    assert_trees_close(ends, np.array([[1.0, 3.0], [3.0, 5.0]]))
