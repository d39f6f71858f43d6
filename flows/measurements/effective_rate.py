"""The learning rate that an adaptive method amounts to, along a trajectory."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ..core.cost import Cost
from ..core.potential import Potential
from ..core.schedules import at
from ..core.trees import Params
from ..core.validation import positive_integer
from ..core.variables import PARAMETER, Variable
from ..curvature.metric import AbstractMetric, DiagonalMetric
from ..optimizers.adaptive import AbstractSecondMomentMethod
from .base import AbstractMetricMeasurement, Measured, no_preconditioner

_EFFECTIVE: Final = {
    "effective_learning_rate": Variable(
        f"{PARAMETER}^2 / loss",
        "harmonic mean over the parameters of eta / P, P the preconditioner",
    ),
}


def _method(optimizer: AbstractSecondMomentMethod) -> AbstractSecondMomentMethod:
    if not isinstance(optimizer, AbstractSecondMomentMethod):
        raise ValueError(
            "optimizer must be ScalarRMSProp, RMSProp, Adam, AdamW or NAdam, which divide by a "
            f"preconditioner; got {optimizer!r}."
        )
    return optimizer


class EffectiveLearningRate(AbstractMetricMeasurement):
    """The harmonic mean of an adaptive method's learning rates, eta / P of each parameter.

    It is eta over the mean of P: parameters that hardly have a gradient, whose own rates are huge,
    do not count for more than the others. One that never had a gradient is left out where eps is 0,
    so that its P is 0. It is nan where P is not known along a flow.

    Attributes:
        optimizer: The method that runs, or that the flow models.
        save_every: The interval of the saves in steps, for a learning rate that is a schedule.

    Raises:
        ValueError: If an argument is of the wrong kind.

    Example:
        Where the gradient is constant, P is its size:

        >>> import jax.numpy as jnp
        >>> from flows import EffectiveLearningRate, RMSProp, iterate
        >>> optimizer = RMSProp(0.1, eps=0.0, initial_nu=4.0)
        >>> run = iterate(
        ...     optimizer,
        ...     lambda w: 2.0 * jnp.sum(w),
        ...     jnp.zeros(3),
        ...     steps=2,
        ...     measurements=EffectiveLearningRate(optimizer),
        ... )
        >>> [round(float(x), 3) for x in run.observables["effective_learning_rate"]]
        [0.05, 0.05, 0.05]
    """

    structural_fields: ClassVar[tuple[str, ...]] = ("save_every",)

    optimizer: AbstractSecondMomentMethod = eqx.field(converter=_method)
    save_every: int = eqx.field(
        static=True, default=1, converter=partial(positive_integer, "save_every")
    )

    @property
    def variables(self) -> Mapping[str, Variable]:
        """`effective_learning_rate`."""
        return _EFFECTIVE

    def init(self, potential: Potential, params: Params) -> None:
        """Return None: nothing is carried from one save to the next."""
        del potential, params

    def measure(
        self, potential: Potential, params: Params, state: None, index: Int[Array, ""]
    ) -> Measured:
        """Refuse to measure along a bare path.

        Raises:
            ValueError: Always.
        """
        del potential, params, state, index
        raise no_preconditioner("EffectiveLearningRate")

    def measure_in(
        self,
        metric: AbstractMetric | None,
        potential: Potential,
        params: Params,
        state: None,
        index: Int[Array, ""],
    ) -> Measured:
        """Return `effective_learning_rate`."""
        del potential
        leaves = jax.tree.leaves(params)
        size, dtype = sum(x.size for x in leaves), leaves[0].dtype
        if metric is None:
            return {"effective_learning_rate": jnp.full((), jnp.nan, dtype)}, state, Cost()
        # As a float: a run may be longer than 32 bits count.
        step = index.astype(jnp.result_type(float)) * self.save_every
        rate = at(self.optimizer.learning_rate, step).astype(dtype)
        diagonal = metric.apply(jnp.ones(size, dtype))
        alive = metric.diagonal != 0 if isinstance(metric, DiagonalMetric) else diagonal != 0
        mean = jnp.mean(diagonal, where=alive)
        return {"effective_learning_rate": rate / mean}, state, Cost()
