"""Central Flow: the time-averaged path of gradient descent at the edge of stability.

The iterates are w_t = w(t) + delta_t with E[delta] = 0 and a covariance Sigma = U X U^T that lives
in the critical subspace, where the Hessian's eigenvalues are at 2/eta. Averaging gradient descent
over the oscillation gives (arXiv 2410.24206)

    dw/dt = -eta [ g(w) + (1/2) grad_w <H(w), Sigma> ],    Sigma held fixed inside the gradient,

with Sigma such that no eigenvalue rises above 2/eta. Here that constraint is relaxed over a time
tau, which makes the right-hand side a Lipschitz vector field with the same solution: with
dH_ij = grad_w (u_i^T H u_j),

    A = diag(2/eta - lambda_i) / tau + eta (dH . g),
    B[X]_ij = (eta/2) sum_kl <dH_ij, dH_kl> X_kl,
    X with 0 <= X, A + B[X] >= 0 and <X, A + B[X]> = 0,
    dw/dt = -eta [ g + (1/2) sum_ij X_ij dH_ij ].

Directions below the threshold get X = 0 by themselves: there A is large and positive.
"""

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Real

from ..core.cost import Cost
from ..core.flow import AbstractEquationFlow, AbstractResizableFlow, Integrator, Midpoint
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import positive, positive_integer
from ..core.variables import STEPS, Variable
from ..curvature.derivatives import linearise_gradient, third_derivative_pairs
from ..curvature.eigenpairs import random_modes, top_eigenpairs
from ..linear_algebra.packed_symmetric import modes_of, pack, unpack
from ..optimizers.gradient_descent import GradientDescent
from .observables import DIRECTIONS, PREDICTED, predictions
from .solver import CentralSolver, solve_where
from .state import (
    CentralFlowState,
    CurvatureModel,
    Modes,
    Packed,
    Pairs,
    Response,
    SlowForces,
    Vector,
)

# The complementarity solver's limit, and what `rank="auto"` may grow to.
_MOST_MODES = 16
# Where no rank is given, and what `rank="auto"` grows from; or all that there are.
_FIRST_MODES = 4

# A watched eigenvalue this close to the threshold could hide others that are not watched.
_MARGIN = 0.05

# Residual at which eigenvectors are accepted. Eigenvalues, which the constraint acts on, are
# accurate to its square; it must not be coarser than the solver's steps can see.
_TOLERANCES = {"float32": 1e-3, "float64": 1e-6}
# How much more is accepted where the eigenvectors are not used.
_VALUES_ALONE = 3


