"""The record of a run, the same for optimizers and flows."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree, Real

from .flow import Midpoint
from .results import RESULTS, sentence
from .trees import Params, is_traced
from .variables import PARAMETER, STEPS, Variable, Variables

if TYPE_CHECKING:
    import xarray


class Neighbours(eqx.Module):
    """The iterates one step before and one step after each saved one, for midpoints.

    Attributes:
        previous: w_{t-1}, leading axis the saved step; w_0 itself at t = 0.
        next: w_{t+1}, leading axis the saved step.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, iterate
        >>> bowl = lambda w: 0.5 * jnp.sum(w**2)
        >>> run = iterate(GradientDescent(0.5), bowl, jnp.ones(1), steps=4, save_every=2)
        >>> run.neighbours.previous[:, 0].tolist(), run.neighbours.next[:, 0].tolist()
        ([1.0, 0.5, 0.125], [0.5, 0.125, 0.03125])
    """

    previous: Params
    next: Params


class BoundaryIterates(eqx.Module):
    """The iterates next to a stretch in which every step is saved.

    Within it the saved iterates are each other's neighbours: these two complete them.

    Attributes:
        before: The iterate one step before the first saved one; w_0 itself at t = 0.
        after: The iterate one step after the last saved one.
    """

    before: Params
    after: Params

    def neighbours(self, params: Params, axis: int) -> Neighbours:
        """Return the neighbours of `params`, whose saves are on `axis`."""

        def along(before: Array, current: Array, after: Array) -> Array:
            ends = jnp.expand_dims(before, axis), jnp.expand_dims(after, axis)
            return jnp.concatenate([ends[0], current, ends[1]], axis)

        path = jax.tree.map(along, self.before, params, self.after)
        count = jax.tree.leaves(params)[0].shape[axis]
        previous, following = (
            jax.tree.map(lambda x, i=first: lax.slice_in_dim(x, i, i + count, axis=axis), path)
            for first in (0, 2)
        )
        return Neighbours(previous, following)


class Trajectory(eqx.Module):
    """What `simulate` and `iterate` return: T saved steps of a run.

    Where the run failed inside `jax.jit` or `jax.vmap`, rows from the failure on hold values that
    are not finite; outside they are cut off. A trajectory that `jax.vmap` returns is a batch: all
    arrays have its axis in front, and functions of one trajectory are to be mapped over it.

    Attributes:
        steps: Times of the saves (T,): integers where one unit is one optimizer step, floats in a
            flow's own time.
        params: The parameters (an optimizer's iterates, a flow's centre), leading axis T.
        observables: What was measured and what the flow predicts, by name, leading axis T.
        state: The last state, to go on from: pass it as `state` to the function that made it.
        stats: Scalars by name: `gradient_evaluations`, `hvp_evaluations`,
            `third_derivative_evaluations` and `gradient_equivalents` (a gradient counts 1, a
            Hessian-vector product 2, a third derivative 4) of the run itself,
            `measurement_gradient_equivalents` of what was measured, and for flows `solver_steps`
            and `rejected_steps`. A flow whose start is found with derivatives counts those in its
            first segment. A solver made for a flow counts its accepted steps, others all
            but the projections after them; what a flow evaluates for its own observables at the
            saves counts in neither. The evaluations of an implicit solver's inner iterations are
            not known, and absent.
        result: How the run ended, an item of `RESULTS`.
        stopped_at: The step or time at which it failed, or reached a goal; nan if it did neither.
        neighbour_source: What `neighbours` are made of: themselves, or only the two ends of a run
            that saves every step; None for a flow.
        variables: Metadata of the observables.
        midpoint: Which midpoint of iterates the params of a flow model; None for an optimizer,
            and for a flow that models none.
        time_unit: "optimizer steps" or "time".
        failure: Which of `failures` ended the run, from 1; 0 for none of them.
        failures: What can end it besides the parameters and the solver, a sentence each;
            `{detail}` in it is replaced by the number `detail`.
        detail: The number that belongs to a failure, a residual perhaps; nan if there is none.
        iterates_at: The observable that holds a flow's prediction of the iterates, flattened,
            where that is not `params`; None where it is.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, iterate
        >>> run = iterate(GradientDescent(0.5), lambda w: 0.5 * jnp.sum(w**2), jnp.ones(2), steps=4)
        >>> run.steps.tolist(), run.params.shape, bool(run.succeeded)
        ([0, 1, 2, 3, 4], (5, 2), True)
        >>> run.observables["loss"].tolist()
        [1.0, 0.25, 0.0625, 0.015625, 0.00390625]
        >>> run.midpoints("two_point")[:, 0].tolist()
        [0.75, 0.375, 0.1875, 0.09375, 0.046875]
        >>> sorted(run.to_dataset().data_vars)
        ['gradient_norm', 'loss', 'params']
    """

    steps: Real[Array, " T"]
    params: Params
    observables: dict[str, Array]
    state: PyTree[Any]
    stats: dict[str, Array]
    result: RESULTS
    stopped_at: Float[Array, ""]
    neighbour_source: Neighbours | BoundaryIterates | None = None
    variables: Variables = eqx.field(static=True, default=())
    midpoint: Midpoint | None = eqx.field(static=True, default=None)
    time_unit: str = eqx.field(static=True, default=STEPS)
    failure: Int[Array, "..."] = eqx.field(default_factory=lambda: jnp.zeros((), jnp.int32))
    failures: tuple[str, ...] = eqx.field(static=True, default=())
    detail: Float[Array, "..."] = eqx.field(default_factory=lambda: jnp.asarray(jnp.nan))
    iterates_at: str | None = eqx.field(static=True, default=None)

    @property
    def succeeded(self) -> Bool[Array, "..."]:
        """True if the run reached its end, or a goal at which it was to stop."""
        return (self.result == RESULTS.successful) | self.reached_goal

    @property
    def reached_goal(self) -> Bool[Array, "..."]:
        """True if the run stopped at a goal, at `stopped_at`."""
        return self.result == RESULTS.event_occurred

    @property
    def neighbours(self) -> Neighbours | None:
        """The iterates next to each saved one, for midpoints; None for a flow."""
        if isinstance(self.neighbour_source, BoundaryIterates):
            # Under `jax.vmap` there are axes before that of the saves.
            return self.neighbour_source.neighbours(self.params, self.steps.ndim - 1)
        return self.neighbour_source

    @property
    def message(self) -> str:
        """How the run ended, as a sentence; empty if it reached its end."""
        check_one("message", self, mapped=False)
        if bool(self.result == RESULTS.successful):
            return ""
        unit = "step" if self.time_unit == STEPS else "time"
        why = self.reason or sentence(self.result)
        return f"stopped at {unit} {float(self.stopped_at):g}: {why}"

    @property
    def reason(self) -> str:
        """Which of `failures` ended the run; empty for none of them."""
        number = int(self.failure)
        return self.failures[number - 1].format(detail=float(self.detail)) if number else ""

    def midpoints(self, kind: Midpoint) -> Params:
        """Return the oscillation-free path of an optimizer, leading axis T.

        Args:
            kind: "three_point" for (w_{t-1} + 2 w_t + w_{t+1}) / 4, with w_0 itself at t = 0, the
                path of a flow that starts at w_0; "two_point" for (w_t + w_{t+1}) / 2.

        Raises:
            ValueError: If this is the trajectory of a flow, or a batch, or `kind` is neither of the
                two.
        """
        check_one("midpoints", self)
        if kind not in get_args(Midpoint):
            raise ValueError(f'kind must be "three_point" or "two_point"; got {kind!r}.')
        neighbours = self.neighbours
        if neighbours is None:
            raise ValueError("only the trajectory of an optimizer has midpoints; got a flow's.")
        if kind == "two_point":
            return jax.tree.map(lambda w, n: 0.5 * (w + n), self.params, neighbours.next)

        def smoothed(previous: Array, current: Array, following: Array) -> Array:
            start = (self.steps == 0).reshape((-1,) + (1,) * (current.ndim - 1))
            return jnp.where(start, current, 0.25 * (previous + 2 * current + following))

        return jax.tree.map(smoothed, neighbours.previous, self.params, neighbours.next)

    def to_dataset(self, params: bool = True) -> "xarray.Dataset":
        """Return the saved steps as a labelled dataset with coordinate `step`.

        Args:
            params: True to include the parameters, flattened, as (step, parameter).

        Returns:
            One variable per observable, with `units` and `long_name`; the stats as attributes.

        Raises:
            ValueError: If this is a batch of trajectories, or its values are not known yet.
        """
        # It takes as long to import as diffrax, and nothing else in flows needs it.
        import xarray

        check_one("to_dataset", self, mapped=False)
        if is_traced(self):
            raise ValueError("to_dataset needs values: call it outside of jax.jit and jax.vmap.")
        data: dict[str, Any] = {}
        described = dict(self.variables)
        for name, values in self.observables.items():
            variable = described.get(name, Variable("1", name))
            attributes = {"units": variable.units, "long_name": variable.description}
            data[name] = (("step", *variable.dims), np.asarray(values), attributes)
        if params:
            flat = np.asarray(jax.vmap(lambda p: ravel_pytree(p)[0])(self.params))
            attributes = {"units": PARAMETER, "long_name": "parameters, flattened"}
            data["params"] = (("step", "parameter"), flat, attributes)
        unit = {"units": self.time_unit, "long_name": "time of the save"}
        stats = {name: np.asarray(value).item() for name, value in self.stats.items()}
        return xarray.Dataset(data, {"step": ("step", np.asarray(self.steps), unit)}, stats)


def check_one(name: str, *trajectories: Trajectory, mapped: bool = True) -> None:
    """Check that trajectories are single ones, as they are inside `jax.vmap`, and no batches.

    Args:
        name: What is asked of them, for the message.
        trajectories: The trajectories.
        mapped: True if it can be asked inside `jax.vmap`, so that the message advises it.

    Raises:
        ValueError: If one has axes before that of the saves.
    """
    for trajectory in trajectories:
        shape = trajectory.steps.shape
        if len(shape) != 1:
            hint = ", or wrap in jax.vmap: jax.vmap(lambda trajectory: ...)(trajectory)"
            raise ValueError(
                f"{name} is of one trajectory; this is a batch, with steps of shape {shape}. Take "
                "one out of it, jax.tree.map(lambda x: x[0], trajectory)"
                f"{hint if mapped else ''}."
            )


class SimulationError(RuntimeError):
    """A run stopped early: its parameters or its loss are not finite, or its solver failed.

    Attributes:
        trajectory: Everything that was saved before the run stopped: the `Trajectory` of `simulate`
            and `iterate`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, SimulationError, iterate
        >>> bowl = lambda w: 0.5 * jnp.sum(w**2)
        >>> try:
        ...     iterate(GradientDescent(1e200), bowl, jnp.ones(2), steps=4)
        ... except SimulationError as error:
        ...     print(error)
        ...     print(error.trajectory.steps.tolist())
        GradientDescent stopped at step 1: the loss is no longer finite.
        [0]
    """

    def __init__(self, message: str, trajectory: Trajectory | PyTree):
        super().__init__(message)
        self.trajectory = trajectory


def concatenate(trajectories: Sequence[Trajectory]) -> Trajectory:
    """Join the pieces of one run, in order, into one trajectory.

    Stats are summed; state, result and metadata are those of the last piece.

    Args:
        trajectories: The pieces, each going on from the `state` of the one before.

    Raises:
        ValueError: If there is no piece, or they do not follow each other in time, or are batches.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, concatenate, iterate
        >>> optimizer, bowl = GradientDescent(0.5), lambda w: 0.5 * jnp.sum(w**2)
        >>> first = iterate(optimizer, bowl, jnp.ones(2), steps=3)
        >>> rest = iterate(optimizer, bowl, None, steps=2, state=first.state)
        >>> concatenate([first, rest]).steps.tolist()
        [0, 1, 2, 3, 4, 5]
    """
    if not trajectories:
        raise ValueError("trajectories must hold at least one trajectory; got none.")
    check_one("concatenate", *trajectories)
    if len(trajectories) == 1:
        return trajectories[0]
    times = [t.steps for t in trajectories]
    if is_traced(times):
        return join(trajectories, gapless=False)
    gaps = np.diff(np.concatenate(times))
    if np.any(gaps <= 0):
        raise ValueError("trajectories must follow each other in time.")
    return join(trajectories, gapless=bool(np.all(gaps == 1)))


def join(pieces: Sequence[Trajectory], *, gapless: bool) -> Trajectory:
    """Join pieces of one run without a check.

    Args:
        pieces: At least one.
        gapless: True if the first step of each piece follows the last step of the one before.
    """
    last = pieces[-1]
    if len(pieces) == 1:
        return last
    first_source, last_source = pieces[0].neighbour_source, last.neighbour_source
    boundary = None
    if (
        gapless
        and isinstance(first_source, BoundaryIterates)
        and isinstance(last_source, BoundaryIterates)
    ):
        boundary = BoundaryIterates(first_source.before, last_source.after)
    rows = [(t.steps, t.params, t.observables, None if boundary else t.neighbours) for t in pieces]
    (steps, params, observables, neighbours), stats = _joined(rows, [t.stats for t in pieces])
    return dataclasses.replace(
        last,
        steps=steps,
        params=params,
        observables=observables,
        stats=stats,
        neighbour_source=neighbours if boundary is None else boundary,
    )


# One program: joining the arrays one by one would take longer than many of the runs themselves.
@eqx.filter_jit
def _joined(rows: list[Any], stats: list[dict[str, Array]]) -> tuple[Any, dict[str, Array]]:
    return (
        jax.tree.map(lambda *xs: jnp.concatenate(xs), *rows),
        jax.tree.map(lambda *xs: sum(xs[:-1], xs[-1]), *stats),
    )
