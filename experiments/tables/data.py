"""The `[potential.data]` table: the examples that a network is trained on, one class per kind."""

import abc
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from ..system.errors import NO_HOME
from .base import NonNegativeFloat, PositiveInt, Seed, Table


def _absolute(path: str) -> str:
    # A run's config.toml lies elsewhere than the config it came from: a relative path would not do.
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError:
        raise ValueError(NO_HOME) from None


LocalPath = Annotated[str, pydantic.Field(min_length=1), pydantic.AfterValidator(_absolute)]
# As `Size`.
TwoOrMore = Annotated[int, pydantic.Field(ge=2, le=10**6)]


class AbstractDataTable(Table, abc.ABC):
    """A `[potential.data]` table; relative paths are taken from the working directory."""

    kind: str

    @property
    def source(self) -> str:
        """Where the data come from, in words."""
        return f"the data {self.kind!r}"

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


class GeneratedRegressionTable(AbstractDataTable):
    """`kind = "generated_regression"`: one input with a gap, generated."""

    kind: Literal["generated_regression"]
    examples: TwoOrMore = 20
    noise: NonNegativeFloat = 0.05
    gap: Annotated[float, pydantic.Field(ge=0, lt=4)] = 1.6
    seed: Seed = 0

    @property
    def has_images(self) -> bool:
        """No: one number each."""
        return False

    def load(self, *, images: bool) -> Any:
        """Load with `potentials.generated_regression`."""
        import potentials

        del images
        return potentials.generated_regression(self.examples, self.noise, self.gap, self.seed)


class BananaTable(AbstractDataTable):
    """`kind = "banana"`: two bent classes in the plane, generated."""

    kind: Literal["banana"]
    examples: TwoOrMore = 100
    noise: NonNegativeFloat = 0.25
    seed: Seed = 0

    @property
    def has_images(self) -> bool:
        """No: two numbers each."""
        return False

    def load(self, *, images: bool) -> Any:
        """Load with `potentials.banana`."""
        import potentials

        del images
        return potentials.banana(self.examples, self.noise, self.seed)


class TabularTable(AbstractDataTable):
    """`kind = "breast_cancer"` or `kind = "wine"`: measurements that scikit-learn ships."""

    kind: Literal["breast_cancer", "wine"]
    examples: PositiveInt | None = None

    @property
    def has_images(self) -> bool:
        """No: measurements."""
        return False

    def load(self, *, images: bool) -> Any:
        """Load with `potentials.load_breast_cancer` or `potentials.load_wine`."""
        import potentials

        del images
        return getattr(potentials, f"load_{self.kind}")(self.examples)


class NpzTable(AbstractDataTable):
    """`kind = "npz"`: a user's file with the arrays `inputs` and `targets`."""

    kind: Literal["npz"]
    path: LocalPath
    examples: PositiveInt | None = None
    classes: TwoOrMore | None = None

    @property
    def source(self) -> str:
        """The file."""
        return self.path

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
    def source(self) -> str:
        """The folder."""
        return self.folder

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


DataTable = Annotated[
    DigitsTable
    | ChebyshevTable
    | TwoMoonsTable
    | GeneratedRegressionTable
    | BananaTable
    | TabularTable
    | NpzTable
    | Cifar10Table,
    pydantic.Field(discriminator="kind"),
]
