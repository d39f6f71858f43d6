"""The abstraction of a flow: a vector field that models an optimizer, or none."""

import abc
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, NamedTuple

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Int, PyTree, Real

from .arrays import Vector
from .cost import Cost
from .potential import Potential
from .trees import Params
from .variables import STEPS, Variable

Midpoint = Literal["three_point", "two_point"]
"""Which average of an optimizer's iterates a flow's centre models.

"three_point" is (w_{t-1} + 2 w_t + w_{t+1}) / 4, "two_point" is (w_t + w_{t+1}) / 2.
"""


class Integrator(NamedTuple):
    """A solver, and the step-size controller whose tolerances suit it.

    A flow names the integrator that `simulate` uses when the user passes none.

    Attributes:
        solver: Any diffrax solver for one ordinary differential equation.
        controller: How its steps adapt.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, GradientFlow
        >>> solver, controller = GradientFlow(GradientDescent(0.1)).integrator(jnp.float32)
        >>> type(solver).__name__, controller.rtol
        ('Tsit5', 1e-05)
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


def no_other(flow: "AbstractFlow", dtype: DTypeLike) -> Integrator | None:
    """Return None: the flow's `integrator` suits any number of parameters."""
    del flow, dtype
    return None


def free_init(
    flow: "AbstractFlow", potential: Potential, params: Params
) -> tuple[PyTree[Array], Cost]:
    """Return `flow.init(potential, params)`, which needs no derivative of the potential."""
    return flow.init(potential, params), Cost()


class AbstractFlow(eqx.Module):
    """A law of motion: it lifts parameters to a state, moves the state, and predicts quantities.

    The potential says what is descended, the flow how, and the solver with its step-size
    controller how that is integrated. `simulate` does so with saves, measurements and checks; by
    hand it is `diffrax.diffeqsolve(diffrax.ODETerm(flow.vector_field), ..., args=potential)`.

    A new flow is a final, frozen subclass with the four methods; hyperparameters are array fields,
    so that `jax.vmap` maps over them. The class attributes have defaults: set those that differ.

    Attributes:
        midpoint: Which average of iterates the flow's centre models, a `Midpoint`; None for a flow
            that models no optimizer.
        time_unit: `STEPS` if one unit of time is one optimizer step, else `TIME`.
        variables: Metadata of each entry of `observables`.
        iterates_at: The observable, flat parameters (P,), that says where the iterates are, for a
            flow whose `params` are elsewhere; None where the iterates are around `params`.
        structural_fields: Names of the fields that fix the shape of the flow's state, or of what
            its solver keeps: a run goes on with the same values of them. "auto" goes on from any.
        integrator: `integrator(dtype)` gives the solver and the tolerances that suit the flow for
            states of this dtype. By default Tsit5.
        economical: `economical(dtype)` gives an integrator that needs fewer evaluations for many
            parameters in a draft, whose tolerances are ten times as large; by default None.
        high_order: `high_order(dtype)` gives one for up to 512 parameters, where an evaluation
            costs next to nothing, and the fewest steps matter; by default None.
        cost: What one evaluation of the vector field costs; None if that varies or is not known.
        observables_cost: What `observables` costs at each save, in derivatives; None for nothing.
        first_step: The optimizer's step at which the flow begins, where `init` puts it: its time
            and its saves begin there.
        counted_init: `counted_init(potential, params)` gives what `init` does, and the `Cost` of
            finding it, which a run counts among its own. By default nothing.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import flows
        >>> class NormalisedFlow(flows.AbstractFlow):
        ...     '''Descent at unit speed, dw/dt = -g / |g|, in a time of its own.'''
        ...
        ...     midpoint = None
        ...     time_unit = flows.TIME
        ...
        ...     def init(self, potential, params):
        ...         return params
        ...
        ...     def vector_field(self, t, state, args):
        ...         gradient = jax.grad(args)(state)
        ...         return -gradient / jnp.linalg.norm(gradient)
        ...
        ...     def params(self, state):
        ...         return state
        ...
        ...     def observables(self, state, potential):
        ...         return {}
        >>> bowl = lambda w: 0.5 * jnp.sum(w**2)
        >>> run = flows.simulate(NormalisedFlow(), bowl, jnp.asarray([3.0, 4.0]), steps=2.0)
        >>> [round(float(x), 3) for x in run.params[-1]]
        [1.8, 2.4]
    """

    midpoint: ClassVar[Midpoint | None] = "three_point"
    time_unit: ClassVar[str] = STEPS
    variables: ClassVar[Mapping[str, Variable]] = {}
    iterates_at: ClassVar[str | None] = None
    structural_fields: ClassVar[tuple[str, ...]] = ()
    integrator: ClassVar[Callable[..., Integrator]] = tsit5
    economical: ClassVar[Callable[..., Integrator | None]] = no_other
    high_order: ClassVar[Callable[..., Integrator | None]] = no_other
    cost: ClassVar[Cost | None] = None
    observables_cost: ClassVar[Cost | None] = None
    first_step: ClassVar[int] = 0
    counted_init: ClassVar[Callable[..., tuple[PyTree[Array], Cost]]] = free_init

    @abc.abstractmethod
    def init(self, potential: Potential, params: Params) -> PyTree[Array]:
        """Return the state at time 0 for an optimizer that starts at `params`."""

    @abc.abstractmethod
    def vector_field(
        self, t: Real[Array, ""] | float, state: PyTree[Array], args: Potential
    ) -> PyTree[Array]:
        """Return the time derivative of `state`; `args` is the potential."""

    @abc.abstractmethod
    def params(self, state: PyTree[Array]) -> Params:
        """Return where the flow says that the centre of the iterates is."""

    @abc.abstractmethod
    def observables(self, state: PyTree[Array], potential: Potential) -> dict[str, Array]:
        """Return what the flow predicts at `state`, an entry for each of `variables`."""


