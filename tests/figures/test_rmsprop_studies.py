"""The figures of the studies of RMSProp on the turned valley."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import figures
from tests.figures.rmsprop_trees import ADAPTIVE, RATES
from tests.helpers import assert_trees_close


def lines_of(axes: Axes) -> dict[str, Line2D]:
    """A panel's lines by gid."""
    return {str(line.get_gid()): line for line in axes.get_lines() if line.get_gid()}


def test_published_flows_are_dashed_and_what_remains_of_their_error_is_written():
    """Beside a line of slope 2; a method and its b2 have one colour."""
    (axes,) = figures.draw("adaptive_order", ADAPTIVE["adaptive_order"]).axes
    assert axes.get_xscale() == axes.get_yscale() == "log"
    drawn = lines_of(axes)
    for name, line in drawn.items():
        if name != "slope":
            assert line.get_linestyle() == ("--" if name.startswith("published") else "-")
    for b2 in ("0.99", "0.9"):
        published, ours = (drawn[f"{kind}-{b2}/error"] for kind in ("published", "alternation"))
        assert published.get_color() == ours.get_color()
        assert_trees_close(np.asarray(ours.get_ydata()), 2 * RATES**2)
    assert len({line.get_color() for line in drawn.values()}) == 4
    floors = [text.get_text() for text in axes.texts]
    assert floors == 2 * ["0.70 (1 − b2)/(1 + b2)"]
    slope = drawn["slope"]
    x, y = np.asarray(slope.get_xdata()), np.asarray(slope.get_ydata())
    assert_trees_close(np.diff(np.log(y)) / np.diff(np.log(x)), np.full(2, 2.0))


def test_a_column_per_optimizer_and_axes_that_stable_flow_runs_off():
    """Scalar RMSProp comes first; what stays at the edge is inside."""
    axes = figures.draw("adaptive_valley", ADAPTIVE["adaptive_valley"]).axes
    assert len(axes) == 6
    assert [one.get_title(loc="left") for one in axes[:2]] == ["scalar RMSProp", "RMSProp"]
    height, sharpness, distance = axes[1::2]
    assert distance.get_yscale() == "log"
    assert height.get_ylim()[1] < 1.3
    assert sharpness.get_ylim() == (25, 100)
    assert {"rmsprop/rod/height", "rmsprop/stable/height", "rmsprop/discrete/height"} == set(
        lines_of(height)
    )
    (critical,) = (line for name, line in lines_of(sharpness).items() if "critical" in name)
    np.testing.assert_array_equal(critical.get_ydata(), [50, 50])
    # Step 0 has no midpoint of three iterates.
    line = lines_of(distance)["rmsprop/rod/distance"]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 21))


@pytest.mark.parametrize("name", list(ADAPTIVE))
def test_studies_of_another_kind_are_refused(name: str):
    """With what is needed."""
    with pytest.raises(ValueError, match=f"figure '{name}' needs groups with"):
        figures.draw(name, xr.DataTree())
