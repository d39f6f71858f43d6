"""Drawing a figure by its name."""

import difflib
from collections.abc import Callable, Iterator, Mapping

import xarray as xr
from matplotlib.figure import Figure

from figures import registry


class _Figures(Mapping[str, Callable[[xr.DataTree], Figure]]):
    """Every figure by its name; the module of a figure is imported when it is asked for."""

    def __getitem__(self, name: str) -> Callable[[xr.DataTree], Figure]:
        return registry.find(name)

    def __iter__(self) -> Iterator[str]:
        return iter(registry.known())

    def __len__(self) -> int:
        return len(registry.known())


FIGURES: Mapping[str, Callable[[xr.DataTree], Figure]] = _Figures()
"""Every figure by its name."""


def draw(name: str, tree: xr.DataTree) -> Figure:
    """Draw a figure of a results tree.

    Args:
        name: A key of `FIGURES`.
        tree: The results, as `xarray.open_datatree` reads them from a store.

    Returns:
        The figure, which belongs to no window; write it with `save`.

    Raises:
        ValueError: If there is no figure of that name, or the tree lacks what it draws.

    Example:
        >>> import figures, numpy as np, xarray as xr
        >>> loss = xr.Dataset({"loss": ("step", np.array([1.0, 0.5]))}, {"step": [0, 1]})
        >>> drawn = figures.draw("loss", xr.DataTree.from_dict({"discrete": loss}))
        >>> drawn.axes[0].get_ylabel()
        'loss'
    """
    if name not in FIGURES:
        close = difflib.get_close_matches(name, FIGURES, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise ValueError(f"name: no figure '{name}'; there are {', '.join(FIGURES)}.{hint}")
    return FIGURES[name](tree)
