"""Results trees made by hand, as `experiments` would store them."""

from typing import Any

import numpy as np
import xarray as xr

_UNITS = {
    "loss": "loss",
    "predicted_loss": "loss",
    "sharpness": "loss / parameter²",
    "eigenvalues": "loss / parameter²",
    "distance": "parameter",
    "params": "parameter",
}
_DIMS = {"eigenvalues": ("step", "mode"), "params": ("step", "parameter")}


def trajectory(steps: Any, attrs: dict[str, Any] | None = None, **variables: Any) -> xr.Dataset:
    """A trajectory's group: variables over `steps`, with units."""
    data = {
        name: (_DIMS.get(name, ("step",)), np.asarray(values), {"units": _UNITS.get(name, "1")})
        for name, values in variables.items()
    }
    return xr.Dataset(data, coords={"step": np.asarray(steps)}, attrs=attrs or {})


def tree(attrs: dict[str, Any] | None = None, **groups: xr.Dataset) -> xr.DataTree:
    """A results tree; underscores in a group's name stand for spaces."""
    named = {name.replace("_", " "): group for name, group in groups.items()}
    root = xr.Dataset(attrs={"name": "by-hand", "time_label": "step"} | (attrs or {}))
    return xr.DataTree.from_dict({"/": root} | named)


def valley(steps: int = 900, learning_rate: float = 0.3, every: int = 5) -> xr.DataTree:
    """Gradient descent and gradient flow on the sharp valley, curvature every few steps only.

    L(x, y) = 0.5 (y + x) x^2 - eps (x + y), eps = 0.01, from (0, 6).
    """

    def loss(x, y):
        return 0.5 * (y + x) * x**2 - 0.01 * (x + y)

    def step(w, rate):
        x, y = w
        return w - rate * np.array([(y + x) * x + 0.5 * x**2 - 0.01, 0.5 * x**2 - 0.01])

    def run(substeps):
        w, path = np.array([0.0, 6.0]), []
        for index in range(steps * substeps + 1):
            if index % substeps == 0:
                path.append(w)
            w = step(w, learning_rate / substeps)
        return np.array(path)

    def group(path, attrs, **more):
        x, y = path.T
        top = 0.5 * ((y + 3 * x) + np.sqrt((y + 3 * x) ** 2 + 4 * x**2))
        sharpness = np.where(np.arange(steps + 1) % every == 0, top, np.nan)
        eigenvalues = np.stack([sharpness, (y + 3 * x) - sharpness], axis=1)
        return trajectory(
            np.arange(steps + 1),
            attrs,
            loss=loss(x, y),
            sharpness=sharpness,
            eigenvalues=eigenvalues,
            params=path,
            **more,
        )

    discrete, flow = run(1), run(20)
    before, after = np.roll(discrete, 1, axis=0), np.roll(discrete, -1, axis=0)
    distance = np.linalg.norm(flow - (before + 2 * discrete + after) / 4, axis=1)
    distance[[0, -1]] = np.nan
    x0, x1 = np.linspace(-0.6, 0.6, 81), np.linspace(5.5, 9.0, 81)
    landscape = xr.Dataset(
        {"loss": (("x0", "x1"), loss(x0[:, None], x1[None, :]))},
        coords={"x0": x0, "x1": x1},
        attrs={"x0_name": "x", "x1_name": "y"},
    )
    return tree(
        {"title": "sharp valley", "learning_rate": 0.3, "critical_sharpness": 2 / learning_rate},
        discrete=group(discrete, {"kind": "optimizer", "label": "gradient descent"}),
        gradient=group(
            flow,
            {
                "kind": "flow",
                "flow_kind": "gradient",
                "label": "gradient",
                "tracking_error": 0.0123,
            },
            distance=distance,
        ),
        landscape=landscape,
    )
