"""The abstraction of a flow: a vector field that models an optimizer, or stands alone."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import diffrax
import equinox as eqx
from jaxtyping import Array, PyTree, Real

from .cost import Cost
from .potential import Potential
from .trees import Params
from .variables import Variable

Midpoint = Literal["three_point", "two_point"]


class AbstractFlow(eqx.Module):
    """A law of motion: lift parameters to a state, a vector field on it, and what it predicts.

    The separation follows diffrax: the potential says what is descended, the flow says how, the
    solver and its step-size controller say how it is integrated. Each flow can be integrated by
    hand, `diffrax.diffeqsolve(diffrax.ODETerm(flow.vector_field), ..., args=potential)`.

    To add a flow, write a final subclass with the five methods, its cost, and three class
    attributes:

    Attributes:
        midpoint: Which average of iterates the flow's centre models: "three_point" for
            (w_{t-1} + 2 w_t + w_{t+1}) / 4, "two_point" for (w_t + w_{t+1}) / 2; None for a flow
            that models no optimizer.
        time_unit: `variables.STEPS` if one unit of time is one optimizer step, else
            `variables.TIME`.
        variables: Metadata of each entry of `observables`.
        iterates_at: The observable, flat parameters (P,), that says where the iterates are, for a
            flow whose `params` are elsewhere; None where the iterates are around `params`.
        structural_fields: Names of the fields that fix the shape of the flow's state, or of what
            its solver keeps: a run goes on with the same values of them. "auto" goes on from any.

    """

    midpoint: eqx.AbstractClassVar[Midpoint | None]
    time_unit: eqx.AbstractClassVar[str]
    variables: eqx.AbstractClassVar[Mapping[str, Variable]]
    iterates_at: ClassVar[str | None] = None
    structural_fields: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def init(self, potential: Potential, params: Params) -> PyTree[Array]:
        """Return the state at time 0 for an optimizer that starts at `params`."""

    @abc.abstractmethod
    def vector_field(
        self, t: Real[Array, ""] | float, state: Any, args: Potential
    ) -> PyTree[Array]:
        """Return the time derivative of `state`; `args` is the potential."""

    @abc.abstractmethod
    def params(self, state: Any) -> Params:
        """Return where the flow says that the centre of the iterates is."""

    @abc.abstractmethod
    def observables(self, state: Any, potential: Potential) -> dict[str, Array]:
        """Return what the flow predicts at `state`."""

    @abc.abstractmethod
    def integrator(
        self, dtype: Any
    ) -> tuple[diffrax.AbstractSolver, diffrax.AbstractStepSizeController]:
        """Return the solver and the tolerances that suit the flow, for states of this dtype."""

    @property
    @abc.abstractmethod
    def cost(self) -> Cost | None:
        """What one evaluation of the vector field costs; None if that varies."""


class AbstractFollowedFlow(AbstractFlow):
    """A flow some of whose observables are found more cheaply from those at the save before.

    In a run, what they need of the state is kept at each save, and they are found afterwards, in
    order. `observables` finds all of them at a single state.
    """

    @abc.abstractmethod
    def instant(self, state: Any, potential: Potential) -> dict[str, Array]:
        """Return the other observables."""

    @abc.abstractmethod
    def kept(self, state: Any) -> PyTree[Array]:
        """Return what the followed observables need of a state."""

    @property
    @abc.abstractmethod
    def kept_vectors(self) -> int:
        """How many vectors of the size of the parameters `kept` holds."""

    @abc.abstractmethod
    def first_memory(self, state: Any) -> PyTree[Array]:
        """Return what is known before the first save."""

    @abc.abstractmethod
    def followed(
        self, potential: Potential, params: Params, kept: Any, memory: Any
    ) -> tuple[dict[str, Array], PyTree[Array], Cost]:
        """Return the followed observables, what the next ones start from, and what they cost.

        Args:
            potential: The loss.
            params: `params(state)` at the save.
            kept: `kept(state)` there.
            memory: What the save before returned, or `first_memory`.
        """
