"""The optimizer's critical sharpness along a run, where a schedule or the gradient moves it."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from ..core.cost import Cost
from ..core.optimizer import AbstractLocalThreshold, AbstractOptimizer
from ..core.potential import Potential
from ..core.schedules import fixed_at
from ..core.trees import Params
from ..core.validation import non_negative_integer, positive_integer
from ..core.variables import SHARPNESS, Variable
from ..optimizers.optax_optimizer import as_optimizer
from ..optimizers.stability import threshold_at
from .base import AbstractMeasurement, Measured

THRESHOLD: Final = {
    "critical_sharpness": Variable(SHARPNESS, "sharpness at which the optimizer turns unstable"),
}


class Threshold(AbstractMeasurement):
    """The sharpness at which an optimizer turns unstable, at each saved step of its run.

    It varies where the optimizer has a schedule: at step t it is the critical sharpness of
    `fixed_at(optimizer, t)`, which is infinite where the learning rate is zero. For `SAM` it is the
    one at the gradient of the saved parameters, at the cost of that gradient. For an adaptive
    method it is one of P^-1 H, the preconditioned sharpness; the bias correction of Adam's momentum
    lowers it in its first steps, by 1 - b1^(t+1). (That of PyTorch's NAdam is left out.) An optax
    transformation has one number, that late in a run, whatever its schedule.

    Attributes:
        optimizer: The optimizer that runs, or that the flow models.
        save_every: The interval of the saves in steps, as `iterate` is given it.
        first_step: The step of the first save, `flow.first_step` along a flow.

    Raises:
        ValueError: If an argument is of the wrong kind; when it is measured, if the optimizer has
            no critical sharpness.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flows import GradientDescent, Threshold, iterate
        >>> optimizer = GradientDescent(optax.linear_schedule(0.1, 0.4, transition_steps=3))
        >>> bowl = lambda w: 0.5 * jnp.sum(w**2)
        >>> run = iterate(optimizer, bowl, jnp.ones(2), 3, measurements=Threshold(optimizer))
        >>> [round(float(x), 3) for x in run.observables["critical_sharpness"]]
        [20.0, 10.0, 6.667, 5.0]
    """

    structural_fields: ClassVar[tuple[str, ...]] = ("save_every", "first_step")

    optimizer: AbstractOptimizer = eqx.field(converter=as_optimizer)
    save_every: int = eqx.field(
        static=True, default=1, converter=partial(positive_integer, "save_every")
    )
    first_step: int = eqx.field(
        static=True, default=0, converter=partial(non_negative_integer, "first_step")
    )

    @property
    def variables(self) -> Mapping[str, Variable]:
        """`critical_sharpness`."""
        return THRESHOLD

    def init(self, potential: Potential, params: Params) -> None:
        """Return None: nothing is carried from one save to the next."""
        del potential, params

    def measure(
        self, potential: Potential, params: Params, state: None, index: Int[Array, ""]
    ) -> Measured:
        """Return `critical_sharpness` at the step of the `index`-th save, or at `params`."""
        # As a float: a run may be longer than 32 bits count.
        step = self.first_step + index.astype(jnp.result_type(float)) * self.save_every
        fixed = fixed_at(self.optimizer, step)
        if isinstance(fixed, AbstractLocalThreshold):
            threshold, cost = fixed.critical_sharpness_at(params, potential), Cost(gradients=1)
        else:
            threshold, cost = threshold_at(self.optimizer, step), Cost()
        return {"critical_sharpness": threshold}, state, cost
