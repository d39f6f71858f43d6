"""Where the parity flow starts: the slow split w = c + (-1)^t d of the first iterates.

The split of one point is arbitrary; only one near the slow manifold of the doubled map is followed
well. It is either fitted to iterates around a step, or found at the start by the condition that the
oscillating modes are at rest in the average over both ends.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..core.arrays import DENSE_LIMIT
from ..core.optimizer import AbstractDescent, AbstractOptimizer
from ..core.potential import Potential
from ..core.trees import Params
from ..curvature.eigenpairs import top_eigenpairs
from ..optimizers.phase_space import moving
from .state import PhasePoint

Split: TypeAlias = tuple[PhasePoint, PhasePoint]
"""c and d."""

# Beyond the dense limit: of that many modes those above 1 / eta oscillate.
SPLIT_MODES = 16

# The iteration gains a digit or more in each, where the curvature does not change over the split.
_ITERATIONS = 20


def fit_weights(step: int, half_width: int, degree: int) -> Float[np.ndarray, "part iterate"]:
    """Return what to weight the iterates around a step with, to get c and d there.

    They are the least-squares fit of C(t) + (-1)^t D(t), two polynomials, at the step.

    Args:
        step: The step b.
        half_width: m, so that the 2 m + 1 iterates b - m to b + m are fitted.
        degree: Of both polynomials.

    Returns:
        Two rows of 2 m + 1 weights; those of c add up to 1, those of d to 0.
    """
    offsets = np.arange(-half_width, half_width + 1)
    powers = (offsets[:, None] / half_width) ** np.arange(degree + 1)
    signs = (-1.0) ** (step + offsets)
    design = np.concatenate([powers, signs[:, None] * powers], axis=1)
    return np.linalg.pinv(design)[[0, degree + 1]]


def fitted(
    optimizer: AbstractOptimizer,
    potential: Potential,
    params: Params,
    step: int,
    half_width: int,
    degree: int,
) -> Split:
    """Run the optimizer past a step and return c and d there, by a local fit.

    Args:
        optimizer: What is run, from `params` to step + half_width.
        potential: The loss.
        params: The optimizer's start.
        step: Where c and d are wanted, at least `half_width`.
        half_width: As for `fit_weights`.
        degree: As for `fit_weights`.
    """

    def forward(state: PyTree[Array], _: None = None) -> tuple[PyTree[Array], None]:
        return optimizer.step(state, potential), None

    state, _ = lax.scan(forward, optimizer.init(params), length=step - half_width)
    # What the weights of c share is the first iterate itself: the rest are differences from it.
    first = moving(state)

    def add(
        carry: tuple[PyTree[Array], PhasePoint, PhasePoint], row: Array
    ) -> tuple[tuple[PyTree[Array], PhasePoint, PhasePoint], None]:
        state, centre, half = carry
        state, _ = forward(state)
        moved = jax.tree.map(jnp.subtract, moving(state), first)
        centre, half = (
            jax.tree.map(lambda x, m, w=weight: x + w.astype(x.dtype) * m, part, moved)
            for part, weight in ((centre, row[0]), (half, row[1]))
        )
        return (state, centre, half), None

    zero = jax.tree.map(jnp.zeros_like, first)
    rows = jnp.asarray(fit_weights(step, half_width, degree).T[1:])
    (_, centre, half), _ = lax.scan(add, (state, first, zero), rows)
    return centre, half


def split(optimizer: AbstractDescent, potential: Potential, params: Params) -> Split:
    """Return the split of gradient descent's start whose oscillating modes are at rest.

    With U the eigenvectors of the Hessian at w_0 whose eigenvalues lambda are above 1 / eta, d is
    in the span of U, c = w_0 - d, and U^T (g(c + d) + g(c - d)) = 0: the rest of the start moves
    without a change of sign. Found by Newton's method with the Hessian at w_0.
    """
    flat, unravel = ravel_pytree(params)
    count = flat.size if flat.size <= DENSE_LIMIT else SPLIT_MODES
    pairs = top_eigenpairs(potential, params, count)
    oscillates = pairs.values * optimizer.learning_rate.astype(flat.dtype) > 1
    inverse = jnp.where(oscillates, 1 / jnp.where(oscillates, pairs.values, 1), 0)

    def gradient(w: Array) -> Array:
        return ravel_pytree(jax.grad(potential)(unravel(w)))[0]

    def closer(half: Array, _: None) -> tuple[Array, None]:
        # One end is w_0 itself, the other its mirror image in the centre.
        mean = 0.5 * (gradient(flat) + gradient(flat - 2 * half))
        return half + (inverse * (pairs.vectors @ mean)) @ pairs.vectors, None

    half, _ = lax.scan(closer, jnp.zeros_like(flat), length=_ITERATIONS)
    first = optimizer.init(params)
    like = jax.tree.structure(moving(first))
    parts = (jax.tree.leaves(unravel(x)) for x in (flat - half, half))
    centre, difference = (jax.tree.unflatten(like, leaves) for leaves in parts)
    return centre, difference
