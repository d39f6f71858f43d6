"""The figures of the rolling ball: what the tree says, from trees made by hand."""

import numpy as np
import pytest

import figures
from tests.figures.ball_trees import BALLS
from tests.figures.trees import trajectory, tree


def lines_of(axes):
    """A panel's lines by gid."""
    return {str(line.get_gid()): line for line in axes.get_lines()}


def test_the_ironed_landscapes_are_drawn_with_paths_and_resting_places():
    """In both panels, the lower one around the paths."""
    upper, lower = figures.draw("ball_ironing", BALLS["ball_ironing"]).axes
    assert {"height-0", "height-0.1", "minima-0.1", "path-0.1", "rest-0.1"} <= set(lines_of(upper))
    assert lower.get_xlim()[1] - lower.get_xlim()[0] < 0.2
    np.testing.assert_array_equal(lines_of(lower)["rest-0.1"].get_xdata(), [0.4])


def test_every_colour_of_the_ironed_landscapes_is_in_the_legend():
    """The resting place of radius 0 has not the colour of the landscape it is on."""
    figure = figures.draw("ball_ironing", BALLS["ball_ironing"])
    (legend,) = figure.legends
    explained = {line.get_color() for line in legend.get_lines()}
    drawn = {line.get_color() for axes in figure.axes for line in axes.get_lines()}
    assert drawn == explained
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels.count("ball of radius 0, at rest") == 1


def test_the_counts_of_minima_are_on_logarithmic_axes():
    """The count without a ball is a level line."""
    (axes,) = figures.draw("ball_minima", BALLS["ball_minima"]).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    np.testing.assert_array_equal(lines_of(axes)["one"].get_ydata(), [50, 5])
    assert set(lines_of(axes)["one/rough"].get_ydata()) == {100}


def test_each_radius_has_a_panel_with_a_pair_of_paths():
    """Told apart by line style too."""
    (axes,) = figures.draw("ball_pits", BALLS["ball_pits"]).axes
    drawn = lines_of(axes)
    styles = {drawn[f"0.1/{which}"].get_linestyle() for which in ("first", "second")}
    assert len(styles) == 2
    assert "0.14 apart" in axes.get_title(loc="left")


def test_contacts_are_drawn_beside_the_formula():
    """In units of the radius."""
    axes, _ = figures.draw("ball_unreachable", BALLS["ball_unreachable"]).axes
    formula = np.asarray(lines_of(axes)["formula"].get_xydata())
    assert formula[0, 1] == 0.0
    product, contact = np.asarray(lines_of(axes)["quadratic"].get_xydata()).T
    assert np.abs(contact - np.interp(product, *formula.T))[product > 1.2].max() < 1e-3


def test_both_limits_have_their_fit():
    """Through the errors, where the order is right."""
    for axes in figures.draw("ball_limit", BALLS["ball_limit"]).axes:
        x, y = np.asarray(lines_of(axes)["fit"].get_xydata()).T
        assert np.abs(y / x - 3).max() < 1e-12


def test_the_network_has_loss_sharpness_and_fit():
    """With 2/eta, and the line above which a ball fits no more."""
    loss, sharpness, fit = figures.draw("ball_network", BALLS["ball_network"]).axes
    assert {"descent/loss", "ball/loss", "flow/loss"} == set(lines_of(loss))
    assert sharpness.get_ylim()[1] > 20
    assert [text.get_text() for text in fit.texts] == ["the ball fits no more"]


@pytest.mark.parametrize("name", list(BALLS))
def test_without_their_data_the_figures_say_what_they_need(name):
    """As the other figures do."""
    with pytest.raises(ValueError, match=f"figure '{name}' needs .*{name}"):
        figures.draw(name, tree(discrete=trajectory([0, 1], loss=[1.0, 0.5])))
