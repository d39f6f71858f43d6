"""What Central Flow predicts of gradient descent, and how well it was solved."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..core.potential import Potential
from ..core.variables import GRADIENT, LOSS, NONE, PARAMETER, SHARPNESS, Variable
from ..curvature.eigenpairs import top_eigenpairs
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
    "constraint_violation": Variable(SHARPNESS, "max(0, lambda_1 - 2/eta) at the centre"),
}
DIRECTIONS = {
    "directions": Variable(
        NONE, "eigenvectors of Sigma, in the order of `variances`", ("watched_mode", "parameter")
    )
}


def predictions(
    state: CentralFlowState,
    potential: Potential,
    learning_rate: Float[Array, ""],
    *,
    tolerance: float,
    width: int,
    directions: bool,
) -> dict[str, Array]:
    """Return the observables of Central Flow.

    Args:
        state: The flow's state.
        potential: The loss.
        learning_rate: eta.
        tolerance: Residual at which an eigenvalue is accepted, relative to the largest one; its
            error is of the order of the residual's square.
        width: How many modes the arrays have room for, at least those that are watched; variances
            and directions beyond are zero, eigenvalues not a number.
        directions: Whether to return the eigenvectors of Sigma.
    """
    count = state.modes.shape[0]
    loss, gradient = jax.value_and_grad(potential)(state.params)
    flat, _ = ravel_pytree(gradient)
    pairs = top_eigenpairs(potential, state.params, count, start=state.modes, tolerance=tolerance)
    values, rotation = jnp.linalg.eigh(unpack(state.covariance, count))
    variances = jnp.maximum(values[::-1], 0)
    trace = jnp.sum(variances)
    missing = width - count
    observed = {
        "predicted_loss": loss + trace / learning_rate,
        "predicted_squared_gradient_norm": jnp.sum(flat**2) + 4 * trace / learning_rate**2,
        "variances": jnp.pad(variances, (0, missing)),
        "watched_eigenvalues": jnp.pad(pairs.values, (0, missing), constant_values=jnp.nan),
        "critical_rank": jnp.sum(variances > _NEGLIGIBLE * variances[0]).astype(trace.dtype),
        "sdcp_residual": state.residual,
        "constraint_violation": jnp.maximum(pairs.values[0] - 2 / learning_rate, 0),
    }
    if directions:
        found = rotation[:, ::-1].T @ state.modes
        found = found / jnp.linalg.norm(found, axis=1, keepdims=True)
        observed["directions"] = jnp.pad(found, ((0, missing), (0, 0)))
    return observed
