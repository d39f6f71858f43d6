"""`kind = "supervised"`: a network, a data set and a criterion."""

import abc
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from .base import NonNegativeFloat, PositiveInt, Seed, Table, Widths, building, refuse
from .potentials import AbstractPotentialTable, BuiltPotential

Activation = Literal["tanh", "gelu", "relu", "softplus", "identity"]
# A run's config.toml lies elsewhere than the config it came from: a relative path would not do.
LocalPath = Annotated[
    str,
    pydantic.Field(min_length=1),
    pydantic.AfterValidator(lambda path: str(Path(path).expanduser().absolute())),
]
TwoOrMore = Annotated[int, pydantic.Field(ge=2, le=2**31 - 1)]


class AbstractDataTable(Table, abc.ABC):
    """A `[potential.data]` table; relative paths are taken from the working directory."""

    @property
    @abc.abstractmethod
    def has_images(self) -> bool:
        """Whether the examples can be had as images (channels, height, width)."""

    @abc.abstractmethod
    def load(self, *, images: bool) -> Any:
        """Load the data.

        Args:
            images: examples as images rather than as vectors.

        Returns:
            A `potentials.Dataset`.

        Raises:
            ValueError: if the data cannot give what is asked (examples, classes).
            FileNotFoundError: if a file is not there.
        """


class DigitsTable(AbstractDataTable):
    """`kind = "digits"`: scikit-learn's 8 x 8 images of handwritten digits."""

    kind: Literal["digits"]
    examples: PositiveInt = 500
    classes: TwoOrMore = 10

    @property
    def has_images(self) -> bool:
        """Yes: one channel of 8 x 8."""
        return True

    def load(self, *, images: bool) -> Any:
        """Load with `potentials.load_digits`."""
        import potentials

        return potentials.load_digits(self.examples, self.classes, flatten=not images)


class ChebyshevTable(AbstractDataTable):
    """`kind = "chebyshev"`: a Chebyshev polynomial at points of [-1, 1]."""

    kind: Literal["chebyshev"]
    examples: TwoOrMore = 20
    degree: PositiveInt = 5

    @property
    def has_images(self) -> bool:
        """No: one number each."""
        return False

    def load(self, *, images: bool) -> Any:
        """Load with `potentials.chebyshev`."""
        import potentials

        del images
        return potentials.chebyshev(self.examples, self.degree)


class TwoMoonsTable(AbstractDataTable):
    """`kind = "two_moons"`: two interleaved half circles with noise."""

    kind: Literal["two_moons"]
    examples: TwoOrMore = 200
    noise: NonNegativeFloat = 0.1
    seed: Seed = 0

    @property
    def has_images(self) -> bool:
        """No: two numbers each."""
        return False

    def load(self, *, images: bool) -> Any:
        """Load with `potentials.two_moons`."""
        import potentials

        del images
        return potentials.two_moons(self.examples, self.noise, self.seed)


class NpzTable(AbstractDataTable):
    """`kind = "npz"`: a user's file with the arrays `inputs` and `targets`."""

    kind: Literal["npz"]
    path: LocalPath
    examples: PositiveInt | None = None
    classes: TwoOrMore | None = None

    @property
    def has_images(self) -> bool:
        """Perhaps: that depends on the arrays in the file."""
        return True

    def load(self, *, images: bool) -> Any:
        """Load with `potentials.load_npz`."""
        import potentials

        del images
        return potentials.load_npz(self.path, self.examples, self.classes)


class Cifar10Table(AbstractDataTable):
    """`kind = "cifar10"`: a local folder of the standard python batches."""

    kind: Literal["cifar10"]
    folder: LocalPath
    examples: PositiveInt = 1000
    classes: TwoOrMore = 10
    split: Literal["train", "test"] = "train"

    @property
    def has_images(self) -> bool:
        """Yes: three channels of 32 x 32."""
        return True

    def load(self, *, images: bool) -> Any:
        """Load with `potentials.load_cifar10`."""
        import potentials

        return potentials.load_cifar10(
            self.folder, self.examples, self.classes, split=self.split, flatten=not images
        )


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
DataTable = Annotated[
    DigitsTable | ChebyshevTable | TwoMoonsTable | NpzTable | Cifar10Table,
    pydantic.Field(discriminator="kind"),
]


class SupervisedTable(AbstractPotentialTable):
    """`kind = "supervised"`: the mean over the data of a criterion of a model's predictions.

    `chunk_size` evaluates that many examples at a time, to save memory.
    """

    kind: Literal["supervised"]
    criterion: Literal["mse", "cross_entropy"] = "mse"
    chunk_size: PositiveInt | None = None
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
        with building("criterion"):
            potential = potentials.SupervisedPotential(
                model,
                data.inputs,
                data.targets,
                getattr(potentials, self.criterion),
                self.chunk_size,
                classification=data.num_classes is not None,
            )
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
