"""Two minima with a barrier between them."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from potentials.checks import Vector, parameters, positive
from potentials.potential import AbstractPotential


class DoubleWell(AbstractPotential):
    """The double well h ((x/c)^2 - 1)^2 + 0.5 sum_i k_i y_i^2 of parameters (x, y_1, ..., y_m).

    Critical points (for k_i > 0), all with y = 0:
    - minima x = +-c of loss 0, with Hessian diag(8 h / c^2, k): sharpness max(8 h / c^2, max k);
    - the saddle x = 0 of loss h, a maximum along x, with Hessian diag(-4 h / c^2, k).
    The curvature along x is (4 h / c^2) (3 (x/c)^2 - 1), negative for |x| < c / sqrt(3).

    Args:
        height: h, the barrier between the minima, positive.
        half_width: c, half of the distance between the minima, positive.
        transverse: curvatures k_1..k_m across the line of the minima, positive, shape (m,).
            Empty by default: one parameter.

    Raises:
        ValueError: if an argument is not finite and positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import DoubleWell
        >>> wells = DoubleWell(height=0.5, transverse=[2.0])
        >>> [float(wells(jnp.asarray([x, 0.0]))) for x in (-1.0, 0.0, 1.0)]
        [0.0, 0.5, 0.0]
    """

    height: Float[Array, ""] = eqx.field(default=1.0, converter=partial(positive, "height"))
    half_width: Float[Array, ""] = eqx.field(default=1.0, converter=partial(positive, "half_width"))
    transverse: Float[Array, " m"] = eqx.field(
        default=(), converter=partial(Vector(empty=True, above=0.0), "transverse")
    )

    def __call__(self, params: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """The loss at `params` (x, y_1, ..., y_m) of shape (1 + m,)."""
        w = parameters("DoubleWell", params, (1 + self.transverse.size,))
        scaled = w[0] / self.half_width.astype(w.dtype)
        well = self.height.astype(w.dtype) * (scaled**2 - 1.0) ** 2
        return well + 0.5 * jnp.sum(self.transverse.astype(w.dtype) * w[1:] ** 2)

    def init(self, key: PRNGKeyArray) -> Float[Array, " parameters"]:
        """Draw x uniform within (-2c, 2c), y standard normal; shape (1 + m,)."""
        x_key, y_key = jax.random.split(key)
        x = 2.0 * self.half_width * jax.random.uniform(x_key, (1,), minval=-1.0, maxval=1.0)
        return jnp.concatenate([x, jax.random.normal(y_key, self.transverse.shape)])
