"""The right-hand side of Central Flow: a descent at the edge of stability, averaged over time.

The iterates are w_t = w(t) + delta_t with E[delta] = 0 and a covariance Sigma = U^T X U that lives
in the critical subspace, where the Hessian's eigenvalues are at the threshold S, which is 2/eta for
gradient descent. Averaging the descent over the oscillation gives (arXiv 2410.24206)

    dw/dt = -eta [ g(w) + (1/2) grad_w <H(w), Sigma> ],    Sigma held fixed inside the gradient,

with Sigma such that no eigenvalue rises above the threshold. Here that constraint is relaxed over a
time tau, which makes the right-hand side a Lipschitz vector field with the same solution: with
dH_ij = grad_w (u_i^T H u_j),

    A = diag(S - lambda_i) / tau + eta (dH . g),
    B[X]_ij = (eta/2) sum_kl <dH_ij, dH_kl> X_kl,
    X with 0 <= X, A + B[X] >= 0 and <X, A + B[X]> = 0,
    dw/dt = -eta [ g + (1/2) sum_ij X_ij dH_ij ].

Directions below the threshold get X = 0 by themselves: there A is large and positive.

With a preconditioner P that is fixed it is the same flow in the coordinates P^(1/2) w: lambda_i and
u_i are the eigenpairs of P^-1 H, and P^-1 stands before g and before one dH in each product. That
of an adaptive method moves (`preconditioning`), and the learning rate may change with time. What
must not turn negative is U^T (S P - H) U, so that with its rate of change

    A += U^T (S dP/dt + dS/dt P) U,    dP/dt that without oscillation,
    B[X] += S^3 rho U^T dP/dnu diag(P U^T X U P) U.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from ..core.arrays import Modes, Vector
from ..core.compilation import traced_once
from ..core.cost import Cost
from ..core.optimizer import AbstractDescent, objective
from ..core.potential import Potential
from ..core.schedules import at, fixed_at, is_scheduled
from ..curvature.derivatives import Linearised, flat_product, third_derivative_pairs
from ..curvature.eigenpairs import find_eigenpairs
from ..curvature.metric import AbstractMetric, DiagonalMetric, IdentityMetric
from ..linear_algebra.complementarity import Complementarity, solve_packed_complementarity
from ..linear_algebra.packed_symmetric import congruence, modes_of, pack, product, unpack
from ..optimizers.adaptive import AbstractAdaptiveDescent
from .place import Place
from .preconditioning import Preconditioner, Preconditioning
from .state import (
    Bending,
    CentralFlowState,
    CurvatureModel,
    Packed,
    PackedOperator,
    Pairs,
    Response,
    SlowForces,
)

FAILURES = (
    "the eigenvectors of the Hessian did not converge: is the potential twice differentiable "
    "there?",
    "the complementarity problem for the oscillation's covariance was not solved",
)

# A watched eigenvalue this close to the threshold, relative to it, could hide others that are not
# watched; beyond this distance none is critical.
MARGIN = 0.05

# The threshold's largest value, in terms of the largest number: its third power must be one.
_MOST = 0.3

# Between eigenvectors at the ends of a step.
_LEAST_OVERLAP = 0.5

# The largest share of a mode, in a step, that may have come from modes without third derivatives.
_UNKNOWN = 0.01

_TOLERANCES = {"float32": 1e-3, "float64": 1e-6}


def modes_tolerance(dtype: DTypeLike) -> float:
    """Return the residual at which eigenvectors are accepted, relative to the largest eigenvalue.

    Eigenvalues, which the constraint acts on, are accurate to its square; it must not be coarser
    than the solver's steps can see.
    """
    return _TOLERANCES[jnp.dtype(dtype).name]


class CentralEquation(eqx.Module):
    """The right-hand side of Central Flow, as `CentralFlow` and `CentralSolver` both use it.

    At a point, `curvature_model` finds the eigenvectors and third derivatives, which change slowly,
    and `respond` solves for the oscillation and the velocity, for that point or one nearby:

        dw/dt = -eta P^-1 [ g + (1/2) sum_ij X_ij dH_ij ].

    Attributes:
        optimizer: The descent, with its learning rate eta and its threshold S: the eigenvalue of
            P^-1 H above which it is unstable.
        relaxation_time: tau, in steps.
        correction: True for the backward-error term of gradient flow (arXiv 2009.11162):
            dw/dt = -eta (1 + (eta/2) P^-1 H) P^-1 [...], with A and B to match.
        preconditioning: How P of an adaptive method moves; None for a fixed P.
        metric: P where it is fixed; the identity if not given.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flows import CentralFlow, GradientDescent
        >>> flow = CentralFlow(GradientDescent(0.5), rank=1)
        >>> def loss(w):
        ...     return 0.5 * w[1] * w[0] ** 2 - 0.01 * w[1]
        >>> place = flow.init(loss, jnp.asarray([0.0, 4.0])).place
        >>> model, modes = flow.equation.curvature_model(loss, place, jnp.ones((1, 2)))
        >>> found = flow.equation.respond(jax.linearize(jax.grad(loss), place.params), model, place)
        >>> found.covariance, found.velocity  # as large as keeps the curvature, w[1], where it is
        (Array([0.02], dtype=float64), Array([-0., -0.], dtype=float64))
    """

    optimizer: AbstractDescent | AbstractAdaptiveDescent
    relaxation_time: Float[Array, ""]
    correction: bool = eqx.field(static=True, default=False)
    preconditioning: Preconditioning | None = None
    metric: AbstractMetric = IdentityMetric()

    def rates(
        self, time: Float[Array, ""] | None, dtype: DTypeLike
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return eta and S, for the loss with its weight decay, at a time.

        Where eta is nearly zero, as a schedule may start, S is very large but finite.
        """
        fixed = self.optimizer if time is None else fixed_at(self.optimizer, time)
        rate = at(fixed.learning_rate, time)
        most = jnp.asarray(float(jnp.finfo(dtype).max) ** _MOST, dtype)
        return rate.astype(dtype), jnp.minimum((2 / rate).astype(dtype), most)

    @property
    def decay(self) -> Float[Array, ""]:
        """How much weight decay adds to each eigenvalue of the Hessian."""
        found = getattr(self.optimizer, "weight_decay", None)
        return jnp.zeros(()) if found is None else found

    def objective(self, potential: Potential) -> Potential:
        """Return the loss with its weight decay, which all methods take for the potential."""
        return objective(self.optimizer, potential)

    def metric_at(self, place: Place) -> AbstractMetric:
        """Return P at a place, as an operator."""
        if self.preconditioning is None:
            return self.metric
        return DiagonalMetric(self.preconditioning.diagonal(place))

    def weight(self, model: CurvatureModel, place: Place) -> Packed:
        """Return U P U^T, packed, with the eigenvectors of a model and P at a place nearby."""
        identity = pack(jnp.eye(modes_of(model.curvature.size), dtype=model.curvature.dtype))
        if self.preconditioning is None:
            return identity
        # As the curvature follows the eigenvectors on the way, so does what P becomes.
        assert model.diagonal is not None
        change = self.preconditioning.diagonal(place) - model.diagonal
        return identity + _weighted(model.vectors_at(0.5), change)

    @traced_once
    def curvature_model(
        self, potential: Potential, place: Place, modes: Modes
    ) -> tuple[CurvatureModel, Modes]:
        """Evaluate the top of the Hessian at a point, and its derivatives if they matter.

        Args:
            potential: The loss, with its weight decay.
            place: The point.
            modes: Guess of the top eigenvectors, rows (k, P).

        Returns:
            The model, and the eigenvectors.
        """
        params, count, dtype = place.params, modes.shape[0], modes.dtype
        learning_rate, threshold = self.rates(place.time, dtype)
        # An eigenvalue that is not near the threshold would have to cross the whole gap within a
        # relaxation time: there A is positive, and X is zero. Third derivatives may be left out.
        gap = jnp.clip(0.2 * self.relaxation_time.astype(dtype), MARGIN, 1.0)
        remote = (1 - gap) * threshold
        pairs = find_eigenpairs(
            potential,
            params,
            count,
            start=modes,
            metric=self.metric_at(place),
            tolerance=modes_tolerance(dtype),
            remote=remote,
        )
        near = pairs.values > remote
        # Nor do eigenvectors matter there: those of a Hessian without positive eigenvalues have no
        # scale that their residuals could be small to.
        unused = pairs.values[0] + jnp.max(pairs.residuals) < remote
        size = count * (count + 1) // 2
        nothing = partial(jnp.zeros, (size, modes.shape[1]), dtype)

        derivatives = third_derivative_pairs(
            potential, params, pairs.vectors, packed=True, wanted=near
        )
        critical = jnp.sum(near.astype(jnp.int32))
        evaluated = critical * (critical + 1) // 2
        responses = None
        if self.correction:

            def corrected() -> Pairs:
                _, product = jax.linearize(jax.grad(potential), params)
                hessian = flat_product(product, params)
                return lax.map(lambda d: self._per_rate(d, hessian, learning_rate), derivatives)

            responses = lax.cond(near[0], corrected, nothing)
        operator = None
        if self.preconditioning is None:
            moves = self.metric.inverse(derivatives) if responses is None else responses
            operator = _gram(derivatives, moves, learning_rate)
        model = CurvatureModel(
            curvature=pack(jnp.diag(pairs.values)),
            derivatives=derivatives,
            responses=responses,
            operator=operator,
            vectors=None if self.preconditioning is None else pairs.vectors,
            diagonal=None if self.preconditioning is None else self.preconditioning.diagonal(place),
            near=near,
            converged=jnp.all(pairs.converged) | unused,
            cost=Cost(
                gradients=1 + jnp.where(near[0], int(self.correction), 0),
                hvps=pairs.hvps + jnp.where(near[0], size if self.correction else 0, 0),
                third_derivatives=evaluated,
            ),
        )
        return model, pairs.vectors

    def bent(
        self,
        model: CurvatureModel,
        before: CurvatureModel,
        turn: Float[Array, "mode mode"],
        step: Float[Array, ""],
        place: Place,
    ) -> CurvatureModel:
        """Return a model whose third derivatives go on changing as they did in a step.

        Where P changes, eigenvectors of length 1 change their length too. What follows the
        curvature and P on the way is right to second order with vectors whose change is orthogonal
        to all of them, so that the earlier ones are scaled to that.

        Args:
            model: At the end of the step.
            before: At its start.
            turn: The eigenvectors at the end, as combinations of those at the start, (k, k).
            step: Its length.
            place: Its end.
        """
        if model.vectors is not None:
            assert before.vectors is not None
            with jax.default_matmul_precision("highest"):
                overlaps = before.vectors @ self.metric_at(place).apply(model.vectors).T
            left, sizes, right = jnp.linalg.svd(overlaps)
            # A mode that was not watched before has no overlap.
            turn = product(right.T / jnp.maximum(sizes, _LEAST_OVERLAP)[None], left.T)
        # Third derivatives of a mode are known where it came from modes that had some.
        unknown = product(turn**2, 1 - before.near.astype(step.dtype))
        came = unknown < _UNKNOWN * jnp.sum(turn**2, axis=1)
        both = (model.near & came).astype(step.dtype)
        known = pack(jnp.outer(both, both))[:, None] > 0
        with jax.default_matmul_precision("highest"):
            earlier = congruence(turn) @ before.derivatives
        changes = jnp.where(known, (model.derivatives - earlier) / step, 0)
        cross = square = None
        if model.operator is not None:
            learning_rate, _ = self.rates(place.time, changes.dtype)
            moves = self.metric.inverse(changes)
            cross = _gram(model.derivatives, 2 * moves, learning_rate)
            square = _gram(changes, moves, learning_rate)
        turning = None
        if model.vectors is not None and before.vectors is not None:
            turning = (model.vectors - turn @ before.vectors) / step
            turning = jnp.where(both[:, None] > 0, turning, 0)
        bending = Bending(changes, cross, square, turning, jnp.zeros_like(step))
        return dataclasses.replace(model, bending=bending)

    def slow_forces(
        self,
        linearised: Linearised,
        model: CurvatureModel,
        place: Place,
        move: Vector | None = None,
    ) -> SlowForces:
        """Return what decides how the flow moves at a point.

        Args:
            linearised: `jax.linearize(jax.grad(potential), params)` at the point.
            model: Of the curvature at this point or one nearby.
            place: The point.
            move: From the model's point to this one, params first; None if they are the same.
        """
        gradient, _ = ravel_pytree(linearised[0])
        dtype = gradient.dtype
        learning_rate, threshold = self.rates(place.time, dtype)
        preconditioner = None
        if self.preconditioning is None:
            hessian = flat_product(linearised[1], linearised[0])
            drift = self._per_rate(gradient, hessian, learning_rate)
        else:
            preconditioner = self.preconditioning.at(place, linearised[0])
            drift = preconditioner.descent * gradient
        weight = self.weight(model, place)
        room = threshold * weight - model.curvature_after(move)
        rise = model.along(drift)
        linear = room / self.relaxation_time.astype(dtype) + learning_rate * rise
        operator = model.operator_now()
        if preconditioner is not None:
            linear = linear + threshold * _weighted(model.vectors_at(1.0), preconditioner.drift)
            operator = lax.cond(
                model.any_near,
                partial(self._operator, model, preconditioner, learning_rate, threshold),
                lambda: jnp.zeros((linear.size, linear.size), dtype),
            )
        if is_scheduled(self.optimizer):
            linear = linear + self._threshold_change(place.time, dtype) * weight
        assert operator is not None
        return SlowForces(learning_rate, threshold, drift, linear, operator, preconditioner)

    def respond(
        self,
        linearised: Linearised,
        model: CurvatureModel,
        place: Place,
        move: Vector | None = None,
    ) -> Response:
        """Return how the flow moves at a point, with a model of the curvature around it.

        Args:
            linearised: `jax.linearize(jax.grad(potential), params)` at the point.
            model: From this point or one nearby.
            place: The point.
            move: From the model's point to this one, params first; None if they are the same.
        """
        forces = self.slow_forces(linearised, model, place, move)
        return self.response(forces, model, solve_where(model.any_near, forces))

    def response(
        self, forces: SlowForces, model: CurvatureModel, found: Complementarity
    ) -> Response:
        """Return how the flow moves, given the solution of the complementarity problem."""
        preconditioner = forces.preconditioner
        if model.responses is not None:
            force = found.solution @ model.responses
        elif preconditioner is not None:
            force = preconditioner.descent * model.force(found.solution)
        else:
            force = self.metric.inverse(model.force(found.solution))
        velocity = -forces.learning_rate * (forces.drift + 0.5 * force)
        if preconditioner is not None:
            assert model.vectors is not None
            covariance = unpack(found.solution, model.vectors.shape[0])
            energies = preconditioner.energies(model.vectors_at(1.0), covariance)
            growth = forces.threshold**2 * preconditioner.lag
            velocity = jnp.concatenate([velocity, preconditioner.pull + growth * energies])
        unsolved = jnp.where(found.converged, 0, 2)
        return Response(
            covariance=found.solution,
            velocity=velocity,
            residual=found.residual,
            failure=jnp.where(model.converged, unsolved, 1).astype(jnp.int32),
        )

    def renewed(
        self,
        state: CentralFlowState,
        model: CurvatureModel,
        modes: Modes,
        found: Response,
        curvature: Packed | None = None,
    ) -> CentralFlowState:
        """Return the state at the same point with what was found there.

        Args:
            state: The state.
            model: The curvature at the point.
            modes: The eigenvectors there.
            found: How the flow moves there.
            curvature: What the model's becomes where the state was moved back to the threshold.
        """
        curvature = model.curvature if curvature is None else curvature
        if getattr(self.optimizer, "weight_decay", None) is not None:
            curvature = curvature - self.decay.astype(curvature.dtype) * pack(modes @ modes.T)
        count = state.modes.shape[0]
        eigenvalues = jnp.diagonal(unpack(model.curvature, count))
        _, threshold = self.rates(state.time, eigenvalues.dtype)
        above = jnp.maximum(eigenvalues[0] - threshold, 0)
        # The turn of the eigenvectors that brings them closest to the earlier ones: Sigma does not
        # depend on it, and it has no derivative where their overlaps are equal.
        overlaps = lax.stop_gradient(state.modes @ self.metric_at(state.place).apply(modes).T)
        left, _, right = jnp.linalg.svd(overlaps)
        turn = product(left, right)
        both = jnp.stack([found.covariance, curvature], axis=1)
        covariance, curvature = product(congruence(turn), both).T
        return dataclasses.replace(
            state,
            modes=turn @ modes,
            covariance=covariance,
            curvature=curvature,
            residual=found.residual,
            watched_margin=jnp.maximum(state.watched_margin, eigenvalues[-1] / threshold),
            excess_at_start=jnp.where(state.excess_at_start < 0, above, state.excess_at_start),
        )

    def _per_rate(
        self,
        direction: Vector,
        hessian: Callable[[Vector], Vector],
        learning_rate: Float[Array, ""],
    ) -> Vector:
        """Return the velocity per -eta that an averaged gradient causes."""
        velocity = self.metric.inverse(direction)
        if not self.correction:
            return velocity
        return velocity + 0.5 * learning_rate * self.metric.inverse(hessian(velocity))

    def _operator(
        self,
        model: CurvatureModel,
        preconditioner: Preconditioner,
        learning_rate: Float[Array, ""],
        threshold: Float[Array, ""],
    ) -> PackedOperator:
        """Return B, with what the oscillation does to P."""
        assert model.vectors is not None
        derivatives = model.derivatives_now()
        moves = preconditioner.descent[None] * derivatives
        feedback = preconditioner.feedback(model.vectors_at(1.0))
        return (
            _gram(derivatives, moves, learning_rate) + threshold**3 * preconditioner.lag * feedback
        )

    def _threshold_change(
        self, time: Float[Array, ""] | None, dtype: DTypeLike
    ) -> Float[Array, ""]:
        """Return dS/dt."""
        assert time is not None
        change = jax.jvp(lambda t: self.rates(t, dtype)[1], (time,), (jnp.ones_like(time),))[1]
        # Where the learning rate is zero the threshold is infinite, and matters to nothing.
        return jnp.where(jnp.isfinite(change), change, 0)


def _gram(derivatives: Pairs, moves: Pairs, learning_rate: Float[Array, ""]) -> PackedOperator:
    with jax.default_matmul_precision("highest"):
        products = derivatives @ moves.T
    return 0.25 * learning_rate * (products + products.T)


def _weighted(modes: Modes | None, diagonal: Vector) -> Packed:
    """Return U diag U^T, packed."""
    assert modes is not None
    with jax.default_matmul_precision("highest"):
        return pack((modes * diagonal[None]) @ modes.T)


def solve_where(needed: Bool[Array, ""], forces: SlowForces) -> Complementarity:
    """Solve the complementarity problem of some forces, or return X = 0 where that is known."""

    def known() -> Complementarity:
        nothing = jnp.zeros_like(forces.linear)
        none = jnp.zeros((), jnp.int32)
        return Complementarity(nothing, forces.linear, nothing[0], none, jnp.asarray(True))

    solve = partial(solve_packed_complementarity, forces.linear, forces.operator)
    return lax.cond(needed, solve, known)
