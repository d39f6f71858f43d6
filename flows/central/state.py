"""What Central Flow carries and finds: its state, the curvature around a point, how it moves."""

import dataclasses
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..core.arrays import Modes, Vector
from ..core.cost import Cost
from ..core.trees import Params
from ..optimizers.second_moment import Average
from .place import Place
from .preconditioning import Preconditioner

Pairs: TypeAlias = Float[Array, "pair parameter"]
Packed: TypeAlias = Float[Array, " pair"]
PackedOperator: TypeAlias = Float[Array, "pair pair"]


class CentralFlowState(eqx.Module):
    """State of Central Flow.

    Modes, covariance, curvature, residual and margin belong to the last projection; between the
    steps of a solver they are interpolated.

    Attributes:
        params: The centre w(t).
        modes: Basis of the top eigenvectors of P^-1 H, rows (k, P) with U P U^T = 1, turned so
            that it changes as little as possible from one step to the next. P is the
            preconditioner of an adaptive method, and 1 for gradient descent.
        covariance: X of the oscillation's covariance Sigma = U^T X U in the basis of the modes,
            packed as in `packed_symmetric`.
        curvature: U^T H U, packed, without what weight decay adds to it.
        residual: Residual of the complementarity problem, relative to |A|.
        watched_margin: The largest that the smallest watched eigenvalue has been, over the
            threshold.
        excess_at_start: How far above the threshold an eigenvalue may still be if the start was
            above: it decays as exp(-t / relaxation time). Below 0 before the first projection.
    """

    params: Params
    modes: Modes
    covariance: Packed
    curvature: Packed
    residual: Float[Array, ""]
    watched_margin: Float[Array, ""]
    excess_at_start: Float[Array, ""]
    second_moment: Average | None = None
    time: Float[Array, ""] | None = None

    @property
    def place(self) -> Place:
        """Where the flow is."""
        return Place(self.params, self.second_moment, self.time)

    def at(self, place: Place) -> "CentralFlowState":
        """Return the state at another place, or with rates of change in place of it."""
        return dataclasses.replace(
            self, params=place.params, second_moment=place.second_moment, time=place.time
        )

    def rates(self, velocity: Place, excess_at_start: Float[Array, ""]) -> "CentralFlowState":
        """Return a rate of change of the state in which only these change."""
        still = jax.tree.map(jnp.zeros_like, self)
        return dataclasses.replace(still.at(velocity), excess_at_start=excess_at_start)


