"""The eigenvalues of the Gauss-Newton matrix beside the sharpness, which the whole Hessian has."""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import curves
from figures.registry import Needs, figure
from figures.sharpness import add_critical, further_eigenvalues

_WANTED = "gauss_newton_sharpness"
_NAMES = {_WANTED: "Gauss-Newton", "sharpness": "Hessian"}
# Thinner than the Gauss-Newton curve of its trajectory, in the same colour.
_LOOKS = {
    _WANTED: {"linestyle": "-"},
    "sharpness": {"linewidth": 1.0, "alpha": 0.75, "linestyle": (0, (2, 1.2))},
}


def _add(axes: Axes, tree: xr.DataTree) -> bool:
    """Draw the largest eigenvalues of both matrices, in pairs, and the threshold."""
    drawn: list[curves.Curve] = []
    for group in curves.groups(tree):
        found = {name: curves.curve(tree, group, name) for name in _NAMES}
        # Of a trajectory without the one, the other is nothing to compare with.
        if found[_WANTED] is None:
            continue
        for name, one in found.items():
            if one is not None:
                one.look.update(_LOOKS[name])
                drawn.append(curves.renamed(one, _NAMES[name]))
        if group == curves.DISCRETE:
            drawn += further_eigenvalues(
                tree, "gauss_newton_eigenvalues", "gauss_newton_mode", "further Gauss-Newton"
            )
    if not drawn:
        return False
    include = add_critical(axes, tree)
    curves.add_panel(axes, tree, _WANTED, drawn, log=False, include=include)
    curves.label_axes(axes, tree, "largest eigenvalue", _WANTED)
    return True


@figure("gauss_newton", needs=Needs(measurement="gauss_newton"))
def draw(tree: xr.DataTree) -> Figure:
    """The largest eigenvalue of the Gauss-Newton matrix over the steps, and the sharpness.

    A trajectory has one colour; the sharpness, of the whole Hessian, is dashed. What lies between
    the two is the part of the curvature that the model's own second derivatives have. The discrete
    run's further eigenvalues of the Gauss-Newton matrix are drawn thin.

    Args:
        tree: results of an experiment with `[[measurements]]` of kind "gauss_newton".

    Raises:
        ValueError: if no trajectory has an eigenvalue of the Gauss-Newton matrix.
    """
    needs = "a table [[measurements]] of kind 'gauss_newton'"
    return curves.draw_panel(tree, "gauss_newton", needs, _add, columns=2)
