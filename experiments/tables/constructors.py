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

Constructor = str | Callable[..., Any]
"""A class or function, or the name of a public one of ours, `"flows.RodFlow"`."""

REQUIRED = object()
"""The default of an argument that has none."""

_OURS = ("flows", "potentials")
_TYPES = {"int": int, "float": float, "bool": bool, "str": str, "ArrayLike": float}
_SEQUENCES = {"Sequence", "Iterable", "tuple", "list"}
# How the checks of `flows.core.validation` and `potentials.checks` name the bounds they are given.
_BOUNDS = {"above": "gt", "least": "ge", "below": "lt", "most": "le"}


class Check(NamedTuple):
    """What a constructor checks of an argument.

    Attributes:
        kind: "float", "int", "str", "vector" (of floats), "sizes" (of ints) or "matrix".
        bounds: of each number.
        empty: True if a sequence may have no entry.
    """

    kind: str
    bounds: Bounds = Bounds()
    empty: bool = False

    def __hash__(self) -> int:
        # Members of a union must be hashable, and the bounds are a dictionary.
        return hash((self.kind, tuple(self.bounds.items()), self.empty))


_POSITIVE_INT = Check("int", {"ge": 1})
# By their names; the later ones take their bounds as keyword arguments.
_CHECKS = {
    "positive": Check("float", {"gt": 0}),
    "non_negative": Check("float", {"ge": 0}),
    "finite": Check("float"),
    "fraction": Check("float", {"ge": 0, "lt": 1}),
    "proper_fraction": Check("float", {"gt": 0, "lt": 1}),
    "positive_integer": _POSITIVE_INT,
    "non_negative_integer": Check("int", {"ge": 0}),
    "positive_integers": Check("sizes", {"ge": 1}, empty=True),
    "text": Check("str"),
    "matrix": Check("matrix"),
    **dict.fromkeys(("number", "Number"), Check("float")),
    **dict.fromkeys(("numbers", "Vector"), Check("vector")),
    **dict.fromkeys(("count", "WholeNumber"), _POSITIVE_INT),
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


class _Opaque:
    """Any type that a config cannot express: an array, a function, an optimizer."""


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
    if kind == "matrix":
        return Matrix
    if lists or kind in ("vector", "sizes"):
        items = _members(typing.get_args(lists[0])[0]) if lists else [float]
        each = check and check._replace(kind={"vector": "float", "sizes": "int"}.get(kind, kind))
        item = _type(items, each, most)
        least = 0 if check is None or check.empty else 1
        return item and Annotated[tuple[item, ...], pydantic.Field(strict=False, min_length=least)]
    number = next((one for one in (float, int, bool, str) if one in members), None)
    number = _TYPES[kind] if kind else number
    bounds = Bounds(**check.bounds) if check is not None else Bounds()
    if number is int:
        bounds["le"] = min(bounds.get("le", most), most)
    if words and number in (int, float):
        return number_or_word(number, bounds, tuple(words))
    if words:
        return Literal[tuple(words)]
    return Annotated[number, pydantic.Field(**bounds)] if number and bounds else number


def _check_of(check: Any) -> Check | None:
    """What a check object of ours, or a function of ours, checks; None for anything else."""
    if isinstance(check, Check):
        return check
    name = getattr(check, "__name__", type(check).__name__)
    known = _CHECKS.get(name)
    return known and _with_bounds(known, {k: getattr(check, k, None) for k in (*_BOUNDS, "empty")})


def _with_bounds(check: Check, options: Mapping[str, Any]) -> Check:
    bounds: Any = {_BOUNDS[key]: value for key, value in options.items() if key in _BOUNDS}
    bounds = check.bounds | {key: value for key, value in bounds.items() if value is not None}
    kind = "matrix" if options.get("dimensions") == 2 else check.kind
    return Check(kind, bounds, bool(options.get("empty") or check.empty))


# From the text of a module of ours.


class _Module(NamedTuple):
    """A module's file, and its syntax tree."""

    path: Path
    tree: ast.AST

    def find(self, name: str) -> "tuple[_Module, ast.AST] | None":
        """What a name at the top of the module stands for, wherever it is imported from."""
        for node in ast.walk(self.tree):
            match node:
                case ast.ImportFrom(module=source, names=names, level=level):
                    for alias in names:
                        if (alias.asname or alias.name) == name:
                            module = self._imported(source or "", level)
                            return None if module is None else module.find(alias.name)
                case ast.ClassDef(name=found) | ast.FunctionDef(name=found) if found == name:
                    return self, node
                case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                    return self, value
                case ast.AnnAssign(target=ast.Name(id=found), value=ast.AST() as value):
                    if found == name:
                        return self, value
        return None

    def _imported(self, source: str, level: int) -> "_Module | None":
        parts = source.split(".")
        if level:
            folder = self.path.parents[level - 1]
        elif parts[0] in _OURS:
            folder, parts = _package(parts[0]), parts[1:]
        else:
            return None
        path = folder.joinpath(*parts)
        return _parse(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


@functools.cache
def _parse(path: Path) -> _Module:
    return _Module(path, ast.parse(path.read_text("utf-8")))


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _read(name: str) -> dict[str, _Declared]:
    package, _, attribute = name.rpartition(".")
    found = _parse(_package(package) / "__init__.py").find(attribute)
    if found is None:
        raise LookupError(f"{name}: there is no such public name")
    module, node = found
    checks = _checks(node, module)
    return {
        argument: _Declared(
            _annotation(annotation, module),
            REQUIRED if default is None else _value(default, module),
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
                if _called(annotation) == "ClassVar":
                    continue
                if isinstance(value, ast.Call):  # eqx.field(...)
                    value = next((k.value for k in value.keywords if k.arg == "default"), None)
                yield name, annotation, value


def _checks(node: ast.AST, module: _Module) -> dict[str, Check]:
    """The checks anywhere in a constructor, by the argument that each names."""
    found: dict[str, Check] = {}
    for call in ast.walk(node):
        match call:
            case ast.Call(func=ast.Name(id="partial"), args=[check, ast.Constant(value=str(name))]):
                one = _check(check, module)
            case ast.Call(
                func=function, args=[ast.Constant(value=str(name)), *_], keywords=options
            ):
                one = _check(ast.Call(function, [], options), module)
            case ast.keyword(arg="converter", value=ast.Name(id=function)):
                home = module.find(function)
                if home is not None and isinstance(home[1], ast.FunctionDef):
                    found = {**_checks(home[1], home[0]), **found}
                continue
            case _:
                continue
        if one is not None:
            found.setdefault(name, one)
    return found


def _check(node: ast.AST, module: _Module) -> Check | None:
    """The check that `positive`, `checks.count(least=2)` or `Number(above=0.0)` makes."""
    match node:
        case ast.Call(func=function, keywords=keywords):
            known = _check(function, module)
            options = {k.arg: _value(k.value, module) for k in keywords if k.arg is not None}
            return known and _with_bounds(known, options)
        case ast.Name(id=name):
            found = module.find(name)
            if found is not None and isinstance(found[1], ast.Call):
                return _check(found[1], found[0])
    return _CHECKS.get(_called(node))


def _called(node: ast.AST) -> str:
    """The last name of `a.b.c` or `c[...]`."""
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case ast.Subscript(value=value):
            return _called(value)
    return ""


def _value(node: ast.AST, module: _Module) -> Any:
    """The value of a default; None, for the constructor to fill in, if it is no literal."""
    if isinstance(node, ast.Name):
        found = module.find(node.id)
        return None if found is None else _value(found[1], found[0])
    try:
        return ast.literal_eval(node)  # pyright: ignore[reportArgumentType]
    except ValueError:
        return None


def _annotation(node: ast.AST | None, module: _Module) -> Any:
    """An annotation as a type, in which whatever a config cannot express is `_Opaque`."""
    match node:
        case ast.Constant(value=None):
            return type(None)
        case ast.Constant(value=str(text)):
            return _annotation(ast.parse(text, mode="eval").body, module)
        case ast.BinOp(left=left, right=right):
            return typing.Union[_annotation(left, module), _annotation(right, module)]  # noqa: UP007
        case ast.Name(id=name) if name in _TYPES:
            return _TYPES[name]
        case ast.Name(id=name):
            found = module.find(name)
            if found is None or isinstance(found[1], ast.ClassDef | ast.FunctionDef):
                return _Opaque
            return _annotation(found[1], found[0])
        case ast.Subscript(value=outer, slice=inner):
            return _subscripted(_called(outer), inner, module)
    return _Opaque


def _subscripted(outer: str, inner: ast.AST, module: _Module) -> Any:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if outer == "Literal":
        return Literal[tuple(_value(part, module) for part in parts)]
    if outer == "Float" and _value(parts[1], module) == "":
        return float
    if outer == "Annotated":
        check = _check(parts[1], module)
        kind = _annotation(parts[0], module)
        return kind if check is None else Annotated[kind, check]
    if outer in _SEQUENCES:
        item = _annotation(parts[0], module)
        return tuple[item, ...] if outer == "tuple" else list[item]
    return _Opaque


# Of an object that is there.


def _inspected(constructor: Callable[..., Any]) -> dict[str, _Declared]:
    hints, checks = _hints(constructor), _checks_of(constructor)
    found: dict[str, _Declared] = {}
    for name, parameter in inspect.signature(constructor).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = REQUIRED if parameter.default is parameter.empty else parameter.default
        annotation = hints.get(name, Any)
        if any(getattr(member, "dims", None) == () for member in _members(annotation)):
            annotation = float  # One of jaxtyping's arrays, which a converter makes of a number.
        found[name] = _Declared(
            annotation, default if _is_toml(default) else None, checks.get(name)
        )
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
        module = _parse(Path(inspect.getsourcefile(constructor) or ""))
    except (OSError, TypeError):
        return {}  # Typed at a prompt: its own check still refuses what it does not allow.
    return _checks(ast.parse(text), module)


def _is_toml(value: Any) -> bool:
    if value is REQUIRED or value is None or isinstance(value, bool | int | float | str):
        return True
    return isinstance(value, tuple | list) and all(map(_is_toml, value))
