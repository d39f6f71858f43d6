"""What a constructor accepts, read from its source text: no module of ours is imported for it.

The tables of a config are derived from the constructors of `flows` and `potentials`. To import
these takes seconds, for which the answer to a misspelt key should not have to wait; their source
says the same. A user's own class is there already, and is asked itself.

Three things of a constructor count: the annotation of each argument, its default, and the check
that it makes, which gives the range. The check is found where our code makes it: as
`positive("share", share)` in the body, as a field's `converter=partial(positive, "share")`, or in
the annotation, `Annotated[float, positive]`. An argument that TOML cannot express is left out.
"""

import ast
import collections.abc
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pydantic

from .base import LARGEST_INT, Bounds, Matrix, number_or_word
from .schedules import number_or_schedule

Constructor = str | Callable[..., Any]
"""A class or function, or the name of a public one of ours, `"flows.RodFlow"`."""

REQUIRED = object()
"""The default of an argument that has none."""

_OURS = ("flows", "potentials")
_TYPES = {"int": int, "float": float, "bool": bool, "str": str, "ArrayLike": float}
# How the checks of `flows.core.validation` and `potentials.checks` name the bounds they are given.
_BOUNDS = {"above": "gt", "least": "ge", "below": "lt", "most": "le"}


class Check(NamedTuple):
    """What a constructor checks of an argument.

    Attributes:
        kind: "float", "int", "str", "vector" (of floats), "sizes" (of ints), "matrix" or "rate", a
            number or a schedule.
        bounds: of each number.
        empty: True if a sequence may have no entry.
    """

    kind: str
    bounds: Bounds = Bounds()
    empty: bool = False

    def __hash__(self) -> int:
        # Members of a union must be hashable, and the bounds are a dictionary.
        return hash((self.kind, tuple(self.bounds.items()), self.empty))

    def __call__(self, **options: Any) -> "Check":
        """What `Number(above=0.0)` checks, if this is what `Number()` does."""
        given = {k: v for k, v in options.items() if isinstance(v, bool | int | float)}
        bounds: Any = {_BOUNDS[key]: value for key, value in given.items() if key in _BOUNDS}
        return Check(self.kind, self.bounds | bounds, bool(given.get("empty", self.empty)))


# By their names; the capital ones take their bounds as keyword arguments.
_CHECKS = {
    "positive": Check("float", {"gt": 0}),
    "non_negative": Check("float", {"ge": 0}),
    "finite": Check("float"),
    "fraction": Check("float", {"ge": 0, "lt": 1}),
    "proper_fraction": Check("float", {"gt": 0, "lt": 1}),
    "positive_integer": Check("int", {"ge": 1}),
    "non_negative_integer": Check("int", {"ge": 0}),
    "prng_seed": Check("int", {"ge": 0, "le": 2**32 - 1}),
    "positive_integers": Check("sizes", {"ge": 1}, empty=True),
    "rate": Check("rate", {"gt": 0}),
    "text": Check("str"),
    "matrix": Check("matrix"),
    "Number": Check("float"),
    "Vector": Check("vector"),
    "WholeNumber": Check("int", {"ge": 1}),
}


class Argument(NamedTuple):
    """An argument of a constructor, as a config can give it.

    Attributes:
        type: a type for pydantic; None if TOML cannot express the argument.
        default: the value if it is left out; `REQUIRED` if it may not be.
        as_tuple: True if a list of the config is passed on as a tuple.
    """

    type: Any
    default: Any
    as_tuple: bool = False


class _Unknown(type):
    """The type of `_Opaque`: its attributes, items and values are as opaque."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _CHECKS.get(name, cls)  # As in `checks.positive`.

    def __getitem__(cls, key: Any) -> Any:
        return cls

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        return cls


class _Opaque(metaclass=_Unknown):
    """In place of what a config cannot express: an array, a function, an optimizer."""


class _Float:
    """In place of `jaxtyping.Float`: an array without axes can be made of a number."""

    def __class_getitem__(cls, key: tuple[Any, str]) -> type:
        return float if key[1] == "" else _Opaque


class _Declared(NamedTuple):
    """An argument as it is declared: the annotation as a type, the default, and the check."""

    annotation: Any
    default: Any
    check: Check | None


def arguments(constructor: Constructor, most: Mapping[str, int]) -> dict[str, Argument]:
    """Read what a constructor accepts.

    Args:
        constructor: a class or function, or the public name of one of ours.
        most: upper bounds of whole numbers that take memory, which a constructor does not know.

    Returns:
        The arguments by name, in the constructor's order.

    Raises:
        LookupError: if there is no such public name.
        TypeError: if Python knows no signature of the constructor.
    """
    found = _read(constructor) if isinstance(constructor, str) else _inspected(constructor)
    return {
        name: _argument(declared, most.get(name, LARGEST_INT)) for name, declared in found.items()
    }


def resolve(constructor: Constructor) -> Callable[..., Any]:
    """Import the constructor that a public name names."""
    if not isinstance(constructor, str):
        return constructor
    package, _, name = constructor.rpartition(".")
    return getattr(importlib.import_module(package), name)


def _argument(declared: _Declared, most: int) -> Argument:
    annotation, default, check = declared
    default = default if _is_toml(default) else None
    members = []
    for member in _members(annotation):
        if typing.get_origin(member) is Annotated:
            inner, *metadata = typing.get_args(member)
            of_ours = [one for one in map(_check_of, metadata) if one is not None]
            if not of_ours:
                return Argument(annotation, default)  # With metadata of pydantic's.
            check, member = of_ours[0], inner
        members += _members(member)
    if isinstance(default, bool | int | float | str) and set(members) <= {Any, _Opaque}:
        members = [type(default)]  # Not annotated.
    as_tuple = any(typing.get_origin(member) is tuple for member in members)
    return Argument(_type(members, check, most), default, as_tuple)


def _members(annotation: Any) -> list[Any]:
    """The members of a union, flat; any other type by itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [member for part in typing.get_args(annotation) for member in _members(part)]
    return [annotation]


