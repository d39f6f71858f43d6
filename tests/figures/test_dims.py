"""The figures of dissipative mechanics: what the tree says is what is drawn."""

import numpy as np
import pytest

import figures
from tests.figures.dims_trees import (
    DIMS,
    banana,
    limit,
    paths,
    regression,
    ring,
    tree,
    uncertainty,
)
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


def test_shares_of_the_ring_are_of_all_samples():
    """Two of four at rest in one bar and one in another, whose length is half of it."""
    made = ring()
    made["speed-1"]["converged"][3] = False
    figure = figures.draw("dims_ring", made)
    axes = figure.axes[1]
    # Of the three at rest the largest bar would have 67%.
    assert axes.texts[0].get_text() == "most: 50%\n1 not at rest"
    bars = [one for one in axes.get_lines() if one.get_gid() == "speed-1/share"]
    radii = np.array([np.linalg.norm(one.get_xydata(), axis=1) for one in bars])
    assert_trees_close(radii[:, 0], np.ones(len(bars)))
    lengths = np.sort(radii[:, 1] - 1)
    assert_trees_close(lengths[-3:], np.array([0.0, 0.4, 0.8]), atol=1e-12)
    (longest,) = (one for one, (_, end) in zip(bars, radii, strict=True) if end > 1.7)
    x, y = np.asarray(longest.get_xydata())[1]
    # Both angles, 0 and 0.1, are between the bar's ends.
    assert 0 < np.arctan2(y, x) < 2 * np.pi / 48
    assert "share of samples (of 4)" in axes.get_legend_handles_labels()[1]


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


def test_energies_that_are_not_above_zero_are_told_and_leave_a_gap():
    """By how many of a path's times; without any above zero there is nothing to draw."""
    made = paths()
    energy = made["viscous"]["total_energy"]
    energy[3:5] = [0.0, -1.0]
    axes = figures.draw("dims_energy", made).axes[0]
    drawn = np.asarray(line(axes, "viscous/total_energy").get_ydata())
    assert np.flatnonzero(np.isnan(drawn)).tolist() == [3, 4]
    (note,) = axes.texts
    assert note.get_text() == "not drawn, energy at most 0:\nviscous: 2 of 21 times"
    energy[:] = -1.0
    note = figures.draw("dims_energy", made).axes[0].texts[0]
    assert note.get_text().endswith("viscous: 21 of 21 times")
    made["quadratic"]["total_energy"][:] = 0.0
    with pytest.raises(ValueError, match=r"'dims_energy' .* no energy of these results is above 0"):
        figures.draw("dims_energy", made)


def test_guides_have_the_slopes_that_they_are_named_by():
    """Of the errors 1 / gamma^2 and 1 / gamma, and of the energy of a quadratic friction."""
    axes = figures.draw("dims_limit", limit()).axes[0]
    for group, order in (("from_rest", 2), ("moving", 1)):
        guide = np.log(np.asarray(line(axes, f"{group}/guide").get_xydata()))
        assert_trees_close(np.diff(guide[:, 1]) / np.diff(guide[:, 0]), np.full(2, -1.0 * order))
    assert [note.get_text() for note in axes.texts] == ["slope −2", "slope −1"]
    guide = np.log(
        np.asarray(line(figures.draw("dims_energy", paths()).axes[1], "guide").get_xydata())
    )
    assert_trees_close(np.diff(guide[:, 1]) / np.diff(guide[:, 0]), np.full(len(guide) - 1, -2.0))


def test_a_limit_without_an_error_or_an_order_is_drawn():
    """From rest at a minimum nothing moves."""
    made = limit()
    made["from_rest"]["error"][:] = 0.0
    del made["from_rest"].attrs["order"]
    axes = figures.draw("dims_limit", made).axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["from rest", "moving: order 1.00"]


def test_a_band_is_as_wide_as_its_label_says():
    """Two deviations x^2 on either side of the mean x."""
    axes = figures.draw("dims_regression", regression()).axes[0]
    (band,) = axes.collections
    assert (band.get_gid(), band.get_label()) == ("dims/band", "mean ± 2 deviations")
    vertices = np.unique(np.asarray(band.get_paths()[0].vertices).round(12), axis=0)
    x = np.linspace(-1.0, 1.0, 11).round(12)
    edges = np.concatenate([np.stack([x, x + side * 2 * x**2], axis=1) for side in (-1, 1)])
    assert_trees_close(vertices, np.unique(edges.round(12), axis=0), atol=1e-11)


def test_a_map_has_the_first_coordinate_across():
    """The probability (x0 + 1) / 2, its middle line at x0 = 0, and the points of each class."""
    axes = figures.draw("dims_banana", banana()).axes[0]
    mesh, contours = axes.collections[:2]
    corners = np.asarray(mesh.get_coordinates())
    across, up = np.moveaxis((corners[1:, 1:] + corners[:-1, :-1]) / 2, -1, 0)
    p = np.asarray(mesh.get_array()).reshape(across.shape)
    assert_trees_close(p, (across + 1) / 2, atol=1e-12)
    assert (np.abs(across).max(), np.abs(up).max()) == (1.0, 3.0)
    middle = np.asarray(contours.get_paths()[1].vertices)
    assert_trees_close(middle[:, 0], np.zeros(len(middle)), atol=1e-12)
    assert np.ptp(middle[:, 1]) == 6.0
    for label, point in ((0, [1.0, 0.0]), (1, [0.0, 1.0])):
        assert_trees_close(np.asarray(line(axes, f"class-{label}").get_xydata()), np.array([point]))


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


def test_each_row_of_the_table_tells_its_seeds_and_one_seed_has_no_error():
    """Two of wine with bars, one of digits without; the legend says both."""
    two = uncertainty()
    groups = {f"wine-{seed}": two[f"wine-{seed}"].to_dataset() for seed in (0, 1)}
    groups["digits-0"] = groups["wine-0"].assign_attrs(data="digits")
    figure = figures.draw("dims_uncertainty", tree(groups))
    digits, wine = figure.axes
    assert (digits.get_ylabel(), wine.get_ylabel()) == ("digits\n1 seed", "wine\n2 seeds")
    assert not digits.containers
    assert len(wine.containers) == 1
    assert_trees_close(np.asarray(line(digits, "digits/nll").get_xdata()), np.array([1.0, 3.0]))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "one seed, no standard error",
        "mean ± standard error over seeds (grey: each seed)",
    ]
