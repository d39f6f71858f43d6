"""The state of ball-centre dynamics."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core.trees import Params


class BallCentreState(eqx.Module):
    """State of ball-centre dynamics: where the ball is, and what the search for contacts needs.

    Attributes:
        centre: The parameters x of the ball's centre.
        height: The height y of the ball's centre, height scale times loss.
        contact: The last known contact, in parameters: where the next search starts.
        detail: The last projection's residual, or the radius that would have been admissible.
        fault: Which of the flow's `failures` happened at the start, from 1; 0 for none, -1 before
            the first projection.

    Example:
        A ball of radius 1/2 that touches the bottom of a bowl has its centre right above:

        >>> import jax.numpy as jnp
        >>> from flows import BallCentreFlow, RollingBall
        >>> flow = BallCentreFlow(RollingBall(0.1, radius=0.5))
        >>> state = flow.init(lambda w: 0.5 * jnp.sum(w**2), jnp.zeros(3))
        >>> print(state.centre, state.height)
        [0. 0. 0.] 0.5
    """

    centre: Params
    height: Float[Array, ""]
    contact: Params
    detail: Float[Array, ""]
    fault: Float[Array, ""]

    def moving(
        self, centre: Params, height: Float[Array, ""], contact: Params
    ) -> "BallCentreState":
        """Return a rate of change of this state, in which `detail` and `fault` do not move."""
        zero = jnp.zeros_like(height)
        return BallCentreState(centre, height, contact, zero, zero)
