"""How a run ends: an enumeration for the compiled loop, an exception for people."""

from typing import Any

import diffrax

RESULTS = diffrax.RESULTS


class SimulationError(RuntimeError):
    """A run stopped early.

    Attributes:
        trajectory: Everything saved before the run stopped.
    """

    def __init__(self, message: str, trajectory: Any):
        super().__init__(message)
        self.trajectory = trajectory
