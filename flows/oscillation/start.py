"""Where the parity flow starts: the slow split w = c + (-1)^t d of the first iterates.

The split of one point is arbitrary; only one near the slow manifold of the doubled map is followed
well. It is either fitted to iterates around a step (`optimizers/local_fit.py`), or found at the
start by the condition that the oscillating modes are at rest in the average over both ends.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ..core.arrays import DENSE_LIMIT
from ..core.cost import Cost
from ..core.optimizer import AbstractDescent, objective
from ..core.potential import Potential
from ..core.schedules import at
from ..core.trees import Params
from ..curvature.eigenpairs import find_eigenpairs
from ..optimizers.phase_space import moving
from .state import PhasePoint

Split: TypeAlias = tuple[PhasePoint, PhasePoint]
"""c and d."""

# Beyond the dense limit: of that many modes those above 1 / eta oscillate.
SPLIT_MODES = 16

# The iteration gains a digit or more in each, where the curvature does not change over the split.
_ITERATIONS = 20


def split(optimizer: AbstractDescent, potential: Potential, params: Params) -> tuple[Split, Cost]:
    """Return the split of gradient descent's start whose oscillating modes are at rest.

    With U the eigenvectors of the Hessian at w_0 whose eigenvalues lambda are above 1 / eta, d is
    in the span of U, c = w_0 - d, and U^T (g(c + d) + g(c - d)) = 0: the rest of the start moves
    without a change of sign. Found by Newton's method with the Hessian at w_0. With weight decay g
    and the Hessian are those of the loss with its potential; a schedule is taken at its start.

    Returns:
        c and d, and what it cost to find them.
    """
    potential = objective(optimizer, potential)
    flat, unravel = ravel_pytree(params)
    count = flat.size if flat.size <= DENSE_LIMIT else SPLIT_MODES
    pairs = find_eigenpairs(potential, params, count)
    oscillates = pairs.values * at(optimizer.learning_rate, 0).astype(flat.dtype) > 1
    inverse = jnp.where(oscillates, 1 / jnp.where(oscillates, pairs.values, 1), 0)

    def gradient(w: Array) -> Array:
        return ravel_pytree(jax.grad(potential)(unravel(w)))[0]

    # One end is w_0 itself, the other its mirror image in the centre.
    at_start = gradient(flat)

    def closer(half: Array, _: None) -> tuple[Array, None]:
        mean = 0.5 * (at_start + gradient(flat - 2 * half))
        return half + (inverse * (pairs.vectors @ mean)) @ pairs.vectors, None

    half, _ = lax.scan(closer, jnp.zeros_like(flat), length=_ITERATIONS)
    first = optimizer.init(params)
    like = jax.tree.structure(moving(first))
    parts = (jax.tree.leaves(unravel(x)) for x in (flat - half, half))
    centre, difference = (jax.tree.unflatten(like, leaves) for leaves in parts)
    return (centre, difference), Cost(gradients=1 + _ITERATIONS, hvps=pairs.hvps)
