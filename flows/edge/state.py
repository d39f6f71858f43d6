"""The state of Edge Flow: a centre, a direction and the logarithm of a length."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core.trees import Params, norm, scaled


class EdgeState(eqx.Module):
    """State of Edge Flow: the iterates are predicted at c + (-1)^t a v.

    Attributes:
        centre: c(t), parameters.
        direction: v(t), a pytree like the parameters, of length 1 up to the solver's error, which
            no quantity depends on.
        log_length: log a(t), scalar: the length itself may be below the smallest floating-point
            number, and grow again.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import EdgeFlow, GradientDescent
        >>> flow = EdgeFlow(GradientDescent(0.1))
        >>> state = flow.init(lambda w: w[0] ** 2 + 2 * w[1] ** 2, jnp.ones(2))
        >>> state.direction, round(float(jnp.exp(state.log_length)), 6)  # eta/2 times v.g = 4
        (Array([0., 1.], dtype=float64), 0.2)
        >>> state.centre
        Array([1. , 0.8], dtype=float64)
    """

    centre: Params
    direction: Params
    log_length: Float[Array, ""]

    @property
    def unit(self) -> Params:
        """v(t), divided by its length."""
        return scaled(1 / norm(self.direction), self.direction)

    @property
    def length(self) -> Float[Array, ""]:
        """a(t); zero where it is below the smallest floating-point number."""
        return jnp.exp(self.log_length)

    @property
    def half_difference(self) -> Params:
        """a(t) v(t)."""
        return scaled(self.length, self.unit)
