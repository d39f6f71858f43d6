"""Sharpness-aware flow: SAM's limit of small steps, which slides where the gradient vanishes."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PyTree, Real

from ..core.cost import Cost
from ..core.flow import AbstractFlow, Integrator
from ..core.optimizer import AbstractDescent, AbstractOptimizer
from ..core.potential import Potential
from ..core.schedules import Rate, Schedule
from ..core.trees import Params, is_traced
from ..core.validation import boolean, positive
from ..core.variables import LOSS, Variable
from ..optimizers.gradient_descent import GradientDescentState
from ..optimizers.optax_optimizer import as_descent
from ..optimizers.sam import SAM
from ..solvers.chebyshev import RungeKuttaChebyshev
from .flow import GradientFlow

# s of the flow in units of rho / eta. There the flow's fastest rate at rest is some 100 times that
# of gradient flow at the edge.
_SMOOTHING = 0.01

# Enough for steps of several units of time at that rate.
_MOST_STAGES = 128


def _sam(optimizer: AbstractOptimizer) -> SAM:
    descent = as_descent(optimizer.optimizer) if isinstance(optimizer, SAM) else None
    if not isinstance(optimizer, SAM) or descent is None:
        raise ValueError(
            "optimizer must be SAM of GradientDescent, or of another AbstractDescent; for SAM of "
            "another optimizer, with a smoothing above 0, there is GradientFlow. Got "
            f"{optimizer!r}."
        )
    return eqx.tree_at(lambda sam: sam.optimizer, optimizer, descent)


def _smoothing(value: object) -> Float[Array, ""] | None:
    return None if value is None else positive("smoothing", value)


class SharpnessAwareFlow(AbstractFlow):
    """The flow of sharpness-aware minimisation, in units of its steps (arXiv 2010.01412).

        dw/dt = -eta G(w),    G(w) = g(w + rho g / sqrt(|g|^2 + s^2)),

    exact in rho and of order 1 in eta; with `correction` it is of order 2,

        dw/dt = -eta G - (eta^2 / 2) DG G,

    one Jacobian product, that is a Hessian-vector product at w and one at the perturbed point.
    Where eta is a schedule or there is weight decay, it is as for `GradientFlow`. To first order in
    rho it descends L + rho |g| (arXiv 2301.08203).

    SAM never rests, but without smoothing its flow comes to a minimum in finite time: on
    (lambda/2) |w|^2 after ln(1 + |w_0| / rho) / (eta lambda). There its field jumps and the flow
    slides. With s > 0 it rests instead, and rates are at most eta lambda (1 + rho lambda / s). A
    solver for mildly stiff flows takes steps of any length there, where others stall. How small s
    is does not matter for the path while |g| is much larger; SAM's own oscillation, of which the
    flow knows nothing, has |g| = eta rho lambda^2 / (2 - eta lambda).

    Attributes:
        optimizer: A `SAM` of `GradientDescent`, or of another `AbstractDescent`.
        correction: True to add the backward-error term.
        smoothing: s of the flow, above 0, in loss / parameter. None for that of `optimizer`, or
            0.01 rho / eta if that is 0.

    Raises:
        ValueError: If an argument is of the wrong kind; or if `smoothing` is None where it cannot
            be chosen, since the optimizer has none and its learning rate is a schedule.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import SAM, GradientDescent, SharpnessAwareFlow, simulate
        >>> flow = SharpnessAwareFlow(SAM(GradientDescent(0.1), radius=0.2))
        >>> bowl = lambda w: 0.5 * jnp.sum(w**2)
        >>> run = simulate(flow, bowl, jnp.ones(1), steps=100, save_every=10)
        >>> [round(float(w[0]), 3) for w in run.params[:3]]  # Arrives at t = ln(6)/0.1 = 17.9.
        [1.0, 0.242, 0.001]
    """

    optimizer: SAM = eqx.field(converter=_sam)
    correction: bool = eqx.field(
        static=True, default=False, converter=partial(boolean, "correction")
    )
    smoothing: Float[Array, ""] | None = eqx.field(default=None, converter=_smoothing)

    variables: ClassVar[Mapping[str, Variable]] = {
        "predicted_loss": Variable(LOSS, "loss that the flow predicts for the optimizer"),
    }

    def __check_init__(self) -> None:
        own = self.optimizer
        chosen = self.smoothing is None and own.normalised
        lacks = not is_traced(own.smoothing) and not bool(own.smoothing > 0)
        if chosen and lacks and isinstance(self._learning_rate, Schedule):
            raise ValueError(
                "smoothing must be given where the learning rate is a schedule; or give it to SAM."
            )

    @property
    def limit(self) -> GradientFlow:
        """The same flow, without a solver of its own: of SAM with the smoothing of the flow."""
        own = self.optimizer
        if not own.normalised:
            return GradientFlow(own, self.correction)
        smoothing = self.smoothing
        if smoothing is None:
            eta, smoothing = self._learning_rate, own.smoothing
            if not isinstance(eta, Schedule):
                smoothing = jnp.where(smoothing > 0, smoothing, _SMOOTHING * own.radius / eta)
        smooth = eqx.tree_at(lambda sam: sam.smoothing, own, smoothing)
        return GradientFlow(smooth, self.correction)

    def init(self, potential: Potential, params: Params) -> PyTree[Array]:
        """Return the state at `params`, where the optimizer starts.

        Raises:
            ValueError: If the potential has no second derivative in forward mode.
        """
        return self.limit.init(potential, params)

    def vector_field(
        self, t: Real[Array, ""] | float, state: GradientDescentState, args: Potential
    ) -> PyTree[Array]:
        """Return -eta G, with the correction -(eta^2 / 2) DG G."""
        return self.limit.vector_field(t, state, args)

    def params(self, state: GradientDescentState) -> Params:
        """Return w(t)."""
        return state.params

    def observables(
        self, state: GradientDescentState, potential: Potential
    ) -> dict[str, Float[Array, ""]]:
        """Return `predicted_loss` = L(w)."""
        return {"predicted_loss": potential(state.params)}

    @property
    def cost(self) -> Cost:
        """Two gradients, and with `correction` as many Hessian-vector products."""
        return self.limit.cost

    def integrator(self, dtype: DTypeLike) -> Integrator:
        """Return Runge-Kutta-Chebyshev, with as many stages as the fastest rate needs."""
        del dtype
        # A step of the optimizer is some ten of a solver of order two that holds these.
        controller = diffrax.PIDController(rtol=1e-4, atol=1e-6)
        return Integrator(RungeKuttaChebyshev(None, _MOST_STAGES), controller)

    @property
    def _learning_rate(self) -> Rate:
        descent = self.optimizer.optimizer
        assert isinstance(descent, AbstractDescent)
        return descent.learning_rate
