"""A run as a sequence of compiled segments: how long each is, and what they leave.

A segment is a fixed number of saves. Its length bounds the memory for saved states and lets the
caller see progress, stop at a failure and go on later; it does not depend on whether progress is
shown, so that the numbers do not either.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..core.goal import Goal, first_reached
from ..core.results import LOSS_NOT_FINITE, RESULTS, choose
from ..core.trajectory import BoundaryIterates, SimulationError, Trajectory, join
from ..core.trees import is_traced
from ..core.validation import positive_integer

_DEFAULT_SAVES: Final = 256
_DEFAULT_BYTES: Final = 32 * 2**20


class AbstractRunState(eqx.Module):
    """The state of a run of either kind, which says whether the run has failed.

    Attributes:
        result: `successful`, or the first failure.
        stopped_at: The step or time of that failure; nan if there was none.
        failure: Which of the trajectory's `failures` it was, from 1; 0 for none of them.
    """

    result: eqx.AbstractVar[RESULTS]
    stopped_at: eqx.AbstractVar[Float[Array, ""]]
    failure: eqx.AbstractVar[Int[Array, ""]]


_State = TypeVar("_State", bound=AbstractRunState)


def segment_length(
    segment: int | None, saves: int, bytes_per_save: int, most: int = _DEFAULT_SAVES
) -> int:
    """Return the number of saves per segment, at most `most` if `segment` is not given.

    Segments of one length share one compiled program, so that a length which divides `saves` is
    preferred, if it is not much shorter.

    Raises:
        ValueError: If `segment` is given and not an integer of at least 1.
    """
    if segment is not None:
        return min(positive_integer("segment", segment), saves)
    longest = max(1, min(most, saves, _DEFAULT_BYTES // max(1, bytes_per_save)))
    divisors = (n for n in range(longest, max(1, longest // 8), -1) if saves % n == 0)
    return next(divisors, longest)


class Segments:
    """The segments of a run: how many saves each makes, and the trajectory of all of them.

    Outside of any JAX transformation the caller makes one segment after the other, until the saves
    are made or one fails, and adds what it leaves:

        for count in segments:
            state, piece = advance(state, count)
            segments.add(piece, count)

    Inside one, `scan` makes all that are left in one loop.

    Args:
        name: What runs, for messages.
        saves: How many saves the run makes after its start.
        length: Saves per segment.
        goals: At which goals the run stops.
    """

    def __init__(self, name: str, saves: int, length: int, goals: tuple[Goal, ...] = ()):
        self.done = 0
        self._name, self._saves, self._length, self._goals = name, saves, length, goals
        self._pieces: list[Trajectory] = []
        self._stopped = False

    def __iter__(self) -> Iterator[int]:
        while self.done < self._saves and not self._stopped:
            yield min(self._length, self._saves - self.done)

    def add(self, piece: Trajectory, count: int) -> None:
        """Add a piece of the trajectory that makes `count` of the saves; 0 for the start's row."""
        self._pieces.append(piece)
        self.done += count
        if not is_traced(piece.result):
            self._stopped = not bool(piece.succeeded) or bool(self.rows_to_goal(piece))

    def rows_to_goal(self, piece: Trajectory) -> int:
        """Return how many rows of a piece there are up to a goal, the row there included; or 0.

        A caller that finds the goal before the end makes a shorter piece in place of this one, so
        that the run's state is the one at the goal.
        """
        if not self._goals:
            return 0
        reached, row, _ = _goal_in(piece, self._goals)
        return int(row) + 1 if bool(reached) else 0

    def scan(
        self, advance: Callable[[_State, int], tuple[_State, Trajectory]], state: _State
    ) -> _State:
        """Make all saves that are left inside a JAX transformation: equal segments, and the rest.

        Args:
            advance: `(state, count) -> (state, piece)`; after a failure, which `state` has, the
                rows of pieces are not finite.
            state: Where to start.
        """
        whole, rest = divmod(self._saves - self.done, self._length)
        if whole:
            state, stacked = lax.scan(lambda s, _: advance(s, self._length), state, length=whole)
            self.add(_unstacked(stacked, state), whole * self._length)
        if rest:
            state, piece = advance(state, rest)
            self.add(piece, rest)
        return state

    def trajectory(
        self, state: AbstractRunState, throw: bool | None, diagnose: Callable[[Trajectory], str]
    ) -> Trajectory:
        """Return the trajectory of the run.

        Args:
            state: Where the run ended, to go on from.
            throw: True to raise if it failed; None to do so outside of JAX's transformations.
            diagnose: Gives a reason for a failure that has none of its own, or "".

        Raises:
            SimulationError: If the run failed and `throw` is set; it holds the trajectory so far.
        """
        whole = dataclasses.replace(join(self._pieces, gapless=True), state=state)
        if self._goals:
            whole = _judged(whole, self._goals)
        if is_traced(whole):
            if throw:
                failed = ~whole.succeeded
                message = "stopped early; leave throw=True out to look at `result`, `stopped_at`."
                # Everything depends on the check, which would copy what it is given itself.
                failed = eqx.error_if(failed, failed, f"{self._name} {message}")
                whole = jax.tree.map(
                    lambda x: jnp.where(failed, jnp.zeros_like(x), x) if eqx.is_array(x) else x,
                    whole,
                )
            return whole
        if bool(whole.succeeded):
            return whole
        whole = _cut(whole)
        if not int(whole.failure) and (reason := diagnose(whole)):
            failures = (*whole.failures, reason)
            number = jnp.full_like(whole.failure, len(failures))
            whole = dataclasses.replace(whole, failures=failures, failure=number)
        if throw is not False:
            raise SimulationError(f"{self._name} {whole.message}.", whole)
        return whole


