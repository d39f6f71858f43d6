"""Checks of what users pass in: converters of fields, and what parameters and potentials must be.

Each converter takes a name, for the message, and any value; it returns the value as the package
uses it, or raises a `ValueError` that says what was given and what is allowed.
"""

from collections.abc import Callable
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .trees import Params, is_traced

_PRECISIONS: Final = ("float32", "float64")


def _scalar(name: str, value: object) -> Float[Array, ""]:
    if isinstance(value, bool | str | bytes) or value is None:
        raise ValueError(f"{name} must be a number; got {value!r}.")
    if callable(value):
        raise ValueError(f"{name} must be a number, not a function of the step; got {value!r}.")
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be a number; got {value!r}.") from error
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise ValueError(f"{name} must be a real number; got dtype {array.dtype}.")
    if array.shape != ():
        raise ValueError(
            f"{name} must be a scalar; got shape {array.shape}. To run several values at once, "
            f"map over them: jax.vmap(lambda {name}: ...)(values)."
        )
    # Never weakly typed: a program compiled for 0.1 must also serve jnp.asarray(0.1).
    floating = jnp.issubdtype(array.dtype, jnp.floating) and not array.weak_type
    return array if floating else jnp.asarray(array, jnp.result_type(float))


def _bounded(name: str, value: object, holds: Callable[[Any], Any], allowed: str) -> Array:
    array = _scalar(name, value)
    message = f"{name} must be {allowed}"
    if is_traced(array):
        return eqx.error_if(array, ~(holds(array) & jnp.isfinite(array)), f"{message}.")
    if not (np.isfinite(array) and holds(np.asarray(array))):
        raise ValueError(f"{message}; got {value!r}.")
    return array


def positive(name: str, value: object) -> Float[Array, ""]:
    """Convert `value` to a scalar float array that is finite and above 0.

    Raises:
        ValueError: If `value` is not one finite number above 0. Under a JAX transformation the
            value is not known yet, so that a wrong one is a run-time error instead.
    """
    return _bounded(name, value, lambda x: x > 0, "a finite number above 0")


def non_negative(name: str, value: object) -> Float[Array, ""]:
    """Convert `value` to a scalar float array that is finite and at least 0.

    Raises:
        ValueError: As for `positive`.
    """
    return _bounded(name, value, lambda x: x >= 0, "a finite number, at least 0")


def finite(name: str, value: object) -> Float[Array, ""]:
    """Convert `value` to a scalar float array that is finite.

    Raises:
        ValueError: As for `positive`.
    """
    return _bounded(name, value, jnp.isfinite, "a finite number")


def fraction(name: str, value: object) -> Float[Array, ""]:
    """Convert `value` to a scalar float array that is at least 0 and below 1.

    Raises:
        ValueError: As for `positive`.
    """
    return _bounded(name, value, lambda x: (x >= 0) & (x < 1), "at least 0 and below 1")


def positive_integer(name: str, value: object) -> int:
    """Check that `value` is an integer of at least 1.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")
    return int(value)


def non_negative_integer(name: str, value: object) -> int:
    """Check that `value` is an integer of at least 0.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{name} must be an integer of at least 0; got {value!r}.")
    return int(value)


def prng_seed(name: str, value: object) -> int:
    """Check that `value` is a seed, an integer in 0..2^32-1.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and 0 <= value < 2**32:
        return int(value)
    raise ValueError(f"{name} must be an integer from 0 to {2**32 - 1}; got {value!r}.")


def prng_key(name: str, value: object) -> PRNGKeyArray:
    """Check that `value` is one PRNG key, as `jax.random.key` or `jax.random.PRNGKey` makes it.

    Raises:
        ValueError: If it is not.
    """
    allowed = f"{name} must be one PRNG key, as jax.random.key(0) is"
    if not isinstance(value, jax.Array | np.ndarray):
        raise ValueError(f"{allowed}; got {value!r}.")
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        if value.shape != ():
            raise ValueError(f"{allowed}; got keys of shape {value.shape}.")
        return jnp.asarray(value)
    # A key of the older sort is the array of its words.
    words = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape
    if value.dtype != jnp.uint32 or value.shape != words:
        raise ValueError(f"{allowed}; got an array of {value.dtype} of shape {value.shape}.")
    return jnp.asarray(value)


def proper_fraction(name: str, value: object) -> float:
    """Check that `value` is a number between 0 and 1, neither of the two.

    Raises:
        ValueError: If it is not.
    """
    number = isinstance(value, int | float | np.integer | np.floating)
    if not number or not 0 < value < 1:
        raise ValueError(f"{name} must be a number between 0 and 1; got {value!r}.")
    return float(value)


def boolean(name: str, value: object) -> bool:
    """Check that `value` is True or False.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False; got {value!r}.")
    return value


