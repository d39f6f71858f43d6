"""Gradient flow: an optimizer's limit of small steps, and its first backward-error correction."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final, TypeAlias

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, PyTree, Real

from ..core.cost import Cost
from ..core.flow import AbstractFlow, Integrator
from ..core.optimizer import AbstractGradientMethod, AbstractOptimizer, objective
from ..core.potential import Potential
from ..core.schedules import fixed_at
from ..core.trees import Params, add_scaled, scaled
from ..core.validation import boolean
from ..core.variables import LOSS, Variable
from ..optimizers.optax_optimizer import as_optimizer
from ..optimizers.phase_space import check_phase_space, increments_in_time, moving
from ..solvers.chebyshev import RungeKuttaChebyshev

# A step of a hundred optimizer steps at three times the threshold takes 32.
_MOST_STAGES: Final = 60


class GradientFlowState(eqx.Module):
    """State of gradient flow.

    Attributes:
        params: The parameters w(t).
    """

    params: Params


PhasePoint: TypeAlias = PyTree[Array]
"""State of an optimizer of any class, with None in place of its step counters."""


class GradientFlow(AbstractFlow):
    """Gradient flow of any smooth optimizer, in units of its steps (arXiv 2103.00065).

    An optimizer that follows the gradient at small steps (`AbstractGradientMethod`) is modelled by

        dw/dt = -r g(w),

    with r = eta for gradient descent and eta / (1 - beta) for the heavy ball and Nesterov's method;
    r(t) where eta is a schedule, and with weight decay lambda the gradient is g + lambda w. The
    state is a `GradientFlowState`. Another optimizer z' = z + F(z, t), of whatever state z, is
    modelled by its phase-space flow dz/dt = F(z, t). The state is then the optimizer's own, with
    None in place of its step counters, which are t steps ahead of where they start.

    With `correction` the flow is, for every optimizer,

        dz/dt = F - (DF F + dF/dt) / 2,

    the first backward-error correction of the discrete map. For gradient descent it is
    dw/dt = -eta g - (eta^2 / 2) H g (arXiv 2009.11162). With momentum, m stays in the state: a
    corrected equation for w only would have coefficients of the order of eta^2 / (1 - beta)^3 and
    start elsewhere than the optimizer, and it would be wrong wherever momentum oscillates.

    At a fixed number eta * steps the distance to the optimizer falls as eta, and with `correction`
    as eta^2. (It stays of order eta, with a small factor, where the state begins with a transient
    in which the map is not linear, as that of Adam.)

    Attributes:
        optimizer: The optimizer that is modelled.
        correction: True to add the backward-error term.

    Raises:
        ValueError: If an argument is of the wrong kind; from `init`, if the optimizer's map is not
            smooth, or its state neither of floats nor of counters that advance by one a step.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flows import GradientDescent, GradientFlow, simulate
        >>> bowl = lambda w: 0.5 * jnp.sum(w**2)
        >>> run = simulate(GradientFlow(GradientDescent(0.1)), bowl, jnp.ones(2), steps=10)
        >>> round(float(run.params[-1][0]), 4)  # exp(-1)
        0.3679
        >>> flow = GradientFlow(optax.sgd(0.1, momentum=0.5), correction=True)
        >>> run = simulate(flow, bowl, jnp.ones(2), steps=10)
        >>> round(float(run.params[-1][0]), 3)
        0.073
    """

    optimizer: AbstractOptimizer = eqx.field(converter=as_optimizer)
    correction: bool = eqx.field(
        static=True, default=False, converter=partial(boolean, "correction")
    )

    variables: ClassVar[Mapping[str, Variable]] = {
        "predicted_loss": Variable(LOSS, "loss that the flow predicts for the optimizer"),
    }

    def init(self, potential: Potential, params: Params) -> GradientFlowState | PhasePoint:
        """Return the state at `params`, which is that of an optimizer that starts there.

        Raises:
            ValueError: If the optimizer has no phase-space flow; the message says why.
        """
        if self._on_params:
            return GradientFlowState(params)
        check_phase_space(self.optimizer, potential, params, counters=True)
        return moving(self.optimizer.init(params))

    def vector_field(
        self,
        t: Real[Array, ""] | float,
        state: GradientFlowState | PhasePoint,
        args: Potential,
    ) -> GradientFlowState | PhasePoint:
        """Return -r g, or F, with the correction F - (DF F + dF/dt) / 2."""
        method = self.optimizer
        if isinstance(method, AbstractGradientMethod) and self._on_params:
            gradient = jax.grad(objective(method, args))(state.params)
            return GradientFlowState(scaled(-fixed_at(method, t).limit_rate, gradient))
        t = jnp.asarray(t, jax.tree.leaves(state)[0].dtype)
        increment = increments_in_time(self.optimizer, args)
        if not self.correction:
            return increment(t, state)
        move, derivative = jax.linearize(increment, t, state)
        return add_scaled(move, -0.5, derivative(jnp.ones_like(t), move))

    def params(self, state: GradientFlowState | PhasePoint) -> Params:
        """Return w(t)."""
        return state.params if self._on_params else self.optimizer.params(state)

    def observables(
        self, state: GradientFlowState | PhasePoint, potential: Potential
    ) -> dict[str, Array]:
        """Return `predicted_loss` = L(w)."""
        return {"predicted_loss": potential(self.params(state))}

    def economical(self, dtype: DTypeLike) -> Integrator | None:
        """Return Runge-Kutta-Chebyshev at 1e-4 relative, where the flow is one of the parameters.

        The rates of decay of a gradient flow are real and, at the edge of stability, about -2 per
        step: Tsit5 is held to steps of about one optimizer step by its stability at any tolerance.
        """
        del dtype
        if not self._on_params:
            return None
        controller = diffrax.PIDController(rtol=1e-4, atol=1e-6)
        return Integrator(RungeKuttaChebyshev(None, _MOST_STAGES), controller)

    @property
    def cost(self) -> Cost:
        """What F costs, and with `correction` as many Hessian-vector products as gradients."""
        if self._on_params:
            return Cost(gradients=1)
        gradients = self.optimizer.cost.gradients
        return Cost(gradients=gradients, hvps=gradients if self.correction else 0)

    @property
    def _on_params(self) -> bool:
        """True for the flow of the parameters at the limit rate; False for that on phase space."""
        return isinstance(self.optimizer, AbstractGradientMethod) and not self.correction
