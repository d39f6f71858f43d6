"""A goal at which a run may stop: a measured number that has become small or large enough."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from .variables import Variables


@dataclasses.dataclass(frozen=True)
class Goal:
    """A bound of a measured number, at which `simulate` and `iterate` stop: their argument `stop`.

    A run is looked at where it is saved: it ends with the first save that reaches the goal.

    Attributes:
        name: An observable of the run that is one number for each save, such as "loss".
        at_most: The goal is reached where the number is not above this.
        at_least: The goal is reached where the number is not below this.

    Raises:
        ValueError: If not exactly one of the bounds is given, or it is no number.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Goal, GradientDescent, iterate
        >>> bowl = lambda w: 0.5 * jnp.sum(w**2)
        >>> goal = Goal("loss", at_most=0.1)
        >>> run = iterate(GradientDescent(0.5), bowl, jnp.ones(2), steps=100, stop=goal)
        >>> run.observables["loss"].tolist(), bool(run.succeeded)
        ([1.0, 0.25, 0.0625], True)
        >>> run.message
        'stopped at step 2: the goal is reached, loss of at most 0.1'
    """

    name: str
    at_most: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.at_most, self.at_least) if bound is not None]
        numbers = [_is_number(bound) for bound in bounds]
        if len(bounds) != 1 or not all(numbers):
            raise ValueError(
                "exactly one of at_most and at_least must be given, a number; got "
                f"at_most={self.at_most}, at_least={self.at_least}."
            )

    @property
    def sentence(self) -> str:
        """That the goal is reached, and which it is."""
        bound = f"most {self.at_most:g}" if self.at_most is not None else f"least {self.at_least:g}"
        return f"the goal is reached, {self.name.replace('_', ' ')} of at {bound}"

    def reached(
        self, observables: Mapping[str, Array | np.ndarray]
    ) -> Bool[Array | np.ndarray, " T"]:
        """Return where along the saves the bound holds; a nan reaches no goal."""
        values = observables[self.name]
        if self.at_most is not None:
            return values <= self.at_most
        assert self.at_least is not None
        return values >= self.at_least


def _is_number(bound: object) -> bool:
    """Return True for a real number, of Python, NumPy or JAX, that is not nan."""
    if isinstance(bound, bool | str) or np.ndim(bound) != 0:  # pyright: ignore[reportArgumentType]
        return False
    try:
        return not np.isnan(float(bound))  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return False


Stopping: TypeAlias = Goal | Iterable[Goal] | None
"""At which goals a run stops: one, the first of several that is reached, or none."""


def check_goals(stop: Stopping, variables: Variables) -> tuple[Goal, ...]:
    """Return the goals as a tuple.

    Args:
        stop: The goals.
        variables: Metadata of what is measured along the run.

    Raises:
        ValueError: If one is no `Goal`, or of something that is not one number for each save.
    """
    if stop is not None and (isinstance(stop, str) or not isinstance(stop, Goal | Iterable)):
        raise ValueError(f'stop must be goals such as Goal("loss", at_most=0.1); got {stop!r}.')
    given = () if stop is None else (stop,) if isinstance(stop, Goal) else tuple(stop)
    scalars = [name for name, variable in variables if not variable.dims]
    for goal in given:
        if not isinstance(goal, Goal):
            raise ValueError(f'stop must be goals such as Goal("loss", at_most=0.1); got {goal!r}.')
        if goal.name not in scalars:
            raise ValueError(
                f"stop must be goals of what is measured, one of {', '.join(sorted(scalars))}; got "
                f"{goal.name!r}: give a measurement of it in measurements."
            )
    return given


def first_reached(
    goals: tuple[Goal, ...],
    observables: Mapping[str, Array | np.ndarray],
    kept: Bool[Array | np.ndarray, " T"],
) -> tuple[Bool[Array | np.ndarray | np.generic, ""], Array | np.integer, Array | np.integer]:
    """Find the first of the saved rows that reaches a goal.

    Args:
        goals: At least one.
        observables: What was measured along the rows, as arrays of JAX or of NumPy.
        kept: Which rows count, an array of the same kind.

    Returns:
        True if there is such a row, its index, and the number of the goal.
    """
    xp = np if isinstance(kept, np.ndarray) else jnp
    reached = xp.stack([goal.reached(observables) & kept for goal in goals])
    any_ = xp.any(reached, axis=0)
    row = xp.argmax(any_)
    return any_[row], row, xp.argmax(reached[:, row])
