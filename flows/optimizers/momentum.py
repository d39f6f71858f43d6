"""Gradient descent with momentum: the heavy ball and Nesterov's method, as deep learning runs them.

Both carry m' = beta m + g with the gradient at the current iterate. The heavy ball moves by
-eta m', Nesterov's method by -eta (g + beta m'). At small steps m is g / (1 - beta), and both
follow the gradient at the rate eta / (1 - beta).
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from ..core.cost import Cost
from ..core.optimizer import AbstractGradientMethod, AbstractIncrementalOptimizer
from ..core.potential import Potential
from ..core.schedules import Rate, advanced, at, counted, counter, late, rate
from ..core.trees import Params, add_scaled, scaled
from ..core.validation import fraction


class MomentumState(eqx.Module):
    """State of an optimizer with momentum.

    Attributes:
        params: The iterate w_t.
        momentum: m_t, the discounted sum of the gradients before, loss / parameter.
        count: How many steps were taken, with a schedule; otherwise None.
    """

    params: Params
    momentum: Params
    count: Real[Array, ""] | None = None

    def moved(self, change: Params, momentum: Params) -> "MomentumState":
        """Return the state after a change of the params, with the next momentum."""
        params = jax.tree.map(jnp.add, self.params, change)
        return MomentumState(params, momentum, advanced(self.count))

    def increment(self, change: Params, momentum: Params) -> "MomentumState":
        """Return the difference of `moved` and this state."""
        change_of_momentum = jax.tree.map(jnp.subtract, momentum, self.momentum)
        return MomentumState(change, change_of_momentum, counted(self.count))


def _at_rest(params: Params, count: Real[Array, ""] | None) -> MomentumState:
    return MomentumState(params, jax.tree.map(jnp.zeros_like, params), count)


class HeavyBall(AbstractIncrementalOptimizer, AbstractGradientMethod):
    """The heavy ball, m' = beta m + g, w' = w - eta m', from m = 0.

    On a quadratic it is stable if and only if the sharpness is below 2 (1 + beta) / eta
    (arXiv 2103.00065, appendix B). It is `torch.optim.SGD` with momentum, and
    `optax.sgd(eta, beta)`.

    Attributes:
        learning_rate: eta, scalar, in parameter^2 / loss, above 0; or a function of the step, such
            as an optax schedule.
        momentum: beta, scalar, at least 0 and below 1.

    Raises:
        ValueError: If one of them is out of its range.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import HeavyBall, iterate
        >>> optimizer = HeavyBall(0.1, momentum=0.9)
        >>> round(float(optimizer.critical_sharpness), 6)
        38.0
        >>> run = iterate(optimizer, lambda w: 0.5 * jnp.sum(w**2), jnp.ones(2), steps=3)
        >>> round(float(run.params[-1][0]), 4)
        0.486
    """

    learning_rate: Rate = eqx.field(converter=partial(rate, "learning_rate"))
    momentum: Float[Array, ""] = eqx.field(converter=partial(fraction, "momentum"))

    def init(self, params: Params) -> MomentumState:
        """Return the state at `params`, at rest."""
        return _at_rest(params, counter(self))

    def step(self, state: MomentumState, potential: Potential) -> MomentumState:
        """Return the state after m' = beta m + g and w' = w - eta m'."""
        return state.moved(*self._change(state, potential))

    def increment(self, state: MomentumState, potential: Potential) -> MomentumState:
        """Return -eta m', and m' - m."""
        return state.increment(*self._change(state, potential))

    def params(self, state: MomentumState) -> Params:
        """Return the iterate."""
        return state.params

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 (1 + beta) / eta, in loss / parameter^2."""
        learning_rate = late("learning_rate", self.learning_rate)
        return 2 * (1 + self.momentum.astype(learning_rate.dtype)) / learning_rate

    @property
    def limit_rate(self) -> Float[Array, ""]:
        """The rate eta / (1 - beta)."""
        return _limit_rate(self.learning_rate, self.momentum)

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)

    def _change(self, state: MomentumState, potential: Potential) -> tuple[Params, Params]:
        gradient = jax.grad(potential)(state.params)
        momentum = add_scaled(gradient, self.momentum, state.momentum)
        return scaled(-at(self.learning_rate, state.count), momentum), momentum


class Nesterov(AbstractIncrementalOptimizer, AbstractGradientMethod):
    """Nesterov's method, m' = beta m + g, w' = w - eta (g + beta m'), with g at w, from m = 0.

    On a quadratic it is stable if and only if the sharpness is below
    2 (1 + beta) / (eta (1 + 2 beta)) (arXiv 2103.00065, appendix B). It is `torch.optim.SGD` and
    `optax.sgd` with `nesterov=True`.

    Attributes:
        learning_rate: eta, scalar, in parameter^2 / loss, above 0; or a function of the step, such
            as an optax schedule.
        momentum: beta, scalar, at least 0 and below 1.

    Raises:
        ValueError: If one of them is out of its range.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Nesterov, iterate
        >>> optimizer = Nesterov(0.1, momentum=0.5)
        >>> round(float(optimizer.critical_sharpness), 6)
        15.0
        >>> run = iterate(optimizer, lambda w: 0.5 * jnp.sum(w**2), jnp.ones(2), steps=3)
        >>> round(float(run.params[-1][0]), 4)
        0.5591
    """

    learning_rate: Rate = eqx.field(converter=partial(rate, "learning_rate"))
    momentum: Float[Array, ""] = eqx.field(converter=partial(fraction, "momentum"))

    def init(self, params: Params) -> MomentumState:
        """Return the state at `params`, at rest."""
        return _at_rest(params, counter(self))

    def step(self, state: MomentumState, potential: Potential) -> MomentumState:
        """Return the state after m' = beta m + g and w' = w - eta (g + beta m')."""
        return state.moved(*self._change(state, potential))

    def increment(self, state: MomentumState, potential: Potential) -> MomentumState:
        """Return -eta (g + beta m'), and m' - m."""
        return state.increment(*self._change(state, potential))

    def params(self, state: MomentumState) -> Params:
        """Return the iterate."""
        return state.params

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 (1 + beta) / (eta (1 + 2 beta)), in loss / parameter^2."""
        learning_rate = late("learning_rate", self.learning_rate)
        momentum = self.momentum.astype(learning_rate.dtype)
        return 2 * (1 + momentum) / (learning_rate * (1 + 2 * momentum))

    @property
    def limit_rate(self) -> Float[Array, ""]:
        """The rate eta / (1 - beta)."""
        return _limit_rate(self.learning_rate, self.momentum)

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)

    def _change(self, state: MomentumState, potential: Potential) -> tuple[Params, Params]:
        gradient = jax.grad(potential)(state.params)
        momentum = add_scaled(gradient, self.momentum, state.momentum)
        ahead = add_scaled(gradient, self.momentum, momentum)
        return scaled(-at(self.learning_rate, state.count), ahead), momentum


def _limit_rate(learning_rate: Rate, momentum: Float[Array, ""]) -> Float[Array, ""]:
    number = late("learning_rate", learning_rate)
    return number / (1 - momentum.astype(number.dtype))
