"""How well a flow tracks an optimizer: distances to the path's midpoints, or to its iterates."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..core.trajectory import Trajectory, check_one
from ..core.trees import Params, is_traced, norm


def _distances(x: Params, y: Params) -> Float[Array, " T"]:
    return norms(jax.tree.map(jnp.subtract, x, y))


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
    midpoints = discrete.midpoints(flow.midpoint)
    centres = flow.params
    if flow.iterates_at is not None:
        centres = flow.observables[flow.iterates_at]
        midpoints = jax.vmap(lambda p: ravel_pytree(p)[0])(midpoints)
    rows, places = matched(flow, discrete)
    return (
        jax.tree.map(lambda x: x[:rows], centres),
        jax.tree.map(lambda x: x[places], midpoints),
    )


def matched(flow: Trajectory, discrete: Trajectory) -> tuple[int, Int[Array, " rows"]]:
    """Return how many of the flow's saves the optimizer has too, and the places of its own.

    A flow may begin at a later step than the optimizer, and one of the two may have stopped early.
    Where the steps are not known, in `jax.jit`, the flow must have ended no later.

    Raises:
        ValueError: If they were saved at different steps, or have none in common.
    """
    if is_traced((flow.steps, discrete.steps)):
        return flow.steps.shape[-1], jnp.searchsorted(discrete.steps, flow.steps)
    saved, along = np.asarray(flow.steps), np.asarray(discrete.steps)
    first = int(np.searchsorted(along, saved[0])) if len(saved) else 0
    rows = min(len(saved), len(along) - first)
    if rows < 1:
        raise ValueError(
            "flow and discrete must have a step in common; they end at steps "
            f"{[int(steps[-1]) for steps in (saved, along) if len(steps)]}."
        )
    if not np.array_equal(saved[:rows], along[first : first + rows]):
        raise ValueError("flow and discrete must be saved at the same steps.")
    return rows, jnp.arange(first, first + rows)


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
    is the one that the flow's centre models, `flow.midpoint`, and m_0 is at the first step that
    both have saved.

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


def iterate_error(flow: Trajectory, discrete: Trajectory) -> Float[Array, ""]:
    """Return mean_t |c(t) + (-1)^t d(t) - w_t| / mean_t |w_t - w_b|, of the iterates themselves.

    It judges a flow that predicts every iterate, from its first step b on. The midpoints
    (w_{t-1} + 2 w_t + w_{t+1}) / 4 of `tracking_error` are a filter with a bias of the second order
    in the slowness: a flow that is better than that looks no better there.

    Args:
        flow: Trajectory of a flow with the observable `half_difference`, as `ParityFlow` has it.
        discrete: As for `distance`.

    Raises:
        ValueError: As for `distance`, and if the flow predicts no iterates.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, ParityFlow, iterate, iterate_error, simulate
        >>> well = lambda w: jnp.sum(0.5 * 2.1 * w**2 - 0.25 * w**4)
        >>> optimizer, start = GradientDescent(1.0), jnp.asarray([0.1])
        >>> flow = simulate(ParityFlow(optimizer, order=3), well, start, steps=40)
        >>> bool(iterate_error(flow, iterate(optimizer, well, start, steps=40)) < 0.01)
        True
    """
    if "half_difference" not in flow.observables:
        raise ValueError(
            "flow must be the trajectory of a flow that predicts the iterates, in the observable "
            f"'half_difference'; this one has {sorted(flow.observables)}."
        )
    centres, _ = _common("iterate_error", flow, discrete)
    rows, places = matched(flow, discrete)
    signs = jnp.where(flow.steps[:rows] % 2 == 0, 1, -1)
    flat = jax.vmap(lambda p: ravel_pytree(p)[0])
    half = flow.observables["half_difference"][:rows]
    predicted = flat(centres) + signs[:, None].astype(half.dtype) * half
    iterates = flat(jax.tree.map(lambda x: x[places], discrete.params))
    return jnp.mean(norms(predicted - iterates)) / jnp.mean(norms(iterates - iterates[:1]))


def norms(tree: Params) -> Float[Array, " T"]:
    """Return the Euclidean norm of each row of a pytree whose arrays have leading axis T."""
    return jax.vmap(norm)(tree)
