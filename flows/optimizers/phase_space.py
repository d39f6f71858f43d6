"""An optimizer's phase space: what of its state moves continuously, and the map of a step on it.

A flow that models a map z -> z + F(z), whatever the map, needs the state to be numbers that move
continuously and F to be differentiable. Parameters alone are the state of gradient descent; with
momentum the state holds the momentum too. A step counter makes the map depend on time: a flow
leaves the counter out of its phase space and takes the count from its own time.
"""

from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PyTree, Real

from ..core.constrained import AbstractConstrained
from ..core.optimizer import AbstractIncrementalOptimizer, AbstractOptimizer
from ..core.potential import Potential
from ..core.schedules import schedules
from ..core.trees import Params, squared_norm

Point = Float[Array, " phase"]
Shapes = PyTree[jax.ShapeDtypeStruct]

# JAX gives the derivative zero to functions that are constant between jumps.
_STEPWISE = frozenset({"sign", "floor", "ceil", "round", "argmax", "argmin"})

# A counter advances by one from each of these; one that starts again after some steps does not.
_COUNTS = (0.5, 2.25, 1000000.25)


def increments(
    optimizer: AbstractOptimizer, potential: Potential, unravel: Callable[[Point], PyTree[Array]]
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


def moving(state: PyTree[Array]) -> PyTree[Array]:
    """Return a state with None in place of its step counters: a point of phase space."""
    return eqx.filter(state, eqx.is_inexact_array)


def increments_in_time(
    optimizer: AbstractOptimizer, potential: Potential
) -> Callable[[Real[Array, ""], PyTree[Array]], PyTree[Array]]:
    """Return F with F(t, z) = step(z) - z, on states without their step counters.

    The counters are as many steps ahead of where they start as the time t says, a fraction too.

    Args:
        optimizer: The map.
        potential: The loss.
    """

    def increment(t: Real[Array, ""], z: PyTree[Array]) -> PyTree[Array]:
        state = at_time(optimizer, t, z)
        if isinstance(optimizer, AbstractIncrementalOptimizer):
            change = optimizer.increment(state, potential)
        else:
            change = jax.tree.map(jnp.subtract, optimizer.step(state, potential), state)
        return jax.tree.map(lambda x, dx: None if x is None else dx, z, change, is_leaf=_is_none)

    return increment


def at_time(optimizer: AbstractOptimizer, t: Real[Array, ""], z: PyTree[Array]) -> PyTree[Array]:
    """Return a point of phase space with step counters, as floats, that are at a time."""
    counters = eqx.filter(optimizer.init(optimizer.params(z)), eqx.is_inexact_array, inverse=True)
    return eqx.combine(z, jax.tree.map(lambda c: c.astype(t.dtype) + t, counters))


def check_phase_space(
    optimizer: AbstractOptimizer,
    potential: Potential,
    params: Params,
    *,
    counters: bool = False,
    derivative: bool = True,
) -> None:
    """Check that an optimizer's map is one on floats, smooth and, where needed, differentiable.

    Args:
        optimizer: The map.
        potential: The loss.
        params: Where the optimizer starts.
        counters: True if step counters are allowed, which the flow takes from its time.
        derivative: True if the flow needs the map's derivative, in forward mode.

    Raises:
        ValueError: If the optimizer stays on a manifold, the state has a leaf that is not a float
            array of the params' dtype (nor, if these are allowed, a step counter whose step has a
            meaning at fractions), the map uses a function that jumps, or its derivative cannot be
            computed.
    """
    if isinstance(optimizer, AbstractConstrained):
        raise ValueError(
            f"optimizer must be one in flat space: {type(optimizer).__name__} stays on a manifold, "
            f"where its flow is RiemannianFlow; got {optimizer!r}."
        )
    state = jax.eval_shape(optimizer.init, params)
    dtype = jax.tree.leaves(params)[0].dtype
    _check_leaves(optimizer, state, dtype, counters)
    # These are shapes, which `eqx.is_inexact_array` takes for no arrays.
    if counters and any(not jnp.issubdtype(x.dtype, jnp.inexact) for x in jax.tree.leaves(state)):
        _check_counters(optimizer, params)
        state = jax.eval_shape(
            lambda p: at_time(optimizer, jnp.zeros((), dtype), moving(optimizer.init(p))), params
        )
    _check_jumps(optimizer, state)
    if not derivative:
        return

    def tangent(state: PyTree[Array]) -> PyTree[Array]:
        return jax.jvp(lambda z: optimizer.step(z, potential), (state,), (state,))[1]

    message = (
        "optimizer must have a differentiable map on this potential; the directional derivative "
        f"DF(z) . v of a step of {_name(optimizer)} cannot be computed"
    )
    try:
        jaxpr = jax.make_jaxpr(tangent)(state)
    except (TypeError, NotImplementedError, ValueError) as error:
        raise ValueError(f"{message}: {error}") from error
    # What JAX puts in place of a forward derivative that it does not have, until it compiles it.
    if "custom_lin" in _primitives(jaxpr.jaxpr):
        raise ValueError(f"{message}: a function with jax.custom_vjp has no forward derivative.")


def _name(optimizer: AbstractOptimizer) -> str:
    return type(optimizer).__name__


def _is_none(leaf: object) -> bool:
    return leaf is None


def _is_counter(leaf: jax.ShapeDtypeStruct) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.shape == ()


def _smooth(params: Params) -> Float[Array, ""]:
    return 0.5 * squared_norm(params)


def _check_leaves(
    optimizer: AbstractOptimizer, state: Shapes, dtype: DTypeLike, counters: bool
) -> None:
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        if leaf.dtype == dtype or (counters and _is_counter(leaf)):
            continue
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            reason = f"all leaves must have the dtype of the parameters, {dtype}"
        elif _is_counter(leaf):
            reason = "with a step counter the map depends on time, and is no map of phase space"
        else:
            reason = "it cannot move continuously"
        raise ValueError(
            "optimizer must have a state of float arrays that a flow can carry; state"
            f"{jax.tree_util.keystr(path)} of {_name(optimizer)} has dtype {leaf.dtype} and shape "
            f"{leaf.shape}: {reason}. (`iterate` runs this optimizer.)"
        )


def _check_counters(optimizer: AbstractOptimizer, params: Params) -> None:
    """Check that integers of a state count steps, and that the map is defined between them.

    Raises:
        ValueError: If not.
    """
    message = (
        "optimizer must have a map that can be followed between two steps; {where} of "
        f"{_name(optimizer)} {{reason}}. (`iterate` runs this optimizer.)"
    )
    # On numbers, even inside of a function that is being compiled.
    with jax.ensure_compile_time_eval():
        start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), params)
        z = moving(optimizer.init(start))
        for count in _COUNTS:
            before = at_time(optimizer, jnp.asarray(count, jax.tree.leaves(start)[0].dtype), z)
            try:
                after = optimizer.step(before, _smooth)
            except (TypeError, ValueError, IndexError) as error:
                reason = f"must be whole numbers of steps ({error})"
                raise ValueError(message.format(where="the counters", reason=reason)) from error
            paths = jax.tree_util.tree_flatten_with_path(before, is_leaf=_is_none)[0]
            leaves = (jax.tree.leaves(tree, is_leaf=_is_none) for tree in (after, z))
            for (path, old), new, moves in zip(paths, *leaves, strict=True):
                counts = moves is None and old is not None
                if counts and float(np.asarray(new)) != float(np.asarray(old)) + 1:
                    where = f"state{jax.tree_util.keystr(path)}"
                    reason = "does not advance by one at each step"
                    raise ValueError(message.format(where=where, reason=reason))


