"""How well a flow tracks an optimizer: distances to the discrete path's midpoints."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..core.trajectory import Trajectory, check_one
from ..core.trees import Params, is_traced, norm


def _distances(x: Params, y: Params) -> Float[Array, " T"]:
    return jax.vmap(lambda a, b: norm(jax.tree.map(jnp.subtract, a, b)))(x, y)


def _common(name: str, flow: Trajectory, discrete: Trajectory) -> tuple[Params, Params]:
    """Return the flow's centres and the midpoints they model, over the common saved steps."""
    check_one(name, flow, discrete)
    if flow.midpoint is None:
        raise ValueError(
            "flow must be the trajectory of a flow that models an optimizer; got an optimizer's, "
            "or that of a flow with its own time."
        )
    if discrete.neighbours is None:
        raise ValueError("discrete must be the trajectory of an optimizer; got a flow's.")
    count = min(flow.steps.shape[-1], discrete.steps.shape[-1])
    if not is_traced((flow.steps, discrete.steps)) and not np.array_equal(
        np.asarray(flow.steps[:count]), np.asarray(discrete.steps[:count])
    ):
        raise ValueError("flow and discrete must be saved at the same steps.")
    midpoints = discrete.midpoints(flow.midpoint)
    centres = flow.params
    if flow.iterates_at is not None:
        centres = flow.observables[flow.iterates_at]
        midpoints = jax.vmap(lambda p: ravel_pytree(p)[0])(midpoints)
    return jax.tree.map(lambda x: x[:count], (centres, midpoints))


def distance(flow: Trajectory, discrete: Trajectory) -> Float[Array, " T"]:
    """Return |centre(t) - m_t|, the distance of a flow to the discrete midpoint at the same time.

    Args:
        flow: Trajectory of a flow; it says which midpoint its centre models, and where it predicts
            the iterates if that is not its centre (the contact of a rolling ball).
        discrete: Trajectory of the optimizer, saved at the same steps. If one of the two stopped
            early, the common steps count.

    Returns:
        The distances (T,), in the units of the parameters.

    Raises:
        ValueError: If the trajectories are not of these kinds, were saved at different steps, or
            are batches.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, GradientFlow, distance, iterate, simulate
        >>> from potentials import Quadratic
        >>> optimizer, start = GradientDescent(0.1), jnp.asarray([1.0, 2.0])
        >>> bowl = Quadratic(jnp.asarray([1.0, 4.0]))
        >>> flow = simulate(GradientFlow(optimizer), bowl, start, steps=10)
        >>> discrete = iterate(optimizer, bowl, start, steps=10)
        >>> [round(float(x), 3) for x in distance(flow, discrete)[:3]]
        [0.0, 0.061, 0.131]
    """
    centres, midpoints = _common("distance", flow, discrete)
    return _distances(centres, midpoints)


def tracking_error(flow: Trajectory, discrete: Trajectory) -> Float[Array, ""]:
    """Return mean_t |centre(t) - m_t| / mean_t |m_t - m_0|, with the discrete midpoints m_t.

    0 is perfect, 1 no better than standing still; nan if the optimizer does not move. The midpoint
    is the one that the flow's centre models, `flow.midpoint`.

    Args:
        flow: As for `distance`.
        discrete: As for `distance`.

    Raises:
        ValueError: As for `distance`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, GradientFlow, iterate, simulate, tracking_error
        >>> from potentials import Quadratic
        >>> optimizer, start = GradientDescent(0.1), jnp.asarray([1.0, 2.0])
        >>> bowl = Quadratic(jnp.asarray([1.0, 4.0]))
        >>> flow = simulate(GradientFlow(optimizer), bowl, start, steps=10)
        >>> discrete = iterate(optimizer, bowl, start, steps=10)
        >>> round(float(tracking_error(flow, discrete)), 3)
        0.048
    """
    centres, midpoints = _common("tracking_error", flow, discrete)
    start = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), midpoints)
    return jnp.mean(_distances(centres, midpoints)) / jnp.mean(_distances(midpoints, start))
