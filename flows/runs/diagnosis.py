"""Why a run failed, from what the loss is like where it stopped; outside of compiled loops."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..core.flow import AbstractFlow
from ..core.potential import Potential
from ..core.results import RESULTS
from ..core.trajectory import Trajectory
from ..core.trees import Params, all_finite, norm

# A gradient that changes by this part of itself over the shortest distance jumps there.
_JUMP = 0.1
# A series whose first neglected term is that part of the first kept one says little.
_LARGE = 0.1
# A gradient of less than this part of the one at the start is about to vanish.
_SMALL = 0.2


def fault_of_gradient(potential: Potential, params: Params) -> str:
    """Return what is wrong with the gradient at a point where a run stopped, as a sentence.

    Args:
        potential: The loss.
        params: The point.

    Returns:
        A sentence if the gradient is not finite where the loss is, or jumps there; otherwise "".
    """
    if not bool(all_finite(params)):
        return ""
    loss, gradient, change, nearby = _around(potential, params)
    if not bool(jnp.isfinite(loss)):
        return ""
    leaves = jax.tree_util.tree_leaves_with_path(gradient)
    faulty = [
        f"params{jax.tree_util.keystr(path)}"
        for path, leaf in leaves
        if not np.isfinite(np.asarray(leaf)).all()
    ]
    if faulty:
        return (
            f"the loss is finite there, {float(loss):.4g}, but its gradient is not, with respect "
            f"to {', '.join(faulty)}: a norm or a root at zero has an infinite slope, which "
            "jnp.sqrt(x**2 + small) has not"
        )
    if float(nearby) > _JUMP and float(nearby) > 0.5 * float(change):
        return (
            f"the gradient jumps there, by {float(nearby):.0%} of itself, as at a kink of |w| or "
            "of a ReLU, where no solver with an error estimate gets on: take steps of a fixed "
            "size, such as solver=diffrax.Euler() with dt0=0.1, or make the loss smooth"
        )
    return ""


def fault_of_smoothing(
    flow: AbstractFlow, potential: Potential, run: Trajectory, reached: Params
) -> str:
    """Return that a flow of sharpness-aware descent stalls for want of smoothing, as a sentence.

    Args:
        flow: The flow.
        potential: The loss.
        run: What there is of it, with its start.
        reached: Where its solver gave up.

    Returns:
        A sentence if it is such a flow and the gradient is small there; otherwise "".
    """
    optimizer = getattr(flow, "optimizer", None)
    radius, smoothing = (getattr(optimizer, name, None) for name in ("radius", "smoothing"))
    gave_up = any(
        bool(run.result == r) for r in (RESULTS.dt_min_reached, RESULTS.max_steps_reached)
    )
    if radius is None or smoothing is None or not gave_up or hasattr(flow, "smoothing"):
        return ""
    if float(smoothing) > 0 or float(radius) == 0 or not getattr(optimizer, "normalised", True):
        return ""
    start = jax.tree.map(lambda x: x[0], run.params)
    lengths = [norm(eqx.filter_jit(jax.grad(potential))(place)) for place in (start, reached)]
    if float(lengths[1]) > _SMALL * float(lengths[0]):
        return ""
    name = type(optimizer).__name__
    other = ", or take SharpnessAwareFlow, which chooses it" if name == "SAM" else ""
    return (
        f"the flow of {name} without smoothing jumps where the gradient vanishes, which it reaches "
        f"in finite time: give {name} a smoothing above 0, in the unit of the gradient, much below "
        f"its length on the way{other}"
    )


def fault_of_series(run: Trajectory) -> str:
    """Return that the motion was too fast for a flow that is a series in its slowness.

    Args:
        run: What there is of it.

    Returns:
        A sentence if the flow says how large the terms are that it leaves out, and they are large
        at the end; otherwise "".
    """
    remainder = np.asarray(run.observables.get("remainder", np.nan)).reshape(-1)
    remainder = remainder[np.isfinite(remainder)]
    if not remainder.size or remainder[-1] < _LARGE:
        return ""
    return (
        "the motion is too fast there for the flow's series, as in a catapult: the first term that "
        f"it leaves out is {remainder[-1]:.2g} of the first that it keeps (`remainder`). Start it "
        "later, with `burn`, where that is below a hundredth, or take RodFlow"
    )


@eqx.filter_jit
def _around(
    potential: Potential, params: Params
) -> tuple[Float[Array, ""], Params, Float[Array, ""], Float[Array, ""]]:
    """Return the loss, the gradient, and its relative changes over a distance and a shorter one."""
    loss, gradient = jax.value_and_grad(potential)(params)
    flat, unravel = ravel_pytree(params)
    slope, _ = ravel_pytree(gradient)
    size = jnp.linalg.norm(slope)
    direction = slope / jnp.maximum(size, jnp.finfo(slope.dtype).tiny)
    # Of the size of the parameters; the shorter one is well above their rounding errors.
    unit = jnp.maximum(jnp.linalg.norm(flat), 1e-3)
    shortest = jnp.finfo(flat.dtype).eps ** 0.4

    def change(distance: Array) -> Array:
        ends = [
            ravel_pytree(jax.grad(potential)(unravel(flat + sign * distance * direction)))[0]
            for sign in (1, -1)
        ]
        return jnp.linalg.norm(ends[0] - ends[1]) / jnp.maximum(size, jnp.finfo(size.dtype).tiny)

    return loss, gradient, change(30 * shortest * unit), change(shortest * unit)
