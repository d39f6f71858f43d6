"""Valleys that sharpen along their floor: the smallest test bed of self-stabilisation.

Berthier, "Perturbative analysis of central flows" (September 2026). A valley's floor descends at
a slow rate of order epsilon towards higher sharpness, so that gradient descent crosses 2/eta and
then hovers there, at every epsilon > 0.
"""

import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from potentials.checks import finite, non_negative, parameters
from potentials.potential import AbstractPotential


class SharpValley(AbstractPotential):
    """The valley 0.5 (y + zeta x) x^2 - epsilon (x + y) of parameters (x, y).

    The Hessian is [[y + 3 zeta x, x], [x, 0]], so the sharpness is (s + sqrt(s^2 + 4 x^2))/2 with
    s = y + 3 zeta x: on the floor x = 0 it is y itself (for y >= 0). Along y the descent goes at
    the rate epsilon: progressive sharpening.

    Critical points: for epsilon > 0 the two saddles x = +-sqrt(2 epsilon),
    y = (1 - 3 zeta) epsilon / x, whose Hessians have determinant -2 epsilon; the potential is
    unbounded below. For epsilon = 0 every (0, y).

    Gradient descent with learning rate eta has a two-cycle of mean
    y = 2/eta + (3/2) epsilon eta zeta (3 zeta - 1) + O(epsilon^2) and x about +-sqrt(2 epsilon),
    which attracts if and only if zeta > sqrt(2)/3.

    Args:
        epsilon: slope of the valley's floor, not negative.
        zeta: asymmetry of the valley's walls.

    Raises:
        ValueError: if `epsilon` is negative or one of the two is not finite.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from potentials import SharpValley
        >>> valley = SharpValley(epsilon=0.01)
        >>> on_the_floor = jnp.asarray([0.0, 6.0])
        >>> jax.grad(valley)(on_the_floor).tolist()
        [-0.01, -0.01]
        >>> float(jnp.linalg.eigvalsh(jax.hessian(valley)(on_the_floor))[-1])
        6.0
    """

    epsilon: Float[Array, ""] = eqx.field(converter=partial(non_negative, "epsilon"))
    zeta: Float[Array, ""] = eqx.field(default=1.0, converter=partial(finite, "zeta"))

    def __call__(self, params: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """0.5 (y + zeta x) x^2 - epsilon (x + y) for `params` (x, y) of shape (2,)."""
        x, y = parameters("SharpValley", params, (2,))
        epsilon, zeta = self.epsilon.astype(x.dtype), self.zeta.astype(x.dtype)
        return 0.5 * (y + zeta * x) * x**2 - epsilon * (x + y)

    def init(self, key: PRNGKeyArray) -> Float[Array, " 2"]:
        """Draw x normal of variance epsilon, y = 6 (just below 2/eta for eta = 0.3); shape (2,)."""
        x = jnp.sqrt(self.epsilon) * jax.random.normal(key)
        return jnp.stack([x, jnp.full_like(x, 6.0)])


class SharpValley2(AbstractPotential):
    """The valley of codimension two, with two sharpening directions, of parameters (x, y).

    With x in R^2, y in R^3 and M(y) = [[y1, y3/sqrt(2)], [y3/sqrt(2), y2]]:
    0.5 x^T M(y) x + 0.5 (x1^3 + x2^3) - epsilon (x1 + 2 y1 + y2 + y3), params (x1, x2, y1, y2, y3).

    On the floor x = 0 the Hessian's eigenvalues are those of M(y),
    (y1 + y2)/2 +- sqrt((y1 - y2)^2/4 + y3^2/2), and three zeros. For epsilon > 0 there is no
    critical point: it would need x1^2 = 4 epsilon, x2^2 = 2 epsilon and x1 x2 = sqrt(2) epsilon.
    For epsilon = 0 all of the floor is critical.

    With eta = 0.3, epsilon = 0.01 and the start (0, 0, 4, 5, 0.2), the central flow's first
    eigenvalue reaches 2/eta near step 310 and the second near step 1101; both stay there.

    Args:
        epsilon: slope of the valley's floor, not negative.

    Raises:
        ValueError: if `epsilon` is negative or not finite.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from potentials import SharpValley2
        >>> valley = SharpValley2(epsilon=0.01)
        >>> on_the_floor = jnp.asarray([0.0, 0.0, 4.0, 5.0, 0.0])
        >>> jnp.linalg.eigvalsh(jax.hessian(valley)(on_the_floor)).round(3).tolist()
        [0.0, 0.0, 0.0, 4.0, 5.0]
    """

    epsilon: Float[Array, ""] = eqx.field(converter=partial(non_negative, "epsilon"))

    def __call__(self, params: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """The loss for `params` (x1, x2, y1, y2, y3) of shape (5,)."""
        x1, x2, y1, y2, y3 = parameters("SharpValley2", params, (5,))
        # x^T M(y) x written out: the off-diagonal y3/sqrt(2) counts twice.
        curved = 0.5 * (y1 * x1**2 + y2 * x2**2 + math.sqrt(2.0) * y3 * x1 * x2)
        slope = x1 + 2.0 * y1 + y2 + y3
        return curved + 0.5 * (x1**3 + x2**3) - self.epsilon.astype(x1.dtype) * slope

    def init(self, key: PRNGKeyArray) -> Float[Array, " 5"]:
        """Draw x normal of variance epsilon, y = (4, 5, 0.2); shape (5,)."""
        x = jnp.sqrt(self.epsilon) * jax.random.normal(key, (2,))
        return jnp.concatenate([x, jnp.array([4.0, 5.0, 0.2], x.dtype)])
