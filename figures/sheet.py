"""The look that all figures share, and how they are written to files."""

from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path

import matplotlib
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 6.4
"""Width of every figure, in inches."""


def style() -> AbstractContextManager[None]:
    """A context in which matplotlib's defaults are those of `eosflows.mplstyle`.

    matplotlib reads some of its settings when an artist is made and others when it is drawn, so
    figures are both made and saved inside it; outside, the user's own settings are untouched.
    """
    sheet = resources.files("figures") / "eosflows.mplstyle"
    with resources.as_file(sheet) as path:
        settings = matplotlib.rc_params_from_file(path, use_default_template=True)
    # The backend is the caller's affair; naming one here would switch it.
    return matplotlib.rc_context({k: v for k, v in settings.items() if not k.startswith("backend")})


def new_figure(height: float) -> Figure:
    """An empty figure of the common width, `height` inches high."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def add_legend(figure: Figure, tree: xr.DataTree, axes: list[Axes], columns: int = 3) -> None:
    """The run's title and one legend for all panels, above them, where they can hide no data.

    Args:
        figure: where the legend goes.
        tree: the results; its attribute `title` (or else `name`) becomes the title.
        axes: the panels; a label that occurs in several is listed once.
        columns: entries side by side, at most.
    """
    entries: dict[str, Artist] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    # As the legend's own title: constrained layout would set a figure's title upon the legend.
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside upper left",
        ncols=min(2 if "runs" in tree.attrs else columns, len(entries)),
        title=str(tree.attrs.get("title") or tree.attrs.get("name") or "") or None,
        alignment="left",
    )


def color_of(position: int) -> str:
    """The color of a curve by its place among those of a panel, where the colors begin again."""
    colors = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    return colors[position % len(colors)]


def mark(axes: Axes, x: float, text: str) -> None:
    """Draw a dashed line at a value of x, with a text at its upper end."""
    axes.axvline(x, color="0.45", linewidth=0.8, linestyle=(0, (3, 2)), zorder=1, gid=text)
    axes.annotate(
        text,
        (x, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, -2),
        textcoords="offset points",
        verticalalignment="top",
    )


def grid(figure: Figure, count: int, columns: int) -> list[Axes]:
    """Panels of common axes, in rows of which the last may be shorter."""
    rows = -(-count // columns)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for axes in panels[count:]:
        axes.remove()
    return panels[:count]


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure to a file; the format follows from the ending of the name.

    The same figure gives the same bytes again with the same version of matplotlib: no date and no
    version are written into the file.

    Args:
        figure: as returned by `draw`.
        path: where to write; missing folders are made.

    Returns:
        The path written to.

    Raises:
        ValueError: if the ending is not a format that matplotlib writes.
    """
    path = Path(path)
    undated: dict[str, dict[str, None]] = {
        ".png": {"Software": None},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        ".svg": {"Date": None, "Creator": None},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with style(), matplotlib.rc_context({"svg.hashsalt": "eosflows"}):
        figure.savefig(path, metadata=undated.get(path.suffix.lower()))
    return path
