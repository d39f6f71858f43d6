"""Checks of arguments: a ValueError names the argument, the value given and what is allowed.

A constructor or a loader states each range once, where it declares the argument: as the converter
of a field, `eqx.field(converter=partial(positive, "radius"))`, or, where the argument is not stored
as it is, in its annotation, `Annotated[int, WholeNumber(least=2)]`, which `checked` then applies.
The tables of a config read types, defaults and ranges from there.
"""

import dataclasses
import difflib
import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

ScalarLike: TypeAlias = float | int | np.generic | np.ndarray | Array
"""One real number, as a user writes it, or as JAX traces it."""

VectorLike: TypeAlias = Sequence[float | int] | np.ndarray | Array
"""Real numbers of shape (n,)."""

MatrixLike: TypeAlias = Sequence[Sequence[float | int]] | np.ndarray | Array
"""Real numbers of shape (rows, columns)."""

Check: TypeAlias = Callable[[str, Any], Any]
"""Takes an argument's name and value, and returns the value converted or raises a ValueError."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Number:
    """The check of one finite real number; calling it gives an array of the default float dtype.

    Under a transformation of JAX the value is not known yet, so that a wrong one raises a checked
    error at run time instead.

    Args:
        above: the value must be larger than this, if given.
        least: the value must be this or larger, if given.
        below: the value must be smaller than this, if given.

    Example:
        >>> from potentials.checks import Number
        >>> share = Number(above=0.0, below=1.0)
        >>> float(share("share", 0.25))
        0.25
        >>> share("share", 1)
        Traceback (most recent call last):
        ValueError: share must be a finite number > 0 and < 1, got 1.0.
    """

    above: float | None = None
    least: float | None = None
    below: float | None = None

    def __call__(self, name: str, value: ScalarLike) -> Float[Array, ""]:
        """Convert the value of the argument `name`.

        Raises:
            ValueError: if it is not one finite real number within the range.
        """
        array = _floats(name, value)
        if array.shape != ():
            raise ValueError(
                f"{name} must be one number, got an array of shape {array.shape}. To batch over "
                f"it, map the constructor: jax.vmap(lambda value: ...(value))(values)."
            )
        values = _in_memory(array)
        wrong, allowed = ~(abs(values) < math.inf), []
        for sign, bound, excluded in (
            (">", self.above, operator.le),
            (">=", self.least, operator.lt),
            ("<", self.below, operator.ge),
        ):
            if bound is not None:
                wrong |= excluded(values, bound)
                allowed.append(f"{sign} {bound:g}")
        sentence = f"{name} must be a finite number {' and '.join(allowed)}".rstrip()
        return _refuse(array, wrong, sentence)


@dataclasses.dataclass(frozen=True)
class Vector:
    """The check of finite real numbers of shape (n,); calling it gives the default float dtype.

    Args:
        empty: whether n may be 0.
        above: every entry must be larger than this, if given.

    Example:
        >>> from potentials.checks import Vector
        >>> Vector()("spectrum", [3, 1.5]).shape
        (2,)
        >>> Vector()("spectrum", [])
        Traceback (most recent call last):
        ValueError: spectrum must be a non-empty array with 1 axis(es), got shape (0,).
    """

    empty: bool = False
    above: float | None = None

    def __call__(self, name: str, value: VectorLike) -> Float[Array, " n"]:
        """Convert the value of the argument `name`.

        Raises:
            ValueError: if it has another number of axes, is empty, or has an entry that is not
                finite or out of range.
        """
        array = _array(name, value, axes=1, empty=self.empty)
        values = _in_memory(array)
        wrong, allowed = ~(abs(values) < math.inf), "finite numbers"
        if self.above is not None:
            wrong |= values <= self.above
            allowed += f" > {self.above:g}"
        return _refuse(array, wrong.any(), f"{name} must hold {allowed} only")


def matrix(name: str, value: MatrixLike) -> Float[Array, "rows columns"]:
    """Convert finite real numbers of shape (rows, columns) to the default float dtype.

    Raises:
        ValueError: if the value has another number of axes, is empty or is not finite.
    """
    array = _array(name, value, axes=2)
    finite = abs(_in_memory(array)) < math.inf
    return _refuse(array, ~finite.all(), f"{name} must hold finite numbers only")


@dataclasses.dataclass(frozen=True)
class WholeNumber:
    """The check of a whole number, an int or a NumPy integer; calling it gives an int.

    Args:
        least: the smallest value allowed.
        most: the largest value allowed; None for no limit.

    Example:
        >>> from potentials.checks import WholeNumber
        >>> WholeNumber(least=2)("examples", 3)
        3
        >>> WholeNumber(least=2)("examples", 1)
        Traceback (most recent call last):
        ValueError: examples must be a whole number >= 2, got 1.
    """

    least: int = 1
    most: int | None = None

    def __call__(self, name: str, value: int | np.integer) -> int:
        """Convert the value of the argument `name`.

        Raises:
            ValueError: if it is no whole number within the range; True and False are none.
        """
        try:
            whole = None if isinstance(value, bool) else operator.index(value)
        except TypeError:
            whole = None
        too_large = self.most is not None and whole is not None and whole > self.most
        if whole is None or whole < self.least or too_large:
            limit = f">= {self.least}" if self.most is None else f"in {self.least}..{self.most}"
            raise ValueError(f"{name} must be a whole number {limit}, got {value!r}.")
        return whole


finite = Number()
positive = Number(above=0.0)
non_negative = Number(least=0.0)
proper_fraction = Number(above=0.0, below=1.0)
positive_integer = WholeNumber(least=1)
seed = WholeNumber(least=0, most=2**32 - 1)


def positive_integers(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Convert sizes to a tuple of Python ints, each at least 1.

    Raises:
        ValueError: if an entry is no whole number of at least 1.
    """
    return tuple(positive_integer(f"every entry of {name}", value) for value in values)


