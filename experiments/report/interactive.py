"""The interactive figures of a report, made with bokeh."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from .summary import SWEEP

if TYPE_CHECKING:
    from bokeh.model import Model
    from bokeh.models import ColumnDataSource, CustomJS, RadioButtonGroup, Select, Slider, UIElement
    from bokeh.plotting import figure as Figure

# Colours that readers with any kind of colour vision tell apart, each with a dash of its own.
_COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DASHES = ("solid", "solid", "dashed", "dotdash", "dotted", "dashdot", "dashed")
_FIRST = ("loss", "sharpness", "preconditioned_sharpness", "distance")
# A curve of more points is thinned: a screen has fewer columns.
_MOST_POINTS = 4000
# A sweep's quantity of more numbers stays in the store.
_MOST_NUMBERS = 300_000
_DISCRETE = "discrete"


def layout(tree: xr.DataTree) -> "Model | None":
    """Return the figures of a run or a sweep; None if there is nothing to draw."""
    return _of_sweep(tree) if SWEEP in tree.children else _of_run(tree)


def _of_run(tree: xr.DataTree) -> "Model | None":
    """Make a figure for each quantity over the steps, with the curves of all trajectories."""
    from bokeh.layouts import column
    from bokeh.models import CheckboxGroup, CustomJS

    groups = [name for name, node in tree.children.items() if "step" in node.dataset.coords]
    groups.sort(key=lambda name: (name != _DISCRETE, name))
    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    labels: dict[str, str] = {}
    for group in groups:
        data = tree[group].dataset
        for name, variable in data.data_vars.items():
            if variable.dims == ("step",) and variable.dtype.kind in "fi":
                points = _finite(data["step"].values, variable.values)
                if points[0].size:
                    found.setdefault(str(name), {})[group] = points
                    labels[str(name)] = _described(variable)
    if not found:
        return None
    place = {name: position for position, name in enumerate(_FIRST)}
    names = sorted(found, key=lambda name: (place.get(name, len(place)), name))
    critical = tree.attrs.get("critical_sharpness")
    limited = tree.attrs.get("critical_variable", "sharpness")
    pairs = []
    label = str(tree.attrs.get("critical_label", "critical"))
    order = [*groups, label]
    for name in names:
        curves = dict(found[name])
        if name == limited and isinstance(critical, float) and math.isfinite(critical):
            ends = np.concatenate([x for x, _ in curves.values()])
            curves[label] = (np.array([ends.min(), ends.max()]), np.full(2, critical))
        pairs.append(_pair(_sources(curves), labels[name], "steps", order))
    for pair in pairs[1:]:
        for one in pair:
            one.x_range = pairs[0][0].x_range  # zoomed together
    shown = [index for index, name in enumerate(names) if name in _FIRST] or [0]
    words = [name.replace("_", " ") for name in names]
    boxes = CheckboxGroup(labels=words, active=shown, inline=True)
    scale = _scale()
    apply = CustomJS(
        args={"pairs": [list(pair) for pair in pairs], "boxes": boxes, "scale": scale},
        code="pairs.forEach((pair, i) => pair.forEach((one, log) => {"
        "one.visible = boxes.active.includes(i) && scale.active === log}))",
    )
    boxes.js_on_change("active", apply)
    scale.js_on_change("active", apply)
    for index, (linear, log) in enumerate(pairs):
        linear.visible, log.visible = index in shown, False
    figures = [one for pair in pairs for one in pair]
    return column(boxes, scale, *figures, sizing_mode="stretch_width")


@dataclass(frozen=True)
class _Swept:
    """A quantity of a sweep.

    Attributes:
        label: What it is called, with its unit.
        values: Its curves by trajectory, flat: the axes of the sweep in order, then the steps.
    """

    label: str
    values: dict[str, np.ndarray]


def _of_sweep(tree: xr.DataTree) -> "Model | None":
    """Make one figure over the steps and one over a swept key, with a slider for each key."""
    from bokeh.layouts import column

    data = tree[SWEEP].to_dataset()
    axes = [str(name) for name in np.atleast_1d(tree.attrs["axes"])]
    series, scalars = {}, {}
    for name, variable in data.data_vars.items():
        further = [dim for dim in variable.dims if dim not in axes]
        fits = set(axes) <= set(variable.dims) and set(further) <= {"trajectory", "step"}
        if not fits or variable.dtype.kind not in "fi" or variable.size > _MOST_NUMBERS:
            continue
        if not np.isfinite(variable.values).any():
            continue
        (series if "step" in further else scalars)[str(name)] = _swept(variable, axes)
    sliders = _sliders(tree, data, axes)
    parts: list[UIElement] = []
    if series:
        parts.append(_explorer(series, data, axes, sliders, ["step"]))
    numeric = [axis for axis in axes if data[axis].dtype.kind in "fi" and data.sizes[axis] > 1]
    if scalars and numeric:
        parts.append(_explorer(scalars, data, axes, sliders, numeric))
    return column(*sliders, *parts, sizing_mode="stretch_width") if parts else None


def _swept(variable: xr.DataArray, axes: Sequence[str]) -> _Swept:
    order = [*axes, *(dim for dim in ("trajectory", "step") if dim in variable.dims)]
    ordered = variable.transpose(*order)
    if "trajectory" in ordered.dims:
        names = [str(name) for name in ordered["trajectory"].values]
        values = {name: ordered.isel(trajectory=k).values for k, name in enumerate(names)}
    else:
        values = {_DISCRETE: ordered.values}
    flat = {name: array.astype(float).ravel() for name, array in values.items()}
    return _Swept(_described(variable), {k: v for k, v in flat.items() if np.isfinite(v).any()})


def _sliders(tree: xr.DataTree, data: xr.Dataset, axes: Sequence[str]) -> "list[Slider]":
    """Make a slider over the positions along each axis, whose title shows the value there."""
    from bokeh.models import CustomJS, Slider

    keys = [str(key) for key in np.atleast_1d(tree.attrs.get("keys", axes))]
    made = []
    for axis, key in zip(axes, keys, strict=True):
        values = [_shown(value) for value in data[axis].values]
        slider = Slider(
            start=0, end=max(len(values) - 1, 1), value=0, step=1, show_value=False,
            title=f"{key} = {values[0]}", disabled=len(values) < 2, sizing_mode="stretch_width",
        )  # fmt: skip
        slider.js_on_change(
            "value",
            CustomJS(
                args={"values": values, "key": key},
                code="cb_obj.title = `${key} = ${values[cb_obj.value]}`",
            ),
        )
        made.append(slider)
    return made


# Along which of the axes a curve runs, and where it starts, follows from the sliders. The last
# axis of the flat arrays varies fastest; "step" comes after the swept axes.
_UPDATE = """
const chosen = quantity.value, along = x.value, held = stores[chosen].data
const steps = along === "step" ? grids.step.length : 1
const strides = {}
let stride = steps
for (let i = axes.length - 1; i >= 0; i--) { strides[axes[i]] = stride; stride *= sizes[axes[i]] }
let start = 0
axes.forEach((axis, i) => { if (axis !== along) start += strides[axis] * sliders[i].value })
const jump = along === "step" ? 1 : strides[along]
names.forEach((name, k) => {
  const all = held[name]
  const y = all ? Array.from(grids[along], (_, j) => all[start + j * jump]) : []
  sources[k].data = {x: all ? Array.from(grids[along]) : [], y: y}
})
pair.forEach((one, log) => {
  one.visible = scale.active === log
  one.below[0].axis_label = titles[along]
  one.left[0].axis_label = labels[chosen]
})
"""


def _explorer(
    quantities: Mapping[str, _Swept],
    data: xr.Dataset,
    axes: Sequence[str],
    sliders: "Sequence[Slider]",
    along: Sequence[str],
) -> "UIElement":
    """Make a figure of a quantity that is chosen, over the steps or over an axis that is chosen."""
    from bokeh.layouts import column, row
    from bokeh.models import ColumnDataSource, CustomJS

    names = sorted({name for one in quantities.values() for name in one.values})
    names.sort(key=lambda name: name != _DISCRETE)
    first = next(
        (name for name in ("loss", "final_loss") if name in quantities), next(iter(quantities))
    )
    quantity = _select("quantity", list(quantities), first)
    x = _select("over", list(along), along[0])
    blank = np.array([])
    sources = {name: ColumnDataSource({"x": blank, "y": blank}) for name in names}
    scale = _scale()
    pair = _pair(sources, quantities[first].label, along[0], names)
    pair[1].visible = False
    update = CustomJS(
        args={
            "quantity": quantity,
            "x": x,
            "scale": scale,
            "sliders": list(sliders),
            "axes": list(axes),
            "sizes": {axis: data.sizes[axis] for axis in axes},
            "grids": {axis: data[axis].values.astype(float) for axis in along},
            "titles": {
                axis: "steps" if axis == "step" else axis.replace("_", " ") for axis in along
            },
            "labels": {name: one.label for name, one in quantities.items()},
            "stores": {
                name: ColumnDataSource(dict(one.values)) for name, one in quantities.items()
            },
            "names": names,
            "sources": list(sources.values()),
            "pair": list(pair),
        },
        code=_UPDATE,
    )
    _on_change(update, [quantity, x, *sliders], scale)
    _fill(sources, quantities[first], data, axes, along[0])
    choices = [quantity, x] if len(along) > 1 else [quantity]
    return column(row(*choices), scale, *pair, sizing_mode="stretch_width")


def _fill(
    sources: "Mapping[str, ColumnDataSource]",
    quantity: _Swept,
    data: xr.Dataset,
    axes: Sequence[str],
    along: str,
) -> None:
    """Set the curves of the first run, as the script does when a slider moves."""
    shape = [data.sizes[axis] for axis in axes] + [data.sizes["step"]] * (along == "step")
    where = [slice(None) if axis == along else 0 for axis in (*axes, "step")][: len(shape)]
    for name, values in quantity.values.items():
        y = values.reshape(shape)[tuple(where)]
        sources[name].data = {"x": data[along].values.astype(float), "y": y}


def _on_change(update: "CustomJS", widgets: "Sequence[Model]", scale: "Model") -> None:
    for widget in widgets:
        widget.js_on_change("value", update)
    scale.js_on_change("active", update)


def _pair(
    sources: "Mapping[str, ColumnDataSource]", label: str, xlabel: str, order: Sequence[str]
) -> "tuple[Figure, Figure]":
    """Make two figures of the same curves, with a linear and with a logarithmic y axis.

    A curve's colour is that of its name's place in `order`, in all figures.
    """
    from bokeh.models import HoverTool
    from bokeh.plotting import figure

    made = []
    for y_axis in ("linear", "log"):
        one = figure(
            height=280,
            sizing_mode="stretch_width",
            x_axis_label=xlabel,
            y_axis_label=label,
            y_axis_type=y_axis,
            tools="pan,wheel_zoom,box_zoom,reset,save",
            active_scroll="wheel_zoom",
        )
        for name, source in sources.items():
            position = order.index(name)
            line = one.line(
                "x", "y", source=source, name=name, legend_label=name,
                color=_COLORS[position % len(_COLORS)],
                line_dash=_DASHES[position % len(_DASHES)],
                line_width=1.2 if name == _DISCRETE else 2,
            )  # fmt: skip
            tips = [("curve", "$name"), (xlabel, "@x{0,0.[000]}"), ("value", "@y{0.000000e+0}")]
            one.add_tools(HoverTool(renderers=[line], tooltips=tips, mode="mouse"))
        legend = one.legend[0]
        legend.click_policy, legend.orientation = "hide", "horizontal"
        one.add_layout(legend, "above")  # where it hides no data
        one.toolbar.logo = None
        made.append(one)
    made[1].x_range = made[0].x_range
    return made[0], made[1]


def _sources(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> "dict[str, ColumnDataSource]":
    from bokeh.models import ColumnDataSource

    return {name: ColumnDataSource({"x": x, "y": y}) for name, (x, y) in curves.items()}


def _scale() -> "RadioButtonGroup":
    from bokeh.models import RadioButtonGroup

    return RadioButtonGroup(labels=["linear", "logarithmic"], active=0)


def _select(title: str, options: list[str], value: str) -> "Select":
    from bokeh.models import Select

    pairs: list[str | tuple[Any, str]] = [(one, one.replace("_", " ")) for one in options]
    return Select(title=title, options=pairs, value=value)


def _finite(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the finite points of a curve, every k-th where they are too many."""
    kept = np.isfinite(values) & np.isfinite(steps)
    x, y = np.asarray(steps[kept], float), np.asarray(values[kept], float)
    every = max(1, -(-x.size // _MOST_POINTS))
    return x[::every], y[::every]


def _described(variable: xr.DataArray) -> str:
    unit = str(variable.attrs.get("units", "1"))
    name = str(variable.name).replace("_", " ")
    return name if unit == "1" else f"{name} ({unit})"


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
