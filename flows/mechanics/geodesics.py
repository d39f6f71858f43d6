"""Geodesics of the graph of a loss: mechanics without gravity and friction."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from ..core.arrays import RealScalarLike, ScalarLike
from ..core.batches import in_batches
from ..core.captured import captured
from ..core.potential import Potential
from ..core.results import RESULTS
from ..core.trees import Params
from ..core.validation import as_params, positive, positive_integer
from ..solvers.controllers import GuardedController
from .flow import DissipativeFlow, DissipativeState
from .friction import Viscous


def exponential_map(
    potential: Potential,
    params: PyTree,
    velocities: PyTree,
    *,
    time: ScalarLike = 1.0,
    batch_size: int | None = None,
    max_solver_steps: int = 65536,
) -> tuple[Params, Bool[Array, " N"]]:
    """Follow geodesics of the graph of the loss: mechanics without gravity and friction.

    dw/dt = v, dv/dt = -g (v^T H v) / (1 + |g|^2), whose speed sqrt(v^T v + (g^T v)^2) is constant:
    the exponential map of the metric G = I + g g^T (arXiv 2605.15459).

    Args:
        potential: The loss.
        params: Where they start.
        velocities: Their velocities, a pytree like `params` with a leading axis N.
        time: How long to follow each of them.
        batch_size: How many to integrate side by side; all if not given.
        max_solver_steps: Bound on the solver steps of one of them.

    Returns:
        Where they end, with a leading axis N, and True for each that got there (N,).

    Raises:
        ValueError: If an argument is wrong; the message names it.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import exponential_map
        >>> slope, start = lambda w: 2.0 * w[0], jnp.zeros(2)
        >>> ends, arrived = exponential_map(slope, start, jnp.asarray([[1.0, 0.5]]), time=3.0)
        >>> [[round(float(x), 6) for x in end] for end in ends], arrived.tolist()
        ([[3.0, 1.5]], [True])
    """
    params, velocities = as_params(params), as_params(velocities, "velocities")
    potential = captured(potential, params)
    velocities = _stacked_like(params, velocities)
    count = jax.tree.leaves(velocities)[0].shape[0]
    batch_size = count if batch_size is None else positive_integer("batch_size", batch_size)
    time = positive("time", time)
    bound = positive_integer("max_solver_steps", max_solver_steps)
    return _geodesics(potential, params, velocities, time, min(batch_size, count), bound)


def _stacked_like(params: Params, velocities: Params) -> Params:
    """Return the velocities in the dtype of the parameters.

    Raises:
        ValueError: If they are not like the parameters with a leading axis.
    """
    given, wanted = jax.tree.structure(velocities), jax.tree.structure(params)
    if given != wanted:
        raise ValueError(f"velocities must have the structure of params, {wanted}; got {given}.")
    count = max((v.shape[0] for v in jax.tree.leaves(velocities) if v.ndim), default=1)
    for (path, w), v in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(velocities), strict=True
    ):
        if v.shape != (count, *w.shape):
            raise ValueError(
                f"velocities{jax.tree_util.keystr(path)} must have shape {(count, *w.shape)}, that "
                f"of params with a leading axis for {count} of them; got {v.shape}."
            )
    return jax.tree.map(lambda w, v: v.astype(w.dtype), params, velocities)


@eqx.filter_jit
def _geodesics(
    potential: Potential,
    params: Params,
    velocities: Params,
    time: Array,
    batch_size: int,
    max_solver_steps: int,
) -> tuple[Params, Bool[Array, " N"]]:
    flow = DissipativeFlow(0.0, Viscous(0.0))
    dtype = jax.tree.leaves(params)[0].dtype
    solver, controller = flow.integrator(dtype)
    assert isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)
    time = time.astype(dtype)

    def field(t: RealScalarLike, state: DissipativeState, args: Potential) -> DissipativeState:
        return flow.vector_field(jnp.asarray(t), state, args)

    def one(velocity: Params) -> tuple[Params, Bool[Array, ""]]:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            solver,
            t0=jnp.zeros_like(time),
            t1=time,
            dt0=None,
            y0=DissipativeState(params, velocity),
            args=potential,
            stepsize_controller=GuardedController(controller),
            max_steps=max_solver_steps,
            throw=False,
        )
        assert solution.ys is not None
        end = jax.tree.map(lambda x: x[0], solution.ys)
        return end.position, solution.result == RESULTS.successful

    return in_batches(one, velocities, batch_size)
