"""Adam and its relatives: momentum, and a rate of its own for each parameter."""

import dataclasses
from functools import partial
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core.arrays import Vector
from ..core.cost import Cost
from ..core.optimizer import AbstractAdaptiveMethod
from ..core.potential import Potential
from ..core.trees import Params, add_scaled, scaled
from ..core.validation import boolean, fraction, non_negative, positive
from .adaptive import AdaptiveState, Update, start
from .second_moment import Average, SecondMoment, initial_average, unbiased

Convention = Literal["optax", "torch"]

# PyTorch's schedule of NAdam's momentum, b1 (1 - 0.96^(0.004 k) / 2).
_TORCH_DECAY, _TORCH_RATE = 0.96, 0.004


class Adam(AbstractAdaptiveMethod):
    """Adam, w' = w - eta P^-1 m', from m = 0.

    It is `torch.optim.Adam` and `optax.adam`. At its edge it does not settle on a two-cycle but
    bursts, unless b1 is small.

    Attributes:
        learning_rate: eta, scalar, in parameters, above 0.
        b1: The share of m that a step keeps, at least 0 and below 1.
        b2: The share of nu that a step keeps, at least 0 and below 1.
        eps: Added to the root of nu, in loss / parameter, at least 0.
        initial_nu: nu before the first gradient: a number, or a pytree like the parameters.
        eps_root: Added under the root, at least 0.
        bias_correction: True if nu is divided by 1 - b2^k, and m' by 1 - b1^k, after k gradients.

    Raises:
        ValueError: If an argument is out of its range; from `init` if `initial_nu` is not like nu.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Adam, iterate
        >>> optimizer = Adam(0.1)
        >>> round(float(optimizer.critical_sharpness), 6)
        380.0
        >>> run = iterate(optimizer, lambda w: 0.5 * jnp.sum(w**2), jnp.ones(2), steps=3)
        >>> round(float(run.params[-1][0]), 3)
        0.702
    """

    learning_rate: Float[Array, ""] = eqx.field(converter=partial(positive, "learning_rate"))
    b1: Float[Array, ""] = eqx.field(default=0.9, converter=partial(fraction, "b1"))
    b2: Float[Array, ""] = eqx.field(default=0.999, converter=partial(fraction, "b2"))
    eps: Float[Array, ""] = eqx.field(default=1e-8, converter=partial(non_negative, "eps"))
    initial_nu: Average = eqx.field(default=0.0, converter=initial_average)
    eps_root: Float[Array, ""] = eqx.field(
        default=0.0, converter=partial(non_negative, "eps_root"), kw_only=True
    )
    bias_correction: bool = eqx.field(
        static=True, default=True, converter=partial(boolean, "bias_correction"), kw_only=True
    )

    def init(self, params: Params) -> AdaptiveState:
        """Return the state at `params`, with m = 0.

        Raises:
            ValueError: If `initial_nu` is not like the second moment.
        """
        return start(self._average, params, self.initial_nu)

    def step(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return the state after one step."""
        update = self._update(state, potential)
        return update.moved(self._change(update), update.momentum(self.b1))

    def increment(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return -eta P^-1 m', m' - m and nu' - nu."""
        return self._change(self._update(state, potential))

    def params(self, state: AdaptiveState) -> Params:
        """Return the iterate."""
        return state.params

    def preconditioner(self, state: AdaptiveState, potential: Potential) -> Vector:
        """Return P, flat (P,)."""
        return self._update(state, potential).diagonal

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 (1 + b1) / ((1 - b1) eta), late in a run; 1 - b1^k times that after k gradients."""
        return _adam_threshold(2.0, self.b1, self.learning_rate)

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)

    def _update(self, state: AdaptiveState, potential: Potential) -> Update:
        return Update(self._average, state, jax.grad(potential)(state.params))

    def _change(self, update: Update) -> AdaptiveState:
        change = update.momentum_change(self.b1)
        direction = _adam_direction(update, self.b1)
        return update.increment(self.learning_rate, direction, change)

    @property
    def _average(self) -> SecondMoment:
        return SecondMoment(self.b2, self.eps, self.eps_root, False, self.bias_correction)


class AdamW(AbstractAdaptiveMethod):
    """Adam with decoupled weight decay, w' = w - eta (P^-1 m' + weight_decay w), from m = 0.

    It is `torch.optim.AdamW` and `optax.adamw`, whose default of `weight_decay` is 1e-4.

    Attributes:
        learning_rate: eta, scalar, in parameters, above 0.
        b1: The share of m that a step keeps, at least 0 and below 1.
        b2: The share of nu that a step keeps, at least 0 and below 1.
        eps: Added to the root of nu, in loss / parameter, at least 0.
        weight_decay: The rate of decay per unit of eta, at least 0.
        initial_nu: nu before the first gradient: a number, or a pytree like the parameters.
        eps_root: Added under the root, at least 0.
        bias_correction: True if nu is divided by 1 - b2^k, and m' by 1 - b1^k, after k gradients.

    Raises:
        ValueError: If an argument is out of its range; from `init` if `initial_nu` is not like nu.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import AdamW, iterate
        >>> optimizer = AdamW(0.1, weight_decay=0.5)
        >>> round(float(optimizer.critical_sharpness), 6)
        370.5
        >>> run = iterate(optimizer, lambda w: 0.5 * jnp.sum(w**2), jnp.ones(2), steps=3)
        >>> round(float(run.params[-1][0]), 4)
        0.575
    """

    learning_rate: Float[Array, ""] = eqx.field(converter=partial(positive, "learning_rate"))
    b1: Float[Array, ""] = eqx.field(default=0.9, converter=partial(fraction, "b1"))
    b2: Float[Array, ""] = eqx.field(default=0.999, converter=partial(fraction, "b2"))
    eps: Float[Array, ""] = eqx.field(default=1e-8, converter=partial(non_negative, "eps"))
    weight_decay: Float[Array, ""] = eqx.field(
        default=1e-2, converter=partial(non_negative, "weight_decay")
    )
    initial_nu: Average = eqx.field(default=0.0, converter=initial_average, kw_only=True)
    eps_root: Float[Array, ""] = eqx.field(
        default=0.0, converter=partial(non_negative, "eps_root"), kw_only=True
    )
    bias_correction: bool = eqx.field(
        static=True, default=True, converter=partial(boolean, "bias_correction"), kw_only=True
    )

    def init(self, params: Params) -> AdaptiveState:
        """Return the state at `params`, with m = 0.

        Raises:
            ValueError: If `initial_nu` is not like the second moment.
        """
        return start(self._average, params, self.initial_nu)

    def step(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return the state after one step."""
        update = self._update(state, potential)
        return update.moved(self._change(update), update.momentum(self.b1))

    def increment(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return -eta (P^-1 m' + weight_decay w), m' - m and nu' - nu."""
        return self._change(self._update(state, potential))

    def params(self, state: AdaptiveState) -> Params:
        """Return the iterate."""
        return state.params

    def preconditioner(self, state: AdaptiveState, potential: Potential) -> Vector:
        """Return P, flat (P,)."""
        return self._update(state, potential).diagonal

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """(2 - eta weight_decay) (1 + b1) / ((1 - b1) eta), late in a run; 0 if that is below 0."""
        shrunk = self.learning_rate * self.weight_decay.astype(self.learning_rate.dtype)
        return _adam_threshold(jnp.maximum(2 - shrunk, 0), self.b1, self.learning_rate)

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)

    def _update(self, state: AdaptiveState, potential: Potential) -> Update:
        return Update(self._average, state, jax.grad(potential)(state.params))

    def _change(self, update: Update) -> AdaptiveState:
        change = update.momentum_change(self.b1)
        direction = _adam_direction(update, self.b1)
        return update.increment(self.learning_rate, direction, change, decay=self.weight_decay)

    @property
    def _average(self) -> SecondMoment:
        return SecondMoment(self.b2, self.eps, self.eps_root, False, self.bias_correction)


class NAdam(AbstractAdaptiveMethod):
    """Adam with Nesterov's momentum, w' = w - eta P^-1 (b1 m' + (1 - b1) g), from m = 0.

    With bias correction the two terms are b1 m'/(1 - b1^(k+1)) and (1 - b1) g/(1 - b1^k), as in
    `optax.nadam`. `torch.optim.NAdam` has b1 (1 - 0.96^(0.004 k)/2) for b1 in both, and products
    of these for its powers: until k is in the thousands its threshold differs.

    Attributes:
        learning_rate: eta, scalar, in parameters, above 0.
        b1: The share of m that a step keeps, at least 0 and below 1.
        b2: The share of nu that a step keeps, at least 0 and below 1.
        eps: Added to the root of nu, in loss / parameter, at least 0.
        initial_nu: nu before the first gradient: a number, or a pytree like the parameters.
        eps_root: Added under the root, at least 0.
        bias_correction: True if nu is divided by 1 - b2^k, and m' by 1 - b1^k, after k gradients.
        convention: "optax" or "torch", whose momentum it is.

    Raises:
        ValueError: If an argument is out of its range; from `init` if `initial_nu` is not like nu.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import NAdam, iterate
        >>> optimizer = NAdam(0.1)
        >>> round(float(optimizer.critical_sharpness), 4)
        135.7143
        >>> run = iterate(optimizer, lambda w: 0.5 * jnp.sum(w**2), jnp.ones(2), steps=3)
        >>> round(float(run.params[-1][0]), 4)
        0.6406
    """

    learning_rate: Float[Array, ""] = eqx.field(converter=partial(positive, "learning_rate"))
    b1: Float[Array, ""] = eqx.field(default=0.9, converter=partial(fraction, "b1"))
    b2: Float[Array, ""] = eqx.field(default=0.999, converter=partial(fraction, "b2"))
    eps: Float[Array, ""] = eqx.field(default=1e-8, converter=partial(non_negative, "eps"))
    initial_nu: Average = eqx.field(default=0.0, converter=initial_average)
    eps_root: Float[Array, ""] = eqx.field(
        default=0.0, converter=partial(non_negative, "eps_root"), kw_only=True
    )
    bias_correction: bool = eqx.field(
        static=True, default=True, converter=partial(boolean, "bias_correction"), kw_only=True
    )
    convention: Convention = eqx.field(static=True, default="optax", kw_only=True)

    def __check_init__(self) -> None:
        if self.convention not in get_args(Convention):
            raise ValueError(f'convention must be "optax" or "torch"; got {self.convention!r}.')
        if self.convention == "torch" and not self.bias_correction:
            raise ValueError('bias_correction must be True with convention="torch"; got False.')

    def init(self, params: Params) -> AdaptiveState:
        """Return the state at `params`, with m = 0.

        Raises:
            ValueError: If `initial_nu` is not like the second moment.
        """
        state = start(self._average, params, self.initial_nu)
        if self.convention == "optax":
            return state
        product = jnp.ones((), jax.tree.leaves(params)[0].dtype)
        return dataclasses.replace(state, momentum_product=product)

    def step(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return the state after one step."""
        update = self._update(state, potential)
        return update.moved(self._change(update), update.momentum(self.b1))

    def increment(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return -eta P^-1 (b1 m' + (1 - b1) g), corrected, m' - m and nu' - nu."""
        return self._change(self._update(state, potential))

    def params(self, state: AdaptiveState) -> Params:
        """Return the iterate."""
        return state.params

    def preconditioner(self, state: AdaptiveState, potential: Potential) -> Vector:
        """Return P, flat (P,)."""
        return self._update(state, potential).diagonal

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 (1 + b1) / ((1 - b1) (1 + 2 b1) eta), late in a run."""
        late = _adam_threshold(2.0, self.b1, self.learning_rate)
        return late / (1 + 2 * self.b1.astype(late.dtype))

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)

    def _update(self, state: AdaptiveState, potential: Potential) -> Update:
        return Update(self._average, state, jax.grad(potential)(state.params))

    def _change(self, update: Update) -> AdaptiveState:
        change = update.momentum_change(self.b1)
        momentum = update.momentum(self.b1)
        b1 = self.b1.astype(jnp.result_type(*jax.tree.leaves(momentum)))
        product = None
        if not self.bias_correction:
            shares = b1, 1 - b1
        elif self.convention == "optax":
            assert update.count is not None
            shares = b1 / unbiased(b1, update.count + 1), (1 - b1) / unbiased(b1, update.count)
        else:
            before = update.state.momentum_product
            assert update.count is not None
            assert before is not None
            now, ahead = (_torch_momentum(b1, count) for count in (update.count, update.count + 1))
            product = now * before
            shares = ahead / (1 - ahead * product), (1 - now) / (1 - product)
            product = product - before
        direction = add_scaled(scaled(shares[1], update.gradient), shares[0], momentum)
        return update.increment(self.learning_rate, direction, change, product)

    @property
    def _average(self) -> SecondMoment:
        return SecondMoment(self.b2, self.eps, self.eps_root, False, self.bias_correction)


def _adam_threshold(
    factor: Float[Array, ""] | float, b1: Float[Array, ""], learning_rate: Float[Array, ""]
) -> Float[Array, ""]:
    b1 = b1.astype(learning_rate.dtype)
    return factor * (1 + b1) / ((1 - b1) * learning_rate)


def _torch_momentum(b1: Float[Array, ""], count: Array) -> Float[Array, ""]:
    """Return b1 (1 - 0.96^(0.004 k) / 2)."""
    decay = jnp.asarray(_TORCH_DECAY, b1.dtype) ** (_TORCH_RATE * count.astype(b1.dtype))
    return b1 * (1 - 0.5 * decay)


def _adam_direction(update: Update, b1: Float[Array, ""]) -> Params:
    """Return m', corrected for its start at 0 if nu is."""
    momentum = update.momentum(b1)
    if not update.average.bias_correction:
        return momentum
    assert update.count is not None
    return scaled(1 / unbiased(b1, update.count), momentum)
