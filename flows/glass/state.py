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
    """

    params: Params
    ahead: Params | None
    momentum: Params | None
    second_moment: Params
    curvature: Params
    density: Params
    probes: Probes | None
    count: Int[Array, ""] | None = None
