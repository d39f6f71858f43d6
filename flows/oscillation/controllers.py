"""A step-size controller for states that hold averages of squares, which are small and positive."""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, PyTree

from ..core.arrays import BoolScalarLike, RealScalarLike
from ..core.optimizer import AbstractOptimizer
from ..core.results import RESULTS
from .state import ParityState, PhasePoint, PolarParityState

State = ParityState | PolarParityState


class SquaresController(diffrax.AbstractAdaptiveStepSizeController):
    """A PID controller that measures the error of an average of squares relative to each entry.

    An adaptive method divides by the root of nu, whose entries differ by many orders of magnitude:
    an absolute tolerance that suits the parameters would leave the small ones to chance, and one
    that turned negative would make a step of any length. Averages of squares are recognised by
    their sign: they are the leaves of the centre, besides the parameters, without a negative entry.
    The errors of such a leaf and of its half-difference count relative to the leaf's entries.

    Args:
        optimizer: Whose phase space it is.
        rtol: The relative tolerance.
        atol: The absolute tolerance of everything else.
    """

    optimizer: AbstractOptimizer
    controller: diffrax.AbstractStepSizeController
    rtol: RealScalarLike
    atol: RealScalarLike
    norm: Callable[[PyTree[Array]], RealScalarLike]

    def __init__(self, optimizer: AbstractOptimizer, rtol: float, atol: float):
        self.optimizer, self.rtol, self.atol, self.norm = optimizer, rtol, atol, _rms
        self.controller = diffrax.PIDController(rtol=rtol, atol=atol, norm=_rms)

    def wrap(self, direction: int | np.ndarray | Array) -> "SquaresController":
        """Return the controller for a solve in this direction of time, 1 or -1."""
        return eqx.tree_at(lambda c: c.controller, self, self.controller.wrap(direction))

    def init(
        self,
        terms: diffrax.AbstractTerm,
        t0: RealScalarLike,
        t1: RealScalarLike,
        y0: State,
        dt0: RealScalarLike | None,
        args: PyTree,
        func: Any,
        error_order: RealScalarLike | None,
    ) -> tuple[RealScalarLike, Any]:
        """Begin with half a step of the optimizer, if no other is asked for."""
        dt0 = 0.5 if dt0 is None else dt0
        return self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)

    def adapt_step_size(
        self,
        t0: RealScalarLike,
        t1: RealScalarLike,
        y0: State,
        y1_candidate: State,
        args: PyTree,
        y_error: PyTree,
        error_order: RealScalarLike,
        controller_state: Any,
    ) -> tuple[BoolScalarLike, RealScalarLike, RealScalarLike, BoolScalarLike, Any, RESULTS]:
        """Adapt the step to the errors, those of averages of squares in units of their entries."""
        squares = self._squares(y0.centre)
        error = _in_units(squares, y_error)
        size0, size1 = (_sizes(squares, _in_units(squares, y)) for y in (y0, y1_candidate))
        return self.controller.adapt_step_size(
            t0, t1, size0, size1, args, error, error_order, controller_state
        )

    def _squares(self, centre: PhasePoint) -> PhasePoint:
        """Return each average of squares as it is, and 1 for all other entries, and for 0."""
        params = {id(x) for x in jax.tree.leaves(self.optimizer.params(centre))}

        def unit(leaf: Array) -> Array:
            if id(leaf) in params:
                return jnp.ones_like(leaf)
            return jnp.where(jnp.all(leaf >= 0) & (leaf > 0), leaf, 1)

        return jax.tree.map(unit, centre)


def _in_units(squares: PhasePoint, state: State) -> State:
    parts = _parts(state)
    divided = {name: jax.tree.map(jnp.divide, part, squares) for name, part in parts.items()}
    return dataclasses.replace(state, **divided)


def _sizes(squares: PhasePoint, state: State) -> State:
    """Return a state in these units whose half-difference is as large as the squares' centre."""
    parts = _parts(state)
    centre = parts.pop("centre")
    grown = {
        name: jax.tree.map(lambda u, x, c: jnp.where(u == 1, x, c), squares, part, centre)
        for name, part in parts.items()
    }
    return dataclasses.replace(state, **grown)


def _parts(state: State) -> dict[str, PhasePoint]:
    name = "half_difference" if isinstance(state, ParityState) else "direction"
    return {"centre": state.centre, name: getattr(state, name)}


def _rms(tree: PyTree[Array]) -> RealScalarLike:
    return optimistix.rms_norm(tree)