def text(name: str, value: object) -> str:
    """Check that `value` is a string.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string; got {value!r}.")
    return value


def callable_(name: str, value: object) -> Callable[..., Any]:
    """Check that `value` can be called.

    Raises:
        ValueError: If it cannot.
    """
    if not callable(value):
        raise ValueError(f"{name} must be a function; got {value!r}.")
    return value


def _way_out(array: Array) -> str:
    """Return what to do with a leaf that is no float array."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return "A random key is no parameter: let the loss close over it."
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        return (
            "Pass real and imaginary parts as two leaves: the gradient with respect to complex "
            "numbers is no direction of descent in JAX."
        )
    if array.dtype == bool:
        return "A mask is no parameter: let the loss close over it."
    return "Parameters move continuously: write 1.0 for 1, or convert with .astype(float)."


def as_params(params: PyTree, name: str = "params") -> Params:
    """Convert a pytree of floats to a pytree of float arrays.

    Args:
        params: The pytree.
        name: Of the argument, for messages.

    Raises:
        ValueError: If there is no leaf, or a leaf is not a float32 or float64 array, or holds a
            value that is not finite, or the leaves differ in dtype.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    if not leaves:
        raise ValueError(f"{name} must hold at least one array; got an empty pytree.")
    arrays = []
    for path, leaf in leaves:
        where = f"{name}{jax.tree_util.keystr(path)}"
        if not eqx.is_array_like(leaf):
            hint = ""
            if callable(leaf) and isinstance(params, eqx.Module):
                hint = (
                    f" Of the equinox module {type(params).__name__} the arrays are the "
                    "parameters: params, static = eqx.partition(model, eqx.is_inexact_array), and "
                    "eqx.combine(params, static) in the loss."
                )
            raise ValueError(f"{where} must be a float array; got {type(leaf).__name__}.{hint}")
        try:
            array = jnp.asarray(leaf)
        except TypeError:
            dtype = getattr(leaf, "dtype", type(leaf).__name__)
            raise ValueError(f"{where} must be a float array; got dtype {dtype}.") from None
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(
                f"{where} must be a float array; got dtype {array.dtype}. {_way_out(array)}"
            )
        if str(array.dtype) not in _PRECISIONS:
            raise ValueError(
                f"{where} must be of dtype {' or '.join(_PRECISIONS)}; got {array.dtype}, whose "
                "digits suffice neither for a solver's tolerances nor for eigenvalues. Convert "
                "with jnp.asarray(x, jnp.float32)."
            )
        if not is_traced(array) and not np.all(np.isfinite(np.asarray(array))):
            raise ValueError(f"{where} holds a value that is not finite.")
        arrays.append(array)
    if not any(array.size for array in arrays):
        raise ValueError(f"{name} must hold at least one number; got only empty arrays.")
    dtypes = sorted({str(array.dtype) for array in arrays})
    if len(dtypes) > 1:
        raise ValueError(
            f"{name} must share one dtype; got {' and '.join(dtypes)}. Convert them with "
            f"jax.tree.map(lambda x: jnp.asarray(x, jnp.{dtypes[-1]}), {name})."
        )
    return jax.tree.unflatten(structure, arrays)


def cast(name: str, value: Array, dtype: DTypeLike) -> Array:
    """Return a number in another precision.

    Under a JAX transformation the value is not known, and is converted without a check.

    Raises:
        ValueError: If it overflows or vanishes in that precision.
    """
    converted = value.astype(dtype)
    if is_traced(value):
        return converted
    before, after = float(value), float(converted)
    if np.isinf(after) or (after == 0) != (before == 0):
        limits = jnp.finfo(dtype)
        raise ValueError(
            f"{name} must be representable in the precision of the parameters, {limits.dtype}, "
            f"{float(limits.tiny):.1e} to {float(limits.max):.1e} in size; got {before:g}."
        )
    return converted


# Never compiled: JAX remembers the trace, so that a second check of a potential costs nothing.
@eqx.filter_jit
def _evaluated(potential: Callable[..., Any], params: PyTree) -> Any:
    return potential(params)


def check_potential(potential: object, params: PyTree) -> None:
    """Check that `potential(params)` is one real float.

    Args:
        potential: What was given as the loss.
        params: The parameters, or their shapes and dtypes.

    Raises:
        ValueError: If `potential` cannot be called, or gives anything but a float scalar.
    """
    if not callable(potential):
        raise ValueError(
            f"potential must be a function of the parameters; got {type(potential).__name__}."
        )
    check_loss_value(eqx.filter_eval_shape(_evaluated, potential, params))


def check_loss_value(value: object) -> None:
    """Check the shape and dtype of what a loss gives.

    Raises:
        ValueError: If it is anything but a float scalar.
    """
    if not isinstance(value, jax.ShapeDtypeStruct):
        raise ValueError(
            f"potential(params) must return one array of shape (); got {type(value).__name__}."
        )
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            "potential(params) must return a float of shape (); got shape "
            f"{value.shape} and dtype {value.dtype}. A loss over examples must be averaged."
        )
    if str(value.dtype) not in _PRECISIONS:
        raise ValueError(
            f"potential(params) must be of dtype {' or '.join(_PRECISIONS)}; got {value.dtype}, "
            "whose digits suffice neither for a solver's tolerances nor for eigenvalues."
        )
