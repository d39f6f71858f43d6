"""`kind = "supervised"`: a network, a data set and a criterion."""

import abc
import itertools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Unpack

import pydantic

from .base import BuildError, Key, PositiveInt, Table, Widths, building, check_numbers, refuse
from .constructors import Constructor
from .data import DataTable
from .derived import NONE, Recipe, RecipeOptions, table_of
from .kinds import OneOf, Registry
from .potentials import POTENTIALS, AbstractPotentialTable, BuiltPotential

if TYPE_CHECKING:
    import potentials
    from flows.core.trees import Params


class AbstractModelTable(Table, abc.ABC):
    """A `[potential.model]` table; the data give the sizes of its two ends."""

    takes_images: ClassVar[bool]
    """True if an example is (channels, height, width) rather than a vector."""

    kind: str

    @abc.abstractmethod
    def build(self, inputs: tuple[int, ...], outputs: int) -> "potentials.AbstractNetwork":
        """Build the network. Its weights are placeholders: the potential's `init` draws them.

        Args:
            inputs: shape of one example.
            outputs: number of outputs.

        Raises:
            ValueError: if no such network takes such examples.
        """


MODELS: Registry[type[AbstractModelTable]] = Registry("model")
ModelTable = Annotated[AbstractModelTable, OneOf(MODELS)]


def model_table(
    kind: str,
    constructor: Constructor,
    ends: Callable[[Any, tuple[int, ...], int], dict[str, Any]],
    *,
    without: tuple[str, ...],
    extra: Mapping[str, Key] = NONE,
    images: bool = False,
    **options: Unpack[RecipeOptions],
) -> type[AbstractModelTable]:
    """Derive the table of a network.

    Args:
        kind: its name in a config.
        constructor: what makes the network.
        ends: `ends(table, inputs, outputs)` gives the arguments that follow from the data.
        without: the names of those arguments.
        extra: keys that are not passed to the constructor.
        images: as `AbstractModelTable.takes_images`.
        **options: of `Recipe`.

    Returns:
        The table.
    """
    recipe = Recipe(constructor, supplied=("key", *without), **options)

    def build(
        self: AbstractModelTable, inputs: tuple[int, ...], outputs: int
    ) -> "potentials.AbstractNetwork":
        import jax

        given = ends(self, inputs, outputs)
        return recipe.construct(self, **given, key=jax.random.key(0))

    members = {"takes_images": images, "build": build}
    return table_of(AbstractModelTable, kind, recipe, extra, **members)


def _widths(table: Any, inputs: tuple[int, ...], outputs: int) -> dict[str, Any]:
    widths = (math.prod(inputs), *table.hidden, outputs)
    weights = sum((n + 1) * m for n, m in itertools.pairwise(widths))
    check_numbers("hidden", list(table.hidden), weights, "a network")
    return {"widths": widths}


def _shape(table: Any, inputs: tuple[int, ...], outputs: int) -> dict[str, Any]:
    widths = (inputs[0], *table.channels)
    weights = sum(table.kernel_size**2 * n * m for n, m in itertools.pairwise(widths))
    check_numbers("channels", list(table.channels), weights, "kernels")
    return {"shape": inputs, "outputs": outputs}


MODELS.add(
    model_table(
        "mlp",
        "potentials.MLP",
        _widths,
        without=("widths",),
        extra={"hidden": (Widths, (32, 32))},  # The widths between the two ends.
    )
)
MODELS.add(
    model_table(
        "cnn",
        "potentials.CNN",
        _shape,
        without=("shape", "outputs"),
        keys={"channels": (Annotated[Widths, pydantic.Field(min_length=1)], (12, 16))},
        images=True,
    )
)


class SupervisedTable(AbstractPotentialTable):
    """`kind = "supervised"`: the mean over the data of a criterion of a model's predictions.

    `chunk_size` evaluates that many examples at a time, to save memory; `data_parallel` spreads the
    examples over all devices of the machine.
    """

    network: ClassVar[bool] = True
    batched: ClassVar[bool] = False

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
        """Build a `potentials.SupervisedPotential`.

        Accuracy is measured where it has a meaning, and the loss on held-out examples where there
        are any.
        """
        import flows

        with building("data"):
            data, test = self.data.parts(images=self.model.takes_images)
        with building("model"):
            model = self.model.build(data.inputs.shape[1:], data.targets.shape[1])
        potential = self._loss(model, data)
        measured: list[flows.AbstractMeasurement] = []
        if potential.has_accuracy:
            description = "share of the training examples that are classified correctly"
            measured.append(
                flows.ScalarMeasurement(
                    name="accuracy", function=_accuracy, description=description
                )
            )
        if test is not None:
            measured.append(flows.HeldOut(self._loss(model, test)))
        return BuiltPotential(potential, tuple(measured))

    def _loss(
        self, model: "potentials.AbstractNetwork", data: "potentials.Dataset"
    ) -> "potentials.SupervisedPotential | potentials.DataParallel":
        import potentials

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
        return potentials.DataParallel(potential) if self.data_parallel else potential


POTENTIALS.add(SupervisedTable)


def _accuracy(potential: Any, params: "Params") -> Any:
    # One function for all potentials: JAX looks its compilations up by identity.
    return potential.accuracy(params)
