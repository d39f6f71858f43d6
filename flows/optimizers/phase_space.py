"""An optimizer's phase space: its state as one vector, and the map of a step on it.

A flow that models a map z -> z + F(z), whatever the map, needs the state to be numbers that move
continuously and F to be differentiable. Parameters alone are the state of gradient descent; with
momentum the state holds the momentum too. A step counter is refused: with it the map depends on
time, and a rod between two consecutive states would lie along the counter.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..core.optimizer import AbstractIncrementalOptimizer, AbstractOptimizer
from ..core.potential import Potential
from ..core.trees import Params, squared_norm

Point = Float[Array, " phase"]

# JAX gives the derivative zero to functions that are constant between jumps.
_STEPWISE = frozenset({"sign", "floor", "ceil", "round", "argmax", "argmin"})


def increments(
    optimizer: AbstractOptimizer, potential: Potential, unravel: Callable[[Point], Any]
) -> Callable[[Point], Point]:
    """Return F with F(z) = step(z) - z, on flat states.

    Args:
        optimizer: The map.
        potential: The loss.
        unravel: From a flat vector (phase,) to the optimizer's state.
    """

    def increment(z: Point) -> Point:
        state = unravel(z)
        if isinstance(optimizer, AbstractIncrementalOptimizer):
            return ravel_pytree(optimizer.increment(state, potential))[0]
        return ravel_pytree(optimizer.step(state, potential))[0] - z

    return increment


def check_phase_space(optimizer: AbstractOptimizer, potential: Potential, params: Params) -> None:
    """Check that an optimizer's map is one on floats, and differentiable.

    Raises:
        ValueError: If the state has a leaf that is not a float array of the params' dtype, the map
            uses a function that jumps, or its derivative cannot be computed.
    """
    state = jax.eval_shape(optimizer.init, params)
    _check_leaves(optimizer, state, jax.tree.leaves(params)[0].dtype)
    _check_jumps(optimizer, state)

    def derivative(state: Any) -> Any:
        return jax.jvp(lambda z: optimizer.step(z, potential), (state,), (state,))[1]

    message = (
        "optimizer must have a differentiable map on this potential; the directional derivative "
        f"DF(z) . v of a step of {_name(optimizer)} cannot be computed"
    )
    try:
        jaxpr = jax.make_jaxpr(derivative)(state)
    except (TypeError, NotImplementedError, ValueError) as error:
        raise ValueError(f"{message}: {error}") from error
    # What JAX puts in place of a forward derivative that it does not have, until it compiles it.
    if "custom_lin" in _primitives(jaxpr.jaxpr):
        raise ValueError(f"{message}: a function with jax.custom_vjp has no forward derivative.")


def _name(optimizer: AbstractOptimizer) -> str:
    return type(optimizer).__name__


def _check_leaves(optimizer: AbstractOptimizer, state: Any, dtype: Any) -> None:
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        if leaf.dtype == dtype:
            continue
        where = f"state{jax.tree_util.keystr(path)}"
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            reason = f"all leaves must have the dtype of the parameters, {dtype}"
        elif jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.shape == ():
            reason = "with a step counter the map depends on time, and is no map of phase space"
        else:
            reason = "it cannot move continuously"
        raise ValueError(
            f"optimizer must have a state of float arrays that a flow can carry; {where} of "
            f"{_name(optimizer)} has dtype {leaf.dtype} and shape {leaf.shape}: {reason}. "
            "(`iterate` runs this optimizer.)"
        )


def _check_jumps(optimizer: AbstractOptimizer, state: Any) -> None:
    """Look for functions that jump in the optimizer's own step, on a smooth potential."""

    def smooth(params: Params) -> Float[Array, ""]:
        return 0.5 * squared_norm(params)

    jaxpr = jax.make_jaxpr(lambda z: optimizer.step(z, smooth))(state)
    for name in _primitives(jaxpr.jaxpr):
        if name in _STEPWISE:
            raise ValueError(
                f"optimizer must have a smooth map; a step of {_name(optimizer)} uses {name!r}, "
                "which jumps: its derivative is zero wherever it exists, so that the derivative "
                "DF of the map does not say how the map changes. (`iterate` runs this optimizer.)"
            )


def _primitives(jaxpr: Any) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for parameter in equation.params.values():
            inner = parameter if isinstance(parameter, tuple | list) else (parameter,)
            for item in inner:
                item = getattr(item, "jaxpr", item)
                if hasattr(item, "eqns"):
                    yield from _primitives(item)
