"""Central Flow as a flow: its parameters, its state and what it predicts; see `equation`."""

import warnings
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Literal

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Real

from ..core.flow import AbstractEquationFlow, AbstractResizableFlow, Integrator, Midpoint
from ..core.optimizer import AbstractDescent, AbstractOptimizer
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import boolean, positive, positive_integer
from ..core.variables import STEPS, Variable
from ..curvature.eigenpairs import random_modes, top_eigenpairs
from ..optimizers.optax_optimizer import as_descent, as_optimizer
from .equation import FAILURES, MARGIN, CentralEquation, modes_tolerance
from .observables import DIRECTIONS, PREDICTED, predictions
from .solver import CentralSolver
from .state import CentralFlowState, unprojected_state

# The complementarity solver's limit, and what `rank="auto"` may grow to.
_MOST_MODES = 16
# Where no rank is given, and what `rank="auto"` grows from; or all that there are.
_FIRST_MODES = 4

# How much coarser eigenpairs may be where their vectors are not used.
_VALUES_ONLY = 3


def _descent(optimizer: AbstractOptimizer | optax.GradientTransformation) -> AbstractDescent:
    descent = as_descent(optimizer) or as_optimizer(optimizer)
    if not isinstance(descent, AbstractDescent):
        raise ValueError(
            "optimizer must be GradientDescent, or another AbstractDescent: Central Flow "
            f"models w' = w - eta g(w), a step without memory; got {optimizer!r}."
        )
    return descent


def _rank(value: int | Literal["auto"] | None) -> int | Literal["auto"] | None:
    if value is None or value == "auto":
        return value
    rank = positive_integer("rank", value)
    if rank > _MOST_MODES:
        raise ValueError(f'rank must be at most {_MOST_MODES}, or "auto"; got {rank}.')
    return rank


