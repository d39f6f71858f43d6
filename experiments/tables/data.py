"""The `[potential.data]` table: the examples that a network is trained on."""

import abc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Unpack

import pydantic

from ..system.errors import NO_HOME
from .base import MOST_ITEMS, BuildError, Size, Table
from .constructors import Constructor
from .derived import Recipe, RecipeOptions, table_of
from .kinds import OneOf, Registry

if TYPE_CHECKING:
    import potentials


def _absolute(path: str) -> str:
    # A run's config.toml lies elsewhere than the config it came from: a relative path would not do.
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError:
        raise ValueError(NO_HOME) from None


LocalPath = Annotated[str, pydantic.Field(min_length=1), pydantic.AfterValidator(_absolute)]
TwoOrMore = Annotated[int, pydantic.Field(ge=2, le=MOST_ITEMS)]


class AbstractDataTable(Table, abc.ABC):
    """A `[potential.data]` table; relative paths are taken from the working directory."""

    has_images: ClassVar[bool]
    """True if the examples can be had as images (channels, height, width)."""

    kind: str
    test: Size | None = None
    """How many of the examples are held out, drawn at random: the others are trained on."""

    @property
    @abc.abstractmethod
    def source(self) -> str:
        """Where the data come from, in words."""

    @abc.abstractmethod
    def load(self, *, images: bool) -> "potentials.Dataset":
        """Load the data.

        Args:
            images: examples as images rather than as vectors.

        Raises:
            ValueError: if the data cannot give what is asked (examples, classes).
            FileNotFoundError: if a file is not there.
        """

    def parts(self, *, images: bool) -> "tuple[potentials.Dataset, potentials.Dataset | None]":
        """Load the data to train on, and those held out; None if there are none.

        The inputs are scaled as all of the loaded ones are.

        Args:
            images: as for `load`.

        Raises:
            BuildError: if nothing would be left to train on.
            ValueError: as `load`.
            FileNotFoundError: as `load`.
        """
        data = self.load(images=images)
        if self.test is None:
            return data, None
        total = len(data.inputs)
        if self.test >= total:
            message = f"given {self.test}; must be below the number of examples, {total}"
            raise BuildError("test", message)
        return data.split(first=total - self.test)


DATA: Registry[type[AbstractDataTable]] = Registry("data")
DataTable = Annotated[AbstractDataTable, OneOf(DATA)]


def data_table(
    kind: str,
    constructor: Constructor,
    *,
    images: bool = False,
    located_by: str = "",
    **options: Unpack[RecipeOptions],
) -> type[AbstractDataTable]:
    """Derive the table of a data set from the function that loads or generates it.

    Args:
        kind: its name in a config.
        constructor: the function; an argument `flatten` says whether images become vectors.
        images: as `AbstractDataTable.has_images`.
        located_by: the key that says where a user's data are.
        **options: of `Recipe`.

    Returns:
        The table.
    """
    recipe = Recipe(constructor, supplied=("flatten",), **options)

    def load(self: AbstractDataTable, *, images: bool) -> "potentials.Dataset":
        given = {"flatten": not images} if recipe.takes("flatten") else {}
        return recipe.construct(self, **given)

    def source(self: AbstractDataTable) -> str:
        return getattr(self, located_by) if located_by else f"the data {kind!r}"

    members: dict[str, Any] = {"has_images": images, "load": load, "source": property(source)}
    return table_of(AbstractDataTable, kind, recipe, **members)


_EXAMPLES, _CLASSES = {"examples": MOST_ITEMS}, {"classes": MOST_ITEMS}

for _table in (
    data_table(
        "digits",
        "potentials.load_digits",
        images=True,
        defaults={"examples": 500},
        most=_CLASSES,
    ),
    data_table("chebyshev", "potentials.chebyshev", most=_EXAMPLES),
    data_table("two_moons", "potentials.two_moons", most=_EXAMPLES),
    data_table("generated_regression", "potentials.generated_regression", most=_EXAMPLES),
    data_table("banana", "potentials.banana", most=_EXAMPLES),
    data_table("breast_cancer", "potentials.load_breast_cancer"),
    data_table("wine", "potentials.load_wine"),
    data_table(
        "npz",
        "potentials.load_npz",
        images=True,  # Perhaps: that depends on the arrays in the file.
        located_by="path",
        keys={"path": LocalPath},
        most=_CLASSES,
    ),
    data_table(
        "cifar10",
        "potentials.load_cifar10",
        images=True,
        located_by="folder",
        keys={"folder": LocalPath},
        defaults={"examples": 1000},
        most=_CLASSES,
    ),
):
    DATA.add(_table)
