"""How a run ends: an enumeration for the compiled loop, an exception for people."""

from typing import Any

import diffrax
from jaxtyping import Array, Bool

RESULTS = diffrax.RESULTS


def choose(condition: Bool[Array, ""], if_true: Any, if_false: Any) -> RESULTS:
    """Return one of two items of `RESULTS`, inside compiled code too."""
    return RESULTS.where(condition, if_true, if_false)


class SimulationError(RuntimeError):
    """A run stopped early.

    Attributes:
        trajectory: Everything saved before the run stopped.
    """

    def __init__(self, message: str, trajectory: Any):
        super().__init__(message)
        self.trajectory = trajectory
