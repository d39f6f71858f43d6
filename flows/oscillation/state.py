"""The two forms of the parity flow's state: with the half-difference itself, or its polar form.

The second form can follow an oscillation far below the smallest floating-point number, and grow it
again from the rounding errors of the optimizer.
"""

from typing import TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..core.trees import scaled

PhasePoint: TypeAlias = PyTree[Array]
"""State of an optimizer of any class, with None in place of its step counters."""


class ParityState(eqx.Module):
    """State of the parity flow.

    Attributes:
        centre: c(t), a state of the optimizer without its step counters.
        half_difference: d(t), of the same structure. The optimizer is at c + (-1)^t d.
        time: t, in steps: what a map that counts its steps does depends on it.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import HeavyBall, ParityFlow
        >>> flow = ParityFlow(HeavyBall(0.1, 0.9), burn=7)
        >>> state = flow.init(lambda w: 0.5 * jnp.sum(w**2), jnp.ones(3))
        >>> state.half_difference.params.shape, state.half_difference.momentum.shape
        ((3,), (3,))
    """

    centre: PhasePoint
    half_difference: PhasePoint
    time: Float[Array, ""]


class PolarParityState(eqx.Module):
    """State of the parity flow with a noise source: d = e^l n.

    Attributes:
        centre: c(t), a state of the optimizer without its step counters.
        direction: n(t), of the same structure and of length 1.
        log_length: l(t), the logarithm of |d|.
        time: t, in steps.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, ParityFlow
        >>> flow = ParityFlow(GradientDescent(1.9), burn=7, noise="float64")
        >>> state = flow.init(lambda w: 0.5 * jnp.sum(w**2), jnp.ones(1))
        >>> round(float(jnp.exp(state.log_length)), 5), round(0.9**7, 5)  # w_t = (-0.9)^t
        (0.4783, 0.4783)
    """

    centre: PhasePoint
    direction: PhasePoint
    log_length: Float[Array, ""]
    time: Float[Array, ""]

    @property
    def half_difference(self) -> PhasePoint:
        """d(t); zero where it is below the smallest floating-point number."""
        return scaled(jnp.exp(self.log_length), self.direction)
