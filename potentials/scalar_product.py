"""A deep linear network of width one on one example."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from potentials.checks import WholeNumber, parameters
from potentials.potential import AbstractPotential


class ScalarProduct(AbstractPotential):
    """The squared error 0.5 (w_1 w_2 ... w_d - 1)^2 of parameters w with shape (depth,).

    Critical points:
    - minima: every w whose product is 1, with Hessian v v^T, v_i = 1/w_i, hence sharpness
      sum_i 1/w_i^2; the flattest are |w_i| = 1, of sharpness d;
    - saddles: every w with two or more zeros, of loss 1/2. For d = 2 it is the origin, with
      eigenvalues +-1; for d > 2 the origin's Hessian is zero.

    Gradient flow conserves each difference w_i^2 - w_j^2 (see `balance`). For d = 2 it ends at
    sharpness sqrt(4 + (x0^2 - y0^2)^2) from (x0, y0), unless at the saddle, while gradient descent
    obeys x'^2 - y'^2 = (x^2 - y^2)(1 - eta^2 (xy - 1)^2), and so ends flatter.

    Args:
        depth: number d of factors, at least 2.

    Raises:
        ValueError: if `depth` is not a whole number >= 2.

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import ScalarProduct
        >>> product = ScalarProduct(depth=3)
        >>> float(product(jnp.asarray([3.0, 1.0, 1.0])))
        2.0
        >>> product.balance(jnp.asarray([3.0, 1.0, 1.0])).tolist()
        [8.0, 0.0]
    """

    depth: int = eqx.field(static=True, default=2, converter=partial(WholeNumber(least=2), "depth"))

    def __call__(self, params: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """0.5 (w_1 ... w_d - 1)^2 for `params` w of shape (depth,)."""
        w = parameters("ScalarProduct", params, (self.depth,))
        return 0.5 * (jnp.prod(w) - 1.0) ** 2

    def init(self, key: PRNGKeyArray) -> Float[Array, " depth"]:
        """Draw entries uniform within (0.5, 1.5), away from the saddles; shape (depth,)."""
        return jax.random.uniform(key, (self.depth,), minval=0.5, maxval=1.5)

    def balance(self, params: Float[ArrayLike, "..."]) -> Float[Array, " differences"]:
        """The differences w_i^2 - w_(i+1)^2, which gradient flow conserves; shape (depth - 1,)."""
        w = parameters("ScalarProduct", params, (self.depth,))
        return w[:-1] ** 2 - w[1:] ** 2
