"""The figures of the rolling ball: what the tree says, from trees made by hand."""

import numpy as np
import pytest
import xarray as xr

import figures
from tests.figures.trees import trajectory, tree

NAMES = (
    "ball_ironing",
    "ball_minima",
    "ball_pits",
    "ball_unreachable",
    "ball_limit",
    "ball_network",
)


def lines_of(axes):
    """A panel's lines by gid."""
    return {str(line.get_gid()): line for line in axes.get_lines()}


def ironing():
    """A made-up landscape and one ball on it."""
    x = np.linspace(0, 1, 21)

    def group(radius):
        return xr.Dataset(
            {
                "height": ("x", np.sin(9 * x) + radius),
                "landscape": ("x", np.sin(9 * x)),
                "minimum": ("minimum", [-1 + radius]),
                "path_height": ("time", [0.5, 0.2]),
                "path_x": ("time", [0.3, 0.4]),
            },
            {"x": x, "minimum_x": ("minimum", [0.5])},
            {"radius": radius},
        )

    return tree(rough=group(0.0), smooth=group(0.1))


def minima():
    """Counts that fall with the radius."""
    data = xr.Dataset(
        {"minima": ("radius", [100, 50, 5])}, {"radius": [0.0, 0.01, 0.1]}, {"label": "made up"}
    )
    return tree(one=data)


def pits():
    """Two straight paths in a bowl."""
    line = np.linspace(-1, 1, 11)
    ground = xr.Dataset(
        {"loss": (("x0", "x1"), line[:, None] ** 2 + line**2)}, {"x0": line, "x1": line}
    )
    path = np.linspace([-0.5, 0.5], [0.0, 0.0], 5)
    pair = xr.Dataset(
        {"centre": (("ball", "time", "parameter"), np.stack([path, path + 0.1]))},
        attrs={"radius": 0.1, "apart": 0.14},
    )
    return tree(ground=ground, pair=pair)


def unreachable():
    """Contacts that follow the formula."""
    product = np.linspace(0.5, 2, 7)
    contact = 0.5 * np.sqrt(np.maximum(product**2 - 1, 0)) / product
    data = xr.Dataset(
        {"contact": ("product", contact), "contacts": ("product", 1.0 + (product > 1))},
        {"product": product},
    )
    return tree({"radius": 0.5}, quadratic=data)


def limit():
    """Errors exactly proportional to the learning rate."""
    values = np.array([0.01, 0.02, 0.04])
    groups = {
        name: xr.Dataset({"error": (name, 3 * values)}, {name: values}, {"order": 1.0})
        for name in ("radius", "learning_rate")
    }
    root = xr.Dataset(attrs={"title": "limits"})
    return xr.DataTree.from_dict({"/": root} | groups)


def network():
    """Gradient descent, a ball and its flow."""
    steps = np.arange(5)
    loss = np.exp(-steps / 3.0)
    descent = {"radius": 0.0, "kind": "gradient_descent", "label": "gradient descent"}
    ball = {"radius": 0.1, "kind": "radius", "label": "radius = 0.1"}
    curve = {"loss": loss, "sharpness": 5 + loss}
    return tree(
        {"critical_sharpness": 20.0},
        descent=trajectory(steps, descent, **curve),
        ball=trajectory(steps, ball, **curve, radius_times_curvature=0.1 * loss),
        flow=trajectory(
            steps, {**ball, "kind": "flow"}, loss=loss, radius_times_curvature=0.1 * loss
        ),
    )


def test_the_ironed_landscapes_are_drawn_with_paths_and_resting_places():
    """In both panels, the lower one around the paths."""
    upper, lower = figures.draw("ball_ironing", ironing()).axes
    assert {"height-0", "height-0.1", "minima-0.1", "path-0.1", "rest-0.1"} <= set(lines_of(upper))
    assert lower.get_xlim()[1] - lower.get_xlim()[0] < 0.2
    np.testing.assert_array_equal(lines_of(lower)["rest-0.1"].get_xdata(), [0.4])


def test_the_counts_of_minima_are_on_logarithmic_axes():
    """The count without a ball is a level line."""
    (axes,) = figures.draw("ball_minima", minima()).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    np.testing.assert_array_equal(lines_of(axes)["one"].get_ydata(), [50, 5])
    assert set(lines_of(axes)["one/rough"].get_ydata()) == {100}


def test_each_radius_has_a_panel_with_a_pair_of_paths():
    """Told apart by line style too."""
    (axes,) = figures.draw("ball_pits", pits()).axes
    drawn = lines_of(axes)
    styles = {drawn[f"0.1/{which}"].get_linestyle() for which in ("first", "second")}
    assert len(styles) == 2
    assert "0.14 apart" in axes.get_title(loc="left")


def test_contacts_are_drawn_beside_the_formula():
    """In units of the radius."""
    axes, _ = figures.draw("ball_unreachable", unreachable()).axes
    formula = np.asarray(lines_of(axes)["formula"].get_xydata())
    assert formula[0, 1] == 0.0
    product, contact = np.asarray(lines_of(axes)["quadratic"].get_xydata()).T
    assert np.abs(contact - np.interp(product, *formula.T))[product > 1.2].max() < 1e-3


def test_both_limits_have_their_fit():
    """Through the errors, where the order is right."""
    for axes in figures.draw("ball_limit", limit()).axes:
        x, y = np.asarray(lines_of(axes)["fit"].get_xydata()).T
        assert np.abs(y / x - 3).max() < 1e-12


def test_the_network_has_loss_sharpness_and_fit():
    """With 2/eta, and the line above which a ball fits no more."""
    loss, sharpness, fit = figures.draw("ball_network", network()).axes
    assert {"descent/loss", "ball/loss", "flow/loss"} == set(lines_of(loss))
    assert sharpness.get_ylim()[1] > 20
    assert [text.get_text() for text in fit.texts] == ["the ball fits no more"]


@pytest.mark.parametrize("name", NAMES)
def test_without_their_data_the_figures_say_what_they_need(name):
    """As the other figures do."""
    with pytest.raises(ValueError, match=f"figure '{name}' needs .*{name}"):
        figures.draw(name, tree(discrete=trajectory([0, 1], loss=[1.0, 0.5])))