class AbstractPreconditionedFlow(AbstractFlow):
    """A flow that models optimizers with a preconditioner, and knows it along its path.

    Example:
        >>> from flows import AbstractPreconditionedFlow, GradientDescent, ParityFlow
        >>> isinstance(ParityFlow(GradientDescent(0.1)), AbstractPreconditionedFlow)
        True
    """

    @abc.abstractmethod
    def preconditioner(self, state: PyTree[Array], potential: Potential) -> Vector | None:
        """Return the diagonal of P at a state, without the learning rate, flat (P,).

        It is None where the optimizer that is modelled has none, and has an entry 0 where a
        parameter never had a gradient and nothing is added to the root.
        """


class AbstractProjectedFlow(AbstractFlow):
    """A flow whose state is put back on a surface after each accepted step of any solver.

    A vector field may need more than it can integrate: eigenvectors that belong to the current
    point, a point on a surface, a factor of low rank. Such a flow carries them in its state with
    derivative zero, or lets them change within a step, and `project` puts the state right.

    Attributes:
        failures: What can go wrong in a projection, a sentence each; `{detail}` in it is replaced
            by a number of the state.
        failure_detail: The attribute of the state that holds this number; None if there is none.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import flows
        >>> class CircleFlow(flows.AbstractProjectedFlow):
        ...     '''Gradient flow on the unit circle, dw/dt = -(I - w w^T) g.'''
        ...
        ...     midpoint = None
        ...     time_unit = flows.TIME
        ...     failures = ("the origin has no nearest point of the circle",)
        ...
        ...     def init(self, potential, params):
        ...         return params
        ...
        ...     def vector_field(self, t, state, args):
        ...         gradient = jax.grad(args)(state)
        ...         return (gradient @ state) * state - gradient
        ...
        ...     def project(self, state, potential):
        ...         size = jnp.linalg.norm(state)
        ...         return state / size, (size == 0).astype(jnp.int32)
        ...
        ...     def params(self, state):
        ...         return state
        ...
        ...     def observables(self, state, potential):
        ...         return {}
        >>> slope = lambda w: w[0]
        >>> run = flows.simulate(CircleFlow(), slope, jnp.asarray([0.6, 0.8]), steps=20.0)
        >>> [round(float(x), 6) for x in run.params[-1]]
        [-1.0, 0.0]
    """

    failures: eqx.AbstractClassVar[tuple[str, ...]]
    failure_detail: ClassVar[str | None] = None

    @abc.abstractmethod
    def project(
        self, state: PyTree[Array], potential: Potential
    ) -> tuple[PyTree[Array], Int[Array, ""]]:
        """Put the state back on the surface.

        Returns:
            The state, and 0, or i where `failures[i - 1]` happened.
        """


