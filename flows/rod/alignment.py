"""How rods lie in the landscape: their overlap with the top eigenvectors of the Hessian."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params
from ..curvature.eigenpairs import random_modes, top_eigenpairs
from ..linear_algebra.low_rank_sums import inner_products

Modes = Float[Array, "mode parameter"]

# Residual of an eigenpair relative to the sharpness. It leaves an error of its square over the
# relative gap in the sharpness, and of itself over the gap in how an eigenvector lies: for a gap
# of a few per cent 1e-4 and a few per cent at most, less than curves show.
_TOLERANCE = 3e-3

# Share of a random row in the one row that is no earlier eigenvector.
_RANDOM_SHARE = 0.1


def first_modes(count: int, size: int, dtype: Any) -> Modes:
    """Return what to take for eigenvectors before any are known: `count` of them, or P."""
    return _normalised(random_modes(min(count, size), size, dtype))


def alignment(
    potential: Potential, params: Params, rods: Modes, modes: Modes
) -> tuple[dict[str, Array], Modes, Cost]:
    """Return how rods lie, and the eigenvectors found.

    The iteration starts from the eigenvectors before, and from all rods together with a random
    part: a direction that becomes one of the sharpest need not be among the former.

    Args:
        potential: The loss.
        params: The centre, P entries.
        rods: The rods' parts in the parameters as rows, (rod, P).
        modes: Eigenvectors at a point nearby, (mode, P) of length 1.

    Returns:
        `rod_alignments` (rod,) and `centre_sharpness`; the top eigenvectors (mode, P); the cost.
    """
    directions = _normalised(rods)
    count, size = modes.shape
    start = modes
    if count < size:
        random = _normalised(random_modes(1, size, rods.dtype))
        together = _normalised(jnp.sum(directions, axis=0, keepdims=True))
        start = jnp.concatenate([modes, together + _RANDOM_SHARE * random])
    pairs = top_eigenpairs(potential, params, count, start=start, tolerance=_TOLERANCE)
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