def _judged(whole: Trajectory, goals: tuple[Goal, ...]) -> Trajectory:
    """Note the first goal that was reached before the run failed, if one was."""
    reached, row, goal = _goal_in(whole, goals)
    whole = dataclasses.replace(
        whole, failures=(*whole.failures, *(goal.sentence for goal in goals))
    )
    if not is_traced(reached) and not bool(reached):
        return whole
    times = whole.steps.astype(whole.stopped_at.dtype)
    number = jnp.asarray(len(whole.failures) - len(goals) + 1 + goal, whole.failure.dtype)
    reached = jnp.asarray(reached)
    return dataclasses.replace(
        whole,
        result=choose(reached, RESULTS.event_occurred, whole.result),
        stopped_at=jnp.where(reached, times[row], whole.stopped_at),
        failure=jnp.where(reached, number, whole.failure),
    )


def _goal_in(piece: Trajectory, goals: tuple[Goal, ...]) -> tuple[Any, Any, Any]:
    """Return True if a goal is reached in the rows that count, the row, and which goal."""
    observables = {goal.name: piece.observables[goal.name] for goal in goals}
    if is_traced(piece):
        return first_reached(goals, observables, kept_rows(piece))
    # Each operation of JAX would be compiled for each length of a piece.
    values = {name: np.asarray(value) for name, value in observables.items()}
    return first_reached(goals, values, _kept_in_memory(piece))


def _unstacked(stacked: Trajectory, state: AbstractRunState) -> Trajectory:
    """Return pieces that a scan has stacked as one piece, which ends at `state`."""
    source, boundary = stacked.neighbour_source, None
    if isinstance(source, BoundaryIterates):
        first, last = (jax.tree.map(lambda x, i=i: x[i], source) for i in (0, -1))
        source, boundary = None, BoundaryIterates(first.before, last.after)
    rows = (stacked.steps, stacked.params, stacked.observables, source)
    steps, params, observables, source = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), rows)
    return dataclasses.replace(
        stacked,
        steps=steps,
        params=params,
        observables=observables,
        neighbour_source=source if boundary is None else boundary,
        stats=jax.tree.map(lambda x: jnp.sum(x, dtype=x.dtype), stacked.stats),
        result=state.result,
        stopped_at=state.stopped_at,
        failure=state.failure,
        detail=stacked.detail[-1],
    )


def kept_rows(trajectory: Trajectory) -> Bool[Array, " T"]:
    """Return which saved rows count: the finite ones up to a failure, the start in any case.

    A run that fails outside of JAX's transformations is cut to these rows by itself. Inside, all
    rows have to be returned, and this mask says which of them mean something; it works for one
    trajectory, and under `jax.vmap` for each of a batch.

    Args:
        trajectory: One trajectory.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flows import GradientDescent, iterate, kept_rows
        >>> def run(rate):
        ...     bowl = lambda w: 0.5 * jnp.sum(w**2)
        ...     return iterate(GradientDescent(rate), bowl, jnp.ones(1), steps=3, throw=False)
        >>> runs = jax.vmap(run)(jnp.asarray([0.5, 1e160]))
        >>> jax.vmap(kept_rows)(runs).tolist()
        [[True, True, True, True], [True, False, False, False]]
    """
    if not is_traced(trajectory):
        return jnp.asarray(_kept_in_memory(trajectory))
    one = trajectory
    return _kept(jnp, one.failures, one.steps, one.stopped_at, one.failure, one.params)


def _kept_in_memory(trajectory: Trajectory) -> Bool[np.ndarray, " T"]:
    """Return which rows count, of a trajectory whose values are known."""
    rows = (trajectory.steps, trajectory.stopped_at, trajectory.failure, trajectory.params)
    return _kept(np, trajectory.failures, *jax.tree.map(np.asarray, rows))


def _kept(
    xp: Any, failures: tuple[str, ...], steps: Any, stopped_at: Any, failure: Any, params: Any
) -> Any:
    """Return which rows count, computed by NumPy or by JAX's."""
    times = steps.astype(stopped_at.dtype)
    keep = (times <= stopped_at) | xp.isnan(stopped_at)
    if LOSS_NOT_FINITE in failures:
        loss = failure == 1 + failures.index(LOSS_NOT_FINITE)
        keep = keep & ~(loss & (times >= stopped_at) & (times != 0))
    finite = jax.tree.map(lambda x: xp.all(xp.isfinite(x), axis=tuple(range(1, x.ndim))), params)
    for rows in jax.tree.leaves(finite):
        keep = keep & rows
    return xp.cumprod(keep).astype(bool)


def _cut(trajectory: Trajectory) -> Trajectory:
    """Keep the finite rows up to the failure: the start too, if it fails right there."""
    count = int(_kept_in_memory(trajectory).sum())
    source, boundary = trajectory.neighbour_source, None
    if isinstance(source, BoundaryIterates):
        if count < trajectory.steps.shape[0]:
            after = jax.tree.map(lambda x: x[count], trajectory.params)
            source = BoundaryIterates(source.before, after)
        source, boundary = None, source
    rows: Any = (trajectory.params, trajectory.observables, source)
    params, observables, source = jax.tree.map(lambda x: x[:count], rows)
    return dataclasses.replace(
        trajectory,
        steps=trajectory.steps[:count],
        params=params,
        observables=observables,
        neighbour_source=source if boundary is None else boundary,
    )