def unprojected_state(
    place: Place, modes: Modes, excess_at_start: Float[Array, ""]
) -> CentralFlowState:
    """Return a state before its first projection: its modes are a guess, its covariance is 0.

    Its curvature is not known, and not a number.
    """
    count, zero = modes.shape[0], jnp.zeros((), modes.dtype)
    covariance = jnp.zeros(count * (count + 1) // 2, modes.dtype)
    return CentralFlowState(
        place.params,
        modes,
        covariance,
        jnp.full_like(covariance, jnp.nan),
        zero,
        zero,
        excess_at_start,
        place.second_moment,
        place.time,
    )


class Bending(eqx.Module):
    """How the third derivatives of a model change with time along the path.

    Attributes:
        changes: d(dH_ij)/dt as in the last step, in the model's basis, (n, P); zero unless both
            modes were near at both of its ends.
        cross: What a unit of time adds to the operator B, packed, to first order, (n, n); None
            where B changes with P.
        square: The same to second order.
        turning: How the eigenvectors change with time, rows (k, P), where P changes; otherwise
            None.
        passed: The time since the model's point.
    """

    changes: Pairs
    cross: PackedOperator | None
    square: PackedOperator | None
    turning: Modes | None
    passed: Float[Array, ""]


class CurvatureModel(eqx.Module):
    """What Central Flow needs to know about the curvature around a point.

    Symmetric k x k matrices are packed as in `packed_symmetric`, into n = k (k + 1) / 2 entries; i
    and j count the top eigenvectors u_i at the point.

    Attributes:
        curvature: u_i^T H u_j there, (n,).
        derivatives: dH_ij = grad_w (u_i^T H u_j) there, (n, P); zero unless both are near.
        responses: How the flow moves per -eta X_ij / 2, (n, P): P^-1 dH_ij, with the flow's
            `correction` (1 + (eta/2) P^-1 H) P^-1 dH_ij. None where that is dH_ij itself, or
            changes with an adaptive method's P.
        operator: B of the complementarity problem, packed, (n, n); None where it changes with P.
        vectors: u_i as rows, (k, P), where P changes; otherwise None.
        diagonal: The diagonal of P there, (P,), where it changes; otherwise None.
        near: True for each eigenvalue that is near the threshold, the largest ones, (k,).
        converged: True if the modes are eigenvectors to tolerance, or not needed.
        cost: What it took.
        bending: How dH changes on the way from the point; None if it is taken to stay.
    """

    curvature: Packed
    derivatives: Pairs
    responses: Pairs | None
    operator: PackedOperator | None
    vectors: Modes | None
    diagonal: Vector | None
    near: Bool[Array, " mode"]
    converged: Bool[Array, ""]
    cost: Cost
    bending: Bending | None = None

    @property
    def any_near(self) -> Bool[Array, ""]:
        """True if an eigenvalue is near the threshold."""
        return self.near[0]

    @property
    def highest(self) -> Float[Array, ""]:
        """The largest entry of the curvature: lambda_1 while the modes are eigenvectors."""
        return jnp.max(self.curvature)

    def at(self, curvature: Packed) -> "CurvatureModel":
        """Return the model for a nearby point, with the curvature expected there."""
        return dataclasses.replace(self, curvature=curvature)

    def after(self, passed: Float[Array, ""]) -> "CurvatureModel":
        """Return the model as it is some time after its point."""
        if self.bending is None:
            return self
        return dataclasses.replace(self, bending=dataclasses.replace(self.bending, passed=passed))

    def derivatives_now(self) -> Pairs:
        """Return dH_ij, (n, P)."""
        if self.bending is None:
            return self.derivatives
        return self.derivatives + self.bending.passed * self.bending.changes

    def operator_now(self) -> PackedOperator | None:
        """Return B, where it does not change with P."""
        bending, operator = self.bending, self.operator
        if bending is None or operator is None:
            return operator
        assert bending.cross is not None
        assert bending.square is not None
        return operator + bending.passed * (bending.cross + bending.passed * bending.square)

    def vectors_at(self, share: float) -> Modes:
        """Return the eigenvectors after a share of the time since the model's point."""
        assert self.vectors is not None
        if self.bending is None or self.bending.turning is None:
            return self.vectors
        return self.vectors + share * self.bending.passed * self.bending.turning

    def along(self, velocity: Vector) -> Packed:
        """Return how fast u_i^T H u_j change along a velocity of the params."""
        with jax.default_matmul_precision("highest"):
            change = self.derivatives @ velocity
            if self.bending is not None:
                change = change + self.bending.passed * (self.bending.changes @ velocity)
        return change

    def force(self, covariance: Packed) -> Vector:
        """Return sum_ij X_ij dH_ij, (P,)."""
        force = covariance @ self.derivatives
        if self.bending is not None:
            force = force + (self.bending.passed * covariance) @ self.bending.changes
        return force

    def curvature_after(self, move: Vector | None) -> Packed:
        """Return u_i^T H u_j after a move from the point, to first order.

        With a bending the move is taken to have been even, which makes it right to second order.

        Args:
            move: Of the params, and of what follows them in a place, which does not matter.
        """
        if move is None:
            return self.curvature
        move = move[: self.derivatives.shape[1]]
        curvature = self.curvature + self.derivatives @ move
        if self.bending is not None:
            curvature = curvature + 0.5 * self.bending.passed * (self.bending.changes @ move)
        return curvature


class SlowForces(eqx.Module):
    """What decides how Central Flow moves at a point: its complementarity problem, and the drift.

    Attributes:
        learning_rate: eta.
        threshold: S.
        drift: The velocity per -eta without oscillation, (P,): P^-1 g, with the flow's
            `correction` (1 + (eta/2) P^-1 H) P^-1 g.
        linear: A of the complementarity problem, packed.
        operator: B of it, packed.
        preconditioner: P of an adaptive method; otherwise None.
    """

    learning_rate: Float[Array, ""]
    threshold: Float[Array, ""]
    drift: Vector
    linear: Packed
    operator: PackedOperator
    preconditioner: Preconditioner | None


class Response(eqx.Module):
    """How Central Flow moves at a point.

    Attributes:
        covariance: X, packed, with Sigma = U^T X U.
        velocity: dw/dt, followed by dnu/dt for an adaptive method, as a vector.
        residual: Residual of the complementarity problem, relative to |A|.
        failure: Which of `equation.FAILURES` happened, from 1; 0 for none.
    """

    covariance: Packed
    velocity: Vector
    residual: Float[Array, ""]
    failure: Int[Array, ""]

    @property
    def solved(self) -> Bool[Array, ""]:
        """True if nothing failed."""
        return self.failure == 0
