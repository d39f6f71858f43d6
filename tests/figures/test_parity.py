"""The figure of the parity flow, and how figures show a flow that begins at a later step."""

import numpy as np
import pytest
import xarray as xr
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


def test_a_first_distance_of_rounding_size_is_no_scale() -> None:
    """Of iterates: the axis ends below the smallest later one."""
    groups = {name: TREE[name].to_dataset() for name in TREE.children}
    distances = groups["parity"]["iterate_distance"].values.copy()
    distances[0] = 1e-17
    groups["parity"]["iterate_distance"].values = distances
    iterates = figures.draw("parity", tree(ATTRS, **groups)).axes[3]
    assert iterates.get_ylim()[0] == pytest.approx(distances[1] / 2)


def order_study() -> xr.DataTree:
    """A made-up study whose errors are 3 s^p, and of midpoints s^2."""
    slowness = np.array([0.1, 0.05, 0.025])
    parts = {
        f"order-{order}": xr.Dataset(
            {
                "iterate_error": ("slowness", 3 * slowness**order),
                "tracking_error": ("slowness", slowness**2),
            },
            {"slowness": slowness},
            {"order": order},
        )
        for order in (4, 1)
    }
    return tree({"title": "orders"}, **parts)


def test_errors_that_follow_their_order_lie_on_its_slope() -> None:
    """Sorted by the order; the midpoints are those of the highest."""
    figure = figures.draw("parity_order", order_study())
    (axes,), (legend,) = figure.axes, figure.legends
    assert axes.get_xscale() == axes.get_yscale() == "log"
    drawn = lines_of(axes)
    for order in (1, 4):
        errors = np.asarray(drawn[f"order-{order}/iterates"].get_ydata())
        assert_trees_close(errors, np.asarray(drawn[f"order-{order}/slope"].get_ydata()))
    assert_trees_close(
        np.asarray(drawn["order-4/midpoints"].get_ydata()), np.array([0.1, 0.05, 0.025]) ** 2
    )
    assert [text.get_text() for text in legend.get_texts()] == [
        "order 1 (last slope 1.00)",
        "order 4 (last slope 4.00)",
        "order 4, error of the midpoints",
    ]


def cycles_study(off: float = 0.0) -> xr.DataTree:
    """A made-up study of one optimizer; at S = 3.1 order 2 is `off` the two-cycle."""
    curvature = np.array([1.9, 2.5, 3.1, 3.3])
    half = np.sqrt(np.where(curvature < 3, np.maximum(curvature - 2, 0), (curvature + 1) / 4))
    centre = np.sqrt(np.maximum(curvature - 3, 0)) / 2
    second = half + off * np.array([0, 0, 1, 0])
    both = ("order", "curvature")
    group = xr.Dataset(
        {
            # The mirror image of what the flow predicts.
            "iterates": (("curvature", "last"), np.stack([-centre - half, half - centre], axis=1)),
            "centre": (both, np.stack([centre, -centre])),
            "half_difference": (both, np.stack([half, -second])),
            "centre_formula": ("curvature", centre),
            "half_difference_formula": ("curvature", half),
        },
        {"curvature": curvature, "order": [1, 2]},
        {
            "momentum": 0.0,
            "critical_sharpness": 2.0,
            "symmetry_lost": 3.0,
            "period_four": 1 + np.sqrt(5),
        },
    )
    return tree({"title": "cycles"}, gradient_descent=group)


def test_flows_on_two_cycles_lie_on_the_iterates() -> None:
    """Mirrored to c >= 0, up to the period-four boundary; thresholds are marked."""
    (axes,) = figures.draw("parity_two_cycles", cycles_study()).axes
    drawn = lines_of(axes)
    (group,) = {name.split("/")[0] for name in drawn if "/order-" in name}
    above, below = (
        np.asarray(drawn[f"{group}/order-2/{side}"].get_ydata()) for side in ("above", "below")
    )
    iterates = [line for line in axes.get_lines() if line.get_marker() == "o"]
    points = np.sort([np.asarray(line.get_ydata()) for line in iterates], axis=0)
    assert_trees_close(np.stack([below, above])[:, :3], points[:, :3])
    # At S = 3.3 there is no stable two-cycle.
    assert np.isnan([below[3], above[3]]).all()
    assert {"2/η", "3/η", "period four"} <= set(drawn)
    assert f"{group}/away-2/above" not in drawn


def test_a_flow_that_left_the_two_cycle_is_marked_apart() -> None:
    """By crosses; its line has a gap there."""
    (axes,) = figures.draw("parity_two_cycles", cycles_study(off=0.1)).axes
    drawn = lines_of(axes)
    (name,) = [name for name in drawn if name.endswith("away-2/above")]
    np.testing.assert_array_equal(drawn[name].get_xdata(), [3.1])
    line = np.asarray(drawn[name.replace("away", "order")].get_ydata())
    np.testing.assert_array_equal(np.isnan(line), [False, False, True, True])


def rounding_study() -> xr.DataTree:
    """A made-up study whose oscillations come back at step 3, or in float32 at step 2."""
    parts = {
        precision: xr.Dataset(
            {
                "oscillation": ("step", [1e-2, 0.0, *late]),
                "half_difference_length": ("step", [1e-2, 1e-9, *late]),
            },
            {"step": np.arange(4)},
            {"label": precision, "onset": onset, "predicted_onset": onset - 1},
        )
        for precision, late, onset in (("float32", [1.0, 1e-1], 2), ("float64", [1e-3, 1.0], 3))
    }
    return tree({"title": "rounding"}, **parts)


def test_the_finer_precision_is_drawn_first_with_both_onsets() -> None:
    """Dots of gradient descent, a line of the flow, and a dashed line at either onset."""
    panels = figures.draw("parity_rounding", rounding_study()).axes
    for axes, precision, onset in zip(panels, ("float64", "float32"), (3, 2), strict=True):
        drawn = lines_of(axes)
        assert_trees_close(
            np.asarray(drawn[f"{precision}/discrete"].get_ydata()),
            rounding_study()[precision]["oscillation"].values,
        )
        assert list(drawn[f"{precision}/onset"].get_xdata()) == [onset, onset]
        assert list(drawn[f"{precision}/predicted_onset"].get_xdata()) == [onset - 1, onset - 1]
        assert axes.get_title(loc="left").startswith(f"Steps in {precision}: onset at {onset}")
        assert axes.get_yscale() == "log"


@pytest.mark.parametrize("name", ["parity_order", "parity_rounding", "parity_two_cycles"])
def test_studies_of_another_kind_are_refused(name: str) -> None:
    """With what is needed."""
    with pytest.raises(ValueError, match=f"figure '{name}' needs groups with"):
        figures.draw(name, TREE)
