"""What Central Flow predicts of the optimizer, and how well it was solved."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core.arrays import Vector
from ..core.variables import GRADIENT, LOSS, NONE, PARAMETER, SHARPNESS, Variable
from ..curvature.metric import AbstractMetric, IdentityMetric
from ..linear_algebra.packed_symmetric import unpack
from .state import CentralFlowState

# Share of the largest variance from which on a direction counts as oscillating.
_NEGLIGIBLE = 1e-3

PREDICTED = {
    "predicted_loss": Variable(LOSS, "predicted time average of the optimizer's loss"),
    "predicted_squared_gradient_norm": Variable(
        f"({GRADIENT})^2", "predicted time average of the optimizer's squared gradient norm"
    ),
    "variances": Variable(
        f"{PARAMETER}^2", "variances of the oscillation: eigenvalues of Sigma", ("watched_mode",)
    ),
    "watched_eigenvalues": Variable(
        SHARPNESS,
        "top eigenvalues of the Hessian at the centre",
        ("watched_mode",),
    ),
    "critical_rank": Variable(NONE, "rank of Sigma: how many directions oscillate"),
    "sdcp_residual": Variable(NONE, "relative residual of the complementarity problem"),
    "constraint_violation": Variable(
        SHARPNESS, "how far the first of these is above the critical sharpness, or 0"
    ),
}
# Of an adaptive method: P has the unit of a gradient, H that of a gradient over a parameter.
PRECONDITIONED = {
    "watched_eigenvalues": Variable(
        "1 / parameter", "top eigenvalues of P^-1 H at the centre", ("watched_mode",)
    ),
    "constraint_violation": Variable(
        "1 / parameter", "how far the first of these is above the critical sharpness, or 0"
    ),
}
DIRECTIONS = {
    "directions": Variable(
        NONE, "eigenvectors of Sigma, in the order of `variances`", ("watched_mode", "parameter")
    )
}


def predictions(
    state: CentralFlowState,
    loss: Float[Array, ""],
    gradient: Vector,
    eigenvalues: Float[Array, " mode"],
    threshold: Float[Array, ""],
    metric: AbstractMetric,
    *,
    width: int,
    directions: bool,
) -> dict[str, Array]:
    """Return the observables of Central Flow.

    The oscillation is in directions where P^-1 H has the eigenvalue S, the threshold, so that it
    adds <H, Sigma> / 2 = S tr(X) / 2 to the average of the loss and tr(H Sigma H), which is
    S^2 tr(P U^T X U P), to that of the squared gradient norm.

    Args:
        state: The flow's state.
        loss: L at the centre.
        gradient: g there, (P,).
        eigenvalues: The watched eigenvalues there, (k,).
        threshold: S, the optimizer's critical sharpness.
        metric: P.
        width: How many modes the arrays have room for, at least those that are watched; variances
            and directions beyond are zero, eigenvalues not a number.
        directions: True to return the eigenvectors of Sigma.
    """
    modes, count = state.modes, state.modes.shape[0]
    covariance = unpack(state.covariance, count)
    # Eigenvectors of U^T X U, from those of L^T X L with U U^T = L L^T, which is 1 for P = 1.
    matrix, frame = covariance, modes
    if not isinstance(metric, IdentityMetric):
        lower = jnp.linalg.cholesky(modes @ modes.T)
        matrix = lower.T @ covariance @ lower
        if directions:
            frame = jax.scipy.linalg.solve_triangular(lower, modes, lower=True)
    values, rotation = jnp.linalg.eigh(matrix)
    variances = jnp.maximum(values[::-1], 0)
    forced = metric.apply(modes)
    missing = width - count
    observed = {
        "predicted_loss": loss + 0.5 * threshold * jnp.trace(covariance),
        "predicted_squared_gradient_norm": jnp.sum(gradient**2)
        + threshold**2 * jnp.sum(covariance * (forced @ forced.T)),
        "variances": jnp.pad(variances, (0, missing)),
        "watched_eigenvalues": jnp.pad(eigenvalues, (0, missing), constant_values=jnp.nan),
        "critical_rank": jnp.sum(variances > _NEGLIGIBLE * variances[0]).astype(loss.dtype),
        "sdcp_residual": state.residual,
        "constraint_violation": jnp.maximum(eigenvalues[0] - threshold, 0),
    }
    if directions:
        found = rotation[:, ::-1].T @ frame
        found = found / jnp.linalg.norm(found, axis=1, keepdims=True)
        observed["directions"] = jnp.pad(found, ((0, missing), (0, 0)))
    return observed
