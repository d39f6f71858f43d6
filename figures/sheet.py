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
        ncols=min(columns, len(entries)),
        title=str(tree.attrs.get("title") or tree.attrs.get("name") or "") or None,
        alignment="left",
    )


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
