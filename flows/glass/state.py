"""The state of Alice, and of its flow."""

import equinox as eqx
from jaxtyping import Array, Int

from ..core.trees import Params
from .density import Probes


class AliceState(eqx.Module):
    """What Alice knows between two steps; each part is a pytree like the parameters.

    Attributes:
        params: mu, the centre.
        ahead: nu, where the next gradient is taken; None in a flow.
        momentum: m, the average of gradients at the look-ahead; None in a flow without momentum.
        second_moment: s, the average of their squares.
        curvature: The average of |h| over probes, or of h^2.
        density: rho, the average density of gradient glass.
        probes: Directions of signs, with an axis in front; None if each sampling draws new ones.
        count: How many steps were taken; None in a flow.

    Example:
        The first step takes the gradient at the start, and looks ten times as far ahead as it goes:

        >>> import jax.numpy as jnp
        >>> from flows import Alice
        >>> optimizer = Alice(0.1, glass=False, clip="none")
        >>> start = optimizer.init(jnp.asarray([1.0]))
        >>> state = optimizer.step(start, lambda w: jnp.sum(w**2))
        >>> [round(float(x[0]), 6) for x in (state.momentum, state.params, state.ahead)]
        [2.0, 0.9, 0.0]
    """

    params: Params
    ahead: Params | None
    momentum: Params | None
    second_moment: Params
    curvature: Params
    density: Params
    probes: Probes | None
    count: Int[Array, ""] | None = None
