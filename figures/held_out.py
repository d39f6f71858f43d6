"""Loss and accuracy on the training examples and on held-out ones."""

import functools
import itertools

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import curves
from figures.registry import Needs, figure

_WANTED = "test_loss"
# Thinner than the training curve of its trajectory, in the same colour.
_TEST = {"linewidth": 1.0, "alpha": 0.75}


def add_train_and_test(axes: Axes, tree: xr.DataTree, variable: str) -> bool:
    """Draw a variable of the training examples and its like of the held-out ones into a panel.

    Args:
        axes: an empty panel.
        tree: the results.
        variable: "loss" or "accuracy".

    Returns:
        Whether there was anything to draw.
    """
    train, test = (curves.curves(tree, name) for name in (variable, f"test_{variable}"))
    for one in train:
        one.look.update(linestyle="-")
    for one in test:
        one.look.update(_TEST, linestyle=(0, (2, 1.2)))
    pairs = itertools.chain(
        *(
            [curves.renamed(one, name) for one in found if one.name.split("/")[0] == group]
            for group in curves.groups(tree)
            for found, name in ((train, "training"), (test, "test"))
        )
    )
    drawn = list(pairs)
    if drawn:
        # An accuracy has a scale of its own: all of it is shown.
        include = [] if variable == "loss" else [min(one.values.min() for one in drawn)]
        curves.add_panel(axes, tree, variable, drawn, log=variable == "loss", include=include)
    return bool(drawn)


@figure("test", needs=Needs(several=True))
def draw(tree: xr.DataTree) -> Figure:
    """The loss on training and held-out examples over the steps, and the accuracy if there is one.

    A trajectory has one colour; the curve of the held-out examples is dashed.

    Args:
        tree: results with the variable `test_loss` in at least one group.

    Raises:
        ValueError: if no group has a finite test loss.
    """
    if not curves.has(tree, _WANTED):
        needs = "the variable 'test_loss' in at least one group (set potential.data.test)"
        raise curves.nothing_to_draw("test", needs, tree)
    shown = [name for name in ("loss", "accuracy") if curves.has(tree, f"test_{name}")]
    adds = [functools.partial(add_train_and_test, variable=name) for name in shown]
    return curves.draw_stack(tree, 0.9 + 2.2 * len(shown), adds, columns=2)