def _type(members: list[Any], check: Check | None, most: int) -> Any:
    """The pydantic type of an argument; None if there is none."""
    origins = {member: typing.get_origin(member) for member in members}
    words = [word for m in members if origins[m] is Literal for word in typing.get_args(m)]
    lists = [m for m in members if origins[m] in (collections.abc.Sequence, tuple, list)]
    kind = check.kind if check is not None else ""
    bounds = Bounds(**check.bounds) if check is not None else Bounds()
    if kind == "matrix":
        return Matrix
    if kind == "rate" or (float in members and any(map(_is_function, members))):
        return number_or_schedule(bounds)
    if lists or kind in ("vector", "sizes"):
        items = _members(typing.get_args(lists[0])[0]) if lists else [float]
        each = check and check._replace(kind={"vector": "float", "sizes": "int"}.get(kind, kind))
        item = _type(items, each, most)
        least = 0 if check is None or check.empty else 1
        return item and Annotated[tuple[item, ...], pydantic.Field(strict=False, min_length=least)]
    number = next((one for one in (float, int, bool, str) if one in members), None)
    number = _TYPES[kind] if kind else number
    if number is int:
        bounds["le"] = min(bounds.get("le", most), most)
    if words and number in (int, float):
        return number_or_word(number, bounds, tuple(words))
    if words:
        return Literal[tuple(words)]
    return Annotated[number, pydantic.Field(**bounds)] if number and bounds else number


def _is_function(member: Any) -> bool:
    """True for a type of functions: `flows.Schedule`, or any callable as in optax's schedules."""
    callables = (collections.abc.Callable, typing.Callable)
    is_callable = member in callables or typing.get_origin(member) in callables
    return is_callable or getattr(member, "__name__", "") == "Schedule"


def _check_of(check: Any) -> Check | None:
    """What a check object of ours, or a function of ours, checks; None for anything else."""
    if isinstance(check, Check):
        return check
    known = _CHECKS.get(getattr(check, "__name__", type(check).__name__))
    return known and known(**{key: getattr(check, key, None) for key in (*_BOUNDS, "empty")})


def _is_toml(value: Any) -> bool:
    if value is REQUIRED or value is None or isinstance(value, bool | int | float | str):
        return True
    return isinstance(value, tuple | list) and all(map(_is_toml, value))


# From the text of a module of ours.

_KNOWN = {
    **_TYPES,
    **dict.fromkeys(("list", "Sequence", "Iterable"), list),
    **{"tuple": tuple, "Literal": Literal, "Annotated": Annotated, "Float": _Float},
}


class _Names(dict[str, Any]):
    """What the names of a module mean, each found out when it is first used.

    A check is a `Check`, an alias of a type is that type, and what we do not know is `_Opaque`.
    """

    def __init__(self, path: Path):
        super().__init__()
        self._path = path
        self._nodes: dict[str, ast.AST] = {}
        for node in _statements(ast.parse(path.read_text("utf-8")).body):
            match node:
                case ast.ImportFrom(names=aliases):
                    names = [alias.asname or alias.name for alias in aliases]
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                    names = [name]
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=node)
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.AST() as node)
                ):
                    names = [name]
                case _:
                    names = []
            for name in names:
                self._nodes.setdefault(name, node)

    def find(self, name: str) -> "tuple[_Names, ast.AST | None]":
        """Where a name is defined, and as what; None if that is in no module of ours."""
        node = self._nodes.get(name)
        if not isinstance(node, ast.ImportFrom):
            return self, node
        parts = (node.module or "").split(".")
        if node.level:
            folder = self._path.parents[node.level - 1]
        elif parts[0] in _OURS:
            folder, parts = _package(parts[0]), parts[1:]
        else:
            return self, None
        path = folder.joinpath(*parts)
        home = _names(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))
        return home.find(next(a.name for a in node.names if name in (a.asname, a.name)))

    def __missing__(self, name: str) -> Any:
        self[name] = _Opaque  # While it is found out: it may be defined by itself.
        home, node = self.find(name)
        if node is None or isinstance(node, ast.ClassDef | ast.FunctionDef):
            self[name] = _CHECKS.get(name, _KNOWN.get(name, _Opaque))
        else:
            self[name] = home.evaluate(node)
        return self[name]

    def evaluate(self, node: Any) -> Any:
        """The value of an expression, in which each name has the meaning that it has here."""
        try:
            return eval(compile(ast.Expression(node), str(self._path), "eval"), {}, self)
        except Exception:  # It asks more of something than its replacement can do.
            return _Opaque


