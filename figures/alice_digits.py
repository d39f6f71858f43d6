"""Alice on handwritten digits with each term of its model, beside its flow."""

import xarray as xr
from matplotlib.figure import Figure

from figures.curves import parts
from figures.registry import Needs, figure
from figures.sheet import add_legend, new_figure, style

_TERMS = {"glass": ("glass", "C0"), "hessian": ("|h|", "C2"), "both": ("both", "C3")}


@figure("alice_digits", needs=Needs(study="alice_digits"))
def draw(tree: xr.DataTree) -> Figure:
    """The loss over steps, and the share of clipped steps below, a column for each phi.

    Args:
        tree: results of the study `alice_digits`.

    Raises:
        ValueError: if there is none.
    """
    needs = "groups with the variable 'clipped' (a study alice_digits)"
    found = parts(tree, "alice_digits", needs, "discrete", "flow", "clipped")
    shares = next(iter(found.values()))["share"].values
    with style():
        figure = new_figure(4.6)
        panels = figure.subplots(2, len(shares), sharex=True, sharey="row", squeeze=False)
        for (loss, clipped), share in zip(panels.T, shares, strict=True):
            for name in sorted(found, key=[*_TERMS].index):
                data, (label, colour) = found[name].sel(share=share), _TERMS[name]
                step = data["step"].values
                loss.plot(step, data["discrete"], color=colour, label=label, gid=f"{name}/discrete")
                loss.plot(
                    step,
                    data["flow"],
                    color=colour,
                    linewidth=1.2,
                    linestyle=(0, (3, 1.5)),
                    label=f"{label}, flow",
                    gid=f"{name}/flow",
                )
                clipped.plot(step, data["clipped"], color=colour, gid=f"{name}/clipped")
            loss.set_yscale("log")
            loss.set_title(f"φ = {share:g}")
            clipped.set_ylim(0, 1)
            clipped.set_xlabel("step (optimizer steps)")
        panels[0, 0].set_ylabel("loss")
        panels[1, 0].set_ylabel("share of steps\nthat the clip cuts")
        add_legend(figure, tree, list(panels.flat), columns=3)
    return figure
