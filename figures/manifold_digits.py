"""A network with weights on manifolds: loss, accuracy, and each method's sharpness at its edge."""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import parts
from figures.registry import Needs, figure
from figures.sheet import add_legend, color_of, new_figure, style

_COLUMNS = 3
_HIGHEST = 2.0


def _sharpness(axes: Axes, data: xr.Dataset, color: str) -> None:
    """Draw the Riemannian sharpness of a method, with the value at which it is unstable."""
    step, gid = data["step"].values, str(data.attrs["label"])
    axes.plot(
        step, data["riemannian_sharpness"], color=color, linewidth=0.9, gid=f"{gid}/sharpness"
    )
    axes.plot(
        step,
        data["threshold"],
        color="black",
        linewidth=1.0,
        linestyle=(0, (4, 3)),
        label="threshold of the Riemannian sharpness: 2/η; of SAM at its gradient",
        gid=f"{gid}/threshold",
    )
    highest = _HIGHEST * 2 / float(data.attrs["learning_rate"])
    axes.set_ylim(
        0, min(highest, 1.15 * max(float(data["riemannian_sharpness"].max()), highest / 2))
    )
    axes.set_title(f"{gid}, η = {data.attrs['learning_rate']:g}", fontsize="small")


@figure("manifold_digits", needs=Needs(study="manifold_digits"))
def draw(tree: xr.DataTree) -> Figure:
    """Loss and accuracy of all methods, and the Riemannian sharpness of each with its threshold.

    Args:
        tree: results of the study `manifold_digits`.

    Raises:
        ValueError: if there are none.
    """
    needs = "groups with the variable 'riemannian_sharpness' (a study manifold_digits)"
    found = parts(tree, "manifold_digits", needs, "riemannian_sharpness", "accuracy")
    runs = sorted(found.values(), key=lambda data: int(data.attrs["position"]))
    with style():
        rows = -(-len(runs) // _COLUMNS)
        drawn = new_figure(3.2 + 1.75 * rows)
        heights = [2.2, 1.75 * rows]
        top, bottom = drawn.subfigures(2, 1, squeeze=False, height_ratios=heights).flat
        loss, accuracy = top.subplots(1, 2)
        below = list(bottom.subplots(rows, _COLUMNS, squeeze=False, sharex=True).flat)
        for position, data in enumerate(runs):
            color, label = color_of(position), str(data.attrs["label"])
            for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
                axes.plot(data["step"], data[name], color=color, label=label, gid=f"{label}/{name}")
            _sharpness(below[position], data, color)
        for axes in below[len(runs) :]:
            axes.remove()
        loss.set_yscale("log")
        loss.set_ylabel("loss")
        accuracy.set_ylabel("accuracy")
        for axes in (loss, accuracy, *below[max(len(runs) - _COLUMNS, 0) : len(runs)]):
            axes.set_xlabel("step (optimizer steps)")
        for axes in below[: len(runs) : _COLUMNS]:
            axes.set_ylabel("sharpness\n(loss / parameter²)")
        add_legend(drawn, tree, [loss, accuracy, *below[: len(runs)]], columns=2)
    return drawn
