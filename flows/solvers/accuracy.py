"""How accurately a run is integrated, by one word."""

from typing import Final, Literal, TypeAlias, TypeVar, get_args

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jax.typing import DTypeLike

from ..core.arrays import DENSE_LIMIT
from ..core.flow import AbstractFlow, Integrator

Accuracy: TypeAlias = Literal["draft", "default", "reference"]
"""How a flow's own tolerances are scaled: by 10, by 1, by 1/100."""

_FACTORS: Final = {"draft": 10.0, "default": 1.0, "reference": 0.01}

# No tolerance is above the first, nor below the second in units of the rounding error.
_COARSEST: Final = 1e-2
_FINEST: Final = 8.0

_Controller = TypeVar("_Controller", bound=diffrax.AbstractStepSizeController)


def check_accuracy(accuracy: str) -> None:
    """Check that an accuracy is one of those that there are.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(accuracy, str) or accuracy not in _FACTORS:
        allowed = ", ".join(map(repr, get_args(Accuracy)))
        raise ValueError(f"accuracy must be one of {allowed}; got {accuracy!r}.")


def suited_integrator(
    flow: AbstractFlow, dtype: DTypeLike, size: int, accuracy: Accuracy, *, free: bool
) -> Integrator:
    """Return the solver and the tolerances that suit a run of a flow.

    Args:
        flow: The flow.
        dtype: Of the parameters.
        size: How many there are.
        accuracy: "default" is the flow's `integrator`, up to 512 parameters its `high_order` one,
            if it has one; "draft" has ten times the tolerances, of its `economical` one if it has
            one and there are more than 512 parameters; "reference" a hundredth of those of
            "default".
        free: False if the user names a solver or a controller, to which only the tolerances or the
            solver of the flow's `integrator` fit.
    """
    other = None
    if free and size <= DENSE_LIMIT:
        other = flow.high_order(dtype)
    elif free and accuracy == "draft":
        other = flow.economical(dtype)
    solver, controller = other or flow.integrator(dtype)
    return Integrator(solver, scaled_controller(controller, _FACTORS[accuracy], dtype))


def scaled_controller(controller: _Controller, factor: float, dtype: DTypeLike) -> _Controller:
    """Return a controller with its tolerances, and those of one within, multiplied by a factor.

    No tolerance is raised above 1e-2, or lowered below eight rounding errors.

    Args:
        controller: The controller.
        factor: What its tolerances are multiplied by.
        dtype: Of the parameters.
    """
    if factor == 1:
        return controller
    finest = _FINEST * float(jnp.finfo(dtype).eps)

    def within(tolerance: float) -> float:
        # What is outside of the range already stays: 0 means no tolerance of that kind.
        low, high = min(tolerance, finest), max(tolerance, _COARSEST)
        return min(max(factor * tolerance, low), high)

    for name in ("rtol", "atol"):
        value = getattr(controller, name, None)
        if isinstance(value, float | int):
            scaled = within(float(value))
            controller = eqx.tree_at(lambda c, name=name: getattr(c, name), controller, scaled)
    inner = getattr(controller, "controller", None)
    if isinstance(inner, diffrax.AbstractStepSizeController):
        inner = scaled_controller(inner, factor, dtype)
        controller = eqx.tree_at(lambda c: c.controller, controller, inner)
    return controller
