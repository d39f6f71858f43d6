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
from ..curvature.eigenpairs import find_eigenpairs, random_modes
from ..optimizers.phase_space import moving
from .state import PhasePoint

Split: TypeAlias = tuple[PhasePoint, PhasePoint]
"""c and d."""

# Beyond the dense limit: of that many modes those above 1 / eta oscillate.
SPLIT_MODES = 16

# Where the curvature is found: at the start, and at the centre that this leads to, twice.
_PLACES = 3

# The iteration gains a digit or more in each, where the curvature does not change over the split.
_ITERATIONS = 20


def split(optimizer: AbstractDescent, potential: Potential, params: Params) -> tuple[Split, Cost]:
    """Return the split of gradient descent's start whose oscillating modes are at rest.

    As many modes oscillate as have a curvature above 1 / eta at w_0. With U that many eigenvectors
    of the Hessian at c, d is in the span of U, c = w_0 - d, and U^T (g(c + d) + g(c - d)) = 0: the
    rest of the start moves without a change of sign. At w_0 itself, eigenvectors are turned by what
    the oscillation bends, and d would have a part that does not oscillate. Found by Newton's method
    with the Hessian at w_0, while U is renewed as c is, three times: where the curvature changes
    much over the split, as in a network at its start, c is not yet where U is from. With weight
    decay g and the Hessian are those of the loss with its potential; a schedule is taken at its
    start.

    Returns:
        c and d, and what it cost to find them.
    """
    potential = objective(optimizer, potential)
    flat, unravel = ravel_pytree(params)
    count = flat.size if flat.size <= DENSE_LIMIT else SPLIT_MODES
    rate = at(optimizer.learning_rate, 0).astype(flat.dtype)

    def gradient(w: Array) -> Array:
        return ravel_pytree(jax.grad(potential)(unravel(w)))[0]

    # One end is w_0 itself, the other its mirror image in the centre.
    at_start, product = jax.linearize(gradient, flat)

    def renewed(carry: tuple[Array, ...], first: Array) -> tuple[tuple[Array, ...], None]:
        half, vectors, oscillates, hvps = carry
        pairs = find_eigenpairs(potential, unravel(flat - half), count, start=vectors)
        # Decided once: a mode that is in and out by turns would be where the last turn leaves it.
        oscillates = jnp.where(first, pairs.values * rate > 1, oscillates)
        modes = jnp.where(oscillates[:, None], pairs.vectors, 0)
        others = jnp.diag((~oscillates).astype(flat.dtype))
        curvature = modes @ lax.map(product, modes).T + others

        def closer(half: Array, _: None) -> tuple[Array, None]:
            mean = 0.5 * (at_start + gradient(flat - 2 * half))
            return half + jnp.linalg.solve(curvature, modes @ mean) @ modes, None

        half, _ = lax.scan(closer, (modes @ half) @ modes, length=_ITERATIONS)
        return (half, pairs.vectors, oscillates, hvps + pairs.hvps + count), None

    guess = random_modes(count, flat.size, flat.dtype)
    none = jnp.zeros(count, bool)
    begin = jnp.zeros_like(flat), guess, none, jnp.zeros((), jnp.int32)
    (half, _, _, hvps), _ = lax.scan(renewed, begin, jnp.arange(_PLACES) == 0)
    first = optimizer.init(params)
    like = jax.tree.structure(moving(first))
    parts = (jax.tree.leaves(unravel(x)) for x in (flat - half, half))
    centre, difference = (jax.tree.unflatten(like, leaves) for leaves in parts)
    return (centre, difference), Cost(gradients=1 + _PLACES * _ITERATIONS, hvps=hvps)
