"""Adam and its relatives: momentum, and a rate of its own for each parameter."""

import dataclasses
from functools import partial
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core.arrays import RealScalarLike, Vector
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.schedules import Rate, at, is_scheduled, late, rate
from ..core.trees import Params, add_scaled, scaled
from ..core.validation import boolean, fraction, non_negative
from .adaptive import (
    AbstractSecondMomentMethod,
    AdaptiveState,
    increment,
    next_count,
    preconditioner_of,
    start,
    step,
)
from .second_moment import Average, SecondMoment, initial_average, mixed, unbiased

Convention = Literal["optax", "torch"]

# PyTorch's schedule of NAdam's momentum, b1 (1 - 0.96^(0.004 k) / 2).
_TORCH_DECAY, _TORCH_RATE = 0.96, 0.004


class Adam(AbstractSecondMomentMethod):
    """Adam, w' = w - eta P^-1 m', from m = 0.

    It is `torch.optim.Adam` and `optax.adam`. At its edge it does not settle on a two-cycle but
    bursts, unless b1 is small.

    Attributes:
        learning_rate: eta, in parameters, above 0; a number, or a function of the step.
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

    learning_rate: Rate = eqx.field(converter=partial(rate, "learning_rate"))
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
        return start(
            self.average,
            params,
            self.initial_nu,
            momentum=True,
            scheduled=is_scheduled(self),
        )

    def step(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return the state after one step."""
        return step(self, state, potential)

    def increment(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return -eta P^-1 m', m' - m and nu' - nu."""
        return increment(self, state, potential)

    def params(self, state: AdaptiveState) -> Params:
        """Return the iterate."""
        return state.params

    def preconditioner(self, state: AdaptiveState, potential: Potential) -> Vector:
        """Return P, flat (P,)."""
        return preconditioner_of(self, state, potential)

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 (1 + b1) / ((1 - b1) eta), late in a run; 1 - b1^k times that after k gradients."""
        return _adam_threshold(2.0, self.b1, late("learning_rate", self.learning_rate))

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)

    def move(self, state: AdaptiveState, gradient: Params, preconditioner: Average) -> Params:
        """Return -eta P^-1 m' for a given P."""
        rate = at(self.learning_rate, state.count)
        direction = _adam_direction(self, state, gradient)
        return scaled(-rate, self.average.divide(direction, preconditioner))

    @property
    def average(self) -> SecondMoment:
        """The conventions of nu."""
        return SecondMoment(self.b2, self.eps, self.eps_root, False, self.bias_correction)

    @property
    def momentum_share(self) -> Float[Array, ""]:
        """b1."""
        return self.b1


class AdamW(AbstractSecondMomentMethod):
    """Adam with decoupled weight decay, w' = w - eta (P^-1 m' + weight_decay w), from m = 0.

    It is `torch.optim.AdamW` and `optax.adamw`, whose default of `weight_decay` is 1e-4.

    Attributes:
        learning_rate: eta, in parameters, above 0; a number, or a function of the step.
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

    learning_rate: Rate = eqx.field(converter=partial(rate, "learning_rate"))
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
        return start(
            self.average,
            params,
            self.initial_nu,
            momentum=True,
            scheduled=is_scheduled(self),
        )

    def step(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return the state after one step."""
        return step(self, state, potential)

    def increment(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return -eta (P^-1 m' + weight_decay w), m' - m and nu' - nu."""
        return increment(self, state, potential)

    def params(self, state: AdaptiveState) -> Params:
        """Return the iterate."""
        return state.params

    def preconditioner(self, state: AdaptiveState, potential: Potential) -> Vector:
        """Return P, flat (P,)."""
        return preconditioner_of(self, state, potential)

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """(2 - eta weight_decay) (1 + b1) / ((1 - b1) eta), late in a run; 0 if that is below 0."""
        rate = late("learning_rate", self.learning_rate)
        shrunk = rate * self.weight_decay.astype(rate.dtype)
        return _adam_threshold(jnp.maximum(2 - shrunk, 0), self.b1, rate)

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)

    def move(self, state: AdaptiveState, gradient: Params, preconditioner: Average) -> Params:
        """Return -eta (P^-1 m' + weight_decay w) for a given P."""
        rate = at(self.learning_rate, state.count)
        direction = _adam_direction(self, state, gradient)
        descent = self.average.divide(direction, preconditioner)
        return scaled(-rate, add_scaled(descent, self.weight_decay, state.params))

    @property
    def average(self) -> SecondMoment:
        """The conventions of nu."""
        return SecondMoment(self.b2, self.eps, self.eps_root, False, self.bias_correction)

    @property
    def momentum_share(self) -> Float[Array, ""]:
        """b1."""
        return self.b1


class NAdam(AbstractSecondMomentMethod):
    """Adam with Nesterov's momentum, w' = w - eta P^-1 (b1 m' + (1 - b1) g), from m = 0.

    With bias correction the two terms are b1 m'/(1 - b1^(k+1)) and (1 - b1) g/(1 - b1^k), as in
    `optax.nadam`. `torch.optim.NAdam` has b1 (1 - 0.96^(0.004 k)/2) for b1 in both, and products
    of these for its powers: until k is in the thousands its threshold differs.

    Attributes:
        learning_rate: eta, in parameters, above 0; a number, or a function of the step.
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

    learning_rate: Rate = eqx.field(converter=partial(rate, "learning_rate"))
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
        state = start(
            self.average,
            params,
            self.initial_nu,
            momentum=True,
            scheduled=is_scheduled(self),
        )
        if self.convention == "optax":
            return state
        product = jnp.ones((), jax.tree.leaves(params)[0].dtype)
        return dataclasses.replace(state, momentum_product=product)

    def step(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return the state after one step."""
        after = step(self, state, potential)
        if state.momentum_product is None:
            return after
        return dataclasses.replace(after, momentum_product=self._next_product(state))

    def increment(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return -eta P^-1 (b1 m' + (1 - b1) g), corrected, m' - m and nu' - nu."""
        change = increment(self, state, potential)
        if state.momentum_product is None:
            return change
        return dataclasses.replace(
            change, momentum_product=self._next_product(state) - state.momentum_product
        )

    def params(self, state: AdaptiveState) -> Params:
        """Return the iterate."""
        return state.params

    def preconditioner(self, state: AdaptiveState, potential: Potential) -> Vector:
        """Return P, flat (P,)."""
        return preconditioner_of(self, state, potential)

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 (1 + b1) / ((1 - b1) (1 + 2 b1) eta), late in a run."""
        adam = _adam_threshold(2.0, self.b1, late("learning_rate", self.learning_rate))
        return adam / (1 + 2 * self.b1.astype(adam.dtype))

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)

    def move(self, state: AdaptiveState, gradient: Params, preconditioner: Average) -> Params:
        """Return -eta P^-1 (b1 m' + (1 - b1) g), corrected, for a given P."""
        momentum = mixed(self.b1, state.momentum, gradient)
        b1 = self.b1.astype(jnp.result_type(*jax.tree.leaves(momentum)))
        if not self.bias_correction:
            shares = b1, 1 - b1
        elif state.momentum_product is None:
            count = next_count(state)
            assert count is not None
            shares = b1 / unbiased(b1, count + 1), (1 - b1) / unbiased(b1, count)
        else:
            now, ahead = (_torch_momentum(b1, state, further) for further in (1, 2))
            product = now * state.momentum_product
            shares = ahead / (1 - ahead * product), (1 - now) / (1 - product)
        direction = add_scaled(scaled(shares[1], gradient), shares[0], momentum)
        rate = at(self.learning_rate, state.count)
        return scaled(-rate, self.average.divide(direction, preconditioner))

    @property
    def average(self) -> SecondMoment:
        """The conventions of nu."""
        return SecondMoment(self.b2, self.eps, self.eps_root, False, self.bias_correction)

    @property
    def momentum_share(self) -> Float[Array, ""]:
        """b1."""
        return self.b1

    def _next_product(self, state: AdaptiveState) -> Array:
        assert state.momentum_product is not None
        b1 = self.b1.astype(state.momentum_product.dtype)
        return _torch_momentum(b1, state, 1) * state.momentum_product


def threshold_after(method: AbstractSecondMomentMethod, count: RealScalarLike) -> Float[Array, ""]:
    """Return the critical sharpness in the step with the k-th gradient, k = 1, 2, ...

    Bias corrections make the weights of a step sum to 1 from the first one on, for which they
    enlarge it. The update -eta P^-1 (q m' + r g) of this step, at a fixed P, has its threshold at
    2 / (eta (q (1 - b1) / (1 + b1) + r)): for Adam, where q = 1 / (1 - b1^k) and r = 0, that is
    1 - b1^k times the one late in a run, which the method's own is.

    Args:
        method: The method, with a constant learning rate.
        count: k.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Adam
        >>> from flows.optimizers.adam import threshold_after
        >>> [round(float(threshold_after(Adam(1.0), k)), 2) for k in (1, 2, 6)]
        [3.8, 7.22, 17.81]
    """
    late_in_a_run, share = method.critical_sharpness, method.momentum_share
    if share is None or not method.average.bias_correction:
        return late_in_a_run
    b1 = share.astype(late_in_a_run.dtype)
    k = jnp.asarray(count, b1.dtype)
    if not isinstance(method, NAdam):
        return late_in_a_run * unbiased(b1, k)
    if method.convention == "torch":
        return late_in_a_run
    # q = b1 / (1 - b1^(k+1)) and r = (1 - b1) / (1 - b1^k), for b1 and 1 - b1 late in a run.
    gradient = (1 + b1) / unbiased(b1, k)
    return late_in_a_run * (1 + 2 * b1) / (b1 / unbiased(b1, k + 1) + gradient)


def _adam_threshold(
    factor: Float[Array, ""] | float, b1: Float[Array, ""], learning_rate: Float[Array, ""]
) -> Float[Array, ""]:
    b1 = b1.astype(learning_rate.dtype)
    return factor * (1 + b1) / ((1 - b1) * learning_rate)


def _torch_momentum(b1: Float[Array, ""], state: AdaptiveState, further: int) -> Array:
    """Return b1 (1 - 0.96^(0.004 k) / 2), some gradients further than the state."""
    assert state.count is not None
    decay = jnp.asarray(_TORCH_DECAY, b1.dtype) ** (
        _TORCH_RATE * (state.count + further).astype(b1.dtype)
    )
    return b1 * (1 - 0.5 * decay)


def _adam_direction(method: Adam | AdamW, state: AdaptiveState, gradient: Params) -> Params:
    """Return m', corrected for its start at 0 if nu is."""
    momentum = mixed(method.b1, state.momentum, gradient)
    if not method.bias_correction:
        return momentum
    count = next_count(state)
    assert count is not None
    return scaled(1 / unbiased(method.b1, count), momentum)
