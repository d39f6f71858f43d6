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

With a preconditioner P it is the same flow in the coordinates P^(1/2) w, P held fixed: lambda_i and
u_i are the eigenpairs of P^-1 H, and P^-1 stands before g and before one dH in each product.
"""

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
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params
from ..curvature.derivatives import Linearised, flat_product, third_derivative_pairs
from ..curvature.eigenpairs import top_eigenpairs
from ..curvature.metric import AbstractMetric, IdentityMetric
from ..linear_algebra.complementarity import Complementarity, solve_packed_complementarity
from ..linear_algebra.packed_symmetric import modes_of, pack, unpack
from .state import CentralFlowState, CurvatureModel, Pairs, Response, SlowForces

FAILURES = (
    "the eigenvectors of the Hessian did not converge: is the potential twice differentiable "
    "there?",
    "the complementarity problem for the oscillation's covariance was not solved",
)

# A watched eigenvalue this close to the threshold, relative to it, could hide others that are not
# watched; beyond this distance none is critical.
MARGIN = 0.05

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
        learning_rate: eta.
        threshold: The optimizer's critical sharpness: the eigenvalue of P^-1 H above which it is
            unstable.
        relaxation_time: tau, in steps.
        correction: True for the backward-error term of gradient flow (arXiv 2009.11162):
            dw/dt = -eta (1 + (eta/2) P^-1 H) P^-1 [...], with A and B to match.
        metric: The preconditioner P, held fixed; the identity if not given.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flows import CentralFlow, GradientDescent
        >>> equation = CentralFlow(GradientDescent(0.5), rank=1).equation
        >>> equation.threshold
        Array(4., dtype=float64)
        >>> def loss(w):
        ...     return 0.5 * w[1] * w[0] ** 2 - 0.01 * w[1]
        >>> w = jnp.asarray([0.0, 4.0])
        >>> model, modes = equation.curvature_model(loss, w, jnp.ones((1, 2)))
        >>> found = equation.respond(jax.linearize(jax.grad(loss), w), model)
        >>> found.covariance, found.velocity  # as large as keeps the curvature, w[1], where it is
        (Array([0.02], dtype=float64), Array([-0., -0.], dtype=float64))
    """

    learning_rate: Float[Array, ""]
    threshold: Float[Array, ""]
    relaxation_time: Float[Array, ""]
    correction: bool = eqx.field(static=True, default=False)
    metric: AbstractMetric = IdentityMetric()

    def curvature_model(
        self, potential: Potential, params: Params, modes: Modes
    ) -> tuple[CurvatureModel, Modes]:
        """Evaluate the top of the Hessian at a point, and its derivatives if they matter.

        Args:
            potential: The loss.
            params: The point.
            modes: Guess of the top eigenvectors, rows (k, P).

        Returns:
            The model, and the eigenvectors.
        """
        count, dtype = modes.shape[0], modes.dtype
        pairs = top_eigenpairs(
            potential,
            params,
            count,
            start=modes,
            metric=self.metric,
            tolerance=modes_tolerance(dtype),
        )
        # Where no eigenvalue is near the threshold, A is positive: one would have to cross the
        # whole gap within a relaxation time. Only there may the third derivatives be left out.
        gap = jnp.clip(0.2 * self.relaxation_time.astype(dtype), MARGIN, 1.0)
        remote = (1 - gap) * self.threshold.astype(dtype)
        near = pairs.values[0] > remote
        # Nor do eigenvectors matter there: those of a Hessian without positive eigenvalues have no
        # scale that their residuals could be small to.
        unused = pairs.values[0] + jnp.max(pairs.residuals) < remote
        size = count * (count + 1) // 2
        nothing = partial(jnp.zeros, (size, modes.shape[1]), dtype)

        slopes = partial(third_derivative_pairs, potential, params, pairs.vectors, packed=True)
        derivatives = lax.cond(near, slopes, nothing)
        responses = None
        if self.correction:

            def corrected() -> Pairs:
                _, product = jax.linearize(jax.grad(potential), params)
                hessian = flat_product(product, params)
                return lax.map(lambda d: self._per_rate(d, hessian), derivatives)

            responses = lax.cond(near, corrected, nothing)
        with jax.default_matmul_precision("highest"):
            moves = self.metric.inverse(derivatives) if responses is None else responses
            products = derivatives @ moves.T
        model = CurvatureModel(
            curvature=pack(jnp.diag(pairs.values)),
            derivatives=derivatives,
            responses=responses,
            operator=0.25 * self.learning_rate.astype(dtype) * (products + products.T),
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
        self, linearised: Linearised, model: CurvatureModel, move: Vector | None = None
    ) -> SlowForces:
        """Return what decides how the flow moves at a point.

        Args:
            linearised: `jax.linearize(jax.grad(potential), params)` at the point.
            model: Of the curvature at this point or one nearby.
            move: From the model's point to this one, (P,); None if they are the same.
        """
        gradient, _ = ravel_pytree(linearised[0])
        dtype = gradient.dtype
        drift = self._per_rate(gradient, flat_product(linearised[1], linearised[0]))
        identity = jnp.eye(modes_of(model.curvature.size), dtype=dtype)
        room = pack(self.threshold.astype(dtype) * identity) - model.curvature_after(move)
        with jax.default_matmul_precision("highest"):
            rise = model.derivatives @ drift
        linear = room / self.relaxation_time.astype(dtype) + self.learning_rate.astype(dtype) * rise
        return SlowForces(drift, linear, model.operator)

    def respond(
        self, linearised: Linearised, model: CurvatureModel, move: Vector | None = None
    ) -> Response:
        """Return how the flow moves at a point, with a model of the curvature around it.

        Args:
            linearised: `jax.linearize(jax.grad(potential), params)` at the point.
            model: From this point or one nearby.
            move: From the model's point to this one, (P,); None if they are the same.
        """
        forces = self.slow_forces(linearised, model, move)
        return self.response(forces, model, solve_where(model.near, forces))

    def response(
        self, forces: SlowForces, model: CurvatureModel, found: Complementarity
    ) -> Response:
        """Return how the flow moves, given the solution of the complementarity problem."""
        if model.responses is None:
            force = self.metric.inverse(found.solution @ model.derivatives)
        else:
            force = found.solution @ model.responses
        learning_rate = self.learning_rate.astype(force.dtype)
        unsolved = jnp.where(found.converged, 0, 2)
        return Response(
            covariance=found.solution,
            velocity=-learning_rate * (forces.drift + 0.5 * force),
            residual=found.residual,
            failure=jnp.where(model.converged, unsolved, 1).astype(jnp.int32),
        )

    def renewed(
        self, state: CentralFlowState, model: CurvatureModel, modes: Modes, found: Response
    ) -> CentralFlowState:
        """Return the state at the same point with what was found there."""
        count = state.modes.shape[0]
        eigenvalues = jnp.diagonal(unpack(model.curvature, count))
        threshold = self.threshold.astype(eigenvalues.dtype)
        above = jnp.maximum(eigenvalues[0] - threshold, 0)
        # The turn of the eigenvectors that brings them closest to the earlier ones: Sigma does not
        # depend on it, and it has no derivative where their overlaps are equal.
        overlaps = lax.stop_gradient(state.modes @ self.metric.apply(modes).T)
        left, _, right = jnp.linalg.svd(overlaps)
        turn = left @ right
        return CentralFlowState(
            params=state.params,
            modes=turn @ modes,
            covariance=pack(turn @ unpack(found.covariance, count) @ turn.T),
            residual=found.residual,
            watched_margin=jnp.maximum(state.watched_margin, eigenvalues[-1] / threshold),
            excess_at_start=jnp.where(state.excess_at_start < 0, above, state.excess_at_start),
        )

    def _per_rate(self, direction: Vector, hessian: Callable[[Vector], Vector]) -> Vector:
        """Return the velocity per -eta that an averaged gradient causes."""
        velocity = self.metric.inverse(direction)
        if not self.correction:
            return velocity
        half = 0.5 * self.learning_rate.astype(direction.dtype)
        return velocity + half * self.metric.inverse(hessian(velocity))


def solve_where(needed: Bool[Array, ""], forces: SlowForces) -> Complementarity:
    """Solve the complementarity problem of some forces, or return X = 0 where that is known."""

    def known() -> Complementarity:
        nothing = jnp.zeros_like(forces.linear)
        none = jnp.zeros((), jnp.int32)
        return Complementarity(nothing, forces.linear, nothing[0], none, jnp.asarray(True))

    solve = partial(solve_packed_complementarity, forces.linear, forces.operator)
    return lax.cond(needed, solve, known)
