"""The loss along the discrete run and along each flow."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import curves
from figures.registry import Needs, figure


def add_loss(axes: Axes, tree: xr.DataTree) -> bool:
    """Draw the loss curves into a panel.

    A flow that predicts the discrete run's average loss is represented by that prediction, and the
    loss at its own centre is drawn thinner, unless the two are the same.

    Args:
        axes: an empty panel.
        tree: the results.

    Returns:
        Whether there was anything to draw.
    """
    drawn = []
    for group in curves.groups(tree):
        loss, predicted = (curves.curve(tree, group, v) for v in ("loss", "predicted_loss"))
        if loss is not None and predicted is not None and _differ(loss, predicted):
            loss.look.update(linewidth=0.9, alpha=0.7)
            drawn += [
                curves.renamed(loss, "at its centre"),
                curves.renamed(predicted, "predicted average"),
            ]
        else:
            drawn += [one for one in (loss, predicted) if one is not None][:1]
    if not drawn:
        return False
    curves.add_panel(axes, tree, "loss", drawn)
    return True


def _differ(loss: curves.Curve, predicted: curves.Curve) -> bool:
    """Whether two curves differ by more than single precision rounds, so that an eye could see."""
    if loss.values.shape != predicted.values.shape:
        return True
    return not np.isclose(loss.values, predicted.values, rtol=1e-5, atol=0.0).all()


@figure("loss", needs=Needs(several=True))
def draw(tree: xr.DataTree) -> Figure:
    """The loss over the steps, logarithmic where it spans a large factor.

    Args:
        tree: results with the variable `loss` in at least one group.

    Raises:
        ValueError: if no group has a finite loss.
    """
    needs = "the variable 'loss' in at least one group"
    return curves.draw_panel(tree, "loss", needs, add_loss)
