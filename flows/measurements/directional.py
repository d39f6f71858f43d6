"""The curvature that a step of descent meets: by Hessian-vector products, and by losses alone."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import positive_integer, proper_fraction
from ..core.variables import SHARPNESS, Variable
from ..curvature.derivatives import linearise_gradient
from ..curvature.metric import AbstractMetric, IdentityMetric
from .base import AbstractMetricMeasurement, Measured
from .occasional import when_due

_DIRECTIONAL: Final = {
    "gradient_curvature": Variable(SHARPNESS, "g^T H g / g^T g: curvature along the gradient"),
    "update_curvature": Variable(
        SHARPNESS, "d^T H d / d^T g along the update d = P^-1 g, P the preconditioner or 1"
    ),
}
_CRITICAL: Final = {
    "critical_learning_rate": Variable(
        "parameter^2 / loss", "smallest learning rate found at which a step raises the loss"
    ),
    "step_sharpness": Variable(
        SHARPNESS, "2 / critical learning rate, the critical sharpness of arXiv 2601.16979"
    ),
    "critical_learning_rate_evaluations": Variable(
        "1", "losses that the search for the critical learning rate evaluated"
    ),
}
# How often the search doubles or halves a learning rate before it gives up.
_MOST_DOUBLINGS: Final = 60


class DirectionalCurvature(AbstractMetricMeasurement):
    """The curvature along the gradient, g^T H g / g^T g, and along the update, d^T H d / d^T g.

    The update's direction d = P^-1 g is the gradient itself for gradient descent, and rescaled by
    the preconditioner P of an adaptive method; momentum is left out. On a quadratic a step
    w - eta d raises the loss if eta is above 2 over the second: it is to be compared with the
    sharpness, or the preconditioned sharpness, which bounds it. It costs a gradient and a
    Hessian-vector product, one more with a preconditioner. The units are those for P = 1.

    Attributes:
        every: Measure at every n-th saved step. The values are nan in between, where the gradient
            is zero, and the second where P is not known (see `AbstractMetricMeasurement`).

    Raises:
        ValueError: If `every` is no integer of at least 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import DirectionalCurvature, measure
        >>> bowl = lambda w: 0.5 * (w[0] ** 2 + 3 * w[1] ** 2)
        >>> values, _ = measure(DirectionalCurvature(), bowl, jnp.asarray([[3.0, 1.0]]))
        >>> values["gradient_curvature"].tolist(), values["update_curvature"].tolist()
        ([2.0], [2.0])
    """

    every: int = eqx.field(static=True, default=1, converter=partial(positive_integer, "every"))

    @property
    def variables(self) -> Mapping[str, Variable]:
        """`gradient_curvature` and `update_curvature`."""
        return _DIRECTIONAL

    def init(self, potential: Potential, params: Params) -> None:
        """Return None: nothing is carried from one save to the next."""
        del potential, params

    def measure(
        self, potential: Potential, params: Params, state: None, index: Int[Array, ""]
    ) -> Measured:
        """Return both, with P = 1."""
        return self.measure_in(IdentityMetric(), potential, params, state, index)

    def measure_in(
        self,
        metric: AbstractMetric | None,
        potential: Potential,
        params: Params,
        state: None,
        index: Int[Array, ""],
    ) -> Measured:
        """Return `gradient_curvature` and `update_curvature`."""

        def measured(state: None) -> Measured:
            gradient, product = linearise_gradient(potential, params)
            along = _ratio(gradient @ product(gradient), gradient @ gradient)
            cost, update = Cost(gradients=1, hvps=1), along
            if metric is None:
                update = jnp.full_like(along, jnp.nan)
            elif not isinstance(metric, IdentityMetric):
                direction = metric.inverse(gradient)
                update = _ratio(direction @ product(direction), direction @ gradient)
                cost = Cost(gradients=1, hvps=2)
            return {"gradient_curvature": along, "update_curvature": update}, state, cost

        return when_due(measured, self.every, params, state, index)


def _ratio(above: Float[Array, ""], below: Float[Array, ""]) -> Float[Array, ""]:
    """Return a quotient, nan where the divisor is zero."""
    return jnp.where(below == 0, jnp.nan, above / jnp.where(below == 0, 1, below))


class CriticalLearningRate(AbstractMetricMeasurement):
    """The critical sharpness of arXiv 2601.16979, found by evaluations of the loss.

    The critical learning rate eta_c is the smallest at which a step w - eta d raises the loss, and
    `step_sharpness` is 2 / eta_c: not to be taken for the sharpness at which an optimizer turns
    unstable, which this package calls critical. The direction d = P^-1 g is that of
    `DirectionalCurvature`; on a quadratic the two agree, d^T H d / d^T g. No second derivatives are
    needed. The units are those for P = 1.

    A learning rate is doubled until the loss rises there, or halved until it does not; then the
    interval is halved. It begins with the last one found, so that some 9 evaluations suffice for 1%
    where it changes little. Where the loss rises, falls and rises again along the step, the edge
    found need not be the first. A loss that is not finite counts as risen. Where the loss is flat
    to rounding, as near a minimum in float32, nothing can be found by it.

    Attributes:
        tolerance: The relative width of the last interval, whose middle is the result.
        every: Measure at every n-th saved step. The values are nan in between, where the loss never
            rises, where the gradient is zero, and where P is not known.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import CriticalLearningRate, measure
        >>> bowl = lambda w: 0.5 * (w[0] ** 2 + 3 * w[1] ** 2)
        >>> values, _ = measure(CriticalLearningRate(1e-6), bowl, jnp.asarray([[3.0, 1.0]]))
        >>> round(float(values["critical_learning_rate"][0]), 4)
        1.0
        >>> round(float(values["step_sharpness"][0]), 4)
        2.0
    """

    tolerance: float = eqx.field(
        static=True, default=1e-2, converter=partial(proper_fraction, "tolerance")
    )
    every: int = eqx.field(static=True, default=1, converter=partial(positive_integer, "every"))

    @property
    def variables(self) -> Mapping[str, Variable]:
        """The critical learning rate, 2 over it, and how many losses it took."""
        return _CRITICAL

    def init(self, potential: Potential, params: Params) -> Float[Array, ""]:
        """Return the learning rate to begin with, 1."""
        del potential
        return jnp.ones((), jax.tree.leaves(params)[0].dtype)

    def measure(
        self,
        potential: Potential,
        params: Params,
        state: Float[Array, ""],
        index: Int[Array, ""],
    ) -> Measured:
        """Return the quantities, with P = 1."""
        return self.measure_in(IdentityMetric(), potential, params, state, index)

    def measure_in(
        self,
        metric: AbstractMetric | None,
        potential: Potential,
        params: Params,
        state: Float[Array, ""],
        index: Int[Array, ""],
    ) -> Measured:
        """Return the critical learning rate, 2 over it, and how many losses it took."""
        nowhere = jnp.full_like(state, jnp.nan)
        if metric is None:
            return _critical(nowhere, nowhere), state, Cost()

        def measured(state: Float[Array, ""]) -> Measured:
            loss, gradient = jax.value_and_grad(potential)(params)
            flat, unravel = ravel_pytree(params)
            direction = metric.inverse(ravel_pytree(gradient)[0])

            def rises(rate: Float[Array, ""]) -> Bool[Array, ""]:
                return ~(potential(unravel(flat - rate * direction)) <= loss)

            low, high, count = _bracket(rises, state, jnp.asarray(self.tolerance, state.dtype))
            # Where the loss rises however short the step, no rate is the largest that lowers it.
            found = jnp.isfinite(high) & (low > 0) & jnp.any(direction != 0)
            rate = jnp.where(found, 0.5 * (low + high), jnp.nan)
            values = _critical(rate, count.astype(rate.dtype))
            return values, jnp.where(found, rate, state), Cost(gradients=1)

        return when_due(measured, self.every, params, state, index)


def _critical(rate: Float[Array, ""], evaluations: Float[Array, ""]) -> dict[str, Array]:
    return {
        "critical_learning_rate": rate,
        "step_sharpness": 2 / rate,
        "critical_learning_rate_evaluations": evaluations,
    }


def _bracket(
    rises: Callable[[Float[Array, ""]], Bool[Array, ""]],
    first: Float[Array, ""],
    tolerance: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""], Int[Array, ""]]:
    """Return an interval at whose upper end the loss has risen, and at whose lower it has not.

    The upper end is infinite if the loss did not rise within the doublings, the lower one zero if
    it rose however short the step.
    """
    at_first = rises(first)

    def same_side(carry: tuple[Array, Array, Array]) -> Array:
        _, side, count = carry
        return (side == at_first) & (count <= _MOST_DOUBLINGS)

    def move(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        rate, _, count = carry
        rate = jnp.where(at_first, 0.5 * rate, 2 * rate)
        return rate, rises(rate), count + 1

    last, side, count = lax.while_loop(same_side, move, (first, at_first, jnp.ones((), jnp.int32)))
    crossed = side != at_first
    low = jnp.where(at_first, jnp.where(crossed, last, 0), 0.5 * last)
    high = jnp.where(at_first, 2 * last, jnp.where(crossed, last, jnp.inf))

    def wide(carry: tuple[Array, Array, Array]) -> Array:
        low, high, _ = carry
        return crossed & (high - low > tolerance * high)

    def halve(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, count = carry
        middle = 0.5 * (low + high)
        risen = rises(middle)
        return jnp.where(risen, low, middle), jnp.where(risen, middle, high), count + 1

    return lax.while_loop(wide, halve, (low, high, count))