def _check_jumps(optimizer: AbstractOptimizer, state: Shapes) -> None:
    """Look for functions that jump in the optimizer's schedules, and in its step on a smooth loss.

    Raises:
        ValueError: If there is one.
    """
    for schedule in schedules(optimizer):
        time = jnp.zeros((), jnp.result_type(float))
        for name in _primitives(jax.make_jaxpr(schedule)(time).jaxpr):
            if name in _STEPWISE:
                raise ValueError(
                    f"optimizer must have schedules that change smoothly; {schedule.function!r}, "
                    f"one of {_name(optimizer)}, uses {name!r}, which jumps: a flow follows a "
                    "schedule between two steps too. optax.piecewise_interpolate_schedule changes "
                    "smoothly. (`iterate` runs this optimizer.)"
                )
    jaxpr = jax.make_jaxpr(lambda z: optimizer.step(z, _smooth))(state)
    for name in _primitives(jaxpr.jaxpr):
        if name in _STEPWISE:
            raise ValueError(
                f"optimizer must have a smooth map; a step of {_name(optimizer)} uses {name!r}, "
                "which jumps: its derivative is zero wherever it exists, so that the derivative "
                "DF of the map does not say how the map changes. (`iterate` runs this optimizer.)"
            )


def _primitives(jaxpr: Jaxpr) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for parameter in equation.params.values():
            inner = parameter if isinstance(parameter, tuple | list) else (parameter,)
            for item in inner:
                item = getattr(item, "jaxpr", item)
                if hasattr(item, "eqns"):
                    yield from _primitives(item)
