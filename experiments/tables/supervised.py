"""`kind = "supervised"`: a network, a data set and a criterion."""

import abc
import itertools
import math
from typing import Annotated, Any, Literal

import pydantic

from .base import BuildError, PositiveInt, Table, Widths, building, check_numbers, refuse
from .data import DataTable
from .potentials import AbstractPotentialTable, BuiltPotential

Activation = Literal["tanh", "gelu", "relu", "softplus", "identity"]


class AbstractModelTable(Table, abc.ABC):
    """A `[potential.model]` table; the data give the sizes of its two ends."""

    @abc.abstractmethod
    def build(self, inputs: tuple[int, ...], outputs: int) -> Any:
        """Build the network. Its weights are placeholders: the potential's `init` draws them.

        Args:
            inputs: shape of one example.
            outputs: number of outputs.

        Returns:
            A `potentials.AbstractNetwork`.

        Raises:
            ValueError: if no such network takes such examples.
        """

    @property
    @abc.abstractmethod
    def takes_images(self) -> bool:
        """Whether an example is (channels, height, width) rather than a vector."""


class MLPTable(AbstractModelTable):
    """`kind = "mlp"`: a fully connected network; `hidden` are the widths between the ends."""

    kind: Literal["mlp"]
    hidden: Widths = (32, 32)
    activation: Activation = "tanh"
    bias: bool = True

    def build(self, inputs: tuple[int, ...], outputs: int) -> Any:
        """Build a `potentials.MLP`."""
        import jax

        import potentials

        widths = (math.prod(inputs), *self.hidden, outputs)
        weights = sum((n + 1) * m for n, m in itertools.pairwise(widths))
        check_numbers("hidden", list(self.hidden), weights, "a network")
        return potentials.MLP(widths, self.activation, self.bias, key=jax.random.key(0))

    @property
    def takes_images(self) -> bool:
        """No: images are flattened."""
        return False


class CNNTable(AbstractModelTable):
    """`kind = "cnn"`: a small convolutional network, one entry of `channels` per convolution."""

    kind: Literal["cnn"]
    channels: Annotated[Widths, pydantic.Field(min_length=1)] = (12, 16)
    activation: Activation = "tanh"
    kernel_size: PositiveInt = 3
    pooling: Literal["average", "max"] = "average"
    bias: bool = True

    def build(self, inputs: tuple[int, ...], outputs: int) -> Any:
        """Build a `potentials.CNN`."""
        import jax

        import potentials

        widths = (inputs[0], *self.channels)
        weights = sum(self.kernel_size**2 * n * m for n, m in itertools.pairwise(widths))
        check_numbers("channels", list(self.channels), weights, "kernels")
        return potentials.CNN(
            inputs,
            outputs,
            self.channels,
            self.activation,
            self.kernel_size,
            self.pooling,
            self.bias,
            key=jax.random.key(0),
        )

    @property
    def takes_images(self) -> bool:
        """Yes: channels first."""
        return True


ModelTable = Annotated[MLPTable | CNNTable, pydantic.Field(discriminator="kind")]


class SupervisedTable(AbstractPotentialTable):
    """`kind = "supervised"`: the mean over the data of a criterion of a model's predictions.

    `chunk_size` evaluates that many examples at a time, to save memory; `data_parallel` spreads the
    examples over all devices of the machine.
    """

    kind: Literal["supervised"]
    criterion: Literal["mse", "cross_entropy"] = "mse"
    chunk_size: PositiveInt | None = None
    data_parallel: bool = False
    model: ModelTable
    data: DataTable

    @pydantic.model_validator(mode="after")
    def _the_model_takes_the_data(self) -> "SupervisedTable":
        if self.model.takes_images and not self.data.has_images:
            message = f"given {self.model.kind!r}; the data {self.data.kind!r} are no images: mlp"
            raise refuse("model.kind", f"{message} takes them")
        return self

    def build(self) -> BuiltPotential:
        """Build a `potentials.SupervisedPotential`; accuracy is measured where it has a meaning."""
        import flows
        import potentials

        with building("data"):
            data = self.data.load(images=self.model.takes_images)
        with building("model"):
            model = self.model.build(data.inputs.shape[1:], data.targets.shape[1])
        try:
            potential = potentials.SupervisedPotential(
                model,
                data.inputs,
                data.targets,
                getattr(potentials, self.criterion),
                self.chunk_size,
                classification=data.num_classes is not None,
            )
        except ValueError as error:
            message = f"given {self.criterion!r} for {self.data.source}; {error}"
            raise BuildError("criterion", message) from error
        if self.data_parallel:
            potential = potentials.DataParallel(potential)
        if not potential.has_accuracy:
            return BuiltPotential(potential)
        description = "share of the training examples that are classified correctly"
        accuracy = flows.ScalarMeasurement(
            name="accuracy", function=_accuracy, description=description
        )
        return BuiltPotential(potential, (accuracy,))


def _accuracy(potential: Any, params: Any) -> Any:
    # One function for all potentials: JAX looks its compilations up by identity.
    return potential.accuracy(params)
