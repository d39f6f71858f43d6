"""Adaptive steps: tolerances by default, and a controller that outlives an overflow."""

from collections.abc import Callable
from typing import Any, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..core.results import RESULTS, choose
from ..core.trees import all_finite

# Smallest step that a controller may fall to, relative to the time, in units of the rounding error.
_SMALLEST_STEP = 16


class OverflowGuard(diffrax.AbstractAdaptiveStepSizeController):
    """An adaptive controller for which a step that overflows is one to be made shorter.

    From a step that is not finite diffrax's controllers compute inf / inf, and from then on a step
    size that is nan. A step that is rejected until it no longer moves the clock ends the run.
    """

    controller: diffrax.AbstractAdaptiveStepSizeController
    rtol: Any
    atol: Any
    norm: Callable[[PyTree[Any]], Any]

    def __init__(self, controller: diffrax.AbstractAdaptiveStepSizeController):
        self.controller = controller
        # Implicit solvers take their tolerances from here.
        self.rtol, self.atol, self.norm = controller.rtol, controller.atol, controller.norm

    def wrap(self, direction: Any) -> "OverflowGuard":
        """Wrap the controller."""
        wrapped = self.controller.wrap(direction)
        return OverflowGuard(cast(diffrax.AbstractAdaptiveStepSizeController, wrapped))

    def init(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        dt0: Any,
        args: Any,
        func: Callable[..., Any],
        error_order: Any,
    ) -> tuple[Any, Any]:
        """Let the controller choose the first step."""
        return self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)

    def adapt_step_size(
        self,
        t0: Any,
        t1: Any,
        y0: Any,
        y1_candidate: Any,
        args: Any,
        y_error: Any,
        error_order: Any,
        controller_state: Any,
    ) -> tuple[Any, Any, Any, Any, Any, RESULTS]:
        """Let the controller adapt, to an infinite error where the step is not finite."""
        finite = all_finite((y1_candidate, y_error))
        y1_candidate = jax.tree.map(lambda a, b: jnp.where(finite, a, b), y1_candidate, y0)
        y_error = jax.tree.map(lambda e: jnp.where(finite, e, jnp.inf), y_error)
        keep, next_t0, next_t1, made_jump, state, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
        )
        smallest = _SMALLEST_STEP * jnp.finfo(jnp.result_type(t0)).eps * jnp.abs(next_t0)
        stuck = ~keep & (next_t1 - next_t0 <= smallest)
        result = choose(jnp.asarray(stuck), RESULTS.dt_min_reached, result)
        return keep, next_t0, next_t1, made_jump, state, result


class MemoryState(eqx.Module):
    """State of `StepMemory`: the controller's own, and the step size to go on with."""

    inner: Any
    step: Float[Array, ""]


class StepMemory(diffrax.AbstractAdaptiveStepSizeController):
    """An adaptive controller that remembers its step size across the end of a segment.

    diffrax shortens the last step so that it ends on time; what the controller makes of such a
    step says nothing about the next one. The longest recent proposal is kept instead. A step that
    is rejected down to `smallest` ends the run, so that a flow that blows up does not spin.
    """

    controller: OverflowGuard
    smallest: Float[Array, ""]
    rtol: Any
    atol: Any
    norm: Callable[[PyTree[Any]], Any]

    def __init__(
        self,
        controller: diffrax.AbstractAdaptiveStepSizeController,
        smallest: Float[Array, ""],
    ):
        self.controller = OverflowGuard(controller)
        self.smallest = smallest
        # Implicit solvers take their tolerances from here.
        self.rtol, self.atol, self.norm = controller.rtol, controller.atol, controller.norm

    def wrap(self, direction: Any) -> "StepMemory":
        """Wrap the controller."""
        return StepMemory(self.controller.wrap(direction).controller, self.smallest)

    def init(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        dt0: Any,
        args: Any,
        func: Callable[..., Any],
        error_order: Any,
    ) -> tuple[Any, MemoryState]:
        """Let the controller choose the first step."""
        tnext, inner = self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)
        # An array for each Python number: the state is carried through compiled code.
        inner = jax.tree.map(jnp.asarray, inner)
        return tnext, MemoryState(inner, jnp.asarray(tnext - t0))

    def adapt_step_size(
        self,
        t0: Any,
        t1: Any,
        y0: Any,
        y1_candidate: Any,
        args: Any,
        y_error: Any,
        error_order: Any,
        controller_state: MemoryState,
    ) -> tuple[Any, Any, Any, Any, MemoryState, RESULTS]:
        """Let the controller adapt, and remember what it proposes."""
        keep, next_t0, next_t1, made_jump, inner, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state.inner
        )
        proposed = next_t1 - next_t0
        shortened = (t1 - t0) < 0.999 * controller_state.step
        step = jnp.where(keep & shortened, jnp.maximum(proposed, controller_state.step), proposed)
        stuck = ~keep & (proposed < self.smallest)
        result = choose(jnp.asarray(stuck), RESULTS.dt_min_reached, result)
        return keep, next_t0, next_t1, made_jump, MemoryState(inner, step), result
