"""Scalars measured along a trajectory: the loss, its gradient's norm, and what a user names."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Final

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int

from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params, norm
from ..core.validation import callable_, text
from ..core.variables import GRADIENT, LOSS, NONE, Variable
from .base import AbstractMeasurement, Measured

_LOSS_AND_GRADIENT: Final = {
    "loss": Variable(LOSS, "loss at the parameters"),
    "gradient_norm": Variable(GRADIENT, "Euclidean norm of the gradient of the loss"),
}


class LossAndGradient(AbstractMeasurement):
    """The loss and the Euclidean norm of its gradient, `loss` and `gradient_norm`.

    It is what a run measures unless it is given something else. It asks for the same gradient as a
    step of gradient descent from there does, so that the compiler evaluates it once.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import LossAndGradient, measure
        >>> path = jnp.asarray([[3.0, 4.0]])
        >>> values, _ = measure(LossAndGradient(), lambda w: jnp.sum(w**2), path)
        >>> values["loss"].tolist(), values["gradient_norm"].tolist()
        ([25.0], [10.0])
    """

    @property
    def variables(self) -> Mapping[str, Variable]:
        """`loss` and `gradient_norm`."""
        return _LOSS_AND_GRADIENT

    def init(self, potential: Potential, params: Params) -> None:
        """Return no state."""

    def measure(
        self, potential: Potential, params: Params, state: None, index: Int[Array, ""]
    ) -> Measured:
        """Return `loss` and `gradient_norm`."""
        del index
        loss, gradient = jax.value_and_grad(potential)(params)
        return {"loss": loss, "gradient_norm": norm(gradient)}, state, Cost(gradients=1)


class ScalarMeasurement(AbstractMeasurement):
    """Any scalar function of the potential and the parameters, by name.

    A potential with more methods than the loss can be asked for them here:
    `ScalarMeasurement("accuracy", lambda potential, params: potential.accuracy(params))`.

    Attributes:
        name: The name of the quantity.
        function: `function(potential, params) -> scalar`.
        description: One line.
        units: Its unit.

    Raises:
        ValueError: If `function` cannot be called, or another argument is no string.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, ScalarMeasurement, iterate
        >>> largest = ScalarMeasurement("largest", lambda potential, w: jnp.max(jnp.abs(w)))
        >>> bowl = lambda w: 0.5 * jnp.sum(w**2)
        >>> run = iterate(
        ...     GradientDescent(0.5), bowl, jnp.asarray([1.0, -2.0]), steps=2, measurements=largest
        ... )
        >>> run.observables["largest"].tolist()
        [2.0, 1.0, 0.5]
    """

    structural_fields: ClassVar[tuple[str, ...]] = ("name",)

    name: str = eqx.field(static=True, converter=partial(text, "name"))
    function: Callable[[Any, Params], Float[Array, ""]] = eqx.field(
        converter=partial(callable_, "function")
    )
    description: str = eqx.field(static=True, default="", converter=partial(text, "description"))
    units: str = eqx.field(static=True, default=NONE, converter=partial(text, "units"))

    @property
    def variables(self) -> Mapping[str, Variable]:
        """The one variable."""
        return {self.name: Variable(self.units, self.description or self.name)}

    def init(self, potential: Potential, params: Params) -> None:
        """Check that the function gives a scalar.

        Raises:
            ValueError: If it does not.
        """
        value = eqx.filter_eval_shape(self.function, potential, params)
        if not isinstance(value, jax.ShapeDtypeStruct) or value.shape != ():
            raise ValueError(f"function of measurement {self.name!r} must return a scalar array.")

    def measure(
        self, potential: Potential, params: Params, state: None, index: Int[Array, ""]
    ) -> Measured:
        """Return the value under `name`."""
        del index
        return {self.name: self.function(potential, params)}, state, Cost()
