"""The figures of Rod Flow: what the tree says, with the optimizer's own curves beside it."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import figures
from tests.figures.trees import quartic, rod, trajectory, tree
from tests.helpers import assert_trees_close

TREE = rod()
QUARTIC = quartic()


def lines_of(axes: Axes) -> dict[str, Line2D]:
    """A panel's lines by gid."""
    return {str(line.get_gid()): line for line in axes.get_lines()}


def test_the_loss_panel_sets_the_predicted_average_beside_the_iterates():
    """The loss at the rods' centre is not what the optimizer sees."""
    drawn = lines_of(figures.draw("rod", TREE).axes[0])
    assert set(drawn) == {"discrete/loss/0", "rod/predicted_loss"}
    predicted = TREE["rod"].dataset["predicted_loss"].values
    assert_trees_close(np.asarray(drawn["rod/predicted_loss"].get_ydata()), predicted)


def test_the_sharpness_panel_has_the_threshold():
    """At the iterates, at the centre, and 2/eta."""
    axes = figures.draw("rod", TREE).axes[1]
    assert set(lines_of(axes)) == {"critical", "discrete/sharpness", "rod/sharpness"}
    assert axes.get_ylim()[0] < 10.0 < axes.get_ylim()[1]


def test_the_length_is_the_root_of_the_trace_beside_half_the_distance_of_iterates():
    """Rods of 0.15 and 0.2 are together as long as a half-difference of 0.25."""
    axes = figures.draw("rod", TREE).axes[2]
    drawn = lines_of(axes)
    assert set(drawn) == {"discrete/half_difference", "rod/rod_half_lengths"}
    for line in drawn.values():
        assert_trees_close(np.asarray(line.get_ydata()), np.full(41, 0.25))
    assert axes.get_ylabel() == "half-length\n(parameter)"


def test_without_half_differences_the_panel_says_in_which_space_the_rods_are():
    """As with momentum."""
    groups = {name: TREE[name].to_dataset() for name in TREE.children}
    groups["discrete"] = groups["discrete"].drop_vars("half_difference")
    axes = figures.draw("rod", tree(TREE.attrs, **groups)).axes[2]
    assert set(lines_of(axes)) == {"rod/rod_half_lengths"}
    assert "phase space" in axes.get_title(loc="left")


def test_a_start_on_the_path_does_not_stretch_the_distances():
    """1e-16 at step 0 is rounding; the rest begins at 0.01."""
    axes = figures.draw("rod", TREE).axes[3]
    assert axes.get_yscale() == "log"
    assert 1e-3 < axes.get_ylim()[0] < 0.01


def test_discrete_and_continuous_differ_by_more_than_colour():
    """In grey, the optimizer's lines are the thin ones."""
    for axes in figures.draw("rod", TREE).axes[:3]:
        drawn = {gid: line.get_linewidth() for gid, line in lines_of(axes).items()}
        flows = [width for gid, width in drawn.items() if gid.startswith("rod")]
        assert min(flows) > max(w for gid, w in drawn.items() if gid.startswith("discrete"))


def test_the_legend_names_each_thing_once_with_tracking_errors():
    """Over all panels."""
    (legend,) = figures.draw("rod", TREE).legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["discrete optimizer", "rod flow (tracking error 0.25)"]


def test_a_partial_run_is_drawn():
    """One row, nothing of curvature and distance: what is there is shown."""
    row = trajectory([0], {"kind": "flow"}, predicted_loss=[1.0], rod_half_lengths=[[0.1]])
    assert len(figures.draw("rod", tree(rod=row)).axes) == 2


@pytest.mark.parametrize("name", ["rod", "rod_quartic"])
def test_without_their_data_the_figures_say_what_they_need(name):
    """As the other figures do."""
    with pytest.raises(ValueError, match=f"figure '{name}' needs .*{name}"):
        figures.draw(name, tree(discrete=trajectory([0, 1], loss=[1.0, 0.5])))


def test_the_bifurcation_diagram_has_iterates_formula_and_flows():
    """The rod is its centre plus and minus its deviation; gradient flow a centre alone."""
    (axes,) = figures.draw("rod_quartic", QUARTIC).axes
    drawn = lines_of(axes)
    upper = np.asarray(drawn["rod_flow/above"].get_xydata())
    assert_trees_close(upper[:, 1], np.sqrt(np.maximum(upper[:, 0] - 2, 0) / 2))
    lower = np.asarray(drawn["rod_flow/below"].get_ydata())
    assert_trees_close(lower, -upper[:, 1])
    formula = np.asarray(drawn["formula"].get_xydata())
    assert_trees_close(formula[:, 1] ** 2, (formula[:, 0] - 2) / 2, atol=1e-12)
    points = np.asarray(drawn["gradient_descent/iterates"].get_ydata())
    assert_trees_close(points, lower)
    assert not np.asarray(drawn["gradient_flow/centre"].get_ydata()).any()


def test_the_bifurcation_diagram_marks_the_thresholds_inside_its_range():
    """2/eta, where the two-cycle is born, and 3/eta, where it loses its symmetry."""
    (axes,) = figures.draw("rod_quartic", QUARTIC).axes
    assert {"2/η", "3/η"} <= set(lines_of(axes))
    assert [text.get_text() for text in axes.texts] == ["2/η", "3/η"]


def test_the_curves_of_the_bifurcation_diagram_differ_by_more_than_colour():
    """Points, and lines of four styles."""
    (axes,) = figures.draw("rod_quartic", QUARTIC).axes
    drawn = lines_of(axes)
    names = ("rod_flow/above", "gradient_flow/centre", "formula")
    looks = {(str(drawn[n].get_linestyle()), drawn[n].get_linewidth()) for n in names}
    assert len(looks) == len(names)
    assert drawn["gradient_descent/iterates"].get_marker() == "o"