class CentralFlow(AbstractEquationFlow, AbstractResizableFlow):
    """Central Flow: the time-averaged path of gradient descent at the edge of stability.

    It models the average w of the iterates, and the covariance Sigma of their oscillation in the
    directions whose curvature is at the critical sharpness S = 2/eta (arXiv 2410.24206):

        dw/dt = -eta [ g(w) + (1/2) grad_w <H(w), Sigma> ],

    with the least Sigma >= 0 that lets no eigenvalue of H rise above S. `CentralEquation` has the
    details. One evaluation costs a gradient, a few Hessian-vector products for the eigenvectors
    (their iteration starts from those of the last accepted step) and, only while an eigenvalue is
    near S, k (k + 1) / 2 third derivatives for k watched eigenvalues. Above 512 parameters nothing
    of size P x P is built; an eigenvalue that overtakes the watched ones is then seen by what its
    eigenvector shares with theirs, and not at all where the loss decouples exactly.

    Attributes:
        optimizer: The descent that is modelled, such as `GradientDescent(0.1)`.
        rank: How many eigenvalues to watch, 1 to min(P, 16): all that may reach S. If the smallest
            of them comes within 5% of S, a warning says so. None, the default, is min(P, 4).
            "auto" starts with these and repeats a segment with two more where the smallest comes
            so close, with twice as many where it is above S by more; not inside `jax.jit` or
            `jax.vmap`.
        relaxation_time: tau, in steps, above 0: how fast an eigenvalue above S returns to it. It
            does not change the solution, only how stiff the equation is.
        correction: Add the backward-error term of gradient flow (arXiv 2009.11162) to the centre:
            dw/dt = -eta (1 + (eta/2) H) [ g + (1/2) grad <H, Sigma> ].
        directions: True if the observables shall hold the eigenvectors of Sigma.

    Raises:
        ValueError: If an argument is of the wrong kind or out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import CentralFlow, GradientDescent, simulate
        >>> from potentials import SharpValley
        >>> flow = CentralFlow(GradientDescent(0.3))
        >>> run = simulate(flow, SharpValley(0.01), jnp.asarray([0.0, 6.65]), steps=20)
        >>> sharpness = run.observables["watched_eigenvalues"][:, 0]
        >>> print(f"{sharpness[0]:.3f} {sharpness[-1]:.3f}, and 2/eta is {2 / 0.3:.3f}")
        6.650 6.667, and 2/eta is 6.667
        >>> int(run.observables["critical_rank"][-1])
        1
    """

    optimizer: AbstractDescent = eqx.field(converter=_descent)
    rank: int | Literal["auto"] | None = eqx.field(static=True, default=None, converter=_rank)
    relaxation_time: Float[Array, ""] = eqx.field(
        default=0.25, converter=partial(positive, "relaxation_time")
    )
    correction: bool = eqx.field(
        static=True, default=False, converter=partial(boolean, "correction")
    )
    directions: bool = eqx.field(
        static=True, default=False, converter=partial(boolean, "directions")
    )

    midpoint: ClassVar[Midpoint] = "three_point"
    time_unit: ClassVar[str] = STEPS
    structural_fields: ClassVar[tuple[str, ...]] = ("rank", "correction")
    failures: ClassVar[tuple[str, ...]] = FAILURES

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Metadata of the observables."""
        return {**PREDICTED, **DIRECTIONS} if self.directions else PREDICTED

    @property
    def equation(self) -> CentralEquation:
        """The right-hand side."""
        return CentralEquation(
            learning_rate=self.optimizer.learning_rate,
            threshold=self.optimizer.critical_sharpness,
            relaxation_time=self.relaxation_time,
            correction=self.correction,
        )

    def init(self, potential: Potential, params: Params) -> CentralFlowState:
        """Return the state at `params`, with random modes: `project` finds the eigenvectors.

        Raises:
            ValueError: If a `rank` was given that is above the number of parameters.
        """
        del potential
        flat, _ = ravel_pytree(params)
        count = self.rank if isinstance(self.rank, int) else min(_FIRST_MODES, flat.size)
        if count > flat.size:
            raise ValueError(
                f"rank must be at most the number of parameters, {flat.size}; got {count}."
            )
        modes = random_modes(count, flat.size, flat.dtype)
        return unprojected_state(params, modes, -jnp.ones((), flat.dtype))

    def vector_field(
        self, t: Real[Array, ""] | float, state: CentralFlowState, args: Potential
    ) -> CentralFlowState:
        """Return dw/dt; not a number where the eigenvectors or Sigma could not be found.

        An adaptive solver then tries a shorter step, from where the last eigenvectors are closer.
        """
        del t
        equation = self.equation
        model, _ = equation.curvature_model(args, state.params, state.modes)
        found = equation.respond(jax.linearize(jax.grad(args), state.params), model)
        _, unravel = ravel_pytree(state.params)
        velocity = unravel(jnp.where(found.solved, found.velocity, jnp.nan))
        excess = jnp.maximum(state.excess_at_start, 0)
        return state.rates(velocity, -excess / self.relaxation_time.astype(excess.dtype))

    def project(
        self, state: CentralFlowState, potential: Potential
    ) -> tuple[CentralFlowState, Int[Array, ""]]:
        """Find the eigenvectors and the covariance at the current point anew.

        Returns:
            The state, and 0, or i where `failures[i - 1]` happened.
        """
        equation = self.equation
        model, modes = equation.curvature_model(potential, state.params, state.modes)
        found = equation.respond(jax.linearize(jax.grad(potential), state.params), model)
        return equation.renewed(state, model, modes, found), found.failure

    def review(self, start: CentralFlowState, end: CentralFlowState) -> CentralFlowState | None:
        """Return a start that watches more eigenvalues, if too few were watched to be sure.

        With a fixed rank there is only a warning.
        """
        watched, size = end.modes.shape
        watched_margin = float(end.watched_margin)
        if not watched_margin >= 1 - MARGIN or watched == size:
            return None
        most = min(_MOST_MODES, size)
        if self.rank == "auto" and watched < most:
            # Where all are far above the threshold, which only a start can be, there are many.
            wanted = 2 * watched if watched_margin > 1 + MARGIN else watched + 2
            more = random_modes(min(wanted, most), size, end.modes.dtype)
            modes = jnp.concatenate([start.modes, more[watched:]])
            return unprojected_state(start.params, modes, start.excess_at_start)
        if start is end:
            # The warning follows at the end of the segment, once.
            return None
        warnings.warn(
            f"the smallest of the {watched} eigenvalues that CentralFlow watches came within "
            f"{MARGIN:.0%} of 2/eta (it reached {watched_margin:.3f} of it): eigenvalues that are "
            f'not watched may become critical too. Give a larger rank, or rank="auto".',
            stacklevel=2,
        )
        return None

    def params(self, state: CentralFlowState) -> Params:
        """Return the centre."""
        return state.params

    def observables(self, state: CentralFlowState, potential: Potential) -> dict[str, Array]:
        """Return what the flow predicts of the optimizer, and how well it was solved."""
        dtype, count = state.modes.dtype, state.modes.shape[0]
        loss, gradient = jax.value_and_grad(potential)(state.params)
        pairs = top_eigenpairs(
            potential,
            state.params,
            count,
            start=state.modes,
            tolerance=_VALUES_ONLY * modes_tolerance(dtype),
        )
        return predictions(
            state,
            loss,
            ravel_pytree(gradient)[0],
            pairs.values,
            self.equation.threshold.astype(dtype),
            width=min(_MOST_MODES, state.modes.shape[1]) if self.rank == "auto" else count,
            directions=self.directions,
        )

    def integrator(self, dtype: DTypeLike) -> Integrator:
        """Return the solver made for this flow, at 1e-6 relative in float64, 1e-3 in float32."""
        tolerance = 1e-6 if jnp.finfo(dtype).bits > 32 else 1e-3
        solver = CentralSolver(self.equation)
        controller = diffrax.PIDController(
            rtol=tolerance, atol=1e-2 * tolerance, dtmax=0.999 * solver.longest_step.astype(dtype)
        )
        return Integrator(solver, controller)
