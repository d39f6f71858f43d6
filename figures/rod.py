"""Rod Flow beside the optimizer that it models: loss, sharpness, lengths of the rods, distance."""

from dataclasses import replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import curves
from figures.central import add_distances, add_losses, hide_from_legend, rods
from figures.curves import Curve
from figures.registry import Needs, figure
from figures.sharpness import add_sharpness


def length(tree: xr.DataTree, group: str) -> Curve | None:
    """The root of trace(Sigma) of a rod flow's rods, which for one rod is its half-length."""
    count = tree[group].dataset["rod_half_lengths"].sizes["rod"]
    found = [curves.curve(tree, group, "rod_half_lengths", rod=index) for index in range(count)]
    lengths = [one for one in found if one is not None]
    if not lengths:
        return None
    values = np.sqrt(sum(np.square(one.values) for one in lengths))
    return replace(lengths[0], values=values, label=f"_{lengths[0].label}")


def _measured(tree: xr.DataTree) -> Curve | None:
    """Half the distance between consecutive iterates."""
    if curves.DISCRETE not in tree.children:
        return None
    one = curves.curve(tree, curves.DISCRETE, "half_difference")
    return None if one is None else replace(one, label=f"_{one.label}")


def add_lengths(axes: Axes, tree: xr.DataTree) -> bool:
    """Draw how long the rods are, and half the distance between iterates that they stand for.

    Of several rods it is the root of the sum of squares, the root of trace(Sigma): Sigma models the
    half-difference's outer product, which does not change its sign from step to step. The
    half-differences are not there with momentum, where the rods lie in phase space.

    Args:
        axes: an empty panel.
        tree: the results.

    Returns:
        Whether there was anything to draw.
    """
    found = (length(tree, group) for group in rods(tree))
    lengths = [one for one in found if one is not None]
    if not lengths:
        return False
    measured = _measured(tree)
    drawn = lengths if measured is None else [measured, *lengths]
    curves.add_curves(axes, drawn)
    curves.set_limits(axes, drawn, diverged=curves.has_diverged(tree))
    curves.label_axes(axes, tree, "half-length", "rod_half_lengths")
    axes.set_title(
        "Length of the rods, √trace(Σ), in phase space, with momentum"
        if measured is None
        else "Length of the rods, √trace(Σ); thin, half the distance between iterates"
    )
    return True


def _add_sharpness(axes: Axes, tree: xr.DataTree) -> bool:
    if not add_sharpness(axes, tree):
        return False
    hide_from_legend(axes)
    axes.set_title("Sharpness, at the iterates and at the flows' centres")
    return True


def _add_losses(axes: Axes, tree: xr.DataTree) -> bool:
    # A rod predicts the mean over two iterates; an average over more would blur what it is to show.
    return add_losses(axes, tree, average=False)


_PANELS = {
    "loss": _add_losses,
    "sharpness": _add_sharpness,
    "rod_half_lengths": add_lengths,
    "distance": add_distances,
}


@figure("rod", needs=Needs(flow="rod"))
def draw(tree: xr.DataTree) -> Figure:
    """Loss, sharpness, rods and distances of Rod Flow, as in arXiv 2602.01480.

    Args:
        tree: results of an experiment with a flow of kind `rod`.

    Raises:
        ValueError: if there is none.
    """
    if not rods(tree):
        needs = "a flow of kind 'rod', whose group has the variable 'rod_half_lengths'"
        raise curves.nothing_to_draw("rod", needs, tree)
    present = [name for name in _PANELS if name == "loss" or curves.has(tree, name)]
    adds = [_PANELS[name] for name in present]
    return curves.draw_stack(tree, 1.6 + 2.0 * len(present), adds, columns=2)
