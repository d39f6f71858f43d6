"""Central Flow between the steps of its solver."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core.arrays import Vector
from .state import CentralFlowState


def cubic_move(s: Array, chord: Array, k0: Array, k1: Array) -> Array:
    """Return where a cubic is after a share `s` of a step, from its start.

    Args:
        s: 0 to 1.
        chord: Where it leads in all.
        k0: Its slope at the start, times the step's length.
        k1: At the end.
    """
    bend = (1 - 2 * s) * chord + (s - 1) * k0 + s * k1
    return s * chord + s * (s - 1) * bend


class CentralInterpolation(diffrax.AbstractLocalInterpolation):
    """Cubic (Hermite) in the parameters and nu over each part of a step, linear in all else.

    Attributes:
        t0: Where the step starts.
        t1: Where it ends.
        y0: The state at its start.
        y1: At its end.
        nodes: Params, and nu after them, where each part begins, and at the end.
        k0: How they move at the start of each part, times the part's length.
        k1: At the end of each part.
    """

    t0: Any
    t1: Any
    y0: CentralFlowState
    y1: CentralFlowState
    nodes: tuple[Float[Array, "*steps place"], ...]
    k0: tuple[Float[Array, "*steps place"], ...]
    k1: tuple[Float[Array, "*steps place"], ...]

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> CentralFlowState:
        """Return the state at `t0`, or how much it changes from there to `t1`."""
        del left
        if t1 is not None:
            return jax.tree.map(lambda a, b: b - a, self.evaluate(t0), self.evaluate(t1))
        passed = jnp.asarray((t0 - self.t0) / (self.t1 - self.t0))

        def linear(y0: Array, y1: Array) -> Array:
            return y0 + passed.astype(y0.dtype) * (y1 - y0)

        parts = len(self.k0)
        part = jnp.clip(jnp.floor(parts * passed), 0, parts - 1).astype(jnp.int32)
        share = parts * passed - part.astype(passed.dtype)

        def one_of(vectors: tuple[Vector, ...]) -> Vector:
            return vectors[0] if parts == 1 else jnp.stack(vectors)[part]

        straight = jax.tree.map(linear, self.y0, self.y1)
        start, end = one_of(self.nodes[:-1]), one_of(self.nodes[1:])
        k0, k1 = one_of(self.k0), one_of(self.k1)
        # One vector: leaf by leaf takes much longer to compile.
        found = start + cubic_move(share.astype(start.dtype), end - start, k0, k1)
        _, unravel = self.y0.place.flat()
        return straight.at(unravel(found, straight.time))