_names = functools.cache(_Names)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those under a condition included (TYPE_CHECKING)."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from _statements([*node.body, *node.orelse])


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _read(name: str) -> dict[str, _Declared]:
    package, _, attribute = name.rpartition(".")
    names, node = _names(_package(package) / "__init__.py").find(attribute)
    if node is None:
        raise LookupError(f"{name}: there is no such public name")
    checks = _checks(node, names)
    return {
        argument: _Declared(
            names.evaluate(annotation),
            REQUIRED if default is None else names.evaluate(default),
            checks.get(argument),
        )
        for argument, annotation, default in _listed(node)
    }


_Listed = tuple[str, ast.AST | None, ast.AST | None]


def _listed(node: ast.AST) -> Iterator[_Listed]:
    """The arguments of a function, or of a class's `__init__`, or a dataclass's fields."""
    if isinstance(node, ast.ClassDef):
        inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        if not inits:
            yield from _fields(node)
            return
        node = inits[0]
    assert isinstance(node, ast.FunctionDef)
    positional = [*node.args.posonlyargs, *node.args.args]
    none: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    defaults = [*none, *node.args.defaults, *node.args.kw_defaults]
    for argument, default in zip([*positional, *node.args.kwonlyargs], defaults, strict=True):
        if argument.arg != "self":
            yield argument.arg, argument.annotation, default


def _fields(node: ast.ClassDef) -> Iterator[_Listed]:
    for field in node.body:
        match field:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                if ast.unparse(annotation).startswith("ClassVar"):
                    continue
                if isinstance(value, ast.Call):  # eqx.field(...)
                    value = next((k.value for k in value.keywords if k.arg == "default"), None)
                yield name, annotation, value


def _checks(node: ast.AST, names: _Names) -> dict[str, Check]:
    """The checks anywhere in a constructor, by the argument that each names."""
    found: dict[str, Check] = {}
    for call in ast.walk(node):
        match call:
            case ast.Call(func=ast.Name(id="partial"), args=[check, ast.Constant(value=str(name))]):
                one = names.evaluate(check)
            case ast.Call(
                func=function, args=[ast.Constant(value=str(name)), *_], keywords=options
            ):
                one = names.evaluate(ast.copy_location(ast.Call(function, [], options), call))
            case ast.keyword(arg="converter", value=ast.Name(id=function)):
                home, converter = names.find(function)
                if isinstance(converter, ast.FunctionDef):
                    found = {**_checks(converter, home), **found}
                continue
            case _:
                continue
        if isinstance(one, Check):
            found.setdefault(name, one)
    return found


# Of an object that is there.


def _inspected(constructor: Callable[..., Any]) -> dict[str, _Declared]:
    hints, checks = _hints(constructor), _checks_of(constructor)
    found: dict[str, _Declared] = {}
    for name, parameter in inspect.signature(constructor).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = REQUIRED if parameter.default is parameter.empty else parameter.default
        annotation = hints.get(name, Any)
        members = _members(annotation)
        if any(getattr(member, "dims", None) == () for member in members):
            # One of jaxtyping's arrays, which a converter makes of a number.
            annotation = typing.Union[float, *filter(_is_function, members)]
        found[name] = _Declared(annotation, default, checks.get(name))
    return found


def _hints(constructor: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a constructor, and of a dataclass's fields where these say more."""
    if not inspect.isclass(constructor):
        return typing.get_type_hints(constructor, include_extras=True)
    own = typing.get_type_hints(constructor.__init__, include_extras=True)
    if not dataclasses.is_dataclass(constructor):
        return own
    fields = typing.get_type_hints(constructor, include_extras=True)
    return {**fields, **{name: hint for name, hint in own.items() if hint is not Any}}


def _checks_of(constructor: Callable[..., Any]) -> dict[str, Check]:
    try:
        text = textwrap.dedent(inspect.getsource(constructor))
        names = _names(Path(inspect.getsourcefile(constructor) or ""))
    except (OSError, TypeError):
        return {}  # Typed at a prompt: its own check still refuses what it does not allow.
    return _checks(ast.parse(text), names)
