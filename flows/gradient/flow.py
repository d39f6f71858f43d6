"""Gradient flow: the limit of small steps, and its first backward-error correction."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Real

from ..core.cost import Cost
from ..core.flow import AbstractFlow, Midpoint
from ..core.potential import Potential
from ..core.trees import Params, add_scaled, scaled
from ..core.variables import LOSS, STEPS, Variable
from ..optimizers.gradient_descent import GradientDescent


class GradientFlowState(eqx.Module):
    """State of gradient flow.

    Attributes:
        params: The parameters w(t).
    """

    params: Params


class GradientFlow(AbstractFlow):
    """Gradient flow in units of optimizer steps, dw/dt = -eta g(w) (arXiv 2103.00065).

    With `correction`, dw/dt = -eta g - (eta^2 / 2) H g, the first-order backward-error correction
    of gradient descent (arXiv 2009.11162): its solution at integer times is within O(eta^3) per
    step of the discrete map instead of O(eta^2).

    Attributes:
        optimizer: The gradient descent that is modelled.
        correction: Whether to add the backward-error term.

    Raises:
        ValueError: If `optimizer` is not a `GradientDescent`, or `correction` not a bool.
    """

    optimizer: GradientDescent
    correction: bool = eqx.field(static=True, default=False)

    midpoint: ClassVar[Midpoint] = "three_point"
    time_unit: ClassVar[str] = STEPS
    variables: ClassVar[Mapping[str, Variable]] = {
        "predicted_loss": Variable(LOSS, "loss that the flow predicts for the optimizer"),
    }

    def __init__(self, optimizer: Any, correction: Any = False):
        if not isinstance(optimizer, GradientDescent):
            raise ValueError(
                "optimizer must be a GradientDescent, whose learning rate sets the speed of "
                f"gradient flow; got {optimizer!r}."
            )
        if not isinstance(correction, bool):
            raise ValueError(f"correction must be True or False; got {correction!r}.")
        self.optimizer = optimizer
        self.correction = correction

    def init(self, potential: Potential, params: Params) -> GradientFlowState:
        """Return the state at `params`."""
        del potential
        return GradientFlowState(params)

    def vector_field(
        self, t: Real[Array, ""] | float, state: GradientFlowState, args: Potential
    ) -> GradientFlowState:
        """Return -eta g, with the correction -eta g - (eta^2 / 2) H g."""
        del t
        learning_rate = self.optimizer.learning_rate
        if not self.correction:
            return GradientFlowState(scaled(-learning_rate, jax.grad(args)(state.params)))
        gradient, hvp = jax.linearize(jax.grad(args), state.params)
        corrected = add_scaled(gradient, learning_rate / 2, hvp(gradient))
        return GradientFlowState(scaled(-learning_rate, corrected))

    def params(self, state: GradientFlowState) -> Params:
        """Return w(t)."""
        return state.params

    def observables(self, state: GradientFlowState, potential: Potential) -> dict[str, Array]:
        """Return `predicted_loss` = L(w)."""
        return {"predicted_loss": potential(state.params)}

    @property
    def cost(self) -> Cost:
        """One gradient, and one Hessian-vector product with `correction`."""
        return Cost(gradients=1, hvps=1 if self.correction else 0)
