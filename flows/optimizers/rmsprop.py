"""RMSProp, with a rate of its own for each parameter or one rate of all."""

from functools import partial

import equinox as eqx
from jaxtyping import Array, Float

from ..core.arrays import Vector
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.schedules import Rate, at, is_scheduled, late, rate
from ..core.trees import Params, scaled
from ..core.validation import boolean, fraction, non_negative
from .adaptive import (
    AbstractAdaptiveDescent,
    AdaptiveState,
    increment,
    preconditioner_of,
    start,
    step,
)
from .second_moment import Average, SecondMoment, initial_average


class ScalarRMSProp(AbstractAdaptiveDescent):
    """RMSProp with one rate of all parameters, w' = w - eta g / (sqrt(nu') + eps).

    nu' = b2 nu + (1 - b2) |g|^2: normalised gradient descent with a memory, the simplest method
    that adapts its rate to its oscillation (arXiv 2410.24206, section 4).

    Attributes:
        learning_rate: eta, in parameters, above 0; a number, or a function of the step.
        b2: The share of nu that a step keeps, at least 0 and below 1.
        eps: Added to the root of nu, in loss / parameter, at least 0.
        initial_nu: nu before the first gradient: a number.
        eps_root: Added under the root, at least 0.
        bias_correction: True if nu is divided by 1 - b2^k after k gradients.

    Raises:
        ValueError: If an argument is out of its range; from `init` if `initial_nu` is not like nu.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import ScalarRMSProp, iterate
        >>> optimizer = ScalarRMSProp(0.1, b2=0.9, initial_nu=2.0)
        >>> run = iterate(optimizer, lambda w: 0.5 * jnp.sum(w**2), jnp.ones(2), steps=3)
        >>> round(float(run.params[-1][0]), 4)
        0.8009
    """

    learning_rate: Rate = eqx.field(converter=partial(rate, "learning_rate"))
    b2: Float[Array, ""] = eqx.field(default=0.99, converter=partial(fraction, "b2"))
    eps: Float[Array, ""] = eqx.field(default=1e-8, converter=partial(non_negative, "eps"))
    initial_nu: Average = eqx.field(default=0.0, converter=initial_average)
    eps_root: Float[Array, ""] = eqx.field(
        default=0.0, converter=partial(non_negative, "eps_root"), kw_only=True
    )
    bias_correction: bool = eqx.field(
        static=True, default=False, converter=partial(boolean, "bias_correction"), kw_only=True
    )

    def init(self, params: Params) -> AdaptiveState:
        """Return the state at `params`.

        Raises:
            ValueError: If `initial_nu` is not like the second moment.
        """
        return start(
            self.average,
            params,
            self.initial_nu,
            momentum=False,
            scheduled=is_scheduled(self),
        )

    def step(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return the state after one step."""
        return step(self, state, potential)

    def increment(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return -eta P^-1 g, and nu' - nu."""
        return increment(self, state, potential)

    def params(self, state: AdaptiveState) -> Params:
        """Return the iterate."""
        return state.params

    def preconditioner(self, state: AdaptiveState, potential: Potential) -> Vector:
        """Return P, flat (P,)."""
        return preconditioner_of(self, state, potential)

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 / eta."""
        return 2 / late("learning_rate", self.learning_rate)

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)

    def move(self, state: AdaptiveState, gradient: Params, preconditioner: Average) -> Params:
        """Return -eta P^-1 g for a given P."""
        rate = at(self.learning_rate, state.count)
        return scaled(-rate, self.average.divide(gradient, preconditioner))

    @property
    def average(self) -> SecondMoment:
        """The conventions of nu."""
        return SecondMoment(self.b2, self.eps, self.eps_root, True, self.bias_correction)

    @property
    def momentum_share(self) -> None:
        """None: it has no momentum."""
        return None


class RMSProp(AbstractAdaptiveDescent):
    """RMSProp, w' = w - eta P^-1 g.

    It is `torch.optim.RMSprop` as it stands, and `optax.rmsprop` with `eps_in_sqrt=False`;
    `optax.rmsprop(eta)` alone is `RMSProp(eta, 0.9, eps=0.0, eps_root=1e-8)`. From nu = 0 without
    bias correction the first step moves each parameter by eta/sqrt(1 - b2).

    Attributes:
        learning_rate: eta, in parameters, above 0; a number, or a function of the step.
        b2: The share of nu that a step keeps, at least 0 and below 1.
        eps: Added to the root of nu, in loss / parameter, at least 0.
        initial_nu: nu before the first gradient: a number, or a pytree like the parameters.
        eps_root: Added under the root, at least 0.
        bias_correction: True if nu is divided by 1 - b2^k after k gradients.

    Raises:
        ValueError: If an argument is out of its range; from `init` if `initial_nu` is not like nu.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import RMSProp, iterate
        >>> optimizer = RMSProp(0.01, b2=0.9, initial_nu=1.0)
        >>> round(float(optimizer.critical_sharpness), 6)
        200.0
        >>> run = iterate(optimizer, lambda w: 0.5 * jnp.sum(w**2), jnp.ones(2), steps=3)
        >>> round(float(run.params[-1][0]), 4)
        0.9703
    """

    learning_rate: Rate = eqx.field(converter=partial(rate, "learning_rate"))
    b2: Float[Array, ""] = eqx.field(default=0.99, converter=partial(fraction, "b2"))
    eps: Float[Array, ""] = eqx.field(default=1e-8, converter=partial(non_negative, "eps"))
    initial_nu: Average = eqx.field(default=0.0, converter=initial_average)
    eps_root: Float[Array, ""] = eqx.field(
        default=0.0, converter=partial(non_negative, "eps_root"), kw_only=True
    )
    bias_correction: bool = eqx.field(
        static=True, default=False, converter=partial(boolean, "bias_correction"), kw_only=True
    )

    def init(self, params: Params) -> AdaptiveState:
        """Return the state at `params`.

        Raises:
            ValueError: If `initial_nu` is not like the second moment.
        """
        return start(
            self.average,
            params,
            self.initial_nu,
            momentum=False,
            scheduled=is_scheduled(self),
        )

    def step(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return the state after one step."""
        return step(self, state, potential)

    def increment(self, state: AdaptiveState, potential: Potential) -> AdaptiveState:
        """Return -eta P^-1 g, and nu' - nu."""
        return increment(self, state, potential)

    def params(self, state: AdaptiveState) -> Params:
        """Return the iterate."""
        return state.params

    def preconditioner(self, state: AdaptiveState, potential: Potential) -> Vector:
        """Return P, flat (P,)."""
        return preconditioner_of(self, state, potential)

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 / eta."""
        return 2 / late("learning_rate", self.learning_rate)

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)

    def move(self, state: AdaptiveState, gradient: Params, preconditioner: Average) -> Params:
        """Return -eta P^-1 g for a given P."""
        rate = at(self.learning_rate, state.count)
        return scaled(-rate, self.average.divide(gradient, preconditioner))

    @property
    def average(self) -> SecondMoment:
        """The conventions of nu."""
        return SecondMoment(self.b2, self.eps, self.eps_root, False, self.bias_correction)

    @property
    def momentum_share(self) -> None:
        """None: it has no momentum."""
        return None
