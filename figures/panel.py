"""A matrix of errors: every flow on every case of a panel."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle

from figures.curves import nothing_to_draw
from figures.registry import Needs, figure
from figures.sheet import new_figure, style

_TABLE = "table"
_TITLES = {"tracking_error": "Midpoints", "iterate_error": "Iterates"}
# Colours end here: what is worse than standing still, or better than anyone can see, is that.
_RANGE = (1e-5, 1.0)
# Light where errors are small, so that a print in grey keeps the order; its brightness is monotone
# for every common colour vision.
_COLOURS = "cividis_r"
_HATCHES = {"failed": "xxxx", "does not apply": "///"}


def _table(tree: xr.DataTree) -> xr.Dataset:
    if _TABLE not in tree.children or "measure" not in tree[_TABLE].coords:
        needs = "the group 'table' of a study of kind panel that has ended"
        raise nothing_to_draw("panel", needs, tree)
    return tree[_TABLE].to_dataset()


def _shown(value: float) -> str:
    """A number in the width of a cell: two digits, and no zero before the point."""
    if value >= 9.95:
        return f"{value:.0f}"
    if value >= 0.995:
        return f"{value:.1f}"
    digits = max(2, 1 - int(np.floor(np.log10(value)))) if value > 0 else 2
    if digits <= 4:
        return f"{value:.{digits}f}".removeprefix("0")
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _draw_matrix(axes: Axes, values: np.ndarray, outcomes: np.ndarray) -> AxesImage:
    norm = LogNorm(*_RANGE, clip=True)
    image = axes.imshow(values, norm=norm, cmap=_COLOURS, aspect="auto", gid="errors")
    for place, value in np.ndenumerate(values):
        row, column = place
        outcome = str(outcomes[place])
        if np.isfinite(value):
            red, green, blue, _ = image.cmap(norm(value))
            bright = 0.299 * red + 0.587 * green + 0.114 * blue
            colour = "black" if bright > 0.5 else "white"
            axes.text(column, row, _shown(value), ha="center", va="center", color=colour, size=7.5)
        elif outcome in _HATCHES:
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(
                Rectangle(
                    corner,
                    1,
                    1,
                    facecolor="white",
                    edgecolor="0.6",
                    linewidth=0,
                    hatch=_HATCHES[outcome],
                    gid=outcome,
                )
            )
    axes.grid(visible=False)
    # White lines part the cells.
    axes.set_xticks(np.arange(values.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(values.shape[0] + 1) - 0.5, minor=True)
    axes.grid(visible=True, which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    return image


@figure("panel", needs=Needs(study="panel"))
def draw(tree: xr.DataTree) -> Figure:
    """Errors of midpoints and of iterates, a row for each case and a column for each flow.

    Colours are logarithmic; the number is in each cell. Cells of runs that failed, and of flows
    that do not model the optimizer, are hatched.

    Args:
        tree: results of the study `panel`, with its group `table`.

    Raises:
        ValueError: if there is none.
    """
    data = _table(tree)
    value, outcomes = data["value"], data["outcome"].values
    names = [str(name) for name in data["flow"].values]
    panels = []
    for measure in _TITLES:
        values = value.sel(measure=measure).transpose("case", "flow").values
        # What a flow does not predict has no column; the first matrix has one for every flow.
        kept = np.isfinite(values).any(axis=0) | (measure == "tracking_error")
        if kept.any():
            panels.append((measure, values[:, kept], outcomes[:, kept], np.flatnonzero(kept)))
    with style():
        drawn = new_figure(1.7 + 0.24 * len(outcomes))
        widths = [len(kept) for *_, kept in panels]
        axes = drawn.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
        image = None
        for index, (one, panel) in enumerate(zip(axes, panels, strict=True)):
            measure, values, ended, kept = panel
            image = _draw_matrix(one, values, ended)
            labels = [names[column] for column in kept]
            one.set_xticks(
                range(len(kept)), labels, rotation=45, ha="right", rotation_mode="anchor"
            )
            cases = [str(name) for name in data["case"].values]
            one.set_yticks(range(len(cases)), [] if index else cases)
            one.set_title(_TITLES[measure])
        assert image is not None
        bar = drawn.colorbar(image, ax=list(axes), aspect=40, pad=0.01, extend="both")
        bar.set_label("error / mean displacement")
        hatched = [
            Patch(facecolor="white", edgecolor="0.6", hatch=hatch, label=outcome)
            for outcome, hatch in _HATCHES.items()
            if (outcomes == outcome).any()
        ]
        title = str(tree.attrs.get("title") or tree.attrs.get("name") or "") or None
        drawn.legend(
            handles=hatched,
            loc="outside upper left",
            ncols=2,
            title=title,
            alignment="left",
        )
    return drawn
