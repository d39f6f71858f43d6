"""A results tree of the study of SAM's two-cycle, made by hand."""

import numpy as np
import xarray as xr

from tests.figures.trees import tree


def cycles() -> xr.DataTree:
    """Lengths that grow with the sharpness, and centres that are off with two rods."""
    sharpness = np.linspace(5.0, 15.0, 5)

    def group(off_centre: float) -> xr.Dataset:
        variables = {"half_length": 0.01 * sharpness, "off_centre": off_centre * sharpness}
        return xr.Dataset(
            {name: ("sharpness", value) for name, value in variables.items()},
            {"sharpness": sharpness},
        )

    attrs = {"learning_rate": 0.1, "radius": 0.05, "smoothing": 0.02, "critical_sharpness": 20.0}
    parts = {"sam": group(0.0), "rod_flow": group(0.0), "two_rods": group(1e-3)}
    return xr.DataTree.from_dict(
        {"/": tree({"title": "cycles", **attrs}).dataset}
        | {name: part.assign_attrs(label=name) for name, part in parts.items()}
    )
