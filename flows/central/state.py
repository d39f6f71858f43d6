"""What Central Flow carries and finds: its state, the curvature around a point, how it moves."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..core.cost import Cost
from ..core.trees import Params

Modes = Float[Array, "mode parameter"]
Vector = Float[Array, " parameter"]
Pairs = Float[Array, "pair parameter"]
Packed = Float[Array, " pair"]


class CentralFlowState(eqx.Module):
    """State of Central Flow.

    All but `params` and `excess_at_start` belong to the last projection; between the steps of a
    solver they are what its interpolation makes of them.

    Attributes:
        params: The centre w(t).
        modes: Basis of the top eigenvectors of the Hessian, orthonormal rows (rank, P), turned so
            that it changes as little as possible from one step to the next.
        covariance: X of the oscillation's covariance Sigma = U^T X U in the basis of the modes,
            packed as in `packed_symmetric`.
        residual: Residual of the complementarity problem, relative to |A|.
        watched_margin: The largest that the smallest watched eigenvalue has been, over 2/eta.
        excess_at_start: How far above 2/eta an eigenvalue may still be if the start was above: it
            decays as exp(-t / relaxation time). Below 0 before the first projection.
    """

    params: Params
    modes: Modes
    covariance: Packed
    residual: Float[Array, ""]
    watched_margin: Float[Array, ""]
    excess_at_start: Float[Array, ""]

    def rates(self, velocity: Params, excess_at_start: Float[Array, ""]) -> "CentralFlowState":
        """Return a rate of change of the state in which only these two change."""
        still = jax.tree.map(jnp.zeros_like, self)
        return dataclasses.replace(still, params=velocity, excess_at_start=excess_at_start)


class CurvatureModel(eqx.Module):
    """What Central Flow needs to know about the curvature around a point.

    Symmetric rank x rank matrices are packed as in `packed_symmetric`, into n = rank (rank + 1) / 2
    entries; i and j count the top eigenvectors u_i at the point.

    Attributes:
        curvature: u_i^T H u_j there, (n,).
        derivatives: dH_ij = grad_w (u_i^T H u_j) there, (n, P); zero where not near.
        responses: (I + (eta/2) H) dH_ij there with the flow's `correction`, else None.
        near: Whether an eigenvalue is near 2/eta.
        converged: Whether the modes are eigenvectors to tolerance, or not needed.
        cost: What it took.
    """

    curvature: Packed
    derivatives: Pairs
    responses: Pairs | None
    near: Bool[Array, ""]
    converged: Bool[Array, ""]
    cost: Cost

    @property
    def highest(self) -> Float[Array, ""]:
        """The largest entry of the curvature: lambda_1 while the modes are eigenvectors."""
        return jnp.max(self.curvature)

    def at(self, curvature: Packed) -> "CurvatureModel":
        """Return the model for a nearby point, with the curvature expected there."""
        return dataclasses.replace(self, curvature=curvature)

    def curvature_after(self, move: Vector | None) -> Packed:
        """Return u_i^T H u_j after a move from the point, to first order."""
        return self.curvature if move is None else self.curvature + self.derivatives @ move


class SlowForces(eqx.Module):
    """What decides how Central Flow moves at a point.

    Attributes:
        gradient: g, (P,).
        moved: The velocity per -eta without oscillation: g, or (I + (eta/2) H) g.
        linear: A of the complementarity problem, packed.
        operator: B of it, packed.
    """

    gradient: Vector
    moved: Vector
    linear: Packed
    operator: Float[Array, "pair pair"]


class Response(eqx.Module):
    """How Central Flow moves at a point.

    Attributes:
        gradient: g, (P,).
        covariance: X, packed, with Sigma = U X U^T.
        velocity: dw/dt, (P,).
        residual: Residual of the complementarity problem, relative to |A|.
        solved: Whether that is within tolerance.
    """

    gradient: Vector
    covariance: Packed
    velocity: Vector
    residual: Float[Array, ""]
    solved: Bool[Array, ""]
