"""Centre and half-difference of an optimizer's iterates around a step, by a local fit.

Where the iterates oscillate with period two, w_t = c(t) + (-1)^t d(t), and c and d move slowly, two
polynomials of t fitted to the iterates around a step give both there: the start of a flow that
moves them.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PyTree

from ..core.optimizer import AbstractOptimizer
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import positive_integer
from .phase_space import moving

PhasePoint: TypeAlias = PyTree[Array]
"""State of an optimizer of any class, with None in place of its step counters."""

Halves: TypeAlias = tuple[PhasePoint, PhasePoint]
"""c and d."""

_BURN = 10


def fit_step(burn: int | None, half_width: int) -> int:
    """Return the step at which a flow with a fitted start begins: `burn`, or 10 or more if None."""
    return max(_BURN, half_width) if burn is None else burn


def check_fit(burn: int | None, half_width: int, degree: int) -> None:
    """Check that a fit at step `burn` has the iterates that it needs, and more than unknowns.

    Args:
        burn: The step, or None for a default one.
        half_width: How many iterates on each side of it are fitted.
        degree: Of both polynomials.

    Raises:
        ValueError: If `degree` is not below `half_width`, or `burn` is.
    """
    # Twice degree + 1 unknowns need as many iterates.
    if degree >= half_width:
        raise ValueError(
            "degree must be below half_width, so that the fit has more iterates than unknowns; "
            f"got degree={degree} and half_width={half_width}."
        )
    if burn is not None and positive_integer("burn", burn) < half_width:
        raise ValueError(
            "burn must be at least half_width, as the fit uses the iterates from burn - half_width "
            f"to burn + half_width; got burn={burn} and half_width={half_width}."
        )


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
) -> Halves:
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
