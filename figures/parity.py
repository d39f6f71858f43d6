"""The parity flow beside other flows: sharpness, oscillation, and distances from the optimizer."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import curves
from figures.central import add_distances, central, hide_from_legend, modes, parities, rods
from figures.curves import Curve
from figures.loss import add_loss
from figures.registry import Needs, figure
from figures.rod import length
from figures.sharpness import add_preconditioned, add_sharpness
from figures.sheet import add_legend, new_figure, style

# An oscillation that has decayed further is no longer shown.
_LOWEST = 1e-20
# How many characters of the legend's columns stand side by side.
_LINE = 86


def _amplitude(tree: xr.DataTree, group: str) -> Curve | None:
    """How far a flow says that the iterates are from its centre; nothing if it does not say."""
    if group in central(tree):
        present = modes(tree, group, "variances")
        if not present:
            return None
        total = np.sum([one.values for one in present], axis=0)
        return replace(present[0], values=np.sqrt(np.maximum(total, 0)))
    if group in rods(tree):
        return length(tree, group)
    return curves.curve(tree, group, "half_difference_length")


def _add_sharpness(axes: Axes, tree: xr.DataTree) -> None:
    add_sharpness(axes, tree)
    axes.set_title("Sharpness, at the iterates and at the flows' centres")
    hide_from_legend(axes)


def _add_preconditioned(axes: Axes, tree: xr.DataTree) -> None:
    add_preconditioned(axes, tree)
    axes.set_title("Preconditioned sharpness, at the iterates and at the flows' centres")
    hide_from_legend(axes)


def _add_loss(axes: Axes, tree: xr.DataTree) -> None:
    add_loss(axes, tree)
    axes.set_title("Loss, at the iterates and at the flows' centres")
    hide_from_legend(axes)


def _add_oscillation(axes: Axes, tree: xr.DataTree) -> None:
    """Draw |d| of the optimizer and of the flows that predict it, on a logarithmic axis."""
    found = (_amplitude(tree, group) for group in curves.groups(tree))
    drawn = [replace(one, label=curves.label_of(tree, _group(one))) for one in found if one]
    curves.add_curves(axes, drawn)
    axes.set_yscale("log", nonpositive="mask")
    curves.set_limits(axes, drawn, diverged=curves.has_diverged(tree))
    axes.set_ylim(bottom=max(axes.get_ylim()[0], _LOWEST))
    curves.label_axes(axes, tree, "|d|", "half_difference_length")
    axes.set_title("Oscillation; of the optimizer, the distance of its iterates from the midpoints")
    hide_from_legend(axes)


def _add_iterate_distances(axes: Axes, tree: xr.DataTree) -> None:
    """Draw how far the predicted iterates are from the optimizer's."""
    drawn = curves.curves(tree, "iterate_distance")
    curves.add_curves(axes, drawn)
    axes.set_yscale("log", nonpositive="mask")
    curves.set_limits(axes, drawn, diverged=curves.has_diverged(tree))
    # As for the midpoints: at its start a flow may be where the optimizer is, to rounding.
    later = np.concatenate([one.values[1:] for one in drawn])
    if (later > 0).any():
        axes.set_ylim(bottom=max(axes.get_ylim()[0], later[later > 0].min() / 2))
    curves.label_axes(axes, tree, "distance", "iterate_distance")
    axes.set_title("Distance of predicted iterates, c + (−1)ᵗ d, from those of the optimizer")
    hide_from_legend(axes)


_PANELS: dict[str, Callable[[Axes, xr.DataTree], object]] = {
    "sharpness": _add_sharpness,
    "half_difference_length": _add_oscillation,
    "distance": add_distances,
    "iterate_distance": _add_iterate_distances,
}


# An adaptive method keeps its preconditioned sharpness at a threshold, and the loss's where it may.
_ADAPTIVE = {
    "loss": _add_loss,
    "preconditioned_sharpness": _add_preconditioned,
    **{name: add for name, add in _PANELS.items() if name != "sharpness"},
}


def _group(one: Curve) -> str:
    return one.name.split("/")[0]


def _add_names(axes: Axes, tree: xr.DataTree) -> None:
    """Give the legend an entry for each trajectory, with its errors."""
    for group in curves.groups(tree):
        label, attrs = curves.label_of(tree, group), tree[group].attrs
        errors = [
            f"{words} {float(attrs[name]):.2g}"
            for name, words in (("tracking_error", "error"), ("iterate_error", "iterates"))
            if np.isfinite(float(attrs.get(name, np.nan)))
        ]
        known = f" ({', '.join(errors)})" if errors else ""
        axes.plot([], [], label=f"{label}{known}", **curves.look_of(tree, group))


@figure("parity", needs=Needs(flow="parity"))
def draw(tree: xr.DataTree) -> Figure:
    """Sharpness, the oscillation |d|, and distances from the midpoints and from the iterates.

    For an adaptive method the sharpness is that of P^-1 H, and the loss stands above it. Beside the
    parity flows are the optimizer and all other flows, as far as they predict the same.

    Args:
        tree: results of an experiment with a flow of kind `parity`.

    Raises:
        ValueError: if there is none.
    """
    if not parities(tree):
        needs = "a flow of kind 'parity', whose group has the variable 'iterate_distance'"
        raise curves.nothing_to_draw("parity", needs, tree)
    wanted = _ADAPTIVE if curves.has(tree, "preconditioned_sharpness") else _PANELS
    present = [name for name in wanted if curves.has(tree, name)]
    if not present:
        raise curves.nothing_to_draw("parity", "finite values of what it draws", tree)
    with style():
        figure = new_figure(1.6 + 2.0 * len(present))
        panels = list(figure.subplots(len(present), sharex=True, squeeze=False)[:, 0])
        for axes, name in zip(panels, present, strict=True):
            wanted[name](axes, tree)
            axes.label_outer()
        _add_names(panels[0], tree)
        figure.align_ylabels(panels)
        labels = panels[0].get_legend_handles_labels()[1]
        # The first column is filled first.
        half = (len(labels) + 1) // 2
        widest = sum(max(map(len, column), default=0) for column in (labels[:half], labels[half:]))
        add_legend(figure, tree, panels, 2 if widest <= _LINE else 1)
    return figure
