"""Arguments checked in one way: a ValueError names the argument, its value and what is allowed."""

import difflib
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from jaxtyping import ArrayLike as AnyArray


def number(
    name: str, value: Any, *, above: float | None = None, least: float | None = None
) -> Float[Array, ""]:
    """A finite real number as an array leaf of the default float dtype.

    Args:
        name: what the argument is called, for the message.
        value: a number, or an array of shape () (a tracer too).
        above: if given, the value must be larger than this.
        least: if given, the value must be this or larger.

    Raises:
        ValueError: if the value is no finite number in the range.
    """
    array = _floats(name, value)
    if array.shape != ():
        raise ValueError(
            f"{name} must be one number, got an array of shape {array.shape}. To batch over it, "
            f"map the constructor: jax.vmap(lambda value: ...(value))(values)."
        )
    allowed = "a finite number"
    if above is not None:
        allowed += f" > {above:g}"
    if least is not None:
        allowed += f" >= {least:g}"
    wrong = ~jnp.isfinite(array)
    if above is not None:
        wrong |= array <= above
    if least is not None:
        wrong |= array < least
    return _refuse(array, wrong, f"{name} must be {allowed}")


def numbers(
    name: str, value: Any, *, dimensions: int = 1, empty: bool = False, above: float | None = None
) -> Float[Array, "..."]:
    """An array of finite real numbers as an array leaf of the default float dtype.

    Args:
        name: what the argument is called, for the message.
        value: a (nested) sequence of numbers, or an array (a tracer too).
        dimensions: how many axes it must have.
        empty: whether it may have no entry.
        above: if given, every entry must be larger than this.

    Raises:
        ValueError: if the value has another number of axes, is empty or is not finite.
    """
    array = _floats(name, value)
    if array.ndim != dimensions or (array.size == 0 and not empty):
        kind = "" if empty else "non-empty "
        raise ValueError(
            f"{name} must be a {kind}array with {dimensions} axis(es), got shape {array.shape}."
        )
    allowed = "finite numbers"
    wrong = ~jnp.isfinite(array)
    if above is not None:
        allowed += f" > {above:g}"
        wrong |= array <= above
    return _refuse(array, jnp.any(wrong), f"{name} must hold {allowed} only")


def count(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """A whole number, as a Python int.

    Args:
        name: what the argument is called, for the message.
        value: an int or a NumPy integer.
        least: the smallest value allowed.
        most: the largest value allowed; None for no limit.

    Raises:
        ValueError: if the value is no whole number in the range.
    """
    limit = f">= {least}" if most is None else f"in {least}..{most}"
    try:
        whole = operator.index(value)
    except TypeError:
        whole = None
    too_large = most is not None and whole is not None and whole > most
    if whole is None or isinstance(value, bool) or whole < least or too_large:
        raise ValueError(f"{name} must be a whole number {limit}, got {value!r}.")
    return whole


def choice(name: str, value: str, allowed: Iterable[str]) -> str:
    """One of a few names; a misspelt one is answered with a suggestion.

    Raises:
        ValueError: if `value` is not among `allowed`.
    """
    names = sorted(allowed)
    if value in names:
        return value
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{name} must be one of {', '.join(names)}; got {value!r}.{hint}")


def parameters(owner: str, value: Any, shape: Sequence[int], what: str = "params") -> Array:
    """`value` as a float array of the given shape; checked while JAX traces, so at no cost.

    Args:
        owner: the potential, for the message.
        value: what the user passed.
        shape: the shape that the potential takes.
        what: which part of the parameters it is, for the message.

    Raises:
        ValueError: if it is no float array of that shape.
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


def is_traced(value: Any) -> bool:
    """Whether a value is not known yet, since JAX is tracing the function that it is in."""
    return isinstance(value, jax.core.Tracer)


def _floats(name: str, value: Any) -> Array:
    """`value` as an array of the default float dtype, never weakly typed.

    A weak type would make a Python number and an array of the same value two compilations.
    """
    try:
        if not isinstance(value, jax.Array):
            value = np.asarray(value)
            if value.dtype.kind not in "iufb":
                raise TypeError
        elif not jnp.issubdtype(value.dtype, jnp.number) or jnp.iscomplexobj(value):
            raise TypeError
        return jnp.asarray(value, dtype=jnp.result_type(float))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be real numbers, got {value!r}.") from None


def _refuse(array: AnyArray, wrong: AnyArray, message: str) -> Array:
    """Raise at once where the value is known, and at run time where it is traced."""
    array, wrong = jnp.asarray(array), jnp.asarray(wrong)
    if is_traced(wrong):
        return eqx.error_if(array, wrong, message + ".")
    if bool(wrong):
        shown = np.array2string(np.asarray(array), threshold=8)
        raise ValueError(f"{message}, got {shown}.")
    return array
