"""The loss and the accuracy on examples that the run does not train on."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final

import equinox as eqx
import jax
from jaxtyping import Array, Int

from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import callable_, text
from ..core.variables import LOSS, NONE, Variable
from .base import AbstractMeasurement, Measured

_TEST: Final = "test"


class HeldOut(AbstractMeasurement):
    """The loss of another potential along the run, and its accuracy if it has one.

    With held-out examples for the other potential, `HeldOut(test_potential)` measures `test_loss`
    and, where `test_potential.has_accuracy` is true, `test_accuracy`, at two passes through the
    examples. Neither counts as a gradient. Its arrays are arguments of the compiled run, as those
    of the run's own potential are.

    Attributes:
        potential: The loss of the same parameters on other examples, L_test(w).
        name: What precedes `_loss` and `_accuracy`.

    Raises:
        ValueError: If the potential cannot be called or gives no scalar, or `name` is no string.

    Example:
        >>> import jax
        >>> from flows import GradientDescent, HeldOut, iterate
        >>> from potentials import MLP, SupervisedPotential, mse, two_moons
        >>> train, test = two_moons(examples=40).split(first=30)
        >>> network = MLP((2, 3, 2), key=jax.random.key(0))
        >>> loss, test_loss = (
        ...     SupervisedPotential(network, part.inputs, part.targets, mse)
        ...     for part in (train, test)
        ... )
        >>> run = iterate(
        ...     GradientDescent(0.1), loss, loss.params, steps=2, measurements=HeldOut(test_loss)
        ... )
        >>> sorted(run.observables), run.observables["test_accuracy"].shape
        (['test_accuracy', 'test_loss'], (3,))
    """

    structural_fields: ClassVar[tuple[str, ...]] = ("name",)

    potential: Potential = eqx.field(converter=partial(callable_, "potential"))
    name: str = eqx.field(static=True, default=_TEST, converter=partial(text, "name"))

    @property
    def has_accuracy(self) -> bool:
        """True if the potential has an accuracy."""
        return bool(getattr(self.potential, "has_accuracy", False))

    @property
    def variables(self) -> Mapping[str, Variable]:
        """`test_loss`, and `test_accuracy` where there is one."""
        loss = Variable(LOSS, "loss on held-out examples")
        if not self.has_accuracy:
            return {f"{self.name}_loss": loss}
        accuracy = Variable(NONE, "share of held-out examples that are classified correctly")
        return {f"{self.name}_loss": loss, f"{self.name}_accuracy": accuracy}

    def init(self, potential: Potential, params: Params) -> None:
        """Check that the other potential takes the parameters.

        Raises:
            ValueError: If it does not give a scalar of them.
        """
        value = eqx.filter_eval_shape(self.potential, params)
        if not isinstance(value, jax.ShapeDtypeStruct) or value.shape != ():
            raise ValueError("potential of HeldOut must return a scalar array of the parameters.")

    def measure(
        self, potential: Potential, params: Params, state: None, index: Int[Array, ""]
    ) -> Measured:
        """Return the loss and the accuracy of the other potential."""
        del potential, index
        values = {f"{self.name}_loss": self.potential(params)}
        accuracy = getattr(self.potential, "accuracy", None)
        if self.has_accuracy and accuracy is not None:
            values[f"{self.name}_accuracy"] = accuracy(params)
        return values, state, Cost()
