"""Results trees of the studies of RMSProp, made by hand."""

import numpy as np
import xarray as xr

from tests.figures.trees import tree

RATES = np.array([0.08, 0.04, 0.02])


def order_study() -> xr.DataTree:
    """Errors of eta^2, and two that stay at 0.7 (1 - b2)/(1 + b2)."""

    def group(error, b2, label, **kind):
        errors = {"error": ("learning_rate", error)}
        return xr.Dataset(errors, {"learning_rate": RATES}, {"label": label, "b2": b2, **kind})

    parts = {"scalar-0.99": group(RATES**2, 0.99, "scalar", scalar=1, alternation=0)}
    for b2 in (0.99, 0.9):
        floor = np.full(3, 0.7 * (1 - b2) / (1 + b2))
        one = {"scalar": 0, "alternation": 0}
        parts[f"published-{b2:g}"] = group(floor, b2, f"{b2:g}, published", **one)
        one = {"scalar": 0, "alternation": 1}
        parts[f"alternation-{b2:g}"] = group(2 * RATES**2, b2, f"{b2:g}, alternation", **one)
    return tree({"title": "orders"}, **parts)


def valley_study() -> xr.DataTree:
    """A straight motion at the edge, which stable flow leaves."""
    step = np.arange(21)
    height = 1 + 0.01 * step
    left = np.where(step > 10, np.nan, height + step**2)
    group = xr.Dataset(
        {
            "height": (("flow", "step"), np.stack([left, height])),
            "preconditioned_sharpness": (
                ("flow", "step"),
                np.stack([50.0 * (left - height + 1), np.full(21, 50.0)]),
            ),
            "distance": (("flow", "step"), np.stack([left - height, np.full(21, 1e-3)])),
            "tracking_error": ("flow", [np.nan, 0.01]),
            "midpoint_height": ("step", height),
            "iterate_sharpness": ("step", 50 + (-1.0) ** step),
        },
        {"flow": np.array(["stable", "rod"], object), "step": step},
    )
    attrs = {"title": "valley", "critical_sharpness": 50.0}
    parts = {name: group.assign_attrs(label=name) for name in ("rmsprop", "scalar_rmsprop")}
    return tree(attrs, **parts)


ADAPTIVE = {"adaptive_order": order_study(), "adaptive_valley": valley_study()}
