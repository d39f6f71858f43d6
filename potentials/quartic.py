"""A well that flattens away from its minimum, on which gradient descent settles on a two-cycle."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from potentials.checks import parameters, positive
from potentials.potential import AbstractPotential


class Quartic(AbstractPotential):
    """The scalar well (S/2) w^2 - (Q/4) w^4 of parameters w with shape (1,).

    Critical points: the minimum w = 0 with curvature S, and the maxima w = +-sqrt(S/Q) with
    curvature -2S, beyond which the potential is unbounded below. The curvature is S - 3 Q w^2.

    Gradient descent (learning rate eta) with S > 2/eta leaves the minimum for the two-cycle +-a,
    a^2 = S/Q - 2/(eta Q), whose mean is the minimum. It is stable for 2 < eta S < 3; at 3 two
    asymmetric two-cycles are born, period doubling follows, and iterates stay bounded up to
    eta S = 4.

    Args:
        curvature: S, curvature at the minimum, positive.
        quartic: Q, positive.

    Raises:
        ValueError: if `curvature` or `quartic` is not a positive number.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from potentials import Quartic
        >>> well = Quartic(curvature=2.5, quartic=1.0)
        >>> float(well(jnp.ones(1)))
        1.0
        >>> jax.hessian(well)(jnp.zeros(1)).tolist()
        [[2.5]]
    """

    curvature: Float[Array, ""] = eqx.field(converter=partial(positive, "curvature"))
    quartic: Float[Array, ""] = eqx.field(converter=partial(positive, "quartic"))

    def __call__(self, params: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """(S/2) w^2 - (Q/4) w^4 for `params` w of shape (1,)."""
        w = parameters("Quartic", params, (1,))[0]
        curvature, quartic = self.curvature.astype(w.dtype), self.quartic.astype(w.dtype)
        return 0.5 * curvature * w**2 - 0.25 * quartic * w**4

    def init(self, key: PRNGKeyArray) -> Float[Array, " 1"]:
        """Draw w uniform within a tenth of the well's half-width sqrt(S/Q); shape (1,)."""
        half_width = jnp.sqrt(self.curvature / self.quartic)
        return 0.1 * half_width * jax.random.uniform(key, (1,), minval=-1.0, maxval=1.0)
