"""How the step size adapts: through overflows, across the ends of segments, and down to a limit."""

from collections.abc import Callable
from typing import Final, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PyTree

from ..core.arrays import BoolScalarLike, RealScalarLike
from ..core.results import RESULTS, choose
from ..core.trees import all_finite

# The shortest step relative to the time that has passed, or to the length of a segment, in units
# of the rounding error: one that is shorter hardly moves the clock.
_SHORTEST: Final = 16

# A Newton correction of less than this part of the tolerance counts as none.
_NEGLIGIBLE: Final = 1e-4

Field = Callable[..., PyTree[Array]]


class NegligibleIsZero(eqx.Module):
    """A norm that is zero below 1e-4, for the corrections of an implicit solver's root finder.

    diffrax's and optimistix's root finders judge by the ratio of two corrections. At rest both are
    rounding errors, whose ratio is any number, and above 2 they call it a divergence (diffrax
    0.7.2, optimistix 0.1.0). The controller then makes the step shorter where it should grow. A
    correction of zero ends their iteration as converged.

    Attributes:
        norm: The norm of corrections relative to the tolerance.
    """

    norm: Callable[[PyTree[Array]], RealScalarLike] = eqx.field(static=True)

    def __call__(self, corrections: PyTree[Array]) -> Array:
        """Return the norm, or zero."""
        size = jnp.asarray(self.norm(corrections))
        return jnp.where(size < _NEGLIGIBLE, jnp.zeros_like(size), size)


def smallest_step(dtype: DTypeLike, duration: float | int) -> Float[Array, ""]:
    """Return the step size below which a segment of this duration makes no progress."""
    return jnp.asarray(_SHORTEST * jnp.finfo(dtype).eps * max(duration, 1.0), dtype)


class GuardedState(eqx.Module):
    """State of `GuardedController`.

    Attributes:
        inner: The state of the controller within.
        step: The step size to go on with.
    """

    inner: PyTree
    step: Float[Array, ""]


class GuardedController(diffrax.AbstractAdaptiveStepSizeController):
    """An adaptive controller of diffrax that outlives overflows, segments and blow-ups.

    - A step that is not finite is rejected and made shorter, as one with an infinite error:
      diffrax's controllers compute inf / inf there, and from then on a step size that is nan
      (diffrax 0.7.2).
    - diffrax shortens the last step of a solve so that it ends on time. What the controller makes
      of such a step says nothing about the next one: the longest recent proposal is remembered.
    - A step that is rejected until its length is at most `smallest`, or no longer moves the clock,
      ends the run with `dt_min_reached`.
    - The norm that an implicit solver takes from it is `NegligibleIsZero`.

    Attributes:
        controller: The controller that adapts the steps.
        smallest: The length of a rejected step that ends the run; 0 leaves it to the clock.
    """

    controller: diffrax.AbstractAdaptiveStepSizeController
    smallest: Float[Array, ""]
    rtol: RealScalarLike
    atol: RealScalarLike
    norm: Callable[[PyTree[Array]], RealScalarLike]

    def __init__(
        self,
        controller: diffrax.AbstractAdaptiveStepSizeController,
        smallest: RealScalarLike = 0.0,
    ):
        self.controller = controller
        self.smallest = jnp.asarray(smallest)
        # Implicit solvers take their tolerances from here.
        self.rtol, self.atol = controller.rtol, controller.atol
        self.norm = NegligibleIsZero(controller.norm)

    def wrap(self, direction: int | np.ndarray | Array) -> "GuardedController":
        """Return the controller for a solve in this direction of time, 1 or -1."""
        wrapped = self.controller.wrap(direction)
        adaptive = cast(diffrax.AbstractAdaptiveStepSizeController, wrapped)
        return GuardedController(adaptive, self.smallest)

    def init(
        self,
        terms: diffrax.AbstractTerm,
        t0: RealScalarLike,
        t1: RealScalarLike,
        y0: PyTree[Array],
        dt0: RealScalarLike | None,
        args: PyTree,
        func: Field,
        error_order: RealScalarLike | None,
    ) -> tuple[RealScalarLike, GuardedState]:
        """Let the controller choose the first step."""
        tnext, inner = self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)
        # An array for each Python number: the state is carried through compiled code.
        inner = jax.tree.map(jnp.asarray, inner)
        return tnext, GuardedState(inner, jnp.asarray(tnext - t0))

    def adapt_step_size(
        self,
        t0: RealScalarLike,
        t1: RealScalarLike,
        y0: PyTree[Array],
        y1_candidate: PyTree[Array],
        args: PyTree,
        y_error: PyTree[Array],
        error_order: RealScalarLike,
        controller_state: GuardedState,
    ) -> tuple[
        BoolScalarLike, RealScalarLike, RealScalarLike, BoolScalarLike, GuardedState, RESULTS
    ]:
        """Let the controller adapt, and say when it cannot any more."""
        # A step that is not finite counts as one to the same place with an infinite error.
        finite = all_finite((y1_candidate, y_error))
        y1_candidate = jax.tree.map(lambda a, b: jnp.where(finite, a, b), y1_candidate, y0)
        y_error = jax.tree.map(lambda e: jnp.where(finite, e, jnp.inf), y_error)
        keep, next_t0, next_t1, made_jump, inner, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state.inner
        )
        # An accepted step that is shorter than planned was the last of a solve.
        proposed = next_t1 - next_t0
        shortened = (t1 - t0) < 0.999 * controller_state.step
        step = jnp.where(keep & shortened, jnp.maximum(proposed, controller_state.step), proposed)
        # The one rule for a step size that is stuck, in segments and in single solves.
        shortest = _SHORTEST * jnp.finfo(jnp.result_type(t0)).eps * jnp.abs(next_t0)
        stuck = ~keep & (proposed <= jnp.maximum(shortest, self.smallest.astype(shortest.dtype)))
        result = choose(jnp.asarray(stuck), RESULTS.dt_min_reached, result)
        return keep, next_t0, next_t1, made_jump, GuardedState(inner, step), result
