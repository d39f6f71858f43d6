"""The figures of a sweep: curves over one key, maps over two, and the phase diagram."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import QuadMesh

import figures
from figures.swept import edges
from tests.figures.sweep_trees import RATES, curves, diagram, tree
from tests.helpers import assert_trees_close


def test_a_sweep_over_one_key_is_a_curve_for_each_trajectory():
    """With the critical sharpness of each run, and seeds as the mean and a band."""
    figure = figures.draw("sweep", curves(seeds=3))
    axes = figure.axes[0]
    drawn = {str(line.get_gid()): np.asarray(line.get_ydata()) for line in axes.get_lines()}
    assert set(drawn) == {"discrete/curve", "a_flow/curve", "critical"}
    assert_trees_close(drawn["critical"], 2 / RATES)
    assert_trees_close(drawn["discrete/curve"], 1.9 / RATES + 0.1)
    assert len(axes.collections) == 2
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "optimizer: learning rate"
    assert axes.get_ylabel() == "late sharpness (loss / parameter²)"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["discrete optimizer", "a flow", "critical sharpness, 2/η"]
    looks = {(line.get_linestyle(), line.get_marker()) for line in axes.get_lines()}
    assert len(looks) == 3


def test_a_sweep_over_two_keys_is_a_map():
    """One for each trajectory that has the quantity; the borders lie between the values."""
    data = xr.Dataset(
        {
            "tracking_error": (
                ("learning_rate", "radius", "trajectory"),
                np.stack([np.full((3, 2), np.nan), np.arange(6.0).reshape(3, 2)], axis=-1),
            )
        },
        {"learning_rate": RATES, "radius": [1.0, 2.0], "trajectory": ["discrete", "a_flow"]},
    )
    figure = figures.draw("sweep", tree(data, "tracking_error", ("log", "linear")))
    axes = figure.axes[0]
    (mesh,) = [one for one in axes.collections if isinstance(one, QuadMesh)]
    assert_trees_close(np.asarray(mesh.get_array()), np.arange(6.0).reshape(3, 2).T)
    assert_trees_close(np.array(axes.get_xlim()), RATES[[0, -1]] * np.array([0.5, 2]) ** 0.5)
    assert axes.get_xscale() == "log"


def test_an_optimizer_without_a_critical_sharpness_has_no_line_of_it():
    """As adaptive ones; of several seeds the ones that have it count."""
    dims = ("learning_rate", "radius")
    data = xr.Dataset(
        {
            "final_sharpness": (dims, np.arange(6.0).reshape(3, 2)),
            "critical_sharpness": (dims, np.full((3, 2), np.nan)),
        },
        {"learning_rate": RATES, "radius": [1.0, 2.0]},
    )
    (axes, _) = figures.draw("sweep", tree(data, "final_sharpness", ("log", "linear"))).axes
    assert [type(one) for one in axes.collections] == [QuadMesh]
    (axes,) = figures.draw(
        "sweep", tree(data.isel(radius=0, drop=True), "final_sharpness", ("log",))
    ).axes
    assert [str(line.get_gid()) for line in axes.get_lines()] == ["/curve"]
    data["critical_sharpness"][:, 1] = 3.0
    data = data.rename(radius="seed")
    (axes,) = figures.draw("sweep", tree(data, "final_sharpness", ("log", "linear"))).axes
    (line,) = (line for line in axes.get_lines() if line.get_gid() == "critical")
    assert_trees_close(np.asarray(line.get_ydata()), np.full(3, 3.0))


def test_words_are_a_map_with_a_legend():
    """From light to dark in the order in which a learning rate meets them."""
    figure = figures.draw("sweep", diagram())
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["converged", "two-cycle", "higher cycle", "diverged"]
    lightness = [np.mean(patch.get_facecolor()[:3]) for patch in figure.legends[0].get_patches()]
    assert (np.diff(lightness) < -0.1).all()


def test_the_phase_diagram_has_its_borders():
    """S = 2/eta, (1 + sqrt(5))/eta and 4/eta on the map of outcomes."""
    axes = figures.draw("phase_diagram", diagram()).axes[0]
    products = {}
    for line in axes.get_lines():
        rates, curvatures = (np.asarray(values) for values in line.get_data())
        assert_trees_close(rates * curvatures, np.full(rates.shape, (rates * curvatures)[0]))
        products[str(line.get_gid())] = float((rates * curvatures)[0])
    assert products == pytest.approx({"2/eta": 2, "(1 + √5)/eta": 1 + 5**0.5, "4/eta": 4})
    (mesh,) = [one for one in axes.collections if isinstance(one, QuadMesh)]
    assert np.asarray(mesh.get_array()).shape == (4, 3)


def test_what_a_figure_lacks_is_said():
    """The quantity, the group, or axes that are too many."""
    with pytest.raises(ValueError, match="the variable 'late_sharpness'"):
        figures.draw("sweep", tree(xr.Dataset(), "late_sharpness", ()))
    with pytest.raises(ValueError, match="'outcome'"):
        figures.draw("phase_diagram", curves())
    many = xr.Dataset({"final_loss": (("a", "b", "c"), np.zeros((1, 2, 3)))})
    many = many.assign_coords(a=[0], b=[0, 1], c=[0, 1, 2])
    with pytest.raises(ValueError, match="one or two swept axes besides 'seed'; there are a, b, c"):
        figures.draw("sweep", tree(many, "final_loss", ("linear",) * 3))
    empty = xr.Dataset({"final_loss": ("a", np.full(2, np.nan))}, {"a": [0, 1]})
    with pytest.raises(ValueError, match="a value of 'final_loss' in any run"):
        figures.draw("sweep", tree(empty, "final_loss", ("linear",)))


def test_axes_of_numbers_are_drawn_in_ascending_order():
    """Whatever order they were given in: cells of a map would overlap, a curve run back."""
    for name, results in (("sweep", curves(seeds=2)), ("phase_diagram", diagram())):
        shuffled = results.copy()
        data = results["sweep"].to_dataset().isel(learning_rate=[2, 0, 1])
        shuffled["sweep"] = xr.DataTree(data)
        one, other = (figures.draw(name, tree).axes[0] for tree in (results, shuffled))
        for a, b in zip(one.get_lines(), other.get_lines(), strict=True):
            assert_trees_close(np.asarray(a.get_xydata()), np.asarray(b.get_xydata()))
        for a, b in zip(one.collections, other.collections, strict=True):
            if isinstance(a, QuadMesh) and isinstance(b, QuadMesh):
                assert_trees_close(np.asarray(a.get_array()), np.asarray(b.get_array()))
                corners = np.asarray(b.get_coordinates())
                assert_trees_close(np.asarray(a.get_coordinates()), corners)
                assert (np.diff(corners[..., 0], axis=1) > 0).all()


@pytest.mark.parametrize("dim", ["quantity", "step", "mode"])
def test_no_mean_is_drawn_of_unlike_numbers(dim: str):
    """Of conclusions, of steps or of modes: of seeds alone."""
    data = xr.Dataset({"measured": (("radius", dim), [[1.0, 1000.0], [2.0, 3000.0]])})
    results = tree(data.assign_coords(radius=[0.1, 0.2]), "measured", ("linear",))
    results.attrs["axes"], results.attrs["keys"] = ["radius"], ["study.radius"]
    with pytest.raises(ValueError, match=f"'measured' has one for each {dim} too"):
        figures.draw("sweep", results)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_borders_lie_between_the_middles(scale: str):
    """One more than there are values, each inside its own cell."""
    for values in (np.array([2.0]), np.array([1.0, 2.0, 8.0]), np.array([3.0, 2.0, 1.0])):
        borders = edges(values, scale)
        assert len(borders) == len(values) + 1
        low, high = np.minimum(borders[:-1], borders[1:]), np.maximum(borders[:-1], borders[1:])
        assert ((low < values) & (values < high)).all()
