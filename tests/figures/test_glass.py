"""The figures of gradient glass and of Alice."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import figures
from tests.figures.glass_trees import GLASS, NUMBERS, SHARES, SIGMA
from tests.helpers import assert_trees_close


def lines_of(axes: Axes) -> dict[str, Line2D]:
    """A panel's lines by gid."""
    return {str(line.get_gid()): line for line in axes.get_lines() if line.get_gid()}


def slope(line: Line2D) -> np.ndarray:
    """The powers of x that a line on logarithmic axes shows."""
    x, y = (np.log(np.asarray(data)) for data in (line.get_xdata(), line.get_ydata()))
    return np.diff(y) / np.diff(x)


def test_second_differences_are_drawn_by_layer_and_activation_beside_their_powers():
    """And the density over the number of examples, beside what was counted."""
    relu, tanh, examples = figures.draw("glass_powers", GLASS["glass_powers"]).axes
    for axes, powers in ((relu, (1, 3)), (tanh, (4, 4))):
        assert axes.get_xscale() == axes.get_yscale() == "log"
        group = "relu" if axes is relu else "tanh"
        for leaf, power in zip(("first weights", "output weights"), powers, strict=True):
            line = lines_of(axes)[f"{group}/{leaf}"]
            assert_trees_close(np.asarray(line.get_xdata()), SIGMA)
            assert_trees_close(slope(line), np.full(2, float(power)))
    drawn = lines_of(examples)
    assert_trees_close(np.asarray(drawn["examples/exact"].get_xdata()), NUMBERS)
    assert_trees_close(slope(drawn["guide"]), np.full(2, -1.0))
    assert [text.get_text() for text in (*relu.texts, *tanh.texts)] == ["σ", "σ³", "σ⁴"]


def test_alice_is_drawn_beside_both_flows_and_its_decays():
    """The error of the flow without momentum stays."""
    paths, order, decay = figures.draw("alice_flow", GLASS["alice_flow"]).axes
    assert {"paths/discrete", "paths/with momentum", "paths/without momentum"} == set(
        lines_of(paths)
    )
    errors = lines_of(order)["order/with momentum"]
    assert_trees_close(np.asarray(errors.get_xdata()), SHARES)
    assert_trees_close(np.asarray(errors.get_ydata()), SHARES)
    assert {"decay/glass", "decay/glass/discrete", "decay/algebraic"} <= set(lines_of(decay))
    assert decay.get_yscale() == "log"


def test_a_column_for_each_phi_and_a_row_for_what_is_clipped():
    """Each term has its colour in both rows."""
    axes = figures.draw("alice_digits", GLASS["alice_digits"]).axes
    assert [one.get_title(loc="left") for one in axes[:2]] == ["φ = 0.1", "φ = 0.05"]
    loss, clipped = lines_of(axes[0]), lines_of(axes[2])
    assert set(loss) == {
        f"{term}/{of}" for term in ("glass", "both") for of in ("discrete", "flow")
    }
    for term in ("glass", "both"):
        assert loss[f"{term}/discrete"].get_color() == clipped[f"{term}/clipped"].get_color()


@pytest.mark.parametrize("name", list(GLASS))
def test_studies_of_another_kind_are_refused(name: str):
    """With what is needed."""
    with pytest.raises(ValueError, match=f"figure '{name}' needs groups with"):
        figures.draw(name, xr.DataTree())
