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

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from ..core.arrays import Vector
from ..core.trees import Params, add_scaled, scaled
from .second_moment import Average, SecondMoment, mixed


class AdaptiveState(eqx.Module):
    """State of an adaptive method.

    Attributes:
        params: The iterate w_t.
        second_moment: nu, the average of squared gradients up to that at w_{t-1}.
        momentum: m, the average of those gradients; None for a method without.
        momentum_product: The product of the momenta up to now, with which PyTorch corrects NAdam's
            average; otherwise None.
        count: k, how many gradients there were, between two whole numbers in a flow; None where
            nothing depends on it.
    """

    params: Params
    second_moment: Average
    momentum: Params | None = None
    momentum_product: Float[Array, ""] | None = None
    count: Real[Array, ""] | None = None


def start(
    average: SecondMoment, params: Params, initial_nu: Average, *, momentum: bool = True
) -> AdaptiveState:
    """Return the state of a method before its first gradient, with m = 0 if it has momentum.

    Raises:
        ValueError: If `initial_nu` is not like nu.
    """
    return AdaptiveState(
        params,
        average.init(params, initial_nu),
        jax.tree.map(jnp.zeros_like, params) if momentum else None,
        count=jnp.zeros((), jnp.int32) if average.bias_correction else None,
    )


class Update(eqx.Module):
    """What a gradient does to the averages of a state, and the preconditioner that it makes.

    Attributes:
        average: The conventions of nu.
        state: The state before.
        gradient: g at its params.
    """

    average: SecondMoment
    state: AdaptiveState
    gradient: Params

    @property
    def count(self) -> Array | None:
        """k, with this gradient."""
        return None if self.state.count is None else self.state.count + 1

    @property
    def preconditioner(self) -> Average:
        """P."""
        after = self.average.after(self.state.second_moment, self.gradient)
        return self.average.preconditioner(after, self.count)

    @property
    def diagonal(self) -> Vector:
        """P as a flat vector, with 1 in place of 0, where `divide` divides by 1 too."""
        diagonal = self.average.diagonal(self.state.params, self.preconditioner)
        return jnp.where(diagonal == 0, 1, diagonal)

    def momentum(self, b1: Float[Array, ""]) -> Params:
        """Return m' = b1 m + (1 - b1) g."""
        return mixed(b1, self.state.momentum, self.gradient)

    def momentum_change(self, b1: Float[Array, ""]) -> Params:
        """Return m' - m = (1 - b1) (g - m)."""
        difference = jax.tree.map(jnp.subtract, self.gradient, self.state.momentum)
        return scaled(1 - b1, difference)

    def moved(self, change: AdaptiveState, momentum: Params | None = None) -> AdaptiveState:
        """Return the state after a change, its averages as they are, without cancellation."""
        after = jax.tree.map(jnp.add, self.state, change)
        second_moment = self.average.after(self.state.second_moment, self.gradient)
        return dataclasses.replace(after, second_moment=second_moment, momentum=momentum)

    def increment(
        self,
        rate: Float[Array, ""],
        direction: Params,
        momentum: Params | None = None,
        momentum_product: Float[Array, ""] | None = None,
        decay: Float[Array, ""] | float = 0.0,
    ) -> AdaptiveState:
        """Return the change of a state whose params move by -rate (P^-1 direction + decay w)."""
        descent = self.average.divide(direction, self.preconditioner)
        descent = add_scaled(descent, decay, self.state.params)
        return AdaptiveState(
            scaled(-rate, descent),
            self.average.change(self.state.second_moment, self.gradient),
            momentum,
            momentum_product,
            None if self.state.count is None else jnp.ones_like(self.state.count),
        )
