"""The record of a run, the same for optimizers and flows."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree, Real

from .flow import Midpoint
from .results import RESULTS
from .trees import Params, is_traced
from .variables import PARAMETER, STEPS, Variable, Variables


class Neighbours(eqx.Module):
    """The iterates one step before and one step after each saved one.

    Attributes:
        previous: w_{t-1}, leading axis the saved step; w_0 itself at t = 0.
        next: w_{t+1}, leading axis the saved step.
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
        previous, following = (
            jax.tree.map(
                lambda x, p, shift=shift: lax.slice_in_dim(
                    x, shift, shift + p.shape[axis], axis=axis
                ),
                path,
                params,
            )
            for shift in (0, 2)
        )
        return Neighbours(previous, following)


class Trajectory(eqx.Module):
    """What `simulate` and `iterate` return: T saved steps of a run.

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
            and `rejected_steps`. A solver made for a flow counts its accepted steps, others all
            but the projections after them; what a flow evaluates for its own observables at the
            saves counts in neither. The evaluations of an implicit solver's inner iterations are
            not known, and absent.
        result: How the run ended, an item of `RESULTS`.
        stopped_at: The step or time at which it failed; nan if it did not.
        variables: Metadata of the observables.
        neighbour_source: What `neighbours` are made of: themselves, or only the two ends of a run
            that saves every step; None for a flow.
        midpoint: Which midpoint of iterates the params of a flow model; None for an optimizer,
            and for a flow that models none.
        time_unit: "optimizer steps" or "time".
        failure: Which of `failures` ended the run, from 1; 0 for none of them.
        failures: What can go wrong besides the parameters and the solver, a sentence each;
            `{detail}` in it stands for the number `detail`.
        detail: What belongs to a failure, a residual perhaps; nan if nothing does.
        iterates_at: The observable that holds a flow's prediction of the iterates, flattened,
            where that is not `params`; None where it is.

    Where the run failed inside `jax.jit` or `jax.vmap`, rows from the failure on hold values that
    are not finite; outside they are cut off. A trajectory that `jax.vmap` returns is a batch: all
    arrays have its axis in front, and functions of one trajectory are to be mapped over it.
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
        """Whether the run reached its end."""
        return self.result == RESULTS.successful

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
        if bool(self.succeeded):
            return ""
        unit = "step" if self.time_unit == STEPS else "time"
        sentence = self.reason or _sentence(self.result)
        return f"stopped at {unit} {float(self.stopped_at):g}: {sentence}"

    @property
    def reason(self) -> str:
        """Which of `failures` ended the run; empty for none of them."""
        number = int(self.failure)
        return self.failures[number - 1].format(detail=float(self.detail)) if number else ""

    def midpoints(self, kind: str) -> Params:
        """Return the oscillation-free path of an optimizer, leading axis T.

        Args:
            kind: "three_point" for (w_{t-1} + 2 w_t + w_{t+1}) / 4, with w_0 itself at t = 0, the
                path of a flow that starts at w_0; "two_point" for (w_t + w_{t+1}) / 2.

        Raises:
            ValueError: If this is the trajectory of a flow, or a batch, or `kind` is neither of the
                two.
        """
        check_one("midpoints", self)
        neighbours = self.neighbours
        if neighbours is None:
            raise ValueError("only the trajectory of an optimizer has midpoints; got a flow's.")
        if kind == "two_point":
            return jax.tree.map(lambda w, n: 0.5 * (w + n), self.params, neighbours.next)
        if kind != "three_point":
            raise ValueError(f'kind must be "three_point" or "two_point"; got {kind!r}.')

        def smoothed(previous: Array, current: Array, following: Array) -> Array:
            start = (self.steps == 0).reshape((-1,) + (1,) * (current.ndim - 1))
            return jnp.where(start, current, 0.25 * (previous + 2 * current + following))

        return jax.tree.map(smoothed, neighbours.previous, self.params, neighbours.next)

    def to_dataset(self, params: bool = True) -> xr.Dataset:
        """Return the saved steps as a labelled dataset with coordinate `step`.

        Args:
            params: Whether to include the parameters, flattened, as (step, parameter).

        Returns:
            One variable per observable, with `units` and `long_name`; the stats as attributes.

        Raises:
            ValueError: If this is a batch of trajectories, or its values are not known yet.
        """
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
        return xr.Dataset(data, {"step": ("step", np.asarray(self.steps), unit)}, stats)


def check_one(name: str, *trajectories: Trajectory, mapped: bool = True) -> None:
    """Check that trajectories are single ones, as they are inside `jax.vmap`, and no batches.

    Args:
        name: What is asked of them.
        trajectories: The trajectories.
        mapped: Whether it can be asked inside `jax.vmap`.

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


def _sentence(result: RESULTS) -> str:
    if bool(result == RESULTS.nonfinite):
        return "the parameters are no longer finite"
    if bool(result == RESULTS.dt_min_reached):
        return (
            "the solver's step size fell below its minimum: the flow blows up there, or is too "
            "stiff for this solver and these tolerances"
        )
    if bool(result == RESULTS.max_steps_reached):
        return (
            "max_solver_steps was reached: raise it, save more often, or use an implicit "
            "solver such as diffrax.Kvaerno5() for a stiff flow"
        )
    if bool(result == RESULTS.nonlinear_divergence):
        return (
            "a step of the solver failed: the equations of an implicit one were not solved, or it "
            "was too long for a stabilised one; give a smaller dt0, or let the step size adapt"
        )
    return RESULTS[result]


def concatenate(trajectories: Sequence[Trajectory]) -> Trajectory:
    """Join the pieces of one run, in order, into one trajectory.

    Stats are summed; state, result and metadata are those of the last piece.

    Raises:
        ValueError: If there is no piece, or they do not follow each other in time, or are batches.
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
        gapless: Whether the step after the last of each piece is the first of the next.
    """
    last = pieces[-1]
    if len(pieces) == 1:
        return last
    neighbour_source: Neighbours | BoundaryIterates | None
    if (
        gapless
        and isinstance(pieces[0].neighbour_source, BoundaryIterates)
        and isinstance(last.neighbour_source, BoundaryIterates)
    ):
        neighbour_source, kept = (
            BoundaryIterates(pieces[0].neighbour_source.before, last.neighbour_source.after),
            [None] * len(pieces),
        )
    else:
        neighbour_source, kept = None, [t.neighbours for t in pieces]
    rows = [(t.steps, t.params, t.observables, n) for t, n in zip(pieces, kept, strict=True)]
    (steps, params, observables, neighbours), stats = _joined(rows, [t.stats for t in pieces])
    return Trajectory(
        steps=steps,
        params=params,
        observables=observables,
        state=last.state,
        stats=stats,
        result=last.result,
        stopped_at=last.stopped_at,
        neighbour_source=neighbours if neighbour_source is None else neighbour_source,
        variables=last.variables,
        midpoint=last.midpoint,
        time_unit=last.time_unit,
        failure=last.failure,
        failures=last.failures,
        detail=last.detail,
        iterates_at=last.iterates_at,
    )


# One program: joined one by one, the arrays cost more than many a run that made them.
@eqx.filter_jit
def _joined(rows: list[Any], stats: list[dict[str, Array]]) -> tuple[Any, dict[str, Array]]:
    return (
        jax.tree.map(lambda *xs: jnp.concatenate(xs), *rows),
        jax.tree.map(lambda *xs: sum(xs[:-1], xs[-1]), *stats),
    )
