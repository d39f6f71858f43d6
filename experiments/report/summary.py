"""The summary of a run: one row of numbers per trajectory, computed from its results."""

import math
from typing import Any, NamedTuple

import numpy as np
import rich.box
import rich.table
import rich.text
import xarray as xr

from .trajectory_summary import summarise

CONCLUSIONS = "conclusions"
"""The group of a study's results that holds what was measured, beside what theory says."""
SWEEP = "sweep"
"""The group of a sweep's results that holds its runs on the grid of the swept values."""
MATRIX = "table"
"""The group of a panel's results that holds its numbers: case x flow x measure."""
# Measures of a panel that its matrix shows, and what each of their columns is called.
_SHOWN = {"tracking_error": "{flow}", "iterate_error": "{flow}\niterates"}
# A table of more rows is not read: more runs are counted by outcome.
_MOST_RUNS = 40

# Headings of columns of words; all others are of numbers.
_OUTCOME = "outcome"
_WORDS = frozenset({"trajectory", "quantity", _OUTCOME})
# Columns of the table that follow from the series of a trajectory.
_SUMMED_UP = ("final_loss", "final_sharpness", "max_sharpness", "tracking_error", "iterate_error")
_OF_TESTS = ("final_test_loss", "final_test_accuracy")
_COLUMNS = ("final_loss", *_OF_TESTS, *_SUMMED_UP[1:])
# Of few runs: without one of them there is no such column.
_RARE = ("iterate_error", *_OF_TESTS)
# What the threshold of an adaptive method is one of, in place of the sharpness.
_PRECONDITIONED = "preconditioned_sharpness"
_OF_IT = {
    "final_sharpness": "final_preconditioned_sharpness",
    "max_sharpness": "max_preconditioned_sharpness",
}


class Row(NamedTuple):
    """The numbers of one trajectory; None where one does not apply or is not known."""

    label: str
    steps: float
    final_loss: float | None
    final_sharpness: float | None
    max_sharpness: float | None
    tracking_error: float | None
    iterate_error: float | None
    gradient_equivalents: float | None
    wall_time: float | None
    message: str
    final_preconditioned_sharpness: float | None = None
    max_preconditioned_sharpness: float | None = None
    final_test_loss: float | None = None
    final_test_accuracy: float | None = None


def rows(tree: xr.DataTree) -> list[Row]:
    """Sum up each trajectory of a results tree, finished or partial.

    Args:
        tree: as `store.load` gives it.

    Returns:
        One row per trajectory, the optimizer first.
    """
    labels = [name for name, node in tree.children.items() if "step" in node.dataset.coords]
    labels.sort(key=lambda label: label != "discrete")
    return [_row(label, tree[label].to_dataset()) for label in labels]


def attributes(row: Row) -> dict[str, Any]:
    """Return a row as attributes of the trajectory's group."""
    return {name: value for name, value in row._asdict().items() if name not in ("label", "steps")}


def table(tree: xr.DataTree) -> rich.table.Table:
    """Make a summary for the terminal, under the run's name, status and critical sharpness.

    It shows the rows of an experiment, the conclusions of a study, and the runs of a sweep or, if
    there are many, how often each outcome occurs. The sharpness of an adaptive method is the
    preconditioned one, which the critical sharpness limits.

    Args:
        tree: as `store.load` gives it.
    """
    if tree.attrs.get("kind") == "study":
        return _conclusions(tree)
    if tree.attrs.get("kind") == "sweep":
        return _sweep(tree)
    found = rows(tree)
    absent = {name for name in _RARE if all(getattr(row, name) is None for row in found)}
    limited = tree.attrs.get("critical_variable") == _PRECONDITIONED
    replaced = _OF_IT if limited else {}
    summed_up = [replaced.get(name, name) for name in _COLUMNS if name not in absent]
    headings = [name.replace("_", "\n") for name in (*summed_up, "gradient_equivalents")]
    shown = _empty_table(tree, "trajectory", "steps", *headings, "time")
    empty = {name for name in summed_up if all(getattr(row, name) is None for row in found)}
    for row in found:
        shown.add_row(
            rich.text.Text(row.label, style="red" if row.message else ""),
            f"{row.steps:g}",
            *("-" if name in empty else _show(getattr(row, name)) for name in summed_up),
            _show(row.gradient_equivalents, ",.0f"),
            "" if row.wall_time is None else f"{row.wall_time:.1f} s",
        )
    shown.caption = rich.text.Text("\n".join(_reasons(tree, found, empty)))
    shown.caption_justify = "left"
    return shown


