"""Figures of a results store: each takes an xarray DataTree and returns a matplotlib figure.

A figure reads nothing but the tree and runs nothing, so that it can be redrawn from a store years
later. `FIGURES` maps a figure's name to its function; a new figure is one module with a function
`draw(tree)` and one line here.
"""

import difflib
from collections.abc import Callable

import xarray as xr
from matplotlib.figure import Figure

from figures import (
    ball_ironing,
    ball_limit,
    ball_minima,
    ball_network,
    ball_pits,
    ball_unreachable,
    central,
    central_scaling,
    dims,
    distance,
    loss,
    overview,
    paths,
    phase_diagram,
    posteriors,
    rod,
    rod_quartic,
    sharpness,
    sweep,
)
from figures.style import save, style

__all__ = ["FIGURES", "draw", "save", "style"]

FIGURES: dict[str, Callable[[xr.DataTree], Figure]] = {
    "overview": overview.draw,
    "loss": loss.draw,
    "sharpness": sharpness.draw,
    "distance": distance.draw,
    "paths": paths.draw,
    "central": central.draw,
    "rod": rod.draw,
    "central_scaling": central_scaling.draw,
    "rod_quartic": rod_quartic.draw,
    "ball_ironing": ball_ironing.draw,
    "ball_minima": ball_minima.draw,
    "ball_pits": ball_pits.draw,
    "ball_unreachable": ball_unreachable.draw,
    "ball_limit": ball_limit.draw,
    "ball_network": ball_network.draw,
    "dims_ring": dims.draw_ring,
    "dims_energy": dims.draw_energy,
    "dims_limit": dims.draw_limit,
    "dims_valley": dims.draw_valley,
    "dims_regression": posteriors.draw_regression,
    "dims_banana": posteriors.draw_banana,
    "dims_uncertainty": posteriors.draw_uncertainty,
    "sweep": sweep.draw,
    "phase_diagram": phase_diagram.draw,
}
"""Every figure by its name."""


def draw(name: str, tree: xr.DataTree) -> Figure:
    """Draw a figure of a results tree.

    Args:
        name: a key of `FIGURES`.
        tree: the results, as `xarray.open_datatree` reads them from a store.

    Returns:
        The figure, which belongs to no window; write it with `save`.

    Raises:
        ValueError: if there is no figure of that name, or the tree holds nothing it could draw.
    """
    if name not in FIGURES:
        close = difflib.get_close_matches(name, FIGURES, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise ValueError(f"name: no figure '{name}'; there are {', '.join(FIGURES)}.{hint}")
    return FIGURES[name](tree)
