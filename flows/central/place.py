"""Where Central Flow is: the averaged parameters, and what else its velocity depends on."""

from collections.abc import Callable

import equinox as eqx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..core.arrays import Vector
from ..core.trees import Params
from ..optimizers.second_moment import Average


class Place(eqx.Module):
    """Where Central Flow is: what its velocity depends on.

    Attributes:
        params: The centre w.
        second_moment: nu, for an adaptive method; otherwise None.
        time: t, in steps, for an optimizer that changes with time; otherwise None.
    """

    params: Params
    second_moment: Average | None = None
    time: Float[Array, ""] | None = None

    def flat(self) -> tuple[Vector, Callable[[Vector, Float[Array, ""] | None], "Place"]]:
        """Return params and nu as one vector, params first, and the function back.

        That takes the vector and the time, None where the time is.
        """
        vector, unravel = ravel_pytree((self.params, self.second_moment))

        def place(vector: Vector, time: Float[Array, ""] | None) -> Place:
            params, second_moment = unravel(vector)
            return Place(params, second_moment, time)

        return vector, place

    def after(self, duration: Array) -> Float[Array, ""] | None:
        """Return the time after a duration; None where the time is."""
        return None if self.time is None else self.time + duration.astype(self.time.dtype)
