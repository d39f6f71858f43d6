"""Several runs as one tree, which figures over the steps draw as they draw one run."""

from collections.abc import Mapping

import xarray as xr

from figures import curves
from figures.registry import known

_LANDSCAPE = "landscape"


def several(runs: Mapping[str, xr.DataTree]) -> xr.DataTree:
    """Put several runs into one tree: each has a colour, and each trajectory its style of line.

    Args:
        runs: the results of each run, by the words that tell it from the others.

    Returns:
        A tree in memory with a group `RUN: TRAJECTORY` for each trajectory. The critical sharpness
        of each run is kept; of landscapes the first.

    Raises:
        ValueError: if there is no run, or one is a study or a sweep.

    Example:
        >>> import figures, numpy as np, xarray as xr
        >>> def run(rate):
        ...     step = np.arange(3)
        ...     loss = xr.Dataset({"loss": ("step", (1 - rate) ** step)}, {"step": step})
        ...     return xr.DataTree.from_dict({"/": xr.Dataset(), "discrete": loss})
        >>> tree = figures.several({"rate 0.1": run(0.1), "rate 0.2": run(0.2)})
        >>> [line.get_label() for line in figures.draw("loss", tree).axes[0].get_lines()]
        ['discrete optimizer, rate 0.1', 'discrete optimizer, rate 0.2']
    """
    if not runs:
        raise ValueError("runs must be the results of at least one run; got none.")
    found: dict[str, xr.Dataset] = {}
    for number, (name, tree) in enumerate(runs.items()):
        if tree.attrs.get("kind") in ("study", "sweep"):
            raise ValueError(f"{name} is a {tree.attrs['kind']}; only runs are drawn together.")
        if _LANDSCAPE in tree.children:
            found.setdefault(_LANDSCAPE, tree[_LANDSCAPE].to_dataset())
        for group in curves.groups(tree):
            of_run = {
                curves.RUN: number,
                curves.TRAJECTORY: group,
                "label": f"{curves.label_of(tree, group)}, {name}",
                "run_label": name,
                "run_attributes": dict(tree.attrs),
            }
            found[f"{name}: {group}".replace("/", " ")] = (
                tree[group].to_dataset().assign_attrs(of_run)
            )
    first = next(iter(runs.values())).attrs
    titles = {
        str(tree.attrs.get("title") or tree.attrs.get("name") or "") for tree in runs.values()
    }
    diverged = any(curves.has_diverged(tree) for tree in runs.values())
    attributes = {
        "title": titles.pop() if len(titles) == 1 else "",
        "status": "diverged" if diverged else "finished",
        "time_label": first.get("time_label", "step"),
        curves.SEVERAL: len(runs),
    }
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attributes), **found})


def check_draws_several(name: str) -> None:
    """Check that a figure can draw several runs.

    Raises:
        ValueError: if it cannot; the message names those that can.
    """
    able = [one for one, needs in known().items() if needs.several]
    if name not in able:
        raise ValueError(f"figure {name!r} draws one run; several are drawn by {', '.join(able)}")