def _reasons(tree: xr.DataTree, found: list[Row], empty: set[str]) -> list[str]:
    """Why columns have no value in any row, a sentence each."""
    reasons = []
    if "final_loss" in empty:
        reasons.append("no loss: no step has been saved")
    elif "max_sharpness" in empty:
        reasons.append(
            "no sharpness: it is measured with a table [curvature] in the config, as "
            '--set "curvature.eigenvalues=3" makes one'
        )
    elif "max_preconditioned_sharpness" in empty:
        reasons.append(
            "no preconditioned sharpness: it is measured with a table [curvature] in the config, "
            "and where the preconditioner is known"
        )
    if "tracking_error" in empty and "final_loss" not in empty:
        flows = [tree[row.label].attrs for row in found if row.label != "discrete"]
        if not flows:
            why = "the config has no [[flows]], which it compares with the optimizer"
        elif all(one.get("time_unit") == "time" for one in flows):
            why = "a flow with its own time models no optimizer"
        else:
            why = "no flow and the optimizer have steps in common at which both were saved"
        reasons.append(f"no tracking error: {why}")
    return reasons


def matrix(tree: xr.DataTree) -> rich.table.Table:
    """Make the matrix of a panel for the terminal: the errors of each flow on each case.

    Args:
        tree: as `store.load` gives it, with the group `MATRIX`.
    """
    data = tree[MATRIX].to_dataset()
    columns = {
        form.format(flow=flow): data["value"].sel(flow=flow, measure=measure).values
        for measure, form in _SHOWN.items()
        for flow in data["flow"].values
        if measure == "tracking_error" or _any(data.sel(flow=flow, measure=measure), "value")
    }
    shown = rich.table.Table("case", box=rich.box.SIMPLE_HEAD, title="error of each flow")
    for name in columns:
        shown.add_column(name, justify="right")
    outcomes = data["outcome"].values
    for row, case in enumerate(data["case"].values):
        cells = [_if_finite(float(values[row]), ".3g") for values in columns.values()]
        for column, outcome in enumerate(outcomes[row]):
            cells[column] = cells[column] or ("failed" if outcome == "failed" else "-")
        shown.add_row(str(case), *cells)
    return shown


def _conclusions(tree: xr.DataTree) -> rich.table.Table:
    data = tree[CONCLUSIONS].to_dataset() if CONCLUSIONS in tree.children else None
    predicted = data is None or _any(data, "predicted")
    errors = data is not None and _any(data, "standard_error")
    headings = ["measured"] + errors * ["standard error"] + predicted * ["predicted", "difference"]
    shown = _empty_table(tree, "quantity", *headings)
    if data is None:
        return shown
    for index, quantity in enumerate(data["quantity"].values):
        one = {name: float(values[index]) for name, values in data.data_vars.items()}
        cells = [_show(one["measured"], ".6g")]
        if errors:
            cells.append(_if_finite(one["standard_error"], ".2g"))
        if predicted:
            cells.append(_if_finite(one["predicted"], ".6g"))
            cells.append(_if_finite(one["measured"] - one["predicted"], ".2g"))
        shown.add_row(rich.text.Text(str(quantity)), *cells)
    return shown