class CentralFlow(AbstractEquationFlow, AbstractResizableFlow):
    """Central Flow of gradient descent (arXiv 2410.24206) as a vector field.

    One evaluation costs a gradient, a few Hessian-vector products for the eigenvectors (their
    iteration starts from those of the last accepted step) and, only while an eigenvalue is near
    2/eta, rank (rank + 1) / 2 third derivatives. Above 512 parameters nothing of size P x P is
    built, and an eigenvalue that overtakes the watched ones is seen by what its eigenvector shares
    with theirs: not at all where the loss decouples exactly. The relaxation time does not change
    the solution, only how stiff the watched_margin to it is.

    Attributes:
        optimizer: The gradient descent that is modelled.
        rank: How many eigenvalues to watch, 1 to min(P, 16): all that may reach 2/eta. If the
            smallest of them comes within 5% of 2/eta, a warning says so. None, the default, is
            min(P, 4). "auto" starts with these and repeats a segment with two more where the
            smallest comes so close, with twice as many where it is above 2/eta by more; not inside
            `jax.jit` or `jax.vmap`.
        relaxation_time: tau, in steps, above 0.
        correction: Add the backward-error term of gradient flow (arXiv 2009.11162) to the centre:
            dw/dt = -eta (I + (eta/2) H) [ g + (1/2) grad <H, Sigma> ], with A and B to match.
        directions: Whether the observables hold the eigenvectors of Sigma.

    Raises:
        ValueError: If an argument is of the wrong kind or out of range.
    """

    optimizer: GradientDescent
    rank: int | str | None = eqx.field(static=True)
    relaxation_time: Float[Array, ""]
    correction: bool = eqx.field(static=True)
    directions: bool = eqx.field(static=True)

    midpoint: ClassVar[Midpoint] = "three_point"
    time_unit: ClassVar[str] = STEPS
    structural_fields: ClassVar[tuple[str, ...]] = ("rank", "correction")
    failures: ClassVar[tuple[str, ...]] = (
        "the eigenvectors of the Hessian did not converge: is the potential twice differentiable "
        "there?",
        "the complementarity problem for the oscillation's covariance was not solved",
    )

    def __init__(
        self,
        optimizer: Any,
        rank: int | Literal["auto"] | None = None,
        relaxation_time: Any = 0.25,
        correction: Any = False,
        directions: Any = False,
    ):
        if not isinstance(optimizer, GradientDescent):
            raise ValueError(
                f"optimizer must be a GradientDescent: Central Flow models it; got {optimizer!r}."
            )
        if rank is not None and rank != "auto":
            rank = positive_integer("rank", rank)
            if rank > _MOST_MODES:
                raise ValueError(f'rank must be at most {_MOST_MODES}, or "auto"; got {rank}.')
        for name, value in (("correction", correction), ("directions", directions)):
            if not isinstance(value, bool):
                raise ValueError(f"{name} must be True or False; got {value!r}.")
        self.optimizer = optimizer
        self.rank = rank
        self.relaxation_time = positive("relaxation_time", relaxation_time)
        self.correction = correction
        self.directions = directions

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Metadata of the observables."""
        return {**PREDICTED, **DIRECTIONS} if self.directions else PREDICTED

    @property
    def grows(self) -> bool:
        """Whether more eigenvalues are watched where that is needed."""
        return self.rank == "auto"

    @property
    def equation(self) -> Any:
        """The right-hand side."""
        return self

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
        zero = jnp.zeros((), flat.dtype)
        covariance = jnp.zeros(count * (count + 1) // 2, flat.dtype)
        return CentralFlowState(params, modes, covariance, zero, zero, zero - 1)

    def model(
        self, potential: Potential, params: Params, modes: Modes
    ) -> tuple[CurvatureModel, Modes]:
        """Evaluate the top of the Hessian at a point, and its derivatives if they matter.

        Args:
            potential: The loss.
            params: The point.
            modes: Guess of the top eigenvectors, rows (rank, P).

        Returns:
            The model, and the eigenvectors.
        """
        flat, _ = ravel_pytree(params)
        count = modes.shape[0]
        pairs = top_eigenpairs(
            potential, params, count, start=modes, tolerance=_TOLERANCES[str(modes.dtype)]
        )
        # Where no eigenvalue is near 2/eta, A is positive: one would have to cross the whole gap
        # within a relaxation time. Only there may the third derivatives be left out.
        gap = jnp.clip(0.2 * self.relaxation_time.astype(flat.dtype), _MARGIN, 1.0)
        remote = (1 - gap) * self._threshold(flat.dtype)
        near = pairs.values[0] > remote
        # Nor do eigenvectors matter there: those of a Hessian without positive eigenvalues have no
        # scale that their residuals could be small to.
        unused = pairs.values[0] + jnp.max(pairs.residuals) < remote
        size = count * (count + 1) // 2

        def slopes() -> tuple[Pairs, Pairs | None]:
            derivatives = third_derivative_pairs(potential, params, pairs.vectors, packed=True)
            if not self.correction:
                return derivatives, None
            _, product = linearise_gradient(potential, params)
            return derivatives, lax.map(lambda d: self._moved(d, product), derivatives)

        def nothing() -> tuple[Pairs, Pairs | None]:
            zeros = jnp.zeros((size, flat.size), flat.dtype)
            return zeros, zeros if self.correction else None

        derivatives, responses = lax.cond(near, slopes, nothing)
        model = CurvatureModel(
            curvature=pack(jnp.diag(pairs.values)),
            derivatives=derivatives,
            responses=responses,
            near=near,
            converged=jnp.all(pairs.converged) | unused,
            cost=Cost(
                gradients=1 + jnp.where(near, int(self.correction), 0),
                hvps=pairs.hvps + jnp.where(near, size if self.correction else 0, 0),
                third_derivatives=jnp.where(near, size, 0),
            ),
        )
        return model, pairs.vectors

    def slow_forces(
        self,
        potential: Potential,
        params: Params,
        model: CurvatureModel,
        move: Vector | None = None,
    ) -> SlowForces:
        """Return what decides how the flow moves at a point.

        Args:
            potential: The loss.
            params: The point.
            model: Of the curvature at this point or one nearby.
            move: From the model's point to this one; None if they are the same.
        """
        flat, _ = ravel_pytree(params)
        learning_rate = self.optimizer.learning_rate.astype(flat.dtype)
        gradient, product = linearise_gradient(potential, params)
        moved = self._moved(gradient, product)
        identity = jnp.eye(modes_of(model.curvature.size), dtype=flat.dtype)
        threshold = pack(self._threshold(flat.dtype) * identity)
        room = (threshold - model.curvature_after(move)) / self.relaxation_time.astype(flat.dtype)
        responses = model.derivatives if model.responses is None else model.responses
        with jax.default_matmul_precision("highest"):
            linear = room + learning_rate * (model.derivatives @ moved)
            operator = (0.5 * learning_rate) * (model.derivatives @ responses.T)
        return SlowForces(gradient, moved, linear, 0.5 * (operator + operator.T))

    def respond(
        self,
        potential: Potential,
        params: Params,
        model: CurvatureModel,
        move: Vector | None = None,
    ) -> Response:
        """Return how the flow moves at a point, with a model of the curvature around it.

        Args:
            potential: The loss.
            params: The point.
            model: From this point or one nearby.
            move: From the model's point to this one; None if they are the same.
        """
        forces = self.slow_forces(potential, params, model, move)

        solution, _, residual, solved = solve_where(model.near, forces)
        return self.response(forces, model, solution, residual, solved)

    def response(
        self,
        forces: SlowForces,
        model: CurvatureModel,
        covariance: Packed,
        residual: Array,
        solved: Array,
    ) -> Response:
        """Return how the flow moves, given the solution of the complementarity problem."""
        learning_rate = self.optimizer.learning_rate.astype(covariance.dtype)
        responses = model.derivatives if model.responses is None else model.responses
        velocity = -learning_rate * (forces.moved + 0.5 * (covariance @ responses))
        return Response(forces.gradient, covariance, velocity, residual, solved & model.converged)

    def _moved(self, direction: Vector, product: Any) -> Vector:
        """Return the velocity per -eta that an averaged gradient causes."""
        if not self.correction:
            return direction
        return direction + 0.5 * self.optimizer.learning_rate.astype(direction.dtype) * product(
            direction
        )

    def vector_field(
        self, t: Real[Array, ""] | float, state: CentralFlowState, args: Potential
    ) -> CentralFlowState:
        """Return dw/dt; not a number where the eigenvectors or Sigma could not be found.

        An adaptive solver then tries a shorter step, from where the last eigenvectors are closer.
        """
        del t
        _, unravel = ravel_pytree(state.params)
        model, _ = self.model(args, state.params, state.modes)
        found = self.respond(args, state.params, model)
        velocity = unravel(jnp.where(found.solved, found.velocity, jnp.nan))
        decay = -jnp.maximum(state.excess_at_start, 0) / self.relaxation_time.astype(
            state.excess_at_start.dtype
        )
        return state.rates(velocity, decay)

    def project(
        self, state: CentralFlowState, potential: Potential
    ) -> tuple[CentralFlowState, Int[Array, ""]]:
        """Renew the eigenvectors and the covariance at the current point."""
        model, modes = self.model(potential, state.params, state.modes)
        found = self.respond(potential, state.params, model)
        return self.renewed(state, model, modes, found), self.failure(model, found)

    def failure(self, model: CurvatureModel, found: Response) -> Int[Array, ""]:
        """Return which of `failures` happened, from 1; 0 for none."""
        unsolved = jnp.where(found.solved, 0, 2)
        return jnp.where(model.converged, unsolved, 1).astype(jnp.int32)

    def renewed(
        self, state: CentralFlowState, model: CurvatureModel, modes: Modes, found: Response
    ) -> CentralFlowState:
        """Return the state at the same point with what was found there."""
        count = state.modes.shape[0]
        eigenvalues = jnp.diagonal(unpack(model.curvature, count))
        threshold = self._threshold(eigenvalues.dtype)
        above = jnp.maximum(eigenvalues[0] - threshold, 0)
        # The turn of the eigenvectors that brings them closest to the earlier ones: Sigma does not
        # depend on it, and it has no derivative where their overlaps are equal.
        left, _, right = jnp.linalg.svd(lax.stop_gradient(state.modes @ modes.T))
        turn = left @ right
        return CentralFlowState(
            params=state.params,
            modes=turn @ modes,
            covariance=pack(turn @ unpack(found.covariance, count) @ turn.T),
            residual=found.residual,
            watched_margin=jnp.maximum(state.watched_margin, eigenvalues[-1] / threshold),
            excess_at_start=jnp.where(state.excess_at_start < 0, above, state.excess_at_start),
        )

    def review(self, start: CentralFlowState, end: CentralFlowState) -> CentralFlowState | None:
        """Return a start that watches more eigenvalues, if too few were watched to be sure.

        With a fixed rank there is only a warning.
        """
        watched, size = end.modes.shape
        watched_margin = float(end.watched_margin)
        if not watched_margin >= 1 - _MARGIN or watched == size:
            return None
        most = min(_MOST_MODES, size)
        if self.grows and watched < most:
            # Where all are far above the threshold, which only a start can be, there are many.
            wanted = 2 * watched if watched_margin > 1 + _MARGIN else watched + 2
            more = random_modes(min(wanted, most), size, end.modes.dtype)
            modes = jnp.concatenate([start.modes, more[watched:]])
            zero = jnp.zeros_like(start.watched_margin)
            covariance = jnp.zeros(len(modes) * (len(modes) + 1) // 2, modes.dtype)
            return CentralFlowState(
                start.params, modes, covariance, zero, zero, start.excess_at_start
            )
        if start is end:
            # It is told at the end of the segment, once.
            return None
        warnings.warn(
            f"the smallest of the {watched} eigenvalues that CentralFlow watches came within "
            f"{_MARGIN:.0%} of 2/eta (it reached {watched_margin:.3f} of it): eigenvalues that are "
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
        return predictions(
            state,
            potential,
            self.optimizer.learning_rate.astype(dtype),
            tolerance=_VALUES_ALONE * _TOLERANCES[str(dtype)],
            width=min(_MOST_MODES, state.modes.shape[1]) if self.grows else count,
            directions=self.directions,
        )

    def integrator(self, dtype: Any) -> Integrator:
        """Return the solver made for this flow, at 1e-6 relative in float64, 1e-3 in float32."""
        tolerance = 1e-6 if jnp.finfo(dtype).bits > 32 else 1e-3
        solver = CentralSolver(self)
        controller = diffrax.PIDController(
            rtol=tolerance, atol=1e-2 * tolerance, dtmax=0.999 * solver.longest_step.astype(dtype)
        )
        return Integrator(solver, controller)

    def _threshold(self, dtype: Any) -> Float[Array, ""]:
        return 2 / self.optimizer.learning_rate.astype(dtype)
