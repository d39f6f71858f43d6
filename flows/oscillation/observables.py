"""What the parity flow predicts at a state, and how far its series can be trusted there."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..core.arrays import Modes, Vector
from ..core.cost import Cost
from ..core.optimizer import AbstractAdaptiveMethod
from ..core.potential import Potential
from ..core.trees import Params, add_scaled, norm
from ..core.variables import LOSS, NONE, PARAMETER, SHARPNESS, Variable
from ..curvature.eigenpairs import find_eigenpairs
from ..optimizers.phase_space import at_time
from .equation import ParityEquation, neglected_weights
from .state import ParityState, PolarParityState

PREDICTED = {
    "predicted_loss": Variable(LOSS, "predicted average of the loss over two iterates"),
    "half_difference_length": Variable(PARAMETER, "length of the half-difference in parameters"),
    "remainder": Variable(
        NONE, "first term that the flow's series leaves out, relative to the first that it keeps"
    ),
}
HALF_DIFFERENCE = {
    "half_difference": Variable(
        PARAMETER,
        "half-difference d, flattened: the iterate at step t is predicted at params + (-1)^t d",
        ("parameter",),
    ),
}
ALIGNMENT = {
    "alignment": Variable(
        NONE,
        "length of the half-difference's direction within the span of the top eigenvectors of the "
        "symmetrised loss",
    ),
    "symmetrised_sharpness": Variable(
        SHARPNESS, "largest eigenvalue of the mean of the Hessians at both predicted iterates"
    ),
}

# As for rods: the error of the sharpness is the square of this over the relative gap.
_TOLERANCE = 3e-3


def half_difference(equation: ParityEquation, state: ParityState | PolarParityState) -> Params:
    """Return the parameters' part of d."""
    return equation.optimizer.params(state.half_difference)


def predicted(
    equation: ParityEquation,
    state: ParityState | PolarParityState,
    potential: Potential,
    remainder_every: int,
) -> dict[str, Array]:
    """Return the observables that `PREDICTED` and `HALF_DIFFERENCE` describe.

    Args:
        equation: The flow's right-hand side.
        state: Its state.
        potential: The loss.
        remainder_every: At which multiples of a time the remainder is found; it is nan elsewhere.
    """
    is_due = jnp.round(state.time) % remainder_every == 0
    centre, half = equation.optimizer.params(state.centre), half_difference(equation, state)
    ends = jax.lax.map(
        lambda sign: potential(add_scaled(centre, sign, half)),
        jnp.asarray([1, -1], state.time.dtype),
    )
    return {
        "predicted_loss": jnp.mean(ends),
        "half_difference_length": norm(half),
        "remainder": jax.lax.cond(
            is_due,
            lambda: remainder(equation, state, potential),
            lambda: jnp.full_like(state.time, jnp.nan),
        ),
        "half_difference": ravel_pytree(half)[0],
    }


def remainder(
    equation: ParityEquation, state: ParityState | PolarParityState, potential: Potential
) -> Float[Array, ""]:
    """Return |d^p f| / ((p + 1) |f|), of c and d together; 0 where f is but rounding."""
    order = equation.order
    rows = np.stack([neglected_weights(order), np.eye(order + 1)[0]])
    centre, difference = equation.combined(state.time, state, potential, rows)
    length = jnp.exp(state.log_length) if isinstance(state, PolarParityState) else 1
    both = jnp.concatenate([centre, length * difference], axis=1)
    neglected, kept = jnp.linalg.norm(both, axis=1)
    rounding = 2 ** (order + 2) * jnp.finfo(kept.dtype).eps * norm(state.centre)
    return jnp.where(kept > rounding, neglected / jnp.where(kept > rounding, kept, 1), 0)


def preconditioner(
    equation: ParityEquation, state: ParityState | PolarParityState, potential: Potential
) -> Vector | None:
    """Return the mean of an adaptive method's preconditioners at c + d and c - d, flat (P,)."""
    optimizer = equation.optimizer
    if not isinstance(optimizer, AbstractAdaptiveMethod):
        return None
    ends = (add_scaled(state.centre, sign, state.half_difference) for sign in (1, -1))
    states = (at_time(optimizer, state.time, end) for end in ends)
    both = [optimizer.preconditioner(end, potential) for end in states]
    return 0.5 * (both[0] + both[1])


def alignment(
    potential: Potential, centre: Params, half: Vector, modes: Modes
) -> tuple[dict[str, Array], Modes, Cost]:
    """Return the observables that `ALIGNMENT` describes, and the eigenvectors that they need.

    The symmetrised loss is (L(c + d) + L(c - d)) / 2 as a function of c. Where its sharpness is
    above the optimizer's threshold while d is at rest, the two-cycle is unstable: the iterates go
    on to a cycle of four steps, which the flow does not represent.

    Args:
        potential: The loss.
        centre: c's parameters, P entries.
        half: d's parameters, flat (P,).
        modes: Eigenvectors at a point nearby, (mode, P).
    """
    _, unravel = ravel_pytree(centre)
    half_tree = unravel(half)

    def symmetrised(params: Params) -> Float[Array, ""]:
        ends = (add_scaled(params, sign, half_tree) for sign in (1, -1))
        return 0.5 * jnp.sum(jnp.stack([potential(end) for end in ends]))

    pairs = find_eigenpairs(symmetrised, centre, modes.shape[0], start=modes, tolerance=_TOLERANCE)
    size = jnp.linalg.norm(half)
    direction = jnp.where(size > 0, half / jnp.where(size > 0, size, 1), 0)
    found = {
        "alignment": jnp.linalg.norm(pairs.vectors @ direction),
        "symmetrised_sharpness": pairs.sharpness,
    }
    return found, pairs.vectors, Cost(gradients=2, hvps=2 * pairs.hvps)
