"""What Rod Flow predicts at a state: loss, lengths of the rods, and how they lie in the landscape.

How rods lie is their overlap with the top eigenvectors of the Hessian at the centre. It costs an
eigen-iteration, which starts from the eigenvectors found at the save before.
"""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ..core.arrays import Modes
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params
from ..core.variables import LOSS, NONE, PARAMETER, SHARPNESS, Variable
from ..curvature.eigenpairs import find_eigenpairs, random_modes
from ..linear_algebra.low_rank_sums import inner_products
from .equation import RodEquation
from .state import RodState, flat_centre

RodParts = Float[Array, "rod parameter"]

PREDICTED = {
    "predicted_loss": Variable(LOSS, "predicted average of the loss over the iterates"),
    "rod_half_lengths": Variable(
        PARAMETER, "square roots of Sigma's leading eigenvalues, in phase space", ("rod",)
    ),
    "rods_used": Variable(NONE, "how many rods have a length"),
}
ALIGNMENT = {
    "rod_alignments": Variable(
        NONE,
        "length of each rod's direction within the span of as many top eigenvectors of the Hessian "
        "as there are rods",
        ("rod",),
    ),
    "centre_sharpness": Variable(
        SHARPNESS, "largest eigenvalue of the Hessian at the rods' centre"
    ),
}

# Residual of an eigenpair relative to the sharpness. The error of the sharpness is its square over
# the relative gap to the next eigenvalue, that of an eigenvector is itself over the gap: for a gap
# of a few per cent 1e-4 and a few per cent at most, less than curves show.
_TOLERANCE = 3e-3

# Share of a random direction in the one row of a search that comes from no earlier eigenvector.
_RANDOM_SHARE = 0.1


def predicted(equation: RodEquation, state: RodState, potential: Potential) -> dict[str, Array]:
    """Return the observables that `PREDICTED` describes.

    The average of the loss is L(c) + sum_i [(L(c + d_i) + L(c - d_i))/2 - L(c)].
    """
    centre, unravel = flat_centre(state)
    rods = equation.rods(state)

    def loss(point: tuple[Array, Array]) -> Array:
        rod, sign = point
        return potential(equation.optimizer.params(unravel(centre + sign * rods[rod])))

    # One copy to compile: at the centre, and at both ends of each rod.
    count = rods.shape[0]
    which = jnp.asarray([0, *range(count), *range(count)], jnp.int32)
    signs = jnp.asarray([0.0] + [1.0] * count + [-1.0] * count, rods.dtype)
    losses = jax.lax.map(loss, (which, signs))
    middle, above, below = losses[0], losses[1 : count + 1], losses[count + 1 :]
    at_ends = 0.5 * (above + below)
    lengths = jnp.sqrt(state.spectrum(rods.shape[0])[0])
    used = jnp.sum(jnp.any(rods != 0, axis=1))
    return {
        "predicted_loss": middle + jnp.sum(at_ends - middle),
        "rod_half_lengths": lengths,
        "rods_used": used.astype(lengths.dtype),
    }


def rods_in_parameters(equation: RodEquation, state: RodState) -> RodParts:
    """Return the rods' parts in the parameters as rows, (rod, P)."""
    _, unravel = flat_centre(state)

    def part(rod: Array) -> Array:
        return ravel_pytree(equation.optimizer.params(unravel(rod)))[0]

    return jax.vmap(part)(equation.rods(state))


def first_modes(count: int, size: int, dtype: DTypeLike) -> Modes:
    """Return random unit rows in place of eigenvectors before any are known: `count`, or P."""
    return _normalised(random_modes(min(count, size), size, dtype))


def alignment(
    potential: Potential, params: Params, rods: RodParts, modes: Modes
) -> tuple[dict[str, Array], Modes, Cost]:
    """Return how rods lie among the top eigenvectors of the Hessian, and those eigenvectors.

    The iteration starts from the eigenvectors of the save before, and from the sum of all rods with
    a random part: a direction that has become one of the sharpest need not be among the former.

    Args:
        potential: The loss.
        params: The centre, P entries.
        rods: The rods' parts in the parameters as rows, (rod, P).
        modes: Eigenvectors at a point nearby, (mode, P) of length 1.

    Returns:
        The observables that `ALIGNMENT` describes; the top eigenvectors (mode, P); the cost.
    """
    directions = _normalised(rods)
    count, size = modes.shape
    start = modes
    if count < size:
        random = _normalised(random_modes(1, size, rods.dtype))
        together = _normalised(jnp.sum(directions, axis=0, keepdims=True))
        start = jnp.concatenate([modes, together + _RANDOM_SHARE * random])
    pairs = find_eigenpairs(potential, params, count, start=start, tolerance=_TOLERANCE)
    overlaps = inner_products(directions, pairs.vectors)
    found = {
        "rod_alignments": jnp.sqrt(jnp.sum(overlaps**2, axis=1)),
        "centre_sharpness": pairs.sharpness,
    }
    return found, pairs.vectors, Cost(gradients=1, hvps=pairs.hvps)


def _normalised(rows: Modes) -> Modes:
    """Return rows of length 1, or 0 where they are zero."""
    lengths = jnp.sqrt(jnp.sum(rows**2, axis=1, keepdims=True))
    return jnp.where(lengths > 0, rows / jnp.where(lengths > 0, lengths, 1), 0)
