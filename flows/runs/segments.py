"""Running a long loop as a sequence of compiled segments.

A segment is a fixed number of saves. Its length bounds the memory for saved states and lets the
caller see progress, stop at a failure and go on later; it does not depend on whether progress is
shown, so that the numbers do not either.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from ..core.results import LOSS_NOT_FINITE, RESULTS, SimulationError
from ..core.trajectory import BoundaryIterates, Trajectory, join
from ..core.trees import is_traced
from ..core.validation import positive_integer

_DEFAULT_SAVES = 256
_DEFAULT_BYTES = 32 * 2**20

Progress = bool | Callable[[int, int], Any]


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


@contextmanager
def _reporter(progress: Progress, description: str) -> Iterator[Callable[[int, int], Any]]:
    if not progress:
        yield lambda done, total: None
    elif callable(progress):
        yield progress
    else:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        console = Console(stderr=True)
        with Progress(
            *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
        ) as bar:
            task = bar.add_task(description)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def _scanned(advance: Callable[[Any, int], tuple[Any, Trajectory]], state, saves, length):
    """Run inside a JAX transformation: one scan over equal segments, and the rest."""
    whole, rest = divmod(saves, length)
    pieces = []
    if whole:
        state, stacked = lax.scan(lambda s, _: advance(s, length), state, length=whole)
        neighbour_source, ends = stacked.neighbour_source, None
        if isinstance(neighbour_source, BoundaryIterates):
            first, last = (jax.tree.map(lambda x, i=i: x[i], neighbour_source) for i in (0, -1))
            neighbour_source, ends = None, BoundaryIterates(first.before, last.after)
        rows = (stacked.steps, stacked.params, stacked.observables, neighbour_source)
        flat = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), rows)
        pieces.append(
            dataclasses.replace(
                stacked,
                steps=flat[0],
                params=flat[1],
                observables=flat[2],
                neighbour_source=flat[3] if ends is None else ends,
                stats=jax.tree.map(lambda x: jnp.sum(x, dtype=x.dtype), stacked.stats),
                result=state.result,
                stopped_at=state.stopped_at,
                failure=state.failure,
                detail=stacked.detail[-1],
            )
        )
    if rest:
        state, piece = advance(state, rest)
        pieces.append(piece)
    return state, pieces


def _looped(advance, state, pieces, done, saves, length, report):
    """Run outside of any transformation: stop as soon as a segment fails."""
    failed = False
    if done:
        failed = not bool(pieces[-1].succeeded)
        report(done, saves)
    while done < saves and not failed:
        count = min(length, saves - done)
        state, piece = advance(state, count)
        pieces.append(piece)
        done += count
        failed = not bool(piece.succeeded)
        report(done, saves)
    return state


def kept_rows(trajectory: Trajectory) -> Bool[Array, " T"]:
    """Tell which saved rows count: the finite ones up to a failure, the start in any case.

    Works inside compiled code too, for one trajectory; under `jax.vmap` for each of a batch.
    """
    times = trajectory.steps.astype(trajectory.stopped_at.dtype)
    keep = (times <= trajectory.stopped_at) | jnp.isnan(trajectory.stopped_at)
    if LOSS_NOT_FINITE in trajectory.failures:
        loss = trajectory.failure == 1 + trajectory.failures.index(LOSS_NOT_FINITE)
        keep = keep & ~(loss & (times >= trajectory.stopped_at) & (times != 0))
    finite = jax.tree.map(
        lambda x: jnp.all(jnp.isfinite(x), axis=tuple(range(1, x.ndim))), trajectory.params
    )
    for rows in jax.tree.leaves(finite):
        keep = keep & rows
    return jnp.cumprod(keep).astype(bool)


def _cut(trajectory: Trajectory) -> Trajectory:
    """Keep the finite rows up to the failure: the start too, if it fails right there."""
    count = int(jnp.sum(kept_rows(trajectory)))
    neighbour_source, ends = trajectory.neighbour_source, None
    if isinstance(neighbour_source, BoundaryIterates):
        if count < trajectory.steps.shape[0]:
            after = jax.tree.map(lambda x: x[count], trajectory.params)
            neighbour_source = BoundaryIterates(neighbour_source.before, after)
        neighbour_source, ends = None, neighbour_source
    rows = (trajectory.params, trajectory.observables, neighbour_source)
    params, observables, neighbour_source = jax.tree.map(lambda x: x[:count], rows)
    return dataclasses.replace(
        trajectory,
        steps=trajectory.steps[:count],
        params=params,
        observables=observables,
        neighbour_source=neighbour_source if ends is None else ends,
    )


def run_segments(
    advance: Callable[[Any, int], tuple[Any, Trajectory]],
    state: Any,
    first: Trajectory | None,
    *,
    begin: Callable[[int], tuple[Any, Trajectory]] | None = None,
    saves: int,
    length: int,
    progress: Progress,
    throw: bool,
    name: str,
) -> Trajectory:
    """Advance `state` by `saves` saves and return what was saved as one trajectory.

    Args:
        advance: `(state, count) -> (state, piece)`, compiled; `state.result`, `state.failure` and
            `state.stopped_at` tell a failure, after which rows are not finite.
        state: Where to start.
        first: The row of the start itself, if it is to be part of the trajectory.
        begin: In place of both, `count -> (state, piece)`, compiled, an `eqx.Partial`: the start's
            row and the `count` saves after it. A run of one segment then needs no copy.
        saves: How many saves to make.
        length: Saves per segment.
        progress: Whether to show a bar, or a function of (saves done, saves in all).
        throw: Whether a failure raises.
        name: What runs, for messages.

    Raises:
        SimulationError: If the run fails and `throw` is set; it holds the trajectory so far.
    """
    shown = False if is_traced((state, first, begin)) else progress
    with _reporter(shown, name) as report:
        done = 0
        pieces = [] if first is None else [first]
        if begin is not None:
            done = min(length, saves)
            state, piece = begin(done)
            pieces.append(piece)
        if is_traced((state, pieces)):
            state, following = _scanned(advance, state, saves - done, length)
            pieces.extend(following)
        else:
            state = _looped(advance, state, pieces, done, saves, length, report)
    trajectory = dataclasses.replace(join(pieces, gapless=True), state=state)
    if is_traced(trajectory):
        if throw:
            failed = trajectory.result != RESULTS.successful
            message = f"{name} stopped early; pass throw=False to look at `result`, `stopped_at`."
            trajectory = eqx.error_if(trajectory, failed, message)
        return trajectory
    if not bool(trajectory.succeeded):
        trajectory = _cut(trajectory)
        if throw:
            raise SimulationError(f"{name} {trajectory.message}.", trajectory)
    return trajectory
