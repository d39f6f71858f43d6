"""How far a flow is from the optimizer's midpoints, and how far those have moved."""

from collections.abc import Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

import flows

Params = PyTree[Float[Array, "..."]]
Observables = dict[str, Float[Array, "step ..."]]

VARIABLES = {
    "distance": flows.Variable("parameter", "distance to the discrete midpoint at the same time"),
    "displacement": flows.Variable("parameter", "distance of that midpoint from its start"),
}
"""Metadata of what `distances` gives."""


def first_midpoints(
    discrete: flows.Trajectory, kinds: Iterable[flows.Midpoint]
) -> dict[flows.Midpoint, Params]:
    """Return where each path of midpoints starts.

    Args:
        discrete: the optimizer's trajectory from its start on.
        kinds: the kinds of midpoints.
    """
    return {kind: jax.tree.map(lambda x: x[0], discrete.midpoints(kind)) for kind in kinds}


@eqx.filter_jit
def distances(
    flow: flows.Trajectory, discrete: flows.Trajectory | None, start: Params | None
) -> Observables:
    """Measure |c(t) - m_t| and |m_t - m_0|: c is a flow's centre, m are the midpoints it models.

    Both are kept because the tracking error of any part of a run, the mean of the first over the
    mean of the second, follows from them.

    Args:
        flow: the trajectory of a flow that models an optimizer, T saves, or a later piece of it.
        discrete: the optimizer's trajectory, saved at the same steps; None if it stopped earlier.
        start: m_0, the first midpoint of the whole run; needed where there is a `discrete`.

    Returns:
        `distance` and `displacement` (T,), in the units of the parameters; nan at the saves that
        the optimizer did not reach.
    """
    count = flow.steps.shape[0]
    if discrete is None or flow.midpoint is None:
        nothing = jnp.full(count, jnp.nan, jax.tree.leaves(flow.params)[0].dtype)
        return dict.fromkeys(VARIABLES, nothing)
    moved = jax.tree.map(lambda m, m0: m - m0[None], discrete.midpoints(flow.midpoint), start)
    measured = {"distance": flows.distance(flow, discrete), "displacement": row_norms(moved)}
    return {name: beside(values, discrete, count) for name, values in measured.items()}


def row_norms(tree: Params) -> Float[Array, " step"]:
    """Return the Euclidean norm (T,) of each row of a pytree whose arrays have leading axis T."""
    squares = (jnp.sum(jnp.square(x), axis=range(1, x.ndim)) for x in jax.tree.leaves(tree))
    return jnp.sqrt(sum(squares))


def beside(
    values: Float[Array, "saves ..."], discrete: flows.Trajectory, count: int
) -> Float[Array, "step ..."]:
    """Lay values that were measured along the optimizer's saves beside those of a flow.

    Args:
        values: a row for each of the optimizer's saves, or for the first of them.
        discrete: the optimizer's trajectory.
        count: how many saves the flow has.

    Returns:
        As many rows as the flow has saves; nan where the optimizer had stopped.
    """
    values = values[:count]
    kept = flows.kept_rows(discrete)[: len(values)].reshape(-1, *(1,) * (values.ndim - 1))
    missing = [(0, count - len(values))] + [(0, 0)] * (values.ndim - 1)
    return jnp.pad(jnp.where(kept, values, jnp.nan), missing, constant_values=jnp.nan)
