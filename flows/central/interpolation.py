"""Central Flow between the steps of its solver."""

import dataclasses

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..core.arrays import ScalarLike
from ..core.trees import Params
from .state import CentralFlowState


def cubic_move(s: Array, chord: Array, k0: Array, k1: Array) -> Array:
    """Return how far a cubic has moved after a fraction `s` of a step.

    Args:
        s: 0 at the start of the step, 1 at its end.
        chord: The move over the whole step.
        k0: The slope at the start, times the step's length.
        k1: The slope at the end, times the step's length.
    """
    bend = (1 - 2 * s) * chord + (s - 1) * k0 + s * k1
    return s * chord + s * (s - 1) * bend


class CentralInterpolation(diffrax.AbstractLocalInterpolation):
    """Cubic (Hermite) in the parameters, linear in the rest of the state.

    Attributes:
        t0: The time at which the step starts.
        t1: The time at which it ends.
        y0: The state at its start.
        y1: The state at its end.
        k0: Velocity of the parameters at its start, times its length.
        k1: Velocity of the parameters at its end, times its length.
    """

    t0: ScalarLike
    t1: ScalarLike
    y0: CentralFlowState
    y1: CentralFlowState
    k0: Params
    k1: Params

    def evaluate(
        self, t0: ScalarLike, t1: ScalarLike | None = None, left: bool = True
    ) -> CentralFlowState:
        """Return the state at `t0`, or how much it changes from there to `t1`."""
        del left
        if t1 is not None:
            return jax.tree.map(lambda a, b: b - a, self.evaluate(t0), self.evaluate(t1))
        start = jnp.asarray(self.t0)
        passed = (jnp.asarray(t0) - start) / (jnp.asarray(self.t1) - start)

        def linear(y0: Array, y1: Array) -> Array:
            return y0 + passed.astype(y0.dtype) * (y1 - y0)

        def cubic(y0: Array, y1: Array, k0: Array, k1: Array) -> Array:
            return y0 + cubic_move(passed.astype(y0.dtype), y1 - y0, k0, k1)

        params = jax.tree.map(cubic, self.y0.params, self.y1.params, self.k0, self.k1)
        return dataclasses.replace(jax.tree.map(linear, self.y0, self.y1), params=params)
