"""How a run ends: an enumeration for the compiled loop, and sentences for people."""

from typing import Final, TypeAlias

import diffrax
import jax
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, Bool, Float, Int

from .trees import Params, all_finite

RESULTS = diffrax.RESULTS
"""How a run or a solve ended: diffrax's enumeration, an item of which is an array.

`successful`, `nonfinite` (the parameters or the measured loss are not finite), `dt_min_reached`
(the step size shrank until it no longer moves the clock), `max_steps_reached`,
`nonlinear_divergence` (a step or a projection failed), and `event_occurred` (the run reached the
goal at which it was to stop; for samples of minima: the particle came to rest).
"""

LOSS_NOT_FINITE: Final = "the loss is no longer finite"
TOO_LONG: Final = (
    "the step was too long for the solver made for this flow: give a smaller dt0, or let the step "
    "size adapt"
)

# What to do about each of diffrax's results; others keep diffrax's own sentence.
_SENTENCES: Final = (
    (RESULTS.nonfinite, "the parameters are no longer finite"),
    (
        RESULTS.dt_min_reached,
        "the solver's step size fell below its minimum: the flow blows up there, or is too stiff "
        "for this solver and these tolerances",
    ),
    (
        RESULTS.max_steps_reached,
        "max_solver_steps was reached: raise it, save more often, or use an implicit solver such "
        "as diffrax.Kvaerno5() for a stiff flow",
    ),
    (
        RESULTS.nonlinear_divergence,
        "a step of the solver failed: the equations of an implicit one were not solved, or it was "
        "too long for a stabilised one; give a smaller dt0, or let the step size adapt",
    ),
)


def sentence(result: RESULTS) -> str:
    """Return what a result means and what to do about it, outside of compiled code."""
    known = (text for item, text in _SENTENCES if bool(result == item))
    return next(known, None) or RESULTS[result]


# Items that diffrax's enumeration inherits have the type of its parent.
Result: TypeAlias = RESULTS | optimistix.RESULTS


def choose(condition: Bool[Array, ""], if_true: Result, if_false: Result) -> RESULTS:
    """Return one of two items of `RESULTS`, inside compiled code too."""
    return RESULTS.where(condition, if_true, if_false)  # pyright: ignore[reportArgumentType]


def first_failure(
    params: Params, losses: Float[Array, " T"] | None
) -> tuple[Bool[Array, ""], Int[Array, ""], Bool[Array, ""]]:
    """Find the first of the saved rows that is not finite.

    Args:
        params: The saved parameters, leading axis T.
        losses: The loss at each of them; None if it was not measured.

    Returns:
        True if there is such a row, its index, and True if only the loss is not finite there.
    """
    moving = jax.vmap(all_finite)(params)
    finite = moving if losses is None else moving & jnp.isfinite(losses)
    index = jnp.argmin(finite)
    failed = ~finite[index]
    return failed, index, failed & moving[index]