def _sweep(tree: xr.DataTree) -> rich.table.Table:
    axes = [str(name) for name in np.atleast_1d(tree.attrs["axes"])]
    if SWEEP not in tree.children:  # Runs are gathered when it ends.
        return _empty_table(tree, *axes, _OUTCOME)
    data = tree[SWEEP].to_dataset()
    ended = data["outcome"] if "outcome" in data else data["status"]
    if data["status"].size > _MOST_RUNS:
        shown = _empty_table(tree, _OUTCOME, "runs")
        words, numbers = np.unique(ended.values, return_counts=True)
        for word, number in sorted(zip(words, numbers, strict=True), key=lambda one: -one[1]):
            shown.add_row(rich.text.Text(str(word)), str(number))
        return shown
    quantity = str(tree.attrs.get("quantity", ""))
    values = data.get(quantity)
    if values is not None and "trajectory" in values.dims:
        values = values.isel(trajectory=0)
    measured = [] if values is None else [quantity.replace("_", " ")]
    shown = _empty_table(tree, *axes, _OUTCOME, *measured)
    for index in np.ndindex(*data["status"].shape):
        here = dict(zip(axes, index, strict=True))
        cells = [_show_value(data[name].values[place]) for name, place in here.items()]
        cells.append(str(ended.isel(here).item()))
        if values is not None:
            cells.append(_show_value(values.isel(here).values[()]))
        shown.add_row(*(rich.text.Text(cell) for cell in cells))
    return shown


def _show_value(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return _if_finite(float(value), ".4g")
    return str(value)


def _any(data: xr.Dataset, name: str) -> bool:
    """True if a column has anything to show."""
    return name in data and bool(np.isfinite(data[name].values).any())


def _if_finite(value: float, form: str) -> str:
    return _show(value, form) if math.isfinite(value) else ""


def _empty_table(tree: xr.DataTree, *headings: str) -> rich.table.Table:
    """A table with a title and columns, numbers to the right."""
    critical = _number(tree.attrs.get("critical_sharpness"))
    label = tree.attrs.get("critical_label", "2/eta")
    threshold = "" if critical is None else f", {label} = {critical:.5g}"
    title = rich.text.Text(f"{tree.attrs.get('name', '')}: {_status(tree)}{threshold}")
    shown = rich.table.Table(
        title=title,
        title_justify="left",
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for heading in headings:
        justify = "left" if heading in _WORDS else "right"
        shown.add_column(heading, justify=justify, no_wrap=True)
    return shown


def _row(label: str, data: xr.Dataset) -> Row:
    times = data["step"].values
    steps = float(times[-1]) if len(times) else 0.0
    found = summarise(data.expand_dims("point"), steps)
    known = {name: found[name].item() if name in found else None for name in _SUMMED_UP}
    if _PRECONDITIONED in data:
        renamed = data[[_PRECONDITIONED]].rename({_PRECONDITIONED: "sharpness"})
        other = summarise(renamed.expand_dims("point"), steps)
        known |= {name: other[of].item() for of, name in _OF_IT.items()}
    for name in _OF_TESTS:
        values = data.get(name.removeprefix("final_"))
        finite = [] if values is None else values.values[np.isfinite(values.values)]
        known[name] = float(finite[-1]) if len(finite) else None
    return Row(
        label=label,
        steps=steps,
        **{name: _number(value) for name, value in known.items()},
        gradient_equivalents=_number(data.attrs.get("gradient_equivalents")),
        wall_time=_number(data.attrs.get("wall_time")),
        message=str(data.attrs.get("message", "")),
    )


def _number(value: Any) -> float | None:
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def _show(value: float | None, form: str = ".4g") -> str:
    return "" if value is None else format(value, form)


def _status(tree: xr.DataTree) -> str:
    attrs = tree.attrs
    status = str(attrs.get("status", "unknown"))
    message = str(attrs.get("message", ""))
    if status == "running" and attrs.get("kind") in ("study", "sweep"):
        message = "as it was last written"
    elif status == "running":
        reached = max((row.steps for row in rows(tree)), default=0.0)
        message = f"at step {reached:g} when it was last written"
    return f"{status} ({message})" if message else status
