"""Gradient descent, the simplest of the maps that the flows model."""

from functools import partial

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ..core.cost import Cost
from ..core.optimizer import AbstractDescent, AbstractGradientMethod
from ..core.potential import Potential
from ..core.trees import Params, add_scaled, scaled
from ..core.validation import positive


class GradientDescentState(eqx.Module):
    """State of gradient descent.

    Attributes:
        params: The iterate w_t.
    """

    params: Params


class GradientDescent(AbstractDescent, AbstractGradientMethod):
    """Gradient descent, w' = w - eta grad L(w).

    On a quadratic it is stable if and only if the sharpness is below 2/eta, the critical sharpness
    (arXiv 2103.00065).

    Attributes:
        learning_rate: eta, scalar, in parameter^2 / loss, above 0. It may be traced: `jax.vmap`
            and `jax.grad` work over it.

    Raises:
        ValueError: If `learning_rate` is not one finite number above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, iterate
        >>> optimizer = GradientDescent(0.1)
        >>> float(optimizer.critical_sharpness)
        20.0
        >>> run = iterate(optimizer, lambda w: 0.5 * jnp.sum(w**2), jnp.ones(2), steps=3)
        >>> round(float(run.params[-1][0]), 3)
        0.729
    """

    learning_rate: Float[Array, ""] = eqx.field(converter=partial(positive, "learning_rate"))

    def init(self, params: Params) -> GradientDescentState:
        """Return the state at `params`."""
        return GradientDescentState(params)

    def step(self, state: GradientDescentState, potential: Potential) -> GradientDescentState:
        """Return the state after w' = w - eta grad L(w)."""
        gradient = jax.grad(potential)(state.params)
        return GradientDescentState(add_scaled(state.params, -self.learning_rate, gradient))

    def increment(self, state: GradientDescentState, potential: Potential) -> GradientDescentState:
        """Return -eta grad L(w)."""
        return GradientDescentState(scaled(-self.learning_rate, jax.grad(potential)(state.params)))

    def params(self, state: GradientDescentState) -> Params:
        """Return the iterate."""
        return state.params

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 / eta, in loss / parameter^2."""
        return 2 / self.learning_rate

    @property
    def limit_rate(self) -> Float[Array, ""]:
        """The learning rate eta."""
        return self.learning_rate

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)
