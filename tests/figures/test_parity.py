"""The figure of the parity flow, and how figures show a flow that begins at a later step."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import figures
from tests.figures.trees import parity, tree
from tests.helpers import assert_trees_close

TREE = parity()
ATTRS = {str(name): value for name, value in TREE.attrs.items()}


def lines_of(axes: Axes) -> dict[str, Line2D]:
    """A panel's lines by gid."""
    return {str(line.get_gid()): line for line in axes.get_lines() if line.get_gid()}


def test_every_flow_that_predicts_the_oscillation_is_drawn_beside_the_optimizer():
    """Variances 0.04 and 0.0225, rods of 0.2 and 0.15, and |d| = 0.25 are the same length."""
    axes = figures.draw("parity", TREE).axes[1]
    drawn = lines_of(axes)
    assert set(drawn) == {
        "discrete/half_difference_length",
        "central/variances/0",
        "parity/half_difference_length",
        "rod/rod_half_lengths",
    }
    for line in drawn.values():
        values = np.asarray(line.get_ydata())
        assert_trees_close(values[values > 0], np.full((values > 0).sum(), 0.25))
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "|d|\n(parameter)"


def test_what_a_flow_predicts_is_drawn_from_where_it_begins():
    """At its own steps, not at the positions of the optimizer's."""
    sharpness, oscillation, distance, iterates = figures.draw("parity", TREE).axes
    for axes, variable in (
        (sharpness, "sharpness"),
        (oscillation, "half_difference_length"),
        (distance, "distance"),
        (iterates, "iterate_distance"),
    ):
        line = lines_of(axes)[f"parity/{variable}"]
        np.testing.assert_array_equal(line.get_xdata(), np.arange(10, 41))
        stored = TREE["parity"].dataset[variable].values
        assert_trees_close(np.asarray(line.get_ydata()), stored)
    assert set(lines_of(iterates)) == {"parity/iterate_distance"}


def test_the_legend_names_each_trajectory_once_with_its_errors():
    """Of the midpoints, and of the iterates where a flow predicts them."""
    (legend,) = figures.draw("parity", TREE).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "discrete optimizer",
        "central flow (error 0.25)",
        "parity flow (error 0.012, iterates 0.023)",
        "rod flow (error 0.25)",
    ]


@pytest.mark.parametrize("name", ["overview", "distance", "parity", "rod"])
def test_where_a_flow_begins_is_marked_beside_its_distance(name):
    """And nowhere if all begin with the optimizer."""
    begun = figures.draw(name, TREE).axes
    marked = [axes for axes in begun if "start-10" in lines_of(axes)]
    (axes,) = marked
    assert "parity/distance" in lines_of(axes)
    assert [text.get_text() for text in axes.texts] == ["start of parity flow"]
    np.testing.assert_array_equal(lines_of(axes)["start-10"].get_xdata(), [10, 10])
    groups = {name: TREE[name].to_dataset() for name in TREE.children if name != "parity"}
    if name != "parity":
        others = figures.draw(name, tree(ATTRS, **groups)).axes
        assert not any("start-10" in lines_of(axes) for axes in others)


def test_flows_that_begin_together_share_a_mark_and_others_have_their_own():
    """Below each other, so that no name covers another."""
    groups = {name: TREE[name].to_dataset() for name in TREE.children}
    groups["second"] = groups["parity"].assign_attrs(label="second")
    groups["third"] = (
        groups["parity"].isel(step=slice(10, None)).assign_attrs(label="third", first_step=20)
    )
    (axes,) = figures.draw("distance", tree(ATTRS, **groups)).axes
    assert [text.get_text() for text in axes.texts] == [
        "start of parity flow and second",
        "start of third",
    ]
    assert len({text.get_position()[1] for text in axes.texts}) == 2
    assert {"start-10", "start-20"} <= set(lines_of(axes))


def test_the_loss_beside_rods_is_the_average_that_a_parity_flow_predicts():
    """As that of the rods themselves."""
    axes = figures.draw("rod", TREE).axes[0]
    assert {"parity/predicted_loss", "rod/predicted_loss"} <= set(lines_of(axes))
    assert "central or rod or parity flow" in axes.get_title(loc="left")


def test_a_tree_without_a_parity_flow_is_refused():
    """With what is needed."""
    groups = {name: TREE[name].to_dataset() for name in TREE.children if name != "parity"}
    with pytest.raises(ValueError, match="needs a flow of kind 'parity'"):
        figures.draw("parity", tree(ATTRS, **groups))
