"""Stable flow: an adaptive method's limit of small steps, as if it never oscillated."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Real

from ..core.arrays import Vector
from ..core.cost import Cost
from ..core.flow import AbstractPreconditionedFlow
from ..core.optimizer import AbstractOptimizer
from ..core.potential import Potential
from ..core.trees import Params, scaled
from ..core.variables import LOSS, Variable
from ..optimizers.adam import NAdam
from ..optimizers.adaptive import (
    AbstractSecondMomentMethod,
    AdaptiveState,
    change_for,
    check_average,
    next_count,
)


def _method(
    optimizer: AbstractOptimizer | optax.GradientTransformation,
) -> AbstractSecondMomentMethod:
    if not isinstance(optimizer, AbstractSecondMomentMethod):
        raise ValueError(
            "optimizer must be ScalarRMSProp, RMSProp, Adam, AdamW or NAdam; the small-step limit "
            f"of another one is GradientFlow. Got {optimizer!r}."
        )
    if isinstance(optimizer, NAdam) and optimizer.convention != "optax":
        raise ValueError(
            'optimizer must have convention="optax": PyTorch\'s NAdam keeps a product of its '
            f"momenta, which changes by itself; got {optimizer!r}."
        )
    check_average(optimizer)
    return optimizer


class StableFlow(AbstractPreconditionedFlow):
    """Stable flow of an adaptive method: its Central Flow without oscillation (arXiv 2410.24206).

    With F the step of w, and of the momentum m, for a given average nu of squared gradients,

        d(w, m)/dt = F(w, m, nu),    dnu/dt = rho (g^2 - nu),    rho = (1 - b2) / b2,

    or |g|^2 where all parameters share one nu. It is the baseline that other flows are compared
    with: the preconditioned sharpness rises through the edge of stability without bound, and the
    flow leaves the optimizer there. From then on it is ever stiffer: a run much beyond takes many
    steps of the solver. At time 0 nu is what the first step divides by.

    Attributes:
        optimizer: `ScalarRMSProp`, `RMSProp`, `Adam`, `AdamW` or `NAdam`.

    Raises:
        ValueError: If it is another optimizer, or has PyTorch's momentum; from `init` if its
            `initial_nu` is not like its second moment.

    Example:
        On |w|^2/2 the unit steps of RMSProp, which divides by |w| where it forgets fast:

        >>> import jax.numpy as jnp
        >>> from flows import RMSProp, StableFlow, simulate
        >>> flow = StableFlow(RMSProp(0.01, b2=0.5, eps=0.0, initial_nu=1.0))
        >>> run = simulate(flow, lambda w: 0.5 * jnp.sum(w**2), jnp.ones(2), steps=50)
        >>> round(float(run.params[-1][0]), 2)
        0.51
    """

    optimizer: AbstractSecondMomentMethod = eqx.field(converter=_method)

    variables: ClassVar[Mapping[str, Variable]] = {
        "predicted_loss": Variable(LOSS, "loss that the flow predicts for the optimizer"),
    }

    def counted_init(self, potential: Potential, params: Params) -> tuple[AdaptiveState, Cost]:
        """Return `init(potential, params)` and what it costs: the first gradient, for its nu."""
        return self.init(potential, params), Cost(gradients=1)

    def init(self, potential: Potential, params: Params) -> AdaptiveState:
        """Return the state at `params`: that of the optimizer, with nu after its first gradient.

        Raises:
            ValueError: If `initial_nu` is not like the second moment.
        """
        state = self.optimizer.init(params)
        after = self.optimizer.average.after(state.second_moment, jax.grad(potential)(state.params))
        dtype = jax.tree.leaves(params)[0].dtype
        count = None if state.count is None else state.count.astype(dtype)
        return dataclasses.replace(state, second_moment=after, count=count)

    def vector_field(
        self, t: Real[Array, ""] | float, state: AdaptiveState, args: Potential
    ) -> AdaptiveState:
        """Return F and dnu/dt."""
        del t
        gradient, average = jax.grad(args)(state.params), self.optimizer.average
        lag = (1 - average.b2) / average.b2
        pull = jax.tree.map(jnp.subtract, average.source(gradient), state.second_moment)
        return dataclasses.replace(
            change_for(self.optimizer, state, gradient, state.second_moment),
            second_moment=scaled(lag, pull),
            count=None if state.count is None else jnp.ones_like(state.count),
        )

    def params(self, state: AdaptiveState) -> Params:
        """Return w(t)."""
        return state.params

    def preconditioner(self, state: AdaptiveState, potential: Potential) -> Vector:
        """Return the diagonal of P, (P,)."""
        del potential
        average = self.optimizer.average
        found = average.preconditioner(state.second_moment, next_count(state))
        return average.diagonal(state.params, found)

    def observables(
        self, state: AdaptiveState, potential: Potential
    ) -> dict[str, Float[Array, ""]]:
        """Return `predicted_loss` = L(w)."""
        return {"predicted_loss": potential(state.params)}

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)
