"""How a run ends: an enumeration for the compiled loop, an exception for people."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .trees import Params, all_finite

RESULTS = diffrax.RESULTS

LOSS_NOT_FINITE = "the loss is no longer finite"
TOO_LONG = (
    "the step was too long for the solver made for this flow: give a smaller dt0, or let the step "
    "size adapt"
)


def choose(condition: Bool[Array, ""], if_true: Any, if_false: Any) -> RESULTS:
    """Return one of two items of `RESULTS`, inside compiled code too."""
    return RESULTS.where(condition, if_true, if_false)


def first_failure(
    params: Params, losses: Float[Array, " T"] | None
) -> tuple[Bool[Array, ""], Int[Array, ""], Bool[Array, ""]]:
    """Find the first of the saved rows that is not finite.

    Args:
        params: The saved parameters, leading axis T.
        losses: The loss at each of them; None if it was not measured.

    Returns:
        Whether there is such a row, its index, and whether it is the loss alone that is not finite.
    """
    moving = jax.vmap(all_finite)(params)
    finite = moving if losses is None else moving & jnp.isfinite(losses)
    index = jnp.argmin(finite)
    failed = ~finite[index]
    return failed, index, failed & moving[index]


class SimulationError(RuntimeError):
    """A run stopped early.

    Attributes:
        trajectory: Everything saved before the run stopped.
    """

    def __init__(self, message: str, trajectory: Any):
        super().__init__(message)
        self.trajectory = trajectory
