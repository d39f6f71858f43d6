"""RMSProp on its two-cycle at the edge of stability, on a sharp valley that lies across the axes.

In the valley's own coordinates (x, y) only the parameter x oscillates, and one rate for each
parameter is as good as one of all. Turned by 0.5 rad, both parameters oscillate. The runs start on
the floor, at y = 1, with a nu at which P^-1 H has the eigenvalue 2/eta there.
"""

import math
from typing import TypeAlias

import numpy as np

from ..system.lazy import flows, jax, jnp, potentials

_ANGLE = 0.5
# Along the floor, where runs start.
_HEIGHT = 1.0
_COS, _SIN = math.cos(_ANGLE), math.sin(_ANGLE)

RMSPropMethod: TypeAlias = "flows.RMSProp | flows.ScalarRMSProp"


def _turn() -> "jax.Array":
    """Return the matrix that gives the valley's coordinates of parameters."""
    return jnp.array([[_COS, _SIN], [-_SIN, _COS]])


def _loss(valley: "potentials.SharpValley", turn: "jax.Array", params: "jax.Array") -> "jax.Array":
    return valley(turn @ params)


def turned_valley(learning_rate: float, zeta: float) -> "flows.Potential":
    """Return the valley of slope eta^2, over the turned coordinates.

    Its numbers are arrays, so that runs on several of them are compiled once.

    Args:
        learning_rate: eta.
        zeta: Asymmetry of the valley.
    """
    valley = potentials.SharpValley(learning_rate**2, zeta)
    return jax.tree_util.Partial(_loss, valley, _turn())


def start_of_centre() -> "jax.Array":
    """Return the point of the floor from which the centres start, (2,)."""
    return jnp.array([0.0, _HEIGHT]) @ _turn()


def heights(params: "jax.Array") -> np.ndarray:
    """Return the coordinate y along the floor of parameters (T, 2)."""
    return np.asarray(params @ _turn()[1])


def at_edge(
    learning_rate: float,
    b2: float,
    valley: "flows.Potential",
    start: "jax.Array",
    *,
    scalar: bool = False,
) -> RMSPropMethod:
    """Return RMSProp, eps = 0, whose first step from a start divides by the nu of the edge.

    There the gradient's squares have been those at the ends of the two-cycle, see `cycle_end`.

    Args:
        learning_rate: eta.
        b2: The share of nu that a step keeps.
        valley: The potential.
        start: Of the run, (2,).
        scalar: True for `ScalarRMSProp`.
    """
    source = jax.grad(valley)(start) ** 2
    if scalar:
        nu, source = jnp.asarray((learning_rate * _HEIGHT / 2) ** 2), jnp.sum(source)
    else:
        across = _HEIGHT * (_COS + _SIN) / 2
        nu = (learning_rate * across * jnp.array([_COS, _SIN])) ** 2
    method = flows.ScalarRMSProp if scalar else flows.RMSProp
    return method(learning_rate, b2, 0.0, (nu - (1 - b2) * source) / b2)


def cycle_end(learning_rate: float, *, scalar: bool = False) -> "jax.Array":
    """Return an end of the two-cycle about the start of the centre, without the valley's slope.

    Args:
        learning_rate: eta: the cycle's ends are eta/2 from its centre, in each parameter or, with
            one rate of all, along x.
        scalar: True for `ScalarRMSProp`.
    """
    across = _turn()[0] if scalar else jnp.ones(2)
    return start_of_centre() + learning_rate / 2 * across


def start_of_iterates(run: "flows.Trajectory") -> "jax.Array":
    """Return an end of the oscillation with which a run of Central Flow starts, (2,).

    Args:
        run: With the observables `variances` and `directions`.
    """
    variance, direction = (run.observables[name][0, 0] for name in ("variances", "directions"))
    return run.params[0] + jnp.sqrt(variance) * direction