# The annotations that several constructors share.
Finite = Annotated[ScalarLike, finite]
NonNegative = Annotated[ScalarLike, non_negative]
Positive = Annotated[ScalarLike, positive]
ProperFraction = Annotated[ScalarLike, proper_fraction]
PositiveInteger = Annotated[int, positive_integer]
TwoOrMore = Annotated[int, WholeNumber(least=2)]
Seed = Annotated[int, seed]
Sizes = Annotated[Sequence[int], positive_integers]


def checked(function: _Function) -> _Function:
    """Apply the checks that a function or a constructor has in its annotations.

    `Annotated[type, check]` replaces the argument by `check(name, value)`; `Literal["a", "b"]`
    refuses all other names, with a suggestion. Where a union also has None or functions, these pass
    unchecked.

    Args:
        function: its annotations must be objects, not strings.

    Returns:
        The function, which now raises the ValueErrors of the checks.

    Example:
        >>> from typing import Literal
        >>> from potentials.checks import TwoOrMore, checked
        >>> @checked
        ... def load(examples: TwoOrMore | None = None, split: Literal["train", "test"] = "train"):
        ...     return examples, split
        >>> load()
        (None, 'train')
        >>> load(1)
        Traceback (most recent call last):
        ValueError: examples must be a whole number >= 2, got 1.
        >>> load(split="tests")
        Traceback (most recent call last):
        ValueError: split must be one of test, train; got 'tests'. Did you mean 'test'?
    """
    signature = inspect.signature(function)
    found = {name: _check_of(p.annotation) for name, p in signature.parameters.items()}
    checks = {name: check for name, check in found.items() if check is not None}

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python's own error names the function, too.
        bound.apply_defaults()
        for name, check in checks.items():
            bound.arguments[name] = check(name, bound.arguments[name])
        return function(*bound.args, **bound.kwargs)

    return wrapper  # pyright: ignore[reportReturnType]


def _check_of(annotation: Any) -> Check | None:
    """The check that an annotation carries, or None."""
    if get_origin(annotation) is Annotated:
        return annotation.__metadata__[0]
    if get_origin(annotation) is Literal:
        return functools.partial(_choice, get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        members = [_check_of(member) for member in get_args(annotation)]
        check = next((member for member in members if member is not None), None)
        return None if check is None else functools.partial(_member, check, get_args(annotation))
    return None


def _member(check: Check, union: Sequence[Any], name: str, value: Any) -> Any:
    """Check a value unless it is the None or the function that a union allows as well."""
    is_none = value is None and type(None) in union
    is_function = callable(value) and any(get_origin(member) is Callable for member in union)
    return value if is_none or is_function else check(name, value)


def _choice(allowed: Iterable[str], name: str, value: object) -> str:
    return choice(name, value, allowed)


def choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """Check that a value is one of a few names; a misspelt one is answered with a suggestion.

    Raises:
        ValueError: if `value` is not among `allowed`.
    """
    names = sorted(allowed)
    if isinstance(value, str) and value in names:
        return value
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{name} must be one of {', '.join(names)}; got {value!r}.{hint}")


def parameters(owner: str, value: object, shape: Sequence[int], what: str = "params") -> Array:
    """Convert a potential's parameters to a float array, and check its shape.

    The check happens while JAX traces, so that it costs a compiled program nothing.

    Args:
        owner: the potential, for the message.
        value: what the user passed.
        shape: the shape that the potential takes.
        what: which part of the parameters it is, for the message.

    Raises:
        ValueError: if `value` is no float array of that shape.
    """
    if not isinstance(value, (jax.Array, np.ndarray, np.generic, float, int)):
        raise ValueError(
            f"{owner} takes {what} as one float array of shape {tuple(shape)}, "
            f"got {type(value).__name__}."
        )
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"{owner} takes {what} of a float dtype, got {array.dtype}; write 1.0 instead of 1."
        )
    if array.shape != tuple(shape):
        raise ValueError(
            f"{owner} takes {what} of shape {tuple(shape)}, got {array.shape}. "
            f"For a batch of parameters use jax.vmap."
        )
    return array


def is_traced(value: object) -> bool:
    """True if a value is not known yet, because JAX is tracing the function around it."""
    return isinstance(value, jax.core.Tracer)


def _floats(name: str, value: object) -> Array:
    """`value` as an array of the default float dtype, never weakly typed.

    A weak type would make a Python number and an array of the same value two compilations.
    """
    try:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
        kinds = (np.bool_, np.integer, jnp.floating)
        if not any(jnp.issubdtype(array.dtype, kind) for kind in kinds):
            raise TypeError
        return jnp.asarray(array, dtype=jnp.result_type(float))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be real numbers, got {value!r}.") from None


def _array(name: str, value: object, axes: int, empty: bool = False) -> Array:
    array = _floats(name, value)
    if array.ndim != axes or (array.size == 0 and not empty):
        kind = "" if empty else "non-empty "
        raise ValueError(
            f"{name} must be a {kind}array with {axes} axis(es), got shape {array.shape}."
        )
    return array


def _in_memory(array: Array) -> Array | np.ndarray:
    """`array` for NumPy where its values are known: checking them is to compile no programs."""
    return array if is_traced(array) else np.asarray(array)


def _refuse(array: Array, wrong: ArrayLike, message: str) -> Array:
    """Raise at once where the value is known, and at run time where it is traced."""
    if is_traced(wrong):
        return eqx.error_if(array, wrong, message + ".")
    if bool(wrong):
        shown = np.array2string(np.asarray(array), threshold=8)
        raise ValueError(f"{message}, got {shown}.")
    return array
