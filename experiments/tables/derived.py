"""Tables that are derived from constructors: `table_of(AbstractFlowTable, "rod", recipe, ...)`.

A constructor knows its arguments, their types, ranges and defaults; the table says only what it
cannot know: keys that belong to a config alone, sizes that take too much memory, and what the table
needs besides to build.
"""

import re
import types
from collections.abc import Mapping
from typing import Any, TypedDict, TypeVar

from ..system.text import show
from .base import BuildError, Key, Seed, Table, building, define, field
from .constructors import REQUIRED, Argument, Constructor, arguments, resolve
from .schedules import AbstractScheduleTable

_Base = TypeVar("_Base", bound=Table)
NONE: Mapping[str, Any] = types.MappingProxyType({})
"""No keys."""

# "name must be ..., got ..." as `flows` and `potentials` say it.
_MESSAGE = re.compile(r"(?P<name>\w+) (?P<allowed>must .*?)(?:[;,] got .*?)?\.?", re.DOTALL)


class RecipeOptions(TypedDict, total=False):
    """What the functions that derive tables pass on to `Recipe`."""

    keys: Mapping[str, Key]
    defaults: Mapping[str, Any]
    most: Mapping[str, int]


class Recipe:
    """How a constructor is called with the values of a table.

    Args:
        constructor: a class or function, or the public name of one of ours.
        supplied: the arguments that are no keys: whoever builds the table passes them, or leaves
            them at their defaults.
        keys: what a key accepts, in place of what the constructor says: a type, or a pair of a type
            and a default.
        defaults: defaults in place of the constructor's; a key of None is left to it.
        most: upper bounds of whole numbers that take memory.

    Raises:
        TypeError: if an argument that is required has no type that TOML can express.
    """

    def __init__(
        self,
        constructor: Constructor,
        *,
        supplied: tuple[str, ...] = (),
        keys: Mapping[str, Key] = NONE,
        defaults: Mapping[str, Any] = NONE,
        most: Mapping[str, int] = NONE,
    ):
        self.constructor = constructor
        self._arguments = arguments(constructor, most)
        self.fields: dict[str, tuple[Any, Any]] = {}
        for name, argument in self._arguments.items():
            if name in defaults:
                argument = argument._replace(default=defaults[name])
            if name in keys:
                self.fields[name] = field(keys[name])
            elif name not in supplied and self._can_be_said(name, argument):
                kind = argument.type if name != "seed" else Seed
                default = ... if argument.default is REQUIRED else argument.default
                self.fields[name] = field((kind, default))

    def takes(self, name: str) -> bool:
        """True if the constructor has an argument of that name."""
        return name in self._arguments

    @property
    def name(self) -> str:
        """What the constructor is called."""
        if isinstance(self.constructor, str):
            return self.constructor
        return getattr(self.constructor, "__name__", repr(self.constructor))

    def construct(self, table: Table, **supplied: Any) -> Any:
        """Call the constructor with a table's values, and what is supplied besides.

        Args:
            table: the table; a key that is left out is left to the constructor's default.
            **supplied: the other arguments, in place of the table's.

        Returns:
            What the constructor makes.

        Raises:
            BuildError: if the constructor refuses the value of a key.
            ValueError: if it refuses something else.
        """
        given = {name: getattr(table, name) for name in self.fields}
        values = {
            name: value if self._arguments[name].as_tuple else _listed(value)
            for name, value in given.items()
            if value is not None
        }
        for name, value in values.items():
            if isinstance(value, AbstractScheduleTable):
                with building(name):
                    values[name] = value.build()
        try:
            return resolve(self.constructor)(**{**values, **supplied})
        except BuildError:
            raise
        except ValueError as error:
            refused = _MESSAGE.fullmatch(str(error))
            if refused is None or refused["name"] not in values:
                raise
            name = refused["name"]
            message = f"given {show(given[name])}; {refused['allowed']}"
            raise BuildError(name, message) from error
        except Exception as error:
            if isinstance(self.constructor, str):
                raise
            # A user's own: the config it was called by is what there is to be seen of it.
            raise ValueError(f"{self.name} raised {type(error).__name__}: {error}") from error

    def _can_be_said(self, name: str, argument: Argument) -> bool:
        """True if a config can give the argument; the constructor has a default if it cannot."""
        if argument.type is None and argument.default is REQUIRED:
            raise TypeError(
                f"{self.name}: a config has no value for its argument {name!r}; annotate it as a "
                "number, bool, str, Literal or a sequence of these, or give it a default."
            )
        return argument.type is not None


def table_of(
    base: type[_Base],
    kind: str,
    recipe: Recipe,
    extra: Mapping[str, Key] = NONE,
    **members: Any,
) -> type[_Base]:
    """Make the table of a constructor.

    Args:
        base: the abstract table of its concept.
        kind: its name in a config, the value of the key `kind`.
        recipe: which constructor, and what is its own of each key.
        extra: keys that are not passed to the constructor.
        **members: class variables, methods and validators of the table: what `base` has abstract.

    Returns:
        A final subclass of `base`.
    """
    fields = {**recipe.fields, **{name: field(key) for name, key in extra.items()}}
    name = recipe.name.rpartition(".")[2]
    about = f'`kind = "{kind}"`: the arguments of `{recipe.name}`.'
    return define(base, kind, name, about, fields, **members)


def built_table(base: type[_Base], kind: str, constructor: Constructor) -> type[_Base]:
    """Make a table whose method `build` calls a constructor with the table's own values, no others.

    Args:
        base: the abstract table of its concept.
        kind: its name in a config.
        constructor: a class or function, or the public name of one of ours.

    Returns:
        A final subclass of `base`.
    """
    recipe = Recipe(constructor)
    return table_of(base, kind, recipe, build=lambda self: recipe.construct(self))


def _listed(value: Any) -> Any:
    """Lists for tuples, all the way down."""
    return [_listed(item) for item in value] if isinstance(value, tuple) else value
