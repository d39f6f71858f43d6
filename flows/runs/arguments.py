"""Checks of what `simulate` and `iterate` are given, besides the flow or the optimizer."""

from typing import TypeAlias

import numpy as np

from ..core.validation import positive_integer

Whole: TypeAlias = int | np.integer
"""A number of steps."""

Length: TypeAlias = int | float | np.integer | np.floating
"""The length of a run: a number of steps, or a time."""

Provenance: TypeAlias = tuple[tuple[str, str], ...]
"""What the state of a run was made with: names of arguments, and what was given for each."""


def check_start(params: object, state: object, kind: type, made_by: str) -> None:
    """Check that a run has one start: parameters, or the state that an earlier run ended with.

    Args:
        params: The parameters that were given, or None.
        state: The state that was given, or None.
        kind: The class of the states to go on from.
        made_by: The function that makes them, for the message.

    Raises:
        ValueError: If both or neither are given, or the state is of another class.
    """
    if (params is None) == (state is None):
        raise ValueError("exactly one of params and state must be given, the other be None.")
    if state is not None and not isinstance(state, kind):
        raise ValueError(
            f"state must be the `.state` of a trajectory of {made_by}; got {type(state).__name__}."
        )


def check_progress(progress: object) -> None:
    """Check that `progress` is a bool or a function.

    Raises:
        ValueError: If it is neither.
    """
    if not isinstance(progress, bool | np.bool_) and not callable(progress):
        raise ValueError(
            f"progress must be True, False or a function of (saves_done, saves_in_all); got "
            f"{progress!r}."
        )


def check_provenance(provenance: Provenance, **given: str) -> None:
    """Check that a run goes on with what its state was made with, or with "auto".

    Args:
        provenance: What the state was made with, by argument.
        given: What it is to go on with, by argument.

    Raises:
        ValueError: If the two differ.
    """
    before = dict(provenance)
    for name, kind in given.items():
        if kind not in (before[name], repr("auto")):
            raise ValueError(
                f"{name} must be {before[name]}, as in the run that `state` comes from; got {kind}."
            )


def count_saves(steps: object, save_every: object, *, whole: bool) -> tuple[int, int | float]:
    """Return how many saves follow the start, and the distance between two as a Python number.

    Args:
        steps: The length of the run.
        save_every: The distance between two saves, in the same unit.
        whole: True if both count steps of an optimizer, and so must be integers.

    Raises:
        ValueError: If either is not a positive (whole) number, or `save_every` does not divide
            `steps`.
    """
    length, distance = _length("steps", steps, whole), _length("save_every", save_every, whole)
    saves = round(length / distance)
    if saves < 1 or abs(saves * distance - length) > 1e-9 * length:
        below = int(length / distance)
        nearby = [f"steps={count * distance}" for count in (below, below + 1) if count]
        raise ValueError(
            f"save_every must divide steps; got save_every={distance} and steps={length}. "
            f"Nearby: {' or '.join(nearby)}."
        )
    return saves, distance


def saves_before(first_step: int, steps: Length, save_every: Length) -> int:
    """Return how many saves a run would make up to where its flow begins, not counting step 0.

    Args:
        first_step: Where the flow begins.
        steps: The length of the run.
        save_every: The distance between two saves.

    Raises:
        ValueError: If the flow does not begin at a save, before the end of the run.
    """
    if first_step % save_every:
        raise ValueError(
            f"save_every must divide the step at which the flow begins, {first_step}, so that the "
            f"flow is saved at the same steps as the optimizer; got {save_every}."
        )
    if first_step >= steps:
        raise ValueError(
            f"steps must be above the step at which the flow begins, {first_step}; got {steps}. It "
            'begins earlier with a smaller `burn`, and at 0 with start="split".'
        )
    return round(first_step / save_every)


def _length(name: str, value: object, whole: bool) -> int | float:
    if whole:
        return positive_integer(name, value)
    number = isinstance(value, int | float | np.integer | np.floating)
    if not number or isinstance(value, bool) or not np.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a finite number above 0; got {value!r}.")
    return value.item() if isinstance(value, np.generic) else value
