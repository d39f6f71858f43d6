"""How the Hessian's top eigenvectors turn along a run."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from figures import curves
from figures.registry import Needs, figure
from figures.sheet import add_legend, new_figure, style

_NAME = "eigenvector_overlaps"
_FIRST = "first_eigenvector_overlaps"
_WITH = {_NAME: "of the save before", _FIRST: "of the first save"}
_SUBSPACES = {
    "subspace_overlap": ("with the save before", "-"),
    "first_subspace_overlap": ("with the first save", (0, (3, 1.5))),
}


def _add_overlaps(axes: Axes, tree: xr.DataTree, group: str, name: str, mode: int) -> QuadMesh:
    """Draw |<v_i, u_j>| of one mode i over the steps, a row of cells for each j."""
    data = tree[group].dataset
    values = np.asarray(data[name].values, float)[:, mode, :]
    steps = np.asarray(data["step"].values)
    measured = np.isfinite(values).all(axis=1) & np.isfinite(steps)
    steps, values = steps[measured], values[measured]
    ranks = np.arange(1, values.shape[1] + 1)
    look: dict[str, Any] = {"cmap": "cividis", "vmin": 0, "vmax": 1, "rasterized": True}
    mesh = axes.pcolormesh(
        borders(steps), np.append(ranks - 0.5, ranks[-1] + 0.5), values.T, gid=name, **look
    )
    axes.set_yticks(ranks, [f"u{rank}" for rank in ranks])
    axes.invert_yaxis()
    axes.grid(False)
    return mesh


def borders(steps: np.ndarray) -> np.ndarray:
    """The borders of cells around points, halfway between them."""
    if len(steps) < 2:
        return np.array([-0.5, 0.5]) + (steps[0] if len(steps) else 0.0)
    middle = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([[2 * steps[0] - middle[0]], middle, [2 * steps[-1] - middle[-1]]])


def _add_subspaces(axes: Axes, tree: xr.DataTree, group: str) -> None:
    """Draw the overlap of the span of all modes, with the save before and with the first."""
    for name, (words, pattern) in _SUBSPACES.items():
        one = curves.curve(tree, group, name)
        if one is not None:
            look = {"color": "black", "linewidth": 1.1, "linestyle": pattern}
            axes.plot(one.steps, one.values, label=f"span of the vᵢ: {words}", gid=one.name, **look)
    axes.set_ylim(-0.03, 1.03)
    curves.label_axes(axes, tree, "overlap of\nthe spans", "subspace_overlap")


@figure("eigenvector_overlaps", needs=Needs(measurement="eigenvector_overlap"))
def draw(tree: xr.DataTree) -> Figure:
    """The overlaps of the Hessian's top eigenvectors with those of earlier saves.

    A row of maps for each eigenvector v_i, by descending eigenvalue: how much of it lies along each
    u_j of the save before (left) and of the first save (right). Below, what the spans of all of
    them have in common. The optimizer's run is drawn, or that of the first flow that has them.

    Args:
        tree: results of an experiment with `[[measurements]]` of kind "eigenvector_overlap".

    Raises:
        ValueError: if no trajectory has overlaps.
    """
    present = [name for name in curves.groups(tree) if _NAME in tree[name].dataset]
    if not present or not curves.has(tree, _FIRST):
        needs = "a table [[measurements]] of kind 'eigenvector_overlap'"
        raise curves.nothing_to_draw(_NAME, needs, tree)
    group = present[0]
    modes = tree[group].sizes["overlap_mode"]
    with style():
        drawn = new_figure(2.6 + 0.25 * modes * (1 + modes))
        layout: list[Any] = [[f"{name}{mode}" for name in _WITH] for mode in range(modes)]
        layout.append(["spans"] * len(_WITH))
        ratios = [0.25 * (1 + modes)] * modes + [1.5]
        panels = drawn.subplot_mosaic(layout, height_ratios=ratios)
        maps = []
        steps = tree[group].dataset["step"].values
        for mode in range(modes):
            for name, words in _WITH.items():
                axes = panels[f"{name}{mode}"]
                mesh = _add_overlaps(axes, tree, group, name, mode)
                axes.set_ylabel(f"v{mode + 1}", rotation=0, labelpad=10, va="center")
                axes.set_xlim(float(np.nanmin(steps)), float(np.nanmax(steps)))
                axes.locator_params(axis="x", nbins=4)
                axes.tick_params(labelbottom=mode == modes - 1)
                if mode == 0:
                    axes.set_title(f"vᵢ along uⱼ {words}")
                maps.append((axes, mesh))
        drawn.colorbar(maps[0][1], ax=[axes for axes, _ in maps], label="|⟨vᵢ, uⱼ⟩|", pad=0.01)
        _add_subspaces(panels["spans"], tree, group)
        panels["spans"].set_xlim(float(np.nanmin(steps)), float(np.nanmax(steps)))
        add_legend(drawn, tree, [panels["spans"]])
    return drawn
