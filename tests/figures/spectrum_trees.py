"""Results trees of what is measured of the Hessian, made by hand."""

from typing import Any

import numpy as np
import xarray as xr

from tests.figures.trees import tree

STEPS = np.arange(0, 50, 10)
POINTS = 40
TOPS = np.array([4.0, 6.0, 8.0, 10.0, 9.0])


def _group(variables: dict[str, Any], **attrs: str) -> xr.Dataset:
    return xr.Dataset(variables, {"step": STEPS}, attrs)


def spectrum() -> xr.DataTree:
    """Eigenvalues at 0 and at a top that rises; measured at all saves but the second."""
    at = np.stack([np.linspace(-1, top + 1, POINTS) for top in TOPS])
    tops = TOPS[:, None]
    density = np.exp(-((at / 0.3) ** 2)) + 1e-2 * np.exp(-(((at - tops) / 0.3) ** 2))
    trace, error = TOPS + 2, 0.1 * TOPS
    for values in (density, trace, error):
        values[1] = np.nan
    dims = ("step", "spectral_point")
    units = {"units": "loss / parameter^2"}
    variables = {
        "spectral_density": (dims, density, {"units": "parameter^2 / loss"}),
        "spectral_eigenvalue": (dims, at, units),
        "hessian_trace": ("step", trace, units),
        "hessian_trace_error": ("step", error, units),
    }
    attrs = {"title": "spectrum", "critical_sharpness": 10.0}
    flow = _group(variables, kind="flow", flow_kind="gradient", label="gradient")
    return tree(attrs, discrete=_group(variables, label="discrete"), gradient=flow)


def overlaps() -> xr.DataTree:
    """Two eigenvectors that swap at the third save, and turn by 30 degrees at the last."""
    same, swapped, turned = np.eye(2), 1 - np.eye(2), np.array([[0.866, 0.5], [0.5, 0.866]])
    before = np.stack([np.full((2, 2), np.nan), same, swapped, same, turned])
    first = np.stack([same, same, swapped, swapped, turned[::-1]])
    dims = ("step", "overlap_mode", "earlier_mode")
    variables = {
        "eigenvector_overlaps": (dims, before),
        "first_eigenvector_overlaps": (dims, first),
        "subspace_overlap": ("step", np.where(STEPS > 0, 1.0, np.nan)),
        "first_subspace_overlap": ("step", 1 - STEPS / 100),
    }
    return tree({"title": "overlaps"}, discrete=_group(variables, label="discrete"))


def gauss_newton() -> xr.DataTree:
    """Two eigenvalues, the first below the sharpness by 1; measured at all saves but the second."""
    both = np.stack([TOPS - 1, TOPS / 2], axis=1)
    both[1] = np.nan
    units = {"units": "loss / parameter^2"}
    variables = {
        "gauss_newton_eigenvalues": (("step", "gauss_newton_mode"), both, units),
        "gauss_newton_sharpness": ("step", both[:, 0], units),
        "sharpness": ("step", TOPS, units),
    }
    flow = _group(variables, kind="flow", flow_kind="gradient", label="gradient")
    without = _group({"sharpness": ("step", 50 * TOPS, units)}, kind="flow", label="without")
    attrs = {"title": "two matrices", "critical_sharpness": 10.0}
    return tree(attrs, discrete=_group(variables, label="discrete"), gradient=flow, without=without)


def group_sharpness() -> xr.DataTree:
    """Three groups at a half and less of the sharpness of all; the flow's are without names."""
    units = {"units": "loss / parameter^2"}
    variables = {
        "group_sharpness": (("step", "group"), TOPS[:, None] / [2, 4, 100], units),
        "sharpness": ("step", TOPS, units),
    }
    discrete = _group(variables, label="discrete")
    discrete.attrs["groups"] = ["layers.0.weight", "layers.0.bias", "layers.1.*"]
    flow = _group(variables, kind="flow", flow_kind="gradient", label="gradient")
    attrs = {"title": "groups", "critical_sharpness": 10.0}
    return tree(attrs, discrete=discrete, gradient=flow)


SPECTRA = {
    "spectral_density": spectrum(),
    "eigenvector_overlaps": overlaps(),
    "gauss_newton": gauss_newton(),
    "group_sharpness": group_sharpness(),
}
