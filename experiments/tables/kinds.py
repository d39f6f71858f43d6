"""The kinds of table that a config may have: a registry for each concept, filled by its modules.

A module of this folder adds its kinds as it is imported. All of them are found and imported when a
registry is first read, and after them the plugins that are installed, so that no list of kinds is
kept anywhere. Users add theirs with the functions of `registration`.
"""

import contextlib
import importlib
import pkgutil
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import pydantic
import pydantic_core
from pydantic_core import core_schema

_T = TypeVar("_T")

BUILT_IN = "eosflows"
"""The origin of our own kinds."""

PYTHON = "Python"
"""The origin of what a program registers without having been imported by us."""


class _State:
    """By whom what is registered next is registered, and what was found so far."""

    def __init__(self) -> None:
        self.origin = PYTHON
        # Counts the changes, so that models which were built before are built again.
        self.version = 0
        self.discovering = False
        self.complete = False


_state = _State()
_registries: "list[Registry[Any]]" = []


class Registry(Generic[_T]):
    """The kinds of one concept: potentials, optimizers, flows.

    Args:
        concept: what one is called, for messages.
        forget: called with each kind that is forgotten.
    """

    def __init__(
        self,
        concept: str,
        forget: Callable[[str], None] = lambda kind: None,
    ):
        self.concept = concept
        self.forgotten = forget
        self.own: dict[str, tuple[_T, str]] = {}
        _registries.append(self)

    def add(self, entry: _T) -> _T:
        """Add a kind of our own, and return its table."""
        kind = kind_of(entry)
        assert kind not in self.own, kind
        self.own[kind] = (entry, BUILT_IN)
        _state.version += 1
        return entry

    def register(self, kind: str, entry: _T) -> None:
        """Add a kind of a user's; at a prompt, a kind may be defined again.

        Args:
            kind: its name in a config.
            entry: its table, or what else stands for it.

        Raises:
            ValueError: if the kind is there already.
        """
        discover()
        if kind in self.own and not self.own[kind][1] == _state.origin == PYTHON:
            origin = self.own[kind][1]
            by = "is built in" if origin == BUILT_IN else f"is registered already, by {origin}"
            raise ValueError(f"the {self.concept} {kind!r} {by}; choose another name for yours.")
        self.own[kind] = (entry, _state.origin)
        _state.version += 1

    @property
    def entries(self) -> Mapping[str, _T]:
        """All kinds, in the order of their names, whatever was imported first."""
        discover()
        return {kind: entry for kind, (entry, _) in sorted(self.own.items())}

    def is_built_in(self, kind: str) -> bool:
        """True if the kind is one of our own."""
        discover()
        return kind in self.own and self.own[kind][1] == BUILT_IN


class OneOf(NamedTuple):
    """For an annotation: a table of any kind that is registered, told apart by its key `kind`.

    Attributes:
        registry: of the concept.
        kinds: those that are allowed; all if there are none.
    """

    registry: Registry[Any]
    kinds: tuple[str, ...] = ()

    @property
    def tables(self) -> dict[str, type[pydantic.BaseModel]]:
        """The tables that are allowed, by kind."""
        entries = self.registry.entries
        return {kind: entries[kind] for kind in self.kinds or entries}

    def __get_pydantic_core_schema__(
        self, source: Any, handler: pydantic.GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """A union of what is registered when the schema is built."""
        tables = self.tables.items()
        if not tables:
            return core_schema.no_info_plain_validator_function(_refuse)
        choices = {kind: handler.generate_schema(table) for kind, table in tables}
        return core_schema.tagged_union_schema(choices, discriminator="kind")


def _refuse(value: Any) -> Any:
    """Refuse a table of whatever kind, where there is none."""
    tag = value.get("kind") if isinstance(value, Mapping) else value
    context = {"discriminator": "kind", "tag": str(tag), "expected_tags": ""}
    raise pydantic_core.PydanticKnownError("union_tag_invalid", context)


class AnyOf(NamedTuple):
    """For an annotation: one of the words that a function gives when the schema is built."""

    words: Callable[[], tuple[str, ...]]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: pydantic.GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """A literal of the words."""
        return core_schema.literal_schema(list(self.words()))


def models(annotation: Any) -> list[type[pydantic.BaseModel]]:
    """The table models named anywhere in a type, of all kinds that it allows."""
    for part in typing.get_args(annotation):
        if isinstance(part, OneOf):
            return list(part.tables.values())
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in models(part)]


def kind_of(table: Any) -> str:
    """The kind of a table, the one value of its key `kind`."""
    return typing.get_args(table.model_fields["kind"].annotation)[0]


def discover() -> None:
    """Import the modules of this folder and the installed plugins, unless that was done.

    Raises:
        UserError: if a plugin cannot be imported.
    """
    if _state.complete or _state.discovering:
        return
    _state.discovering = True
    try:
        package = importlib.import_module(__package__ or "")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
        importlib.import_module(f"{package.__name__}.plugins").import_installed()
        _state.complete = True
    finally:
        _state.discovering = False


_built: dict[type[pydantic.BaseModel], int] = {}


def refresh(model: type[pydantic.BaseModel]) -> None:
    """Build a model's validator again if kinds were registered or forgotten since it was built."""
    discover()
    if _built.get(model) != _state.version:
        model.model_rebuild(force=True)
        _built[model] = _state.version


@contextlib.contextmanager
def registering(origin: str) -> Iterator[None]:
    """Note for a block of code who registers what it registers."""
    before, _state.origin = _state.origin, origin
    try:
        yield
    finally:
        _state.origin = before


def registered(origin: str) -> tuple[str, ...]:
    """What was registered by an origin, each as "concept kind", in order."""
    return tuple(
        f"{registry.concept} {kind}"
        for registry in _registries
        for kind, (_, by) in registry.own.items()
        if by == origin
    )


def forget(origin: str) -> None:
    """Take back what an origin registered."""
    for registry in _registries:
        for kind in [kind for kind, (_, by) in registry.own.items() if by == origin]:
            del registry.own[kind]
            registry.forgotten(kind)
            _state.version += 1
