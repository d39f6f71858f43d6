"""How Central Flow's error scales with the valley's slope, and the energy law behind it."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation

from figures.curves import nothing_to_draw
from figures.registry import Needs, figure
from figures.sheet import add_legend, mark, new_figure, style

_MEASURED = {"color": "black", "linestyle": "none", "marker": "o", "markersize": 5, "zorder": 4}


def _pairs(tree: xr.DataTree, *names: str) -> np.ndarray:
    """Attributes of every group that has all of them, sorted by the first: (group, attribute)."""
    rows = [
        [float(child.attrs[name]) for name in names]
        for child in tree.children.values()
        if all(name in child.attrs for name in names)
    ]
    return np.array(sorted(rows)).reshape(-1, len(names))


def _add_deviations(axes: Axes, deviations: np.ndarray) -> None:
    epsilon, deviation = deviations.T
    axes.set(xscale="log", yscale="log")
    axes.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(0.5, 0.2)))
    axes.plot(epsilon, deviation, label="measured", gid="deviations", **_MEASURED)
    ends = np.array([epsilon.min() / 1.6, epsilon.max() * 1.6])
    middle = np.exp(np.log(deviations).mean(axis=0))
    if len(epsilon) > 1:
        slope = np.polyfit(np.log(epsilon), np.log(deviation), 1)[0]
        fit = middle[1] * (ends / middle[0]) ** slope
        axes.plot(ends, fit, color="C0", label=f"fit, slope {slope:.3f}", gid="fit")
    # Beside the fit rather than upon it: slopes are compared, not heights.
    half = 0.6 * middle[1] * (ends / middle[0]) ** 0.5
    axes.plot(ends, half, color="C1", linestyle="--", label="slope 1/2", gid="half")
    axes.set(xlabel="ε, slope of the valley (loss / parameter)", title="Deviation")
    axes.set_ylabel("largest distance of the midpoint\nfrom central flow (parameter)")


def _add_energy_law(axes: Axes, rates: np.ndarray, learning_rate: float) -> None:
    zeta, rate = rates.T
    axes.plot(zeta, rate, gid="rates", **_MEASURED)
    margin = 0.08 * max(np.ptp(zeta), 0.1)
    fine = np.linspace(zeta.min() - margin, zeta.max() + margin, 200)
    law = learning_rate**2 * (2 - 9 * fine**2)
    axes.plot(fine, law, color="C2", linestyle="-.", label="η²(2 − 9ζ²)", gid="law")
    axes.axhline(0, color="black", linewidth=0.6, zorder=1)
    threshold = np.sqrt(2) / 3
    if fine[0] < threshold < fine[-1]:
        mark(axes, threshold, "ζ = √2/3")
    axes.set(xlabel="ζ, asymmetry of the valley", title="Energy of the oscillation")
    axes.set_ylabel("growth of the energy,\n(dE/dt₃) / ⟨y₁²⟩")


@figure("central_scaling", needs=Needs(study="central_scaling"))
def draw(tree: xr.DataTree) -> Figure:
    """Deviation against epsilon on logarithmic axes, and the energy's rate against zeta.

    Args:
        tree: results of the study `central_scaling`: groups with the attributes `epsilon` and
            `largest_deviation`, or `zeta` and `rate`.

    Raises:
        ValueError: if there is none of either.
    """
    deviations = _pairs(tree, "epsilon", "largest_deviation")
    rates = _pairs(tree, "zeta", "rate")
    if not len(deviations) and not len(rates):
        needs = "groups with the attributes 'largest_deviation' or 'rate' (a study central_scaling)"
        raise nothing_to_draw("central_scaling", needs, tree)
    with style():
        figure = new_figure(3.7)
        panels = [axes for axes in figure.subplots(1, 2)]
        if len(deviations):
            _add_deviations(panels[0], deviations)
        if len(rates):
            _add_energy_law(panels[1], rates, float(tree.attrs["learning_rate"]))
        add_legend(figure, tree, panels, columns=4)
    return figure
