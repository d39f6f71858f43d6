"""The figures of the studies of adaptive methods."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import figures
from tests.figures.adaptive_trees import bursts, thresholds
from tests.figures.trees import tree
from tests.helpers import assert_trees_close


def lines_of(axes: Axes) -> dict[str, Line2D]:
    """A panel's lines by gid."""
    return {str(line.get_gid()): line for line in axes.get_lines() if line.get_gid()}


def test_deviations_are_drawn_beside_the_rods() -> None:
    """From the same start, at the rod's own rate."""
    above, *_ = figures.draw("adam_bursts", bursts()).axes
    drawn, steps = lines_of(above), np.arange(5)
    assert above.get_yscale() == "log"
    for group, rate in (("adam", 0.1), ("rmsprop", -0.01)):
        for name, factor in (("deviation", 1.0), ("rod", 1.1)):
            values = np.asarray(drawn[f"{group}/{name}"].get_ydata())
            assert_trees_close(values, 0.01 * np.exp(factor * rate * steps))


def test_growth_rates_are_in_rows_from_the_most_stable_on() -> None:
    """Of the iterates, the multiplier and the rod, around a line at zero."""
    figure = figures.draw("adam_bursts", bursts())
    (legend,), rates = figure.legends, figure.axes[1]
    assert [text.get_text() for text in legend.get_texts()][:2] == ["RMSProp, β₂ = 0.9", "Adam"]
    drawn = lines_of(rates)
    for row, (group, rate) in enumerate((("rmsprop", -0.01), ("adam", 0.1))):
        for name, factor in (("growth", 1.0), ("multiplier_growth", 1.0), ("rod_growth", 1.1)):
            (point,) = np.asarray(drawn[f"{group}/{name}"].get_xydata())
            assert_trees_close(point, np.array([factor * rate, row]))
    np.testing.assert_array_equal(drawn["stable"].get_xdata(), [0, 0])


def test_two_runs_are_drawn_around_their_edge() -> None:
    """The variables of the store as they are."""
    _, _, below, ratio = figures.draw("adam_bursts", bursts()).axes
    for axes, name in ((below, "amplitude"), (ratio, "sharpness_ratio")):
        drawn = lines_of(axes)
        assert set(drawn) == {f"adam/{name}", f"rmsprop/{name}", "edge"}
        stored = bursts()["adam"][name].values
        assert_trees_close(np.asarray(drawn[f"adam/{name}"].get_ydata()), stored)


def test_each_threshold_has_a_row_with_its_number_and_its_error() -> None:
    """Families in their own order, each below its heading."""
    axes, errors = figures.draw("thresholds_optax", thresholds()).axes
    shown = dict(
        zip(axes.get_yticks(), (t.get_text() for t in axes.get_yticklabels()), strict=True)
    )
    assert shown == {1: "sgd", 2: "adam", 4: "lion", 5: "polyak"}
    drawn = lines_of(axes)
    assert_trees_close(drawn["plain/measured"].get_xydata(), np.array([[2, 1], [38.019, 2]]))
    assert_trees_close(drawn["plain/predicted"].get_xydata(), np.array([[2.0, 1], [38, 2]]))
    texts = [text.get_text() for text in axes.texts]
    assert {"plain", "none", "2", "38.019", "none: jumps", "none: falls"} == set(texts)
    error = np.asarray(lines_of(errors)["plain/error"].get_xdata())
    assert_trees_close(error, np.array([1e-16, 5e-4]), rtol=1e-9)


@pytest.mark.parametrize("name", ["adam_bursts", "thresholds_optax"])
def test_studies_of_another_kind_are_refused(name: str) -> None:
    """With what is needed."""
    with pytest.raises(ValueError, match=f"figure '{name}' needs groups with"):
        figures.draw(name, tree())
