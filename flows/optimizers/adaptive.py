"""The state of an adaptive method, and what a gradient does to it.

With gradient g at w, and k = 1, 2, ... counting the gradients (arXiv 2207.14484, 2410.24206),

    nu' = b2 nu + (1 - b2) g^2,    m' = b1 m + (1 - b1) g,    P = sqrt(nu' + eps_root) + eps,

    RMSProp  w' = w - eta P^-1 g
    Adam     w' = w - eta P^-1 m'
    NAdam    w' = w - eta P^-1 (b1 m' + (1 - b1) g)
    AdamW    w' = w - eta P^-1 m' - eta weight_decay w

and for one rate of all parameters |g|^2 in place of g^2. With bias correction nu' is divided by
1 - b2^k and m' by 1 - b1^k. At a fixed P each is stable on a quadratic where lambda_max(P^-1 H) is
below its `critical_sharpness`. P itself moves until it is there: that is the edge of stability of
an adaptive method.
"""

import abc
import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from ..core.arrays import Vector
from ..core.optimizer import AbstractAdaptiveMethod
from ..core.potential import Potential
from ..core.schedules import Rate
from ..core.trees import Params, is_traced, scaled
from .second_moment import Average, SecondMoment, mixed


class AdaptiveState(eqx.Module):
    """State of an adaptive method.

    Attributes:
        params: The iterate w_t.
        second_moment: nu, the average of squared gradients up to that at w_{t-1}; None where a
            flow keeps it apart.
        momentum: m, the average of those gradients; None for a method without.
        momentum_product: The product of the momenta up to now, with which PyTorch corrects NAdam's
            average; otherwise None.
        count: k, how many gradients there were, between two whole numbers in a flow; None where
            nothing depends on it.
    """

    params: Params
    second_moment: Average | None
    momentum: Params | None = None
    momentum_product: Float[Array, ""] | None = None
    count: Real[Array, ""] | None = None


class AbstractSecondMomentMethod(AbstractAdaptiveMethod):
    """An adaptive method whose preconditioner P is the root of a running average nu of g^2.

    It has an `AdaptiveState`. A flow that follows nu by itself takes the method apart: what the
    average is, and how the rest moves for a given P.

    Attributes:
        learning_rate: eta, a number or a `Schedule`.

    Example:
        >>> from flows import Adam, RMSProp
        >>> from flows.optimizers.adaptive import AbstractSecondMomentMethod
        >>> isinstance(Adam(0.1), AbstractSecondMomentMethod), RMSProp(0.1).average.shared
        (True, False)
    """

    learning_rate: eqx.AbstractVar[Rate]

    @property
    @abc.abstractmethod
    def average(self) -> SecondMoment:
        """The conventions of nu."""

    @property
    @abc.abstractmethod
    def momentum_share(self) -> Float[Array, ""] | None:
        """b1, the share of m that a step keeps; None for a method without momentum."""

    @abc.abstractmethod
    def move(self, state: AdaptiveState, gradient: Params, preconditioner: Average) -> Params:
        """Return w' - w for a given P.

        Args:
            state: Where; its nu is not used.
            gradient: g at its params.
            preconditioner: P, like nu.
        """


class AbstractAdaptiveDescent(AbstractSecondMomentMethod):
    """An adaptive method without momentum, w' = w - eta P^-1 g.

    Example:
        >>> from flows import Adam, RMSProp
        >>> from flows.optimizers.adaptive import AbstractAdaptiveDescent
        >>> isinstance(RMSProp(0.1), AbstractAdaptiveDescent)
        True
        >>> isinstance(Adam(0.1), AbstractAdaptiveDescent)
        False
    """


def check_average(method: AbstractSecondMomentMethod) -> None:
    """Check that a method averages squared gradients over steps, as a flow that follows nu needs.

    Raises:
        ValueError: If it does not; a traced b2 is not known yet.
    """
    b2 = method.average.b2
    if not is_traced(b2) and float(b2) == 0:
        raise ValueError(
            "optimizer must average squared gradients over steps, b2 > 0: the flow follows the "
            f"average in time; got {method!r}."
        )


def start(
    average: SecondMoment,
    params: Params,
    initial_nu: Average,
    *,
    momentum: bool,
    scheduled: bool,
) -> AdaptiveState:
    """Return the state of a method before its first gradient, with m = 0 if it has momentum.

    Args:
        average: The conventions of nu.
        params: w_0.
        initial_nu: nu before the first gradient.
        momentum: True if the method has momentum.
        scheduled: True if its learning rate changes with time.

    Raises:
        ValueError: If `initial_nu` is not like nu.
    """
    counted = average.bias_correction or scheduled
    return AdaptiveState(
        params,
        average.init(params, initial_nu),
        jax.tree.map(jnp.zeros_like, params) if momentum else None,
        count=jnp.zeros((), jnp.int32) if counted else None,
    )


def step(
    method: AbstractSecondMomentMethod, state: AdaptiveState, potential: Potential
) -> AdaptiveState:
    """Return the state after one step, its averages without cancellation."""
    gradient = jax.grad(potential)(state.params)
    after = jax.tree.map(jnp.add, state, _change(method, state, gradient))
    share = method.momentum_share
    return dataclasses.replace(
        after,
        second_moment=method.average.after(state.second_moment, gradient),
        momentum=None if share is None else mixed(share, state.momentum, gradient),
    )


def increment(
    method: AbstractSecondMomentMethod, state: AdaptiveState, potential: Potential
) -> AdaptiveState:
    """Return how a step changes the state."""
    return _change(method, state, jax.grad(potential)(state.params))


def preconditioner_of(
    method: AbstractSecondMomentMethod, state: AdaptiveState, potential: Potential
) -> Vector:
    """Return P of the step from a state as a flat vector."""
    gradient = jax.grad(potential)(state.params)
    after = method.average.after(state.second_moment, gradient)
    found = method.average.preconditioner(after, next_count(state))
    return method.average.diagonal(state.params, found)


def change_for(
    method: AbstractSecondMomentMethod,
    state: AdaptiveState,
    gradient: Params,
    second_moment: Average,
) -> AdaptiveState:
    """Return how a step that divides by a given nu changes params and momentum.

    Args:
        method: The method.
        state: Where; its own nu is not used, and its count is that of the gradients before.
        gradient: g at its params.
        second_moment: nu with this gradient.

    Returns:
        A change of the state with None for nu and count.
    """
    preconditioner = method.average.preconditioner(second_moment, next_count(state))
    return AdaptiveState(
        params=method.move(state, gradient, preconditioner),
        second_moment=None,
        momentum=momentum_change(method, state, gradient),
    )


def momentum_change(
    method: AbstractSecondMomentMethod, state: AdaptiveState, gradient: Params
) -> Params | None:
    """Return m' - m = (1 - b1) (g - m); None for a method without momentum."""
    share = method.momentum_share
    if share is None:
        return None
    return scaled(1 - share, jax.tree.map(jnp.subtract, gradient, state.momentum))


def next_count(state: AdaptiveState) -> Array | None:
    """Return k with the gradient at the state's params; None where nothing depends on it."""
    return None if state.count is None else state.count + 1


def _change(
    method: AbstractSecondMomentMethod, state: AdaptiveState, gradient: Params
) -> AdaptiveState:
    product = state.momentum_product
    after = method.average.after(state.second_moment, gradient)
    return dataclasses.replace(
        change_for(method, state, gradient, after),
        second_moment=method.average.change(state.second_moment, gradient),
        momentum_product=None if product is None else jnp.zeros_like(product),
        count=None if state.count is None else jnp.ones_like(state.count),
    )
