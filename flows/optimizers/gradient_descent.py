"""Gradient descent, the simplest of the maps that the flows model."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from ..core.cost import Cost
from ..core.optimizer import AbstractDescent, AbstractGradientMethod
from ..core.potential import Potential
from ..core.schedules import Rate, advanced, at, counted, counter, late, rate
from ..core.trees import Params, add_scaled, is_traced, scaled
from ..core.validation import non_negative


def _decay(value: object) -> Float[Array, ""] | None:
    """Convert a rate of decay; None for zero, so that no step has to multiply by it."""
    if value is None:
        return None
    decay = non_negative("weight_decay", value)
    return decay if is_traced(decay) or float(decay) else None


class GradientDescentState(eqx.Module):
    """State of gradient descent.

    Attributes:
        params: The iterate w_t.
        count: How many steps were taken, with a schedule; otherwise None.
    """

    params: Params
    count: Real[Array, ""] | None = None


class GradientDescent(AbstractDescent, AbstractGradientMethod):
    """Gradient descent, w' = w - eta (grad L(w) + lambda w), by default without the decay lambda.

    On a quadratic it is stable if and only if the sharpness is below 2/eta, the critical sharpness
    (arXiv 2103.00065). Weight decay makes it gradient descent on L + lambda |w|^2 / 2, so that the
    critical sharpness of L is 2/eta - lambda, and 0 where eta lambda is 2 or more: the decay alone
    makes it unstable then, whatever the curvature.

    Attributes:
        learning_rate: eta, scalar, in parameter^2 / loss, above 0. It may be traced: `jax.vmap`
            and `jax.grad` work over it. Or a function of the step, such as an optax schedule; step
            t is taken with eta(t), from t = 0.
        weight_decay: lambda, scalar, at least 0, in loss / parameter^2; None if it is zero.

    Raises:
        ValueError: If `learning_rate` is neither one finite number above 0 nor a schedule, or
            `weight_decay` is not one finite number of at least 0.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flows import GradientDescent, iterate
        >>> optimizer, bowl = GradientDescent(0.1), lambda w: 0.5 * jnp.sum(w**2)
        >>> float(optimizer.critical_sharpness)
        20.0
        >>> run = iterate(optimizer, bowl, jnp.ones(2), steps=3)
        >>> round(float(run.params[-1][0]), 3)
        0.729
        >>> float(GradientDescent(0.1, weight_decay=0.5).critical_sharpness)
        19.5
        >>> warmup = GradientDescent(optax.linear_schedule(0.0, 0.2, transition_steps=2))
        >>> run = iterate(warmup, bowl, jnp.ones(2), steps=3)
        >>> [round(float(w[0]), 3) for w in run.params]
        [1.0, 1.0, 0.9, 0.72]
    """

    learning_rate: Rate = eqx.field(converter=partial(rate, "learning_rate"))
    weight_decay: Float[Array, ""] | None = eqx.field(default=0.0, converter=_decay)

    def init(self, params: Params) -> GradientDescentState:
        """Return the state at `params`."""
        return GradientDescentState(params, counter(self))

    def step(self, state: GradientDescentState, potential: Potential) -> GradientDescentState:
        """Return the state after w' = w - eta (grad L(w) + lambda w)."""
        change = self._change(state, potential)
        return GradientDescentState(
            jax.tree.map(jnp.add, state.params, change), advanced(state.count)
        )

    def increment(self, state: GradientDescentState, potential: Potential) -> GradientDescentState:
        """Return -eta (grad L(w) + lambda w)."""
        return GradientDescentState(self._change(state, potential), counted(state.count))

    def params(self, state: GradientDescentState) -> Params:
        """Return the iterate."""
        return state.params

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 / eta - lambda, in loss / parameter^2; 0 if the decay alone is unstable."""
        critical = 2 / late("learning_rate", self.learning_rate)
        if self.weight_decay is None:
            return critical
        return jnp.maximum(critical - self.weight_decay.astype(critical.dtype), 0)

    @property
    def limit_rate(self) -> Float[Array, ""]:
        """The learning rate eta."""
        return late("learning_rate", self.learning_rate)

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)

    def _change(self, state: GradientDescentState, potential: Potential) -> Params:
        gradient = jax.grad(potential)(state.params)
        if self.weight_decay is not None:
            gradient = add_scaled(gradient, self.weight_decay, state.params)
        return scaled(-at(self.learning_rate, state.count), gradient)