class AbstractEquationFlow(AbstractProjectedFlow):
    """A projected flow whose right-hand side is an object that a solver made for it uses too.

    The flow's `vector_field` and `project` call the equation, and so does the solver: both
    integrate the same thing. `simulate` accepts a solver made for a flow
    (`flows.solvers.projection.AbstractFlowSolver`) where the two equations are of one class.

    Example:
        >>> from flows import AbstractEquationFlow, CentralFlow, GradientDescent
        >>> flow = CentralFlow(GradientDescent(0.1))
        >>> isinstance(flow, AbstractEquationFlow)
        True
    """

    @property
    @abc.abstractmethod
    def equation(self) -> eqx.Module:
        """The right-hand side, with the hyperparameters that it depends on."""


class AbstractResizableFlow(AbstractFlow):
    """A flow that may ask, between compiled segments, to go on with a state of other shapes.

    Shapes are fixed inside compiled code; a flow that finds out on the way how many eigenvectors
    or rods it needs is asked after each segment. Inside `jax.jit` or `jax.vmap` it is not.

    Example:
        >>> from flows import AbstractResizableFlow, CentralFlow, GradientDescent
        >>> isinstance(CentralFlow(GradientDescent(0.1), rank="auto"), AbstractResizableFlow)
        True
    """

    @abc.abstractmethod
    def review(self, start: PyTree[Array], end: PyTree[Array]) -> PyTree[Array] | None:
        """Look at a finished segment, outside of compiled code, and at the start of a run.

        Args:
            start: The concrete state where the segment started.
            end: Where it ended; `start` itself at the start of a run.

        Returns:
            None to go on, or a state, of other shapes perhaps, to repeat the segment from.
        """

    @abc.abstractmethod
    def shortage(self, state: PyTree[Array], potential: Potential) -> str:
        """Return what a run that failed may have lacked, as a sentence, or "" if nothing.

        Args:
            state: The concrete state where it stopped.
            potential: The loss.
        """


class AbstractFollowedFlow(AbstractFlow):
    """A flow some of whose observables are found more cheaply from those at the save before.

    In a run, `kept` is stored at each save, and the followed observables are found afterwards, in
    order. `observables` finds all of them at a single state.

    Example:
        >>> from flows import AbstractFollowedFlow, GradientDescent, RodFlow
        >>> isinstance(RodFlow(GradientDescent(0.1)), AbstractFollowedFlow)
        True
    """

    @abc.abstractmethod
    def instant(self, state: PyTree[Array], potential: Potential) -> dict[str, Array]:
        """Return the observables that need nothing of the save before."""

    @abc.abstractmethod
    def kept(self, state: PyTree[Array]) -> PyTree[Array]:
        """Return what the followed observables need of a state."""

    @property
    @abc.abstractmethod
    def kept_vectors(self) -> int:
        """How many vectors of the size of the parameters `kept` holds."""

    @abc.abstractmethod
    def first_memory(self, state: PyTree[Array]) -> PyTree[Array]:
        """Return what is known before the first save."""

    @abc.abstractmethod
    def followed(
        self, potential: Potential, params: Params, kept: PyTree[Array], memory: PyTree[Array]
    ) -> tuple[dict[str, Array], PyTree[Array], Cost]:
        """Return the followed observables, what the next ones start from, and what they cost.

        Args:
            potential: The loss.
            params: `params(state)` at the save.
            kept: `kept(state)` there.
            memory: What the save before returned, or `first_memory`.
        """


class AbstractDoubtedFlow(AbstractFlow):
    """A flow that can see in a state that what it follows there may be wrong.

    `simulate` asks after each compiled segment, and warns once in a run. Inside `jax.jit` or
    `jax.vmap` it does not.

    Example:
        >>> from flows import AbstractDoubtedFlow, GradientDescent, RodFlow
        >>> isinstance(RodFlow(GradientDescent(0.1)), AbstractDoubtedFlow)
        True
    """

    @abc.abstractmethod
    def doubt(self, state: PyTree[Array], potential: Potential) -> str:
        """Return what is doubtful about a concrete state, in a sentence; empty if nothing is."""
