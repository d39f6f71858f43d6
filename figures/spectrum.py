"""The density of the Hessian's eigenvalues over the steps, with the critical sharpness."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from figures import curves
from figures.overlaps import borders
from figures.registry import Needs, figure
from figures.sharpness import critical_sharpness
from figures.sheet import add_legend, new_figure, style

_DENSITY, _AT = "spectral_density", "spectral_eigenvalue"
_COLOURS = "magma"
# Of the highest density, the lowest that is told from none: one eigenvalue among many thousands.
_LOWEST = 1e-5
_MOST_POINTS = 2000


def _rows(tree: xr.DataTree, group: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps, eigenvalues and densities of the saves at which they were measured."""
    data = tree[group].dataset
    density, at = (np.asarray(data[name].values, float) for name in (_DENSITY, _AT))
    measured = np.isfinite(density).all(axis=1) & np.isfinite(data["step"].values)
    return np.asarray(data["step"].values)[measured], at[measured], density[measured]


def _common(at: np.ndarray) -> np.ndarray:
    """One grid for all saves, as fine as the finest of their own, within reason."""
    low, high = float(at.min()), float(at.max())
    finest = float(np.diff(at, axis=1).min())
    return np.linspace(low, high, int(np.clip((high - low) / finest, 2, _MOST_POINTS)))


def _add_density(axes: Axes, tree: xr.DataTree, group: str, norm: LogNorm) -> QuadMesh:
    """Draw the density of one trajectory, and the critical sharpness over it."""
    steps, at, density = _rows(tree, group)
    common, lowest = _common(at), float(norm.vmin or 0.0)
    rows = [np.interp(common, *row, left=0, right=0) for row in zip(at, density, strict=True)]
    mesh = axes.pcolormesh(
        borders(steps),
        borders(common),
        np.maximum(np.asarray(rows).T, lowest),
        norm=norm,
        cmap=_COLOURS,
        rasterized=True,
        gid=f"{group}/{_DENSITY}",
    )
    axes.set_facecolor(mesh.get_cmap()(0.0))
    axes.grid(False)
    axes.set_xlim(steps[0], steps[-1])
    axes.set_ylim(at.min(), at.max())
    axes.set_title(curves.label_of(tree, group))
    curves.label_axes(axes, tree, "eigenvalue", _AT)
    if tree.attrs.get("critical_variable", "sharpness") == "sharpness":
        _add_threshold(axes, tree)
    return mesh


def _add_threshold(axes: Axes, tree: xr.DataTree) -> None:
    """Draw the critical sharpness over a map, and name it there: a curve where it varies."""
    steps, values = critical_sharpness(tree)
    if not values.size:
        return
    look: dict[str, Any] = {"color": "white", "linewidth": 1.0, "linestyle": (0, (4, 3))}
    if steps.size:
        axes.plot(steps, values, scaley=False, gid="critical", **look)
    else:
        low, high = axes.get_ylim()
        axes.axhline(float(values[0]), gid="critical", **look)
        axes.set_ylim(low, max(high, 1.1 * float(values[0])))
    axes.annotate(
        curves.critical_label(tree),
        (0.0, float(values[0])),
        xycoords=("axes fraction", "data"),
        xytext=(4, 3),
        textcoords="offset points",
        color="white",
        annotation_clip=True,
    )


def _add_trace(axes: Axes, tree: xr.DataTree) -> None:
    """Draw the trace of each trajectory, within a standard error on both sides."""
    drawn = curves.curves(tree, "hessian_trace")
    ends: list[float] = []
    for one in drawn:
        group = one.name.partition("/")[0]
        error = curves.curve(tree, group, "hessian_trace_error")
        if error is None or len(error.values) != len(one.values):
            continue
        low, high = one.values - error.values, one.values + error.values
        ends += [float(low.min()), float(high.max())]
        axes.fill_between(
            one.steps,
            low,
            high,
            color=one.look["color"],
            alpha=0.2,
            linewidth=0,
            gid=f"{one.name}/error",
        )
    curves.add_panel(axes, tree, "hessian_trace", drawn, log=False, include=ends)
    curves.label_axes(axes, tree, "trace", "hessian_trace")
    axes.set_title("Trace of the Hessian; shaded: one standard error")


@figure("spectral_density", needs=Needs(measurement="spectral_density"))
def draw(tree: xr.DataTree) -> Figure:
    """A map of the density of the Hessian's eigenvalues over the steps, and the trace below.

    One panel for each trajectory that has it; the dashed line is the critical sharpness. Colours
    are logarithmic, so that a single eigenvalue is seen beside thousands near zero.

    Args:
        tree: results of an experiment with `[[measurements]]` of kind "spectral_density".

    Raises:
        ValueError: if no trajectory has a density.
    """
    present = [name for name in curves.groups(tree) if _DENSITY in tree[name].dataset]
    present = [name for name in present if len(_rows(tree, name)[0])]
    if not present:
        needs = f"a table [[measurements]] of kind {_DENSITY!r}"
        raise curves.nothing_to_draw(_DENSITY, needs, tree)
    highest = max(float(_rows(tree, name)[2].max()) for name in present)
    norm = LogNorm(_LOWEST * highest, highest)
    with style():
        drawn = new_figure(2.4 + 2.3 * len(present))
        panels = list(drawn.subplots(len(present) + 1, sharex=True))
        meshes = [
            _add_density(axes, tree, name, norm)
            for axes, name in zip(panels[:-1], present, strict=True)
        ]
        units = tree[present[0]].dataset[_DENSITY].attrs.get("units", "")
        label = f"density ({units})".replace("^2", "²")
        # Beside the maps, and of all panels, so that these stay equally wide.
        place = {"shrink": len(present) / len(panels), "anchor": (0.0, 1.0), "pad": 0.01}
        drawn.colorbar(meshes[0], ax=panels, label=label, extend="min", **place)
        _add_trace(panels[-1], tree)
        for axes in panels:
            axes.label_outer()
        drawn.align_ylabels(panels)
        add_legend(drawn, tree, panels)
    return drawn
