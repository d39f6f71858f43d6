"""Measure at every n-th save only: nan in between, and where the parameters are not finite."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, PyTree

from ..core.cost import Cost
from ..core.trees import Params, all_finite
from .base import Measured


def when_due(
    measured: Callable[[PyTree[Array]], Measured],
    every: int,
    params: Params,
    state: PyTree[Array],
    index: Int[Array, ""],
) -> Measured:
    """Return `measured(state)` at each `every`-th save; otherwise nan, the same state, no cost.

    Args:
        measured: Makes the measurement; its quantities are floats.
        every: The interval, in saves.
        params: The parameters that are saved.
        state: The state of the measurement.
        index: How many saves were made before.
    """
    quantities, _, _ = eqx.filter_eval_shape(measured, state)

    def skipped(state: PyTree[Array]) -> Measured:
        nothing = jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), quantities)
        return nothing, state, Cost()

    due = (index % every == 0) & all_finite(params)
    return lax.cond(due, measured, skipped, state)
