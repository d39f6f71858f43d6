"""Curves of a results tree over the step: which there are, how each looks, what part is shown."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.sheet import add_legend, new_figure, style

DISCRETE = "discrete"
"""Name of the group that holds the optimizer's own run."""

SEVERAL = "runs"
"""The root's attribute of a tree of several runs: how many. Each of its groups has those below."""
RUN = "run"
"""The number of the run that the group is of."""
TRAJECTORY = "trajectory"
"""The name that the group has in that run."""

_LINE_STYLES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
# Below this many points the single steps are worth seeing, above it their markers would merge.
_MARKED = 60
# A curve that spans more than this factor is shown on a logarithmic scale.
_LOG_RANGE = 30.0
# After a divergence the axis ends this factor above where the curves began.
_DIVERGED_RANGE = 1e4
# A formula of no more characters, 2/eta, needs no fraction bar.
_SHORT_LABEL = 4
_GREEK = {"beta": "β", "eta": "η", "lambda": "λ", "rho": "ρ"}


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line: what it is called, its finite points, and how it is drawn.

    Attributes:
        name: `group/variable`, where the numbers come from.
        label: what the legend calls it.
        steps: of shape (n,), in the unit of the x axis.
        values: of shape (n,), all finite.
        look: matplotlib's line properties.
    """

    name: str
    label: str
    steps: np.ndarray
    values: np.ndarray
    look: dict[str, Any]


def groups(tree: xr.DataTree) -> list[str]:
    """Names of the groups that hold a trajectory: the discrete one first, the flows sorted."""
    names = [name for name, child in tree.children.items() if "step" in child.coords]
    return sorted(
        names, key=lambda name: (tree[name].attrs.get(RUN, 0), not is_discrete(tree, name), name)
    )


def is_discrete(tree: xr.DataTree, group: str) -> bool:
    """Whether a group is the optimizer's own trajectory, in its run."""
    if group not in tree.children:
        return group == DISCRETE
    return tree[group].attrs.get(TRAJECTORY, group) == DISCRETE


def label_of(tree: xr.DataTree, group: str) -> str:
    """What the legend calls a group: its attribute `label` or its name, in words."""
    attrs = tree[group].attrs
    label = str(attrs.get("label") or group)
    if attrs.get("kind") == "flow" and label == attrs.get("flow_kind"):
        label = f"{label} flow"
    return "discrete optimizer" if label == DISCRETE else label.replace("_", " ")


def look_of(tree: xr.DataTree, group: str) -> dict[str, Any]:
    """Line properties of a group, which are the same in every panel and figure of one tree.

    The discrete run is thin and dark, so that oscillations between steps do not cover the flows;
    each flow has a colour and a line style of its own, by its position among the sorted labels.
    Of several runs each has a colour, and each flow of one the same line style as in the others.
    """
    # A figure may ask for the look of an optimizer whose run is not there.
    run = tree[group].attrs.get(RUN) if group in tree.children else None
    colors = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    color_of_run = None if run is None else colors[run % len(colors)]
    if is_discrete(tree, group):
        return {"color": color_of_run or "black", "alpha": 0.65, "linewidth": 0.9, "zorder": 2}
    beside = [
        name
        for name in groups(tree)
        if tree[name].attrs.get(RUN) == run and not is_discrete(tree, name)
    ]
    position = beside.index(group)
    if color_of_run is not None:
        style = _LINE_STYLES[(position + 1) % len(_LINE_STYLES)]
        return {"color": color_of_run, "linestyle": style, "zorder": 3 + 0.01 * position}
    return look_at(position)


