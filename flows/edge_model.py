"""What Central Flow carries and finds: its state, the curvature around a point, how it moves."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .cost import Cost
from .trees import Params

Modes = Float[Array, "mode parameter"]
Vector = Float[Array, " parameter"]
Square = Float[Array, "mode mode"]


class CentralFlowState(eqx.Module):
    """State of Central Flow.

    Attributes:
        params: The centre w(t).
        modes: Top eigenvectors of the Hessian at the last accepted step, rows (rank, P), where the
            eigen-iteration of the next evaluation starts.
        approach: The largest that the smallest watched eigenvalue has been, over 2/eta.
        allowance: How far above 2/eta an eigenvalue may still be if the start was above: it decays
            as exp(-t / relaxation). Below 0 before the first projection.
    """

    params: Params
    modes: Modes
    approach: Float[Array, ""]
    allowance: Float[Array, ""]


class EdgeModel(eqx.Module):
    """What Central Flow needs to know about the curvature around a point.

    Attributes:
        origin: The point, flat.
        modes: Orthonormal vectors u_i, rows (rank, P).
        curvature: u_i^T H u_j there.
        derivatives: dH_ij = grad_w (u_i^T H u_j) there; zero where not near.
        near: Whether an eigenvalue is near 2/eta.
        converged: Whether the modes are eigenvectors to tolerance.
        cost: What it took.
    """

    origin: Vector
    modes: Modes
    curvature: Square
    derivatives: Float[Array, "mode mode parameter"]
    near: Bool[Array, ""]
    converged: Bool[Array, ""]
    cost: Cost

    def curvature_at(self, flat: Vector) -> Square:
        """Return u_i^T H u_j near the origin, to first order; exact at it."""
        shift = jnp.einsum("ijp,p->ij", self.derivatives, flat - self.origin)
        return self.curvature + shift


class Evaluation(eqx.Module):
    """How Central Flow moves at a point.

    Attributes:
        gradient: g, (P,).
        covariance: X, (rank, rank), with Sigma = U X U^T.
        velocity: dw/dt, (P,).
        residual: Residual of the complementarity problem, relative to |A|.
        solved: Whether that is within tolerance.
    """

    gradient: Vector
    covariance: Square
    velocity: Vector
    residual: Float[Array, ""]
    solved: Bool[Array, ""]
