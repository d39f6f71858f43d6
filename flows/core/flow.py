"""The abstraction of a flow: a vector field that models an optimizer, or stands alone."""

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Real
from numpy.typing import DTypeLike

from .cost import Cost
from .potential import Potential
from .trees import Params
from .variables import STEPS, Variable

Midpoint = Literal["three_point", "two_point"]


class Integrator(NamedTuple):
    """A solver, and the controller whose tolerances suit it.

    Attributes:
        solver: Any diffrax solver for one ordinary differential equation.
        controller: How its steps adapt.
    """

    solver: diffrax.AbstractSolver
    controller: diffrax.AbstractStepSizeController


def default_controller(dtype: DTypeLike) -> diffrax.PIDController:
    """Return the tolerances that suit a precision.

    They are 1e-8 relative and 1e-10 absolute in float64; 1e-5 and 1e-7 in float32, where rounding
    in the potential sets the limit.
    """
    if jnp.finfo(dtype).bits > 32:
        return diffrax.PIDController(rtol=1e-8, atol=1e-10)
    return diffrax.PIDController(rtol=1e-5, atol=1e-7)


def tsit5(flow: "AbstractFlow", dtype: DTypeLike) -> Integrator:
    """Return Tsit5 with the default tolerances, which suit a flow that is smooth and not stiff."""
    del flow
    return Integrator(diffrax.Tsit5(), default_controller(dtype))


class AbstractFlow(eqx.Module):
    """A law of motion: it lifts parameters to a state, moves the state, and predicts quantities.

    The separation follows diffrax: the potential says what is descended, the flow says how, the
    solver and its step-size controller say how it is integrated. Each flow can be integrated by
    hand, `diffrax.diffeqsolve(diffrax.ODETerm(flow.vector_field), ..., args=potential)`.

    A new flow is a final subclass with the four methods. The attributes have defaults; set those
    that differ.

    Attributes:
        midpoint: Which average of iterates the flow's centre models: "three_point" for
            (w_{t-1} + 2 w_t + w_{t+1}) / 4, "two_point" for (w_t + w_{t+1}) / 2; None for a flow
            that models no optimizer.
        time_unit: `STEPS` if one unit of time is one optimizer step, else `TIME`.
        variables: Metadata of each entry of `observables`.
        iterates_at: The observable, flat parameters (P,), that says where the iterates are, for a
            flow whose `params` are elsewhere; None where the iterates are around `params`.
        structural_fields: Names of the fields that fix the shape of the flow's state, or of what
            its solver keeps: a run goes on with the same values of them. "auto" goes on from any.
        integrator: `integrator(dtype)` gives the solver and the tolerances that suit the flow for
            states of this dtype. By default Tsit5.
        cost: What one evaluation of the vector field costs; None if that varies or is not known.
    """

    midpoint: ClassVar[Midpoint | None] = "three_point"
    time_unit: ClassVar[str] = STEPS
    variables: ClassVar[Mapping[str, Variable]] = {}
    iterates_at: ClassVar[str | None] = None
    structural_fields: ClassVar[tuple[str, ...]] = ()
    integrator: ClassVar[Callable[..., Integrator]] = tsit5
    cost: ClassVar[Cost | None] = None

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


class AbstractProjectedFlow(AbstractFlow):
    """A flow whose state is put back on a surface after each accepted step of any solver.

    A vector field may need more than it can integrate: eigenvectors that belong to the current
    point, a point on a surface, a factor of low rank. Such a flow carries them in its state with
    derivative zero, or lets them change within a step, and `project` puts the state right.

    Attributes:
        failures: What can go wrong in a projection, a sentence each; `{detail}` in it is replaced
            by a number of the state.
        failure_detail: The attribute of the state that holds this number; None if there is none.
    """

    failures: eqx.AbstractClassVar[tuple[str, ...]]
    failure_detail: ClassVar[str | None] = None

    @abc.abstractmethod
    def project(self, state: Any, potential: Potential) -> tuple[PyTree[Array], Int[Array, ""]]:
        """Put the state back on the surface.

        Returns:
            The state, and 0, or i where `failures[i - 1]` happened.
        """


class AbstractEquationFlow(AbstractProjectedFlow):
    """A projected flow whose right-hand side is an object that a solver made for it uses too."""

    @property
    @abc.abstractmethod
    def equation(self) -> eqx.Module:
        """The right-hand side, with the hyperparameters that it depends on."""


class AbstractResizableFlow(AbstractFlow):
    """A flow that may ask, between compiled segments, to go on with a state of other shapes."""

    @abc.abstractmethod
    def review(self, start: Any, end: Any) -> PyTree[Array] | None:
        """Look at a finished segment, outside of compiled code, and at the start of a run.

        Args:
            start: The concrete state where the segment started.
            end: Where it ended; `start` itself at the start of a run.

        Returns:
            None to go on, or a state, of other shapes perhaps, to repeat the segment from.
        """


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
