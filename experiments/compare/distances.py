"""How far a flow is from what it models of the optimizer, and how far that has moved.

A flow's centre models the midpoints of the iterates. A flow that predicts every iterate is compared
with the iterates too. Saves are matched by their step: a flow may begin later than the optimizer,
and the optimizer may stop earlier than the flow.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

import flows

Params = PyTree[Float[Array, "..."]]
Observables = dict[str, Float[Array, "step ..."]]
Path: TypeAlias = flows.Midpoint | Literal["iterates"]
"""A path of the optimizer that flows model: midpoints of either kind, or the iterates."""
Start: TypeAlias = tuple[Path, int]
"""A path, and the optimizer's step from which a flow models it."""

HALF_DIFFERENCE = "half_difference"
"""The observable d, flat parameters, of a flow that predicts the iterates c + (-1)^t d."""
VARIABLES = {
    "distance": flows.Variable("parameter", "distance to the discrete midpoint at the same time"),
    "displacement": flows.Variable("parameter", "distance of that midpoint from its start"),
}
"""Metadata of what `distances` gives of midpoints."""
ITERATE_VARIABLES = {
    "iterate_distance": flows.Variable(
        "parameter", "distance of the predicted iterate to the discrete one at the same time"
    ),
    "iterate_displacement": flows.Variable(
        "parameter", "distance of that discrete iterate from the one where the flow begins"
    ),
}
"""Metadata of what `distances` gives of the iterates themselves."""


def starts(flow: flows.AbstractFlow) -> list[Start]:
    """Return which paths a flow models, with the step at which it begins."""
    modelled: list[Path] = [] if flow.midpoint is None else [flow.midpoint]
    if modelled and predicts_iterates(flow.variables):
        modelled.append("iterates")
    return [(path, flow.first_step) for path in modelled]


def predicts_iterates(variables: Mapping[str, flows.Variable]) -> bool:
    """Return True if a flow with these observables predicts every iterate."""
    return HALF_DIFFERENCE in variables and variables[HALF_DIFFERENCE].dims == ("parameter",)


def first_points(discrete: flows.Trajectory, wanted: Iterable[Start]) -> dict[Start, Params]:
    """Return where each path starts that a flow models.

    Args:
        discrete: the optimizer's trajectory from its start on, beyond each of the first steps.
        wanted: the paths and their first steps.

    Returns:
        The points; nan where the optimizer stopped before.
    """
    return _first_points(discrete, tuple(sorted(wanted)))


# One program: the many small ones of its operations would take seconds to compile.
@eqx.filter_jit
def _first_points(discrete: flows.Trajectory, wanted: tuple[Start, ...]) -> dict[Start, Params]:
    found: dict[Start, Params] = {}
    for path, step in wanted:
        at, there = places(jnp.asarray(step, discrete.steps.dtype), discrete)
        points = discrete.params if path == "iterates" else discrete.midpoints(path)
        found[path, step] = jax.tree.map(
            lambda x, at=at, there=there: jnp.where(there, x[at], jnp.nan), points
        )
    return found


@eqx.filter_jit
def distances(
    flow: flows.Trajectory, discrete: flows.Trajectory | None, begun: Mapping[Path, Params]
) -> Observables:
    """Measure |c(t) - m_t| and |m_t - m_b|: c is a flow's centre, m are the midpoints it models.

    Both are kept because the tracking error of any part of a run, the mean of the first over the
    mean of the second, follows from them. Of a flow that predicts the iterates the same is measured
    with these, |c(t) + (-1)^t d(t) - w_t| and |w_t - w_b|.

    Args:
        flow: the trajectory of a flow that models an optimizer, T saves, or a later piece of it.
        discrete: the optimizer's trajectory over the same steps; None if it stopped earlier.
        begun: the points m_b and w_b of the step b at which the flow begins; needed where there is
            a `discrete`.

    Returns:
        `distance` and `displacement`, and for a flow that predicts them `iterate_distance` and
        `iterate_displacement`, (T,) each, in the units of the parameters; nan at the saves that the
        optimizer did not reach.
    """
    predicts = predicts_iterates(dict(flow.variables))
    names = [*VARIABLES, *(ITERATE_VARIABLES if predicts else ())]
    if discrete is None or not discrete.steps.shape[0] or flow.midpoint is None:
        dtype = jax.tree.leaves(flow.params)[0].dtype
        return dict.fromkeys(names, jnp.full(flow.steps.shape, jnp.nan, dtype))
    at, there = places(flow.steps, discrete)

    def moved(path: Params, start: Params) -> Float[Array, " step"]:
        return row_norms(jax.tree.map(lambda x, x0: x[at] - x0[None], path, start))

    found = {
        "distance": flows.distance(flow, discrete),
        "displacement": moved(discrete.midpoints(flow.midpoint), begun[flow.midpoint]),
    }
    if predicts:
        flat = jax.vmap(lambda params: ravel_pytree(params)[0])
        centres, iterates = flat(flow.params), flat(discrete.params)
        signs = jnp.where(flow.steps % 2 == 0, 1, -1).astype(centres.dtype)
        predicted = centres + signs[:, None] * flow.observables[HALF_DIFFERENCE]
        found["iterate_distance"] = row_norms(predicted - iterates[at])
        found["iterate_displacement"] = moved(discrete.params, begun["iterates"])
    return {name: jnp.where(there, values, jnp.nan) for name, values in found.items()}


def row_norms(tree: Params) -> Float[Array, " step"]:
    """Return the Euclidean norm (T,) of each row of a pytree whose arrays have leading axis T."""
    squares = (jnp.sum(jnp.square(x), axis=range(1, x.ndim)) for x in jax.tree.leaves(tree))
    return jnp.sqrt(sum(squares))


def places(
    steps: Int[Array, "*saves"], discrete: flows.Trajectory
) -> tuple[Int[Array, "*saves"], Bool[Array, "*saves"]]:
    """Return where steps are among the optimizer's saves, and which of them it reached.

    Args:
        steps: of a flow's saves.
        discrete: the optimizer's trajectory, of at least one save.

    Returns:
        The places, somewhere within the trajectory for a step that is not there, and True for those
        that are.
    """
    found = jnp.clip(jnp.searchsorted(discrete.steps, steps), max=discrete.steps.shape[0] - 1)
    return found, (discrete.steps[found] == steps) & flows.kept_rows(discrete)[found]
