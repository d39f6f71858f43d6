"""Quantities measured along a trajectory, discrete or continuous, inside the compiled loop."""

import abc
from collections.abc import Mapping
from typing import Any

import equinox as eqx
from jaxtyping import Array, Int, PyTree

from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params
from ..core.variables import Variable

Measured = tuple[dict[str, Array], PyTree[Array], Cost]


class AbstractMeasurement(eqx.Module):
    """Something to measure at each saved step. It may carry a state from one to the next."""

    @property
    @abc.abstractmethod
    def variables(self) -> Mapping[str, Variable]:
        """Metadata of each quantity."""

    @property
    def label(self) -> str:
        """What must be the same for a run to go on: the kind, and what shapes its state."""
        return type(self).__name__

    @abc.abstractmethod
    def init(self, potential: Potential, params: Params) -> PyTree[Array]:
        """Return the state before the first measurement.

        Raises:
            ValueError: If this cannot be measured on this potential or at these parameters.
        """

    @abc.abstractmethod
    def measure(
        self, potential: Potential, params: Params, state: Any, index: Int[Array, ""]
    ) -> Measured:
        """Measure at the `index`-th saved step.

        Returns:
            The quantities by name, the next state, and what they cost.
        """
