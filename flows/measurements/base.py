"""Quantities measured along a trajectory, discrete or continuous, inside the compiled loop."""

import abc
from collections.abc import Mapping
from typing import ClassVar, TypeAlias

import equinox as eqx
from jaxtyping import Array, Int, PyTree

from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params
from ..core.variables import Variable
from ..curvature.metric import AbstractMetric

Measured: TypeAlias = tuple[dict[str, Array], PyTree[Array], Cost]
"""The quantities by name, the state of the measurement afterwards, and what it cost."""


class AbstractMeasurement(eqx.Module):
    """Something to measure at each saved step, which may carry a state from one to the next.

    A new measurement is a final, frozen subclass with `variables`, `init` and `measure`. It runs
    inside compiled code; what it costs is counted apart from what the run costs.

    Attributes:
        structural_fields: Names of the fields that fix the shape of the state: a run goes on with
            the same values of them.

    Example:
        >>> import jax.numpy as jnp
        >>> import flows
        >>> class Travelled(flows.AbstractMeasurement):
        ...     '''How far the path has led since the start, chord by chord.'''
        ...
        ...     @property
        ...     def variables(self):
        ...         return {"travelled": flows.Variable("parameter", "length of the path so far")}
        ...
        ...     def init(self, potential, params):
        ...         return params, jnp.zeros(())
        ...
        ...     def measure(self, potential, params, state, index):
        ...         before, length = state
        ...         length = length + jnp.linalg.norm(params - before)
        ...         return {"travelled": length}, (params, length), flows.Cost()
        >>> bowl, start = lambda w: 0.5 * jnp.sum(w**2), jnp.asarray([3.0, 4.0])
        >>> run = flows.iterate(
        ...     flows.GradientDescent(0.5), bowl, start, steps=3, measurements=Travelled()
        ... )
        >>> run.observables["travelled"].tolist()
        [0.0, 2.5, 3.75, 4.375]
    """

    structural_fields: ClassVar[tuple[str, ...]] = ()

    @property
    @abc.abstractmethod
    def variables(self) -> Mapping[str, Variable]:
        """Metadata of each quantity."""

    @abc.abstractmethod
    def init(self, potential: Potential, params: Params) -> PyTree[Array]:
        """Return the state before the first measurement.

        Raises:
            ValueError: If this cannot be measured on this potential or at these parameters.
        """

    @abc.abstractmethod
    def measure(
        self, potential: Potential, params: Params, state: PyTree[Array], index: Int[Array, ""]
    ) -> Measured:
        """Measure at the `index`-th saved step.

        Returns:
            The quantities by name, the next state, and what they cost.
        """


class AbstractMetricMeasurement(AbstractMeasurement):
    """A measurement that looks at the parameters in the metric of what runs.

    That is the preconditioner of an adaptive optimizer, or of a flow that knows it along its path,
    at the state that is saved. It is the identity for optimizers without one and for their flows,
    and not known for other models of adaptive methods, and for optax transformations that keep
    second moments. Along a bare path of parameters there is none: `measure` takes the identity, or
    refuses.

    Example:
        >>> from flows import AbstractMetricMeasurement, Curvature, PreconditionedCurvature
        >>> isinstance(PreconditionedCurvature(), AbstractMetricMeasurement)
        True
        >>> isinstance(Curvature(), AbstractMetricMeasurement)
        False
    """

    @abc.abstractmethod
    def measure_in(
        self,
        metric: AbstractMetric | None,
        potential: Potential,
        params: Params,
        state: PyTree[Array],
        index: Int[Array, ""],
    ) -> Measured:
        """Measure in a metric, None if it is not known, otherwise as `measure`."""


def no_preconditioner(name: str) -> ValueError:
    """Return the error of a measurement that would measure P along a bare path of parameters."""
    return ValueError(
        f"{name} needs the preconditioner, which is in the state of the optimizer or the flow and "
        f"not in a path of parameters: give it to `iterate` or `simulate`, as `measurements`."
    )
