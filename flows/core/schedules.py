"""Hyperparameters that change with time: a function of the step, in place of a number.

A discrete optimizer evaluates it at the number of steps that it has taken, 0 for the first, which
its state then counts; a flow evaluates it at its own time, between two steps too.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Real

from .arrays import RealScalarLike, usual_promotions
from .captured import captured_function
from .trees import is_traced
from .validation import callable_, positive

LATE: Final = 1_000_000_000
"""How many steps a run has taken when schedules and bias corrections are at their ends."""

Function: TypeAlias = Callable[[Array], ArrayLike]
"""From the time in steps, a float scalar, to a number."""

T = TypeVar("T")


class Schedule(eqx.Module):
    """A number that is a function of time, such as an optax schedule.

    An optimizer takes one, or the bare function, for its learning rate. Arrays that the function
    holds as a frozen module are leaves: `jax.vmap` and `jax.grad` work over them, and new values do
    not compile again. What any other function reads is read anew at each run.

    Attributes:
        function: From the time, a float scalar in steps, to the number, a scalar; anything that JAX
            can trace. A flow evaluates it at fractions of steps too, and some flows
            differentiate it: `optax.polynomial_schedule` with a power below 1, and a cosine decay
            with an exponent below 1, have no finite derivative at their end.

    Raises:
        ValueError: If `function` cannot be called.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flows import GradientDescent, Schedule, critical_sharpness, fixed_at
        >>> schedule = Schedule(optax.linear_schedule(0.1, 0.5, transition_steps=4))
        >>> round(float(schedule(jnp.asarray(2))), 3), round(float(schedule(2.5)), 3)
        (0.3, 0.35)
        >>> optimizer = GradientDescent(schedule)
        >>> float(critical_sharpness(optimizer))  # Late in a run.
        4.0
        >>> round(float(critical_sharpness(fixed_at(optimizer, 0))), 3)
        20.0
    """

    function: Function = eqx.field(converter=partial(callable_, "function"))

    def __call__(self, t: RealScalarLike) -> Float[Array, ""]:
        """Return the number at a time, in the default float type."""
        # As a float: between whole numbers it must not matter what the time was kept as.
        time = jnp.asarray(t).astype(jnp.result_type(float))
        with usual_promotions():
            return jnp.asarray(self.function(time)).astype(time.dtype)


Rate: TypeAlias = Float[Array, ""] | Schedule
"""A hyperparameter that is a number, or changes with time."""


def rate(name: str, value: object) -> Rate:
    """Convert what a user gives for a rate: a number above 0, or a function of the step.

    Raises:
        ValueError: If a number is not above 0, or a function cannot be traced, or does not give one
            finite number of at least 0 for the time 0.
    """
    if not callable(value):
        return positive(name, value)
    schedule = value if isinstance(value, Schedule) else Schedule(value)
    given = schedule.function
    allowed = f"{name} must be a number, or a function of the step that gives one, at least 0"
    time = jnp.zeros((), jnp.result_type(float))
    try:
        with usual_promotions():
            # What a compiled loop will do; a comparison of the step in Python fails here.
            like = jax.eval_shape(lambda t: jnp.asarray(given(t)), time)
            with jax.ensure_compile_time_eval():
                first = given(time)
    except Exception as error:
        # Whatever the user's function raises; the first line says what it is.
        raised = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{allowed}, and that JAX can trace; {given!r} raised {raised}") from error
    if like.shape != ():
        raise ValueError(f"{allowed}; {given!r} gives an array of shape {like.shape}.")
    if not (jnp.issubdtype(like.dtype, jnp.floating) or jnp.issubdtype(like.dtype, jnp.integer)):
        raise ValueError(f"{allowed}; {given!r} gives one of dtype {like.dtype}.")
    if not is_traced(first):
        number = float(np.asarray(first))
        if not (np.isfinite(number) and number >= 0):
            raise ValueError(f"{allowed}; {given!r} gives {number:g} for step 0.")
    return schedule


def at(value: Rate, t: RealScalarLike | None) -> Float[Array, ""]:
    """Return a rate at a time, in steps; a number is the same at all times."""
    if not isinstance(value, Schedule):
        return value
    if t is None:
        raise ValueError(
            "state must be one of an optimizer with a schedule, which counts its steps; this one "
            "belongs to an optimizer with a constant rate."
        )
    return value(t)


def late(name: str, value: Rate) -> Float[Array, ""]:
    """Return a rate late in a run, when schedules are at their ends.

    Raises:
        ValueError: If a schedule ends at zero. Under a JAX transformation that is not known, and
            the value returned is zero.
    """
    number = at(value, LATE)
    if isinstance(value, Schedule) and not is_traced(number) and float(number) == 0:
        raise ValueError(
            f"{name} must not end at zero where one number is asked for, a critical sharpness or a "
            "rate; ask for that at a time t, of flows.fixed_at(optimizer, t)."
        )
    return number


def fixed_at(tree: T, t: RealScalarLike) -> T:
    """Return an optimizer, or another module, with each of its schedules as the number at a time.

    The optimizer's own formulas then hold at that time. Its states have no step counter.

    Args:
        tree: The module.
        t: The time, in steps.

    Example:
        >>> import optax
        >>> from flows import HeavyBall, fixed_at
        >>> optimizer = HeavyBall(optax.cosine_decay_schedule(0.2, 100), momentum=0.9)
        >>> [round(float(fixed_at(optimizer, t).critical_sharpness), 3) for t in (0, 50)]
        [19.0, 38.0]
    """
    return jax.tree.map(
        lambda x: x(t) if isinstance(x, Schedule) else x, tree, is_leaf=_is_schedule
    )


def schedules(tree: object) -> list[Schedule]:
    """Return the hyperparameters of a module that change with time."""
    leaves = jax.tree.leaves(tree, is_leaf=_is_schedule)
    return [x for x in leaves if isinstance(x, Schedule)]


def captured_schedules(tree: T) -> T:
    """Return a module whose schedules are traced now, as a run's loss is; see `captured`."""
    time = jnp.zeros((), jnp.result_type(float))

    def fresh(leaf: object) -> object:
        # One of a class of the user's may be called in another way.
        if type(leaf) is not Schedule:
            return leaf
        with usual_promotions():
            return Schedule(captured_function(leaf.function, time))

    return jax.tree.map(fresh, tree, is_leaf=_is_schedule)


def is_scheduled(tree: object) -> bool:
    """Return True if a module has a hyperparameter that changes with time."""
    return bool(schedules(tree))


def counter(optimizer: object) -> Int[Array, ""] | None:
    """Return the step counter that a state begins with: 0, or None without a schedule."""
    return jnp.zeros((), jnp.int32) if is_scheduled(optimizer) else None


def advanced(count: Real[Array, ""] | None) -> Real[Array, ""] | None:
    """Return a step counter after a step."""
    return None if count is None else count + 1


def counted(count: Real[Array, ""] | None) -> Real[Array, ""] | None:
    """Return what a step adds to a step counter."""
    return None if count is None else jnp.ones_like(count)


def _is_schedule(leaf: object) -> bool:
    return isinstance(leaf, Schedule)