def look_at(position: int) -> dict[str, Any]:
    """Line properties of a curve by its place among those of a panel."""
    colors = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    return {
        "color": colors[position % len(colors)],
        # Shifted once the colours have been used up, so that 36 curves differ.
        "linestyle": _LINE_STYLES[(position + position // len(colors)) % len(_LINE_STYLES)],
        "zorder": 3 + 0.01 * position,
    }


def curve(tree: xr.DataTree, group: str, variable: str, /, **selection: int) -> Curve | None:
    """The finite points of a variable of a group, or None where there are none.

    Args:
        tree: the results.
        group: name of a trajectory group.
        variable: name of a variable with dimension `step`.
        selection: index along each further dimension, for example `mode=0`.
    """
    data = tree[group].dataset
    if variable not in data:
        return None
    values = np.asarray(data[variable].isel(selection).values)
    steps = np.asarray(data["step"].values)
    # Curvature is stored every few steps only, with nan between; a row still to come has no step.
    finite = np.isfinite(values) & np.isfinite(steps)
    if not finite.any():
        return None
    look = look_of(tree, group)
    if finite.sum() == 1 or (is_discrete(tree, group) and finite.sum() <= _MARKED):
        look |= {"marker": "o", "markersize": 3}
    return Curve(f"{group}/{variable}", label_of(tree, group), steps[finite], values[finite], look)


def curves(tree: xr.DataTree, variable: str) -> list[Curve]:
    """The curves of one variable, of every group that has it."""
    found = (curve(tree, group, variable) for group in groups(tree))
    return [one for one in found if one is not None]


def renamed(curve: Curve, suffix: str) -> Curve:
    """The same curve with a word behind its label, after a comma."""
    return dataclasses.replace(curve, label=f"{curve.label}, {suffix}")


def has(tree: xr.DataTree, variable: str) -> bool:
    """Whether some group has a finite value of a variable, whatever its dimensions."""
    found = (tree[group].dataset.get(variable) for group in groups(tree))
    return any(data is not None and np.isfinite(data.values).any() for data in found)


def add_curves(axes: Axes, drawn: Iterable[Curve]) -> list[Line2D]:
    """Draw curves; each line's `gid` is its curve's name."""
    return [
        axes.plot(one.steps, one.values, label=one.label, gid=one.name, **one.look)[0]
        for one in drawn
    ]


def add_starts(axes: Axes, tree: xr.DataTree) -> None:
    """Mark where flows begin that begin later than the optimizer, with their names.

    Args:
        axes: a panel over the steps, whose limits are set.
        tree: the results; the attribute `first_step` of a group is where its trajectory begins.
    """
    begun: dict[int, list[str]] = {}
    for group in groups(tree):
        if step := int(tree[group].attrs.get("first_step", 0)):
            # A run that branches off another begins as a whole.
            name = tree[group].attrs.get("run_label", label_of(tree, group))
            if name not in begun.setdefault(step, []):
                begun[step].append(name)
    for row, (step, labels) in enumerate(sorted(begun.items())):
        look: dict[str, Any] = {"color": "0.45", "linewidth": 0.8, "linestyle": (0, (1, 1.5))}
        axes.axvline(step, zorder=1.5, gid=f"start-{step}", **look)
        axes.annotate(
            f"start of {' and '.join(labels)}",
            (step, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2 - 10 * row),
            textcoords="offset points",
            verticalalignment="top",
            fontsize=7.5,
            color="0.35",
            zorder=6,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
        )


def wants_log(drawn: Sequence[Curve]) -> bool:
    """Whether the values are positive but for a few zeros, and span a large factor."""
    values = np.concatenate([one.values for one in drawn])
    positive = values[values > 0]
    if positive.size < 0.9 * values.size or (values < 0).any():
        return False
    # A division would overflow where a run has diverged.
    low, high = np.log(np.quantile(positive, [0.02, 1.0]))
    return bool(high - low > np.log(_LOG_RANGE))


def set_limits(
    axes: Axes, drawn: Sequence[Curve], *, diverged: bool = False, include: Sequence[float] = ()
) -> None:
    """Set the y scale's limits so that a few wild values do not flatten all the rest.

    Nothing is cut off whose distance from the bulk (the central 96% of all values) is less than
    three times the bulk's own extent, on the scale of the axis.

    Args:
        axes: its y scale is already set.
        drawn: the curves drawn in it.
        diverged: whether the run ended by diverging; then the axis ends at most 1e4 times above
            the largest of the curves' first nonzero values.
        include: values that must be inside.
    """
    log = axes.get_yscale() == "log"
    values = np.concatenate([one.values for one in drawn]).astype(float)
    if diverged:
        # A distance starts at zero, which is no scale to measure by.
        firsts = [one.values[one.values != 0][:1] for one in drawn]
        start = max((abs(float(first[0])) for first in firsts if first.size), default=np.inf)
        values = values[np.abs(values) <= _DIVERGED_RANGE * start]
    if log:
        values = np.log10(values[values > 0])
        include = [float(np.log10(value)) for value in include if value > 0]
    low, high = np.quantile(values, [0.02, 0.98])
    reach = 3.0 * (high - low)
    bottom = min(max(values.min(), low - reach), *include, np.inf)
    top = max(min(values.max(), high + reach), *include, -np.inf)
    # A constant curve has no extent of its own.
    margin = 0.05 * (top - bottom) or 0.05 * abs(top) or 0.05
    limits = bottom - margin, top + margin
    axes.set_ylim(*(10.0**limit for limit in limits) if log else limits)


def label_axes(axes: Axes, tree: xr.DataTree, name: str, variable: str, *, x: bool = True) -> None:
    """Name both axes, with units.

    Args:
        axes: the panel.
        tree: the results; `time_label` says what x is, the variable's `units` the unit of y.
        name: what y is.
        variable: the variable whose attribute `units` is read, from the first group that has it.
        x: whether to label the x axis too.
    """
    if x:
        time = str(tree.attrs.get("time_label", "step"))
        axes.set_xlabel("step (optimizer steps)" if time == "step" else time)
    found = (tree[group].dataset.get(variable) for group in groups(tree))
    units = next((data.attrs.get("units", "") for data in found if data is not None), "")
    units = str(units).replace("^2", "²")
    axes.set_ylabel(f"{name}\n({units})" if units not in ("", "1", name) else name)


def critical_label(tree: xr.DataTree | xr.Dataset) -> str:
    """The formula of the critical sharpness, as a fraction if it is longer than 2/eta.

    Args:
        tree: the results; their `critical_label` is the formula in words, factors with a space
            between them.
    """
    label = str(tree.attrs.get("critical_label", "2/eta"))
    label = re.sub("[a-z]+", lambda word: _GREEK.get(word[0], word[0]), label)
    above, bar, below = label.partition("/")
    if not bar or len(label) <= _SHORT_LABEL:
        return label
    if below.startswith("(") and below.endswith(")"):
        below = below[1:-1]
    # In a formula a space is nothing: between factors, which no sign parts, it is a thin one.
    above, below = (
        re.sub(r"(?<![+-]) (?![+-])", r"\\,", re.sub(r"β(\d)", r"β_\1", part))
        for part in (above, below)
    )
    return rf"$\frac{{{above}}}{{{below}}}$"


def has_diverged(tree: xr.DataTree) -> bool:
    """Whether the store says that the run ended by diverging."""
    return tree.attrs.get("status") == "diverged"


def add_panel(
    axes: Axes,
    tree: xr.DataTree,
    name: str,
    drawn: Sequence[Curve],
    *,
    log: bool = True,
    include: Sequence[float] = (),
) -> None:
    """Draw curves of a variable into a panel, with its scale, limits and labels.

    Args:
        axes: the panel.
        tree: the results.
        name: of the variable, which the y axis is named after.
        drawn: the curves, at least one.
        log: whether the y axis may be logarithmic, where the curves span a large factor.
        include: values that must be inside.
    """
    add_curves(axes, drawn)
    if log and wants_log(drawn):
        axes.set_yscale("log", nonpositive="mask")
    set_limits(axes, drawn, diverged=has_diverged(tree), include=include)
    label_axes(axes, tree, name, name)


def draw_panel(
    tree: xr.DataTree,
    name: str,
    needs: str,
    add: Callable[[Axes, xr.DataTree], bool],
    columns: int = 3,
) -> Figure:
    """A figure of one panel and its legend.

    Args:
        tree: the results.
        name: the figure's.
        needs: what it needs, to follow "needs".
        add: draws into the panel, and says whether there was anything to draw.
        columns: entries of the legend side by side, at most.

    Raises:
        ValueError: if there was not.
    """
    with style():
        figure = new_figure(3.6)
        axes = figure.add_subplot()
        if not add(axes, tree):
            raise nothing_to_draw(name, needs, tree)
        add_legend(figure, tree, [axes], columns)
    return figure


def draw_stack(
    tree: xr.DataTree,
    height: float,
    adds: Sequence[Callable[[Axes, xr.DataTree], bool]],
    columns: int = 3,
) -> Figure:
    """Draw panels below each other, over one axis of time and with one legend.

    Args:
        tree: the results.
        height: of the figure, in inches.
        adds: what draws into each panel, from above.
        columns: of the legend.
    """
    with style():
        figure = new_figure(height)
        panels = list(figure.subplots(len(adds), sharex=True, squeeze=False)[:, 0])
        for axes, add in zip(panels, adds, strict=True):
            add(axes, tree)
            axes.label_outer()
        figure.align_ylabels(panels)
        add_legend(figure, tree, panels, columns)
    return figure


def parts(tree: xr.DataTree, figure: str, needs: str, *variables: str) -> Mapping[str, xr.Dataset]:
    """The groups that have some variables, by name and in order of their names.

    Args:
        tree: the results.
        figure: name of the figure that draws them.
        needs: what it needs, for the error.
        *variables: the variables.

    Raises:
        ValueError: if there is no such group.
    """
    found = {
        name: child.dataset
        for name, child in sorted(tree.children.items())
        if all(variable in child.dataset for variable in variables)
    }
    if not found:
        raise nothing_to_draw(figure, needs, tree)
    return found


def nothing_to_draw(figure: str, needs: str, tree: xr.DataTree) -> ValueError:
    """The error of a figure for which the tree holds no data.

    Args:
        figure: its name.
        needs: what it would need, to follow "needs".
        tree: the results, whose groups the message lists.
    """
    held = ", ".join(
        f"{name} ({', '.join(map(str, child.dataset.data_vars)) or 'empty'})"
        for name, child in tree.children.items()
    )
    return ValueError(f"figure '{figure}' needs {needs}; the store holds: {held or 'no groups'}")
