"""The figures of dissipative mechanics: what the tree says is what is drawn."""

import numpy as np
import pytest
import xarray as xr

import figures
from tests.helpers import assert_trees_close

TIME = np.linspace(0.0, 10.0, 21)


def tree(groups, **attributes):
    """A tree of groups."""
    root = xr.Dataset(attrs={"title": "a study", **attributes})
    return xr.DataTree.from_dict({"/": root, **{f"/{name}": one for name, one in groups.items()}})


def line(axes, gid):
    """The line of a panel with this gid."""
    (found,) = [one for one in axes.get_lines() if one.get_gid() == gid]
    return found


def ring(converged=True):
    """Samples at a few angles for two speeds."""
    angles = np.array([0.0, 0.1, -0.2, 3.0])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rested = np.full(4, converged)
    data = {"params": (("sample", "parameter"), points), "converged": ("sample", rested)}
    groups = {f"speed-{v:g}": xr.Dataset(data, attrs={"speed": v}) for v in (1.0, 0.5)}
    return tree(groups, radius=1.0)


def paths():
    """Two runs with known energies and paths, and a bowl."""
    energy = {"viscous": 5 * np.exp(-TIME), "quadratic": 5 / (1 + TIME) ** 2}
    groups = {
        label: xr.Dataset(
            {
                "total_energy": ("time", values),
                "params": (("time", "parameter"), np.stack([values, -values], axis=1)),
            },
            {"time": TIME},
            {"label": label},
        )
        for label, values in energy.items()
    }
    axis = np.linspace(-6.0, 6.0, 31)
    bowl = axis[:, None] ** 2 + axis[None, :] ** 2
    groups["landscape"] = xr.Dataset({"loss": (("x0", "x1"), bowl)}, {"x0": axis, "x1": axis})
    return tree(groups, time_label="time of the mechanics")


def limit():
    """Errors of orders 2 and 1."""
    gamma, s = np.array([4.0, 8.0, 16.0]), np.linspace(0.0, 1.0, 5)
    limit_path = np.stack([s, s], axis=1)
    groups = {}
    for name, order in (("from_rest", 2.0), ("moving", 1.0)):
        shifted = limit_path[None] + (gamma**-order)[:, None, None]
        data = {
            "error": ("friction", gamma**-order),
            "params": (("friction", "time", "parameter"), shifted),
            "limit": (("time", "parameter"), limit_path),
        }
        attributes = {"label": name, "order": order, "predicted_order": order}
        groups[name] = xr.Dataset(data, {"friction": gamma, "time": s}, attributes)
    return tree(groups)


def regression():
    """One method with mean and deviation, and its data."""
    x = np.linspace(-1.0, 1.0, 11)
    band = xr.Dataset(
        {
            "mean": ("x", x),
            "deviation": ("x", x**2),
            "samples": (("sample", "x"), np.stack([x, -x])),
        },
        {"x": x},
        {"scale": 0.3, "kept": 0.5},
    )
    data = xr.Dataset({"x": ("example", x[::5]), "y": ("example", x[::5])})
    return tree({"dims": band, "data": data})


def banana():
    """One map and two points."""
    axis = np.linspace(-1.0, 1.0, 5)
    p = np.broadcast_to((axis[:, None] + 1) / 2, (5, 5))
    map_ = xr.Dataset({"probability": (("x0", "x1"), p)}, {"x0": axis, "x1": axis}, {"kept": 1.0})
    points = xr.Dataset(
        {
            "points": (("example", "coordinate"), np.eye(2)),
            "label": ("example", np.array([0, 1])),
        }
    )
    return tree({"laplace": map_, "data": points})


def uncertainty():
    """Two seeds of one data set whose values differ by 2."""
    methods, metrics = np.array(["map", "dims"], object), np.array(["nll", "auroc"], object)
    coordinates = {"method": methods, "metric": metrics}
    value = np.array([[1.0, np.nan], [3.0, np.nan]])
    groups = {
        f"wine-{seed}": xr.Dataset(
            {"value": (("method", "metric"), value + 2 * seed)},
            coordinates,
            {"data": "wine", "seed": seed},
        )
        for seed in (0, 1)
    }
    return tree(groups)


TREES = {
    "dims_ring": ring,
    "dims_energy": paths,
    "dims_valley": paths,
    "dims_limit": limit,
    "dims_regression": regression,
    "dims_banana": banana,
    "dims_uncertainty": uncertainty,
}


@pytest.mark.parametrize("name", TREES)
def test_each_is_written_and_says_what_it_needs(name, tmp_path):
    """The same bytes twice; and without its data a sentence."""
    made = TREES[name]()
    pictures = [figures.save(figures.draw(name, made), tmp_path / f"{i}.png") for i in (0, 1)]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
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


def test_errors_and_bands_are_those_of_the_tree():
    """The error against friction; and the mean with its scale and who counts."""
    axes = figures.draw("dims_limit", limit()).axes[0]
    drawn = np.asarray(line(axes, "from_rest/error").get_xydata())
    assert_trees_close(drawn[:, 1], drawn[:, 0] ** -2)
    panel = figures.draw("dims_regression", regression()).axes[0]
    mean = np.asarray(line(panel, "dims/mean").get_xydata())
    assert_trees_close(mean[:, 1], mean[:, 0])
    assert panel.get_title(loc="left") == "DiMS, σ = 0.3 (50% at rest)"


def test_the_table_has_means_and_standard_errors():
    """Mean 2 and 4 of values 2 apart, with the error 1; no panel for what was not measured."""
    panels = figures.draw("dims_uncertainty", uncertainty()).axes
    assert len(panels) == 1
    (container,) = panels[0].containers
    points, _, (bars,) = container
    assert_trees_close(np.asarray(points.get_xdata()), np.array([2.0, 4.0]))
    ends = np.array([segment[:, 0] for segment in bars.get_segments()])
    assert_trees_close(ends, np.array([[1.0, 3.0], [3.0, 5.0]]))
