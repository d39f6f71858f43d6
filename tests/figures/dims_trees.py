"""Trees such as the studies of dissipative mechanics store, made by hand."""

import numpy as np
import xarray as xr

TIME = np.linspace(0.0, 10.0, 21)


def tree(groups, **attributes):
    """A tree of groups."""
    root = xr.Dataset(attrs={"title": "a study", **attributes})
    return xr.DataTree.from_dict({"/": root, **{f"/{name}": one for name, one in groups.items()}})


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
    """One map, of a probability (x0 + 1) / 2, and two points."""
    axis = np.linspace(-1.0, 1.0, 5)
    p = np.broadcast_to((axis[:, None] + 1) / 2, (5, 5))
    coordinates = {"x0": axis, "x1": 3 * axis}
    map_ = xr.Dataset({"probability": (("x0", "x1"), p)}, coordinates, {"kept": 1.0})
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


DIMS = {
    "dims_ring": ring(),
    "dims_energy": paths(),
    "dims_valley": paths(),
    "dims_limit": limit(),
    "dims_regression": regression(),
    "dims_banana": banana(),
    "dims_uncertainty": uncertainty(),
}
