"""Solvers that keep the state of a projected flow on its surface."""

import abc
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ..core.arrays import BoolScalarLike, RealScalarLike
from ..core.flow import AbstractProjectedFlow
from ..core.potential import Potential
from ..core.results import RESULTS, choose


def _started(
    solver: "AbstractFlowSolver",
    terms: diffrax.AbstractTerm,
    t0: RealScalarLike,
    t1: RealScalarLike,
    y0: PyTree[Array],
    args: Potential,
) -> PyTree[Array]:
    """Return the solver's state at the start, for diffrax."""
    del terms, t0, t1
    return solver.start(y0, args)[1]


class AbstractFlowSolver(diffrax.AbstractAdaptiveSolver):
    """A solver made for one kind of flow: an accepted step ends where `project` would put it.

    Its state has the attributes `cost`, a `Cost` that counts what accepted steps have spent since
    the start, and `failure`, as `project` returns it, or one more than the equation knows where a
    step needs too many stages. A step that must not be accepted returns the result
    `nonlinear_divergence`, which ends the run where the step size does not adapt, with an infinite
    error, so that an adaptive controller shortens it. A step that no shorter one could save returns
    an error of zero: it is accepted, and its result ends the run.

    Attributes:
        equation: The right-hand side that it integrates, `flow.equation`.
    """

    equation: eqx.AbstractVar[eqx.Module]

    init: ClassVar[Callable[..., PyTree[Array]]] = _started

    @abc.abstractmethod
    def prepared(self, equation: eqx.Module, smallest: Float[Array, ""]) -> "AbstractFlowSolver":
        """Return the solver for a run.

        Args:
            equation: That of the run's flow, of the kind that the solver is made for.
            smallest: The step size below which a controller ends the run.
        """

    @property
    @abc.abstractmethod
    def first_step(self) -> Float[Array, ""]:
        """Length of the first step to try."""

    @abc.abstractmethod
    def start(self, y0: PyTree[Array], potential: Potential) -> tuple[PyTree[Array], PyTree[Array]]:
        """Return the state put right as `project` would, and the solver's state there."""


class ProjectedState(eqx.Module):
    """State of `ProjectedSolver`.

    Attributes:
        inner: The inner solver's.
        failure: Which of the flow's `failures` happened in the last projection, from 1; 0 for none.
    """

    inner: PyTree
    failure: Int[Array, ""]


class ProjectedInterpolation(diffrax.AbstractLocalInterpolation):
    """The inner solver's interpolation, and in proportion to the time what a projection moved.

    What a projection finds, such as eigenvectors, has no slope that a solver could interpolate by.

    Attributes:
        t0: Where the step starts.
        t1: Where it ends.
        inner: The inner solver's interpolation between the two.
        shift: What the projection at the end added.
    """

    t0: RealScalarLike
    t1: RealScalarLike
    inner: diffrax.AbstractLocalInterpolation
    shift: PyTree[Array]

    def evaluate(
        self, t0: RealScalarLike, t1: RealScalarLike | None = None, left: bool = True
    ) -> PyTree[Array]:
        """Return the state at `t0`, or how much it changes from there to `t1`."""
        if t1 is not None:
            return jax.tree.map(lambda a, b: b - a, self.evaluate(t0), self.evaluate(t1))
        share = jnp.asarray((t0 - self.t0) / (self.t1 - self.t0))

        def shifted(x: Array, shift: Array) -> Array:
            return x + share.astype(shift.dtype) * shift

        return jax.tree.map(shifted, self.inner.evaluate(t0, left=left), self.shift)


def _projected_interpolation(
    interpolation: Callable[..., diffrax.AbstractLocalInterpolation],
    *,
    t0: RealScalarLike,
    t1: RealScalarLike,
    inner: dict[str, Any],
    shift: PyTree[Array],
) -> ProjectedInterpolation:
    return ProjectedInterpolation(t0, t1, interpolation(t0=t0, t1=t1, **inner), shift)


class ProjectedSolver(diffrax.AbstractWrappedSolver):
    """Any solver, followed by the flow's projection after each step.

    A failed projection ends the run: diffrax lets a step return only its own results, so the
    reason is kept in the solver's state.

    Attributes:
        solver: The solver that takes the steps.
        flow: The flow that projects where they lead.
    """

    solver: diffrax.AbstractSolver
    flow: AbstractProjectedFlow

    @property
    def root_finder(self) -> Any:
        """The inner solver's, for an implicit one."""
        return self.solver.root_finder  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def scan_kind(self) -> Any:
        """The inner solver's, which diffrax replaces for forward-mode differentiation."""
        return self.solver.scan_kind  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def term_structure(self) -> Any:
        """The inner solver's."""
        return self.solver.term_structure

    @property
    def interpolation_cls(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The inner solver's, to where the projection leads."""
        return partial(_projected_interpolation, self.solver.interpolation_cls)

    @property
    def term_compatible_contr_kwargs(self) -> Any:
        """The inner solver's."""
        return self.solver.term_compatible_contr_kwargs

    def order(self, terms: diffrax.AbstractTerm) -> int | None:
        """Return the inner solver's order."""
        return self.solver.order(terms)

    def error_order(self, terms: diffrax.AbstractTerm) -> Any:
        """Return the order of the inner solver's error estimate."""
        return self.solver.error_order(terms)

    def init(
        self,
        terms: diffrax.AbstractTerm,
        t0: RealScalarLike,
        t1: RealScalarLike,
        y0: PyTree[Array],
        args: Potential,
    ) -> ProjectedState:
        """Initialise the inner solver."""
        inner = self.solver.init(terms, t0, t1, y0, args)
        return ProjectedState(inner, jnp.zeros((), jnp.int32))

    def step(
        self,
        terms: diffrax.AbstractTerm,
        t0: RealScalarLike,
        t1: RealScalarLike,
        y0: PyTree[Array],
        args: Potential,
        solver_state: ProjectedState,
        made_jump: BoolScalarLike,
    ) -> tuple[Any, Any, Any, ProjectedState, RESULTS]:
        """Take a step and project where it leads."""
        y1, error, dense_info, inner, result = self.solver.step(
            terms, t0, t1, y0, args, solver_state.inner, made_jump
        )
        reached = y1
        y1, failure = self.flow.project(y1, args)
        shift = jax.tree.map(lambda after, before: after - before, y1, reached)
        dense_info = {"inner": dense_info, "shift": shift}
        result = choose(failure > 0, RESULTS.nonlinear_divergence, result)
        return y1, error, dense_info, ProjectedState(inner, failure), result

    def func(
        self, terms: diffrax.AbstractTerm, t0: RealScalarLike, y0: PyTree[Array], args: Potential
    ) -> Any:
        """Return the inner solver's evaluation of the vector field."""
        return self.solver.func(terms, t0, y0, args)
