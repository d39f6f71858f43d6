"""What the figures of a sweep share: its dataset, its axes, and maps over two of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, NullFormatter

from figures.curves import nothing_to_draw

GROUP = "sweep"
SEED = "seed"
"""The axis over which curves are averaged."""

# From light to dark, so that they are told apart in grey too.
_FILLS = {
    "converged": "#F4F4F4",
    "finished": "#F4F4F4",
    "two-cycle": "#A6CDE8",
    "higher cycle": "#3D86BD",
    "diverged": "#12355B",
    "failed": "#E69F00",
    "missing": "#FFFFFF",
}
_OTHER_FILLS = ("#F4F4F4", "#A6CDE8", "#3D86BD", "#12355B")


def swept(tree: xr.DataTree, figure: str, quantity: str) -> xr.Dataset:
    """The dataset of a sweep that has the quantity, along axes of numbers in ascending order.

    Args:
        tree: the results.
        figure: the figure's name, for the error.
        quantity: the variable that it draws.

    Raises:
        ValueError: if there is none.
    """
    if GROUP not in tree.children or quantity not in tree[GROUP].dataset:
        raise nothing_to_draw(figure, f"a group 'sweep' with the variable '{quantity}'", tree)
    data = tree[GROUP].to_dataset()
    # Text as zarr stores it is of a type that numpy neither sorts nor casts.
    texts = [name for name, variable in data.variables.items() if variable.dtype.kind == "T"]
    data = data.assign({name: data[name].astype(object) for name in texts})
    numeric = [axis for axis in axes_of(tree) if data[axis].dtype.kind in "if"]
    return data.sortby(numeric)


def axes_of(tree: xr.DataTree) -> list[str]:
    """The names of the swept axes."""
    return [str(name) for name in np.atleast_1d(tree.attrs["axes"])]


def scale_of(tree: xr.DataTree, axis: str) -> str:
    """How an axis is drawn: "log" if its values have a constant ratio, else "linear"."""
    spacings = dict(zip(axes_of(tree), np.atleast_1d(tree.attrs["spacings"]), strict=True))
    return "log" if spacings.get(axis) == "log" else "linear"


def name_of(tree: xr.DataTree, axis: str) -> str:
    """What an axis is called: its key, in words."""
    keys = dict(zip(axes_of(tree), np.atleast_1d(tree.attrs["keys"]), strict=True))
    return str(keys.get(axis, axis)).replace("_", " ").replace(".", ": ")


def described(variable: xr.DataArray) -> str:
    """What a quantity is called, with its unit."""
    unit = str(variable.attrs.get("units", "1")).replace("^2", "²")
    name = str(variable.name).replace("_", " ")
    return name if unit == "1" else f"{name} ({unit})"


def edges(values: np.ndarray, scale: str) -> np.ndarray:
    """The borders between the cells of a map whose middles are the values, (n,) to (n + 1,)."""
    middles = np.log(values) if scale == "log" else np.asarray(values, float)
    if len(middles) == 1:
        half = 0.5 * (abs(middles[0]) or 1.0) if scale == "linear" else 0.5
        borders = np.array([middles[0] - half, middles[0] + half])
    else:
        between = (middles[1:] + middles[:-1]) / 2
        first, last = middles[0] - (between[0] - middles[0]), 2 * middles[-1] - between[-1]
        borders = np.concatenate([[first], between, [last]])
    return np.exp(borders) if scale == "log" else borders


def positions(data: xr.Dataset, axis: str) -> tuple[np.ndarray, list[str]]:
    """Where the values of an axis are drawn, and their names if they are no numbers."""
    values = data[axis].values
    if values.dtype.kind in "if":
        return values.astype(float), []
    return np.arange(len(values), dtype=float), [str(value) for value in values]


def set_log(axis: Any, values: np.ndarray) -> None:
    """Make an axis logarithmic, with plain numbers where it spans less than two decades."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    if values.max() < 100 * values.min():
        axis.set_major_formatter(FormatStrFormatter("%g"))
        few = values.max() < 10 * values.min()
        axis.set_minor_formatter(FormatStrFormatter("%g") if few else NullFormatter())


def map_axes(axes: Axes, tree: xr.DataTree, data: xr.Dataset, over: Sequence[str]) -> Any:
    """Name and scale a map's two axes, and return the borders of its cells.

    Args:
        axes: the panel.
        tree: the results.
        data: the sweep's dataset.
        over: the axis drawn from left to right, and the one drawn upwards.
    """
    borders = []
    for axis, place in zip(over, ("x", "y"), strict=True):
        values, names = positions(data, axis)
        scale = "linear" if names else scale_of(tree, axis)
        borders.append(edges(values, scale))
        axes.set(**{f"{place}label": name_of(tree, axis)})
        if scale == "log":
            set_log(getattr(axes, f"{place}axis"), values)
        if names:
            axes.set(**{f"{place}ticks": values, f"{place}ticklabels": names})
    axes.grid(visible=False)
    return borders


def draw_categories(
    axes: Axes, borders: Sequence[np.ndarray], words: np.ndarray
) -> list[tuple[Patch, str]]:
    """Draw what runs came to as a map, one shade for each word.

    Args:
        axes: the panel.
        borders: of the cells, from `map_axes`.
        words: of shape (x, y).

    Returns:
        The entries of a legend, for the words that occur.
    """
    occurring = {str(word) for word in np.unique(words)}
    known = [word for word in _FILLS if word in occurring]
    known += sorted(occurring - set(known))
    fills = [_FILLS.get(word, _OTHER_FILLS[i % len(_OTHER_FILLS)]) for i, word in enumerate(known)]
    codes = np.vectorize(known.index, otypes=[float])(words)
    norm = BoundaryNorm(np.arange(len(known) + 1) - 0.5, len(known))
    axes.pcolormesh(
        *borders, codes.T, cmap=ListedColormap(fills), norm=norm, gid="map", rasterized=True
    )
    return [
        (Patch(facecolor=fill, edgecolor="0.3"), word)
        for fill, word in zip(fills, known, strict=True)
    ]
