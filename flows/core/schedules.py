"""Hyperparameters that change with time: a function of the step, in place of a number.

A discrete optimizer evaluates it at the number of steps that it has taken, 0 for the first; a flow
at its own time, between two steps too.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from .trees import is_traced
from .validation import positive

Function = Callable[[Array], ArrayLike]

LATE: Final = 1e6
"""A time at which schedules and bias corrections have ended, in steps."""

T = TypeVar("T")


class Schedule(eqx.Module):
    """A number that is a function of time, such as an optax schedule.

    Attributes:
        function: From the time, a scalar in steps, to the number, a scalar; a frozen module with
            arrays as leaves, or any function that JAX can trace. It is evaluated at fractions too.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flows import Schedule
        >>> schedule = Schedule(optax.linear_schedule(0.0, 1.0, transition_steps=4))
        >>> float(schedule(jnp.asarray(2))), float(schedule(2.5))
        (0.5, 0.625)
    """

    function: Function

    def __call__(self, t: Real[Array, ""] | float) -> Float[Array, ""]:
        """Return the number at a time, in the default float type."""
        # As a float: between whole numbers it must not matter what the time was kept as.
        time = jnp.asarray(t).astype(jnp.result_type(float))
        return jnp.asarray(self.function(time)).astype(time.dtype)


Rate = Float[Array, ""] | Schedule
"""A hyperparameter that is a number, or changes with time."""


def rate(name: str, value: object) -> Rate:
    """Convert what a user gives for a rate: a number above 0, or a function of the step.

    Raises:
        ValueError: If a number is not above 0, or a function does not give one finite number of at
            least 0 for the time 0.
    """
    if isinstance(value, Schedule) or not callable(value):
        return value if isinstance(value, Schedule) else positive(name, value)
    schedule = Schedule(value)
    allowed = f"{name} must be a number, or a function of the step that gives one, at least 0"
    try:
        with jax.ensure_compile_time_eval():
            first = value(jnp.zeros(()))
    except Exception as error:
        # Whatever the user's function raises.
        raised = f"{type(error).__name__}: {error}"
        raise ValueError(f"{allowed}; {value!r} raised {raised} for step 0.") from error
    if is_traced(first):
        return schedule
    first = np.asarray(first)
    if first.shape != ():
        raise ValueError(f"{allowed}; {value!r} gives an array of shape {first.shape} for step 0.")
    if not (np.isfinite(first) and first >= 0):
        raise ValueError(f"{allowed}; {value!r} gives {float(first):g} for step 0.")
    return schedule


def fixed_at(tree: T, t: Real[Array, ""] | float | None) -> T:
    """Return an optimizer, or another module, with each of its schedules as the number at a time.

    Args:
        tree: The module, or a hyperparameter.
        t: The time, in steps; None, such as the count that a state does not keep, where nothing
            changes with time.
    """

    def fixed(leaf: object) -> object:
        if not isinstance(leaf, Schedule):
            return leaf
        assert t is not None
        return leaf(t)

    return jax.tree.map(fixed, tree, is_leaf=_is_schedule)


def is_scheduled(tree: object) -> bool:
    """Return True if a module has a hyperparameter that changes with time."""
    return any(_is_schedule(x) for x in jax.tree.leaves(tree, is_leaf=_is_schedule))


def _is_schedule(leaf: object) -> bool:
    return isinstance(leaf, Schedule)
