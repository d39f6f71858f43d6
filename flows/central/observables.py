"""What Central Flow predicts of the optimizer, and how well it was solved."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core.arrays import Vector
from ..core.variables import GRADIENT, LOSS, NONE, PARAMETER, SHARPNESS, Variable
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
        SHARPNESS, "top eigenvalues of the Hessian at the centre", ("watched_mode",)
    ),
    "critical_rank": Variable(NONE, "rank of Sigma: how many directions oscillate"),
    "sdcp_residual": Variable(NONE, "relative residual of the complementarity problem"),
    "constraint_violation": Variable(
        SHARPNESS, "how far lambda_1 is above the critical sharpness at the centre, or 0"
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
    *,
    width: int,
    directions: bool,
) -> dict[str, Array]:
    """Return the observables of Central Flow.

    The oscillation is in directions whose curvature is the threshold S, so that it adds
    <H, Sigma> / 2 = S tr(Sigma) / 2 to the average of the loss and tr(H Sigma H) = S^2 tr(Sigma) to
    that of the squared gradient norm.

    Args:
        state: The flow's state.
        loss: L at the centre.
        gradient: g there, (P,).
        eigenvalues: The watched eigenvalues there, (k,).
        threshold: S, the optimizer's critical sharpness.
        width: How many modes the arrays have room for, at least those that are watched; variances
            and directions beyond are zero, eigenvalues not a number.
        directions: True to return the eigenvectors of Sigma.
    """
    count = state.modes.shape[0]
    values, rotation = jnp.linalg.eigh(unpack(state.covariance, count))
    variances = jnp.maximum(values[::-1], 0)
    trace = jnp.sum(variances)
    missing = width - count
    observed = {
        "predicted_loss": loss + 0.5 * threshold * trace,
        "predicted_squared_gradient_norm": jnp.sum(gradient**2) + threshold**2 * trace,
        "variances": jnp.pad(variances, (0, missing)),
        "watched_eigenvalues": jnp.pad(eigenvalues, (0, missing), constant_values=jnp.nan),
        "critical_rank": jnp.sum(variances > _NEGLIGIBLE * variances[0]).astype(trace.dtype),
        "sdcp_residual": state.residual,
        "constraint_violation": jnp.maximum(eigenvalues[0] - threshold, 0),
    }
    if directions:
        found = rotation[:, ::-1].T @ state.modes
        found = found / jnp.linalg.norm(found, axis=1, keepdims=True)
        observed["directions"] = jnp.pad(found, ((0, missing), (0, 0)))
    return observed
