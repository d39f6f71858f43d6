"""The `[[flows]]` tables: the continuous models that run beside the optimizer."""

import abc
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import pydantic

from .base import Key, Name, Table
from .constructors import Constructor
from .derived import NONE, Recipe, table_of
from .kinds import Registry
from .solvers import SolverTable

if TYPE_CHECKING:
    import flows
    from flows.core.trees import Params

RESERVED_LABELS = ("discrete", "landscape", "zarr.json")


def _not_reserved(label: str) -> str:
    # Not every file system tells A from a.
    if label.casefold() in RESERVED_LABELS:
        raise ValueError(f"may not be one of {', '.join(RESERVED_LABELS)}: the store uses them")
    return label


Label = Annotated[Name, pydantic.AfterValidator(_not_reserved)]


class AbstractFlowTable(Table, abc.ABC):
    """A table that builds a flow of `flows`; `label`, by default its kind, names its results."""

    models: ClassVar[tuple[str, ...] | None]
    """The kinds of our optimizers that the flow models; None for all of them."""

    batched: ClassVar[bool]
    """True if many runs may go through one vmapped program: what the flow does between the segments
    of a run needs none of the values, and no run is much slower than the others."""

    kind: str
    label: Label
    solver: SolverTable

    @property
    @abc.abstractmethod
    def vectors(self) -> int:
        """How many vectors of the parameters' size each save of this flow holds in memory."""

    @abc.abstractmethod
    def build(self, optimizer: "flows.AbstractOptimizer", start: "Params") -> "flows.AbstractFlow":
        """Build the flow.

        Args:
            optimizer: the built optimizer that the flow models.
            start: parameters of the structure and shapes that it will run with.

        Raises:
            BuildError: if the flow does not go with so many parameters.
        """


FLOWS: Registry[type[AbstractFlowTable]] = Registry("flow")


def flow_table(
    kind: str,
    constructor: Constructor,
    *,
    models: tuple[str, ...] | None = None,
    batched: bool = False,
    vectors: int | Callable[[Any], int] = 1,
    solver: str = "default",
    keys: Mapping[str, Key] = NONE,
    defaults: Mapping[str, Any] = NONE,
    most: Mapping[str, int] = NONE,
    extra: Mapping[str, Key] = NONE,
    supplied: Callable[..., dict[str, Any]] | None = None,
    without: tuple[str, ...] = (),
    **validators: Any,
) -> type[AbstractFlowTable]:
    """Derive the table of a flow.

    Args:
        kind: its name in a config.
        constructor: what makes the flow; its argument `optimizer`, if it has one, is the
            optimizer that is run.
        models: as `AbstractFlowTable` has it.
        batched: as `AbstractFlowTable` has it.
        vectors: as `AbstractFlowTable` has it, or a function of the table.
        solver: the solver's kind if the config names none.
        keys: as `Recipe` has it.
        defaults: as `Recipe` has it.
        most: as `Recipe` has it.
        extra: keys that are not passed to the constructor.
        supplied: `supplied(table, optimizer, start)` gives arguments of the constructor that are
            no keys; it raises a `BuildError` if the flow does not go with these.
        without: the names of those arguments.
        **validators: of the table.

    Returns:
        The table.
    """
    options = {"keys": keys, "defaults": defaults, "most": most}
    recipe = Recipe(constructor, supplied=("optimizer", *without), **options)

    def build(self: AbstractFlowTable, optimizer: Any, start: Any) -> "flows.AbstractFlow":
        given = {"optimizer": optimizer} if recipe.takes("optimizer") else {}
        given |= {} if supplied is None else supplied(self, optimizer, start)
        return recipe.construct(self, **given)

    def count(self: AbstractFlowTable) -> int:
        return vectors if isinstance(vectors, int) else vectors(self)

    def fill(cls: type[AbstractFlowTable], data: Any) -> Any:
        del cls
        if not isinstance(data, dict):
            return data
        filled = {"label": kind, "solver": {}, **data}
        if isinstance(filled["solver"], dict):
            # An accuracy chooses the flow's own solver too.
            chosen = "default" if filled["solver"].get("accuracy") else solver
            filled["solver"] = {"kind": chosen, **filled["solver"]}
        return filled

    return table_of(
        AbstractFlowTable,
        kind,
        recipe,
        extra,
        models=models,
        batched=batched,
        vectors=property(count),
        build=build,
        fill_defaults=pydantic.model_validator(mode="before")(fill),
        **validators,
    )
