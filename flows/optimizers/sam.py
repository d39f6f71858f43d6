"""Sharpness-aware minimisation: any optimizer, with gradients of a point a little uphill."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from ..core.constrained import AbstractConstrained
from ..core.cost import Cost
from ..core.optimizer import (
    AbstractCheckedOptimizer,
    AbstractIncrementalOptimizer,
    AbstractLocalThreshold,
    AbstractOptimizer,
)
from ..core.potential import Potential
from ..core.trees import Params, add_scaled, dot, is_traced, root, squared_norm
from ..core.validation import boolean, non_negative
from .optax_optimizer import as_optimizer
from .stability import is_preconditioned


def _base(value: AbstractOptimizer | optax.GradientTransformation) -> AbstractOptimizer:
    """Convert what a user gives for the optimizer that SAM wraps."""
    optimizer = as_optimizer(value)
    if isinstance(optimizer, AbstractConstrained):
        raise ValueError(
            "optimizer must be one in flat space: on a manifold sharpness-aware descent is "
            f"RiemannianSAM, which perturbs along it; got {optimizer!r}."
        )
    if isinstance(optimizer, AbstractCheckedOptimizer | AbstractLocalThreshold):
        raise ValueError(
            "optimizer must be one that takes one gradient, at its parameters, in whose place SAM "
            f"puts its own; got {optimizer!r}."
        )
    return optimizer


class _Replaced(eqx.Module):
    """The loss as an optimizer sees it at w: its value there, and another gradient.

    Attributes:
        potential: The loss.
        at: w.
        gradient: What takes the place of the gradient there.
    """

    potential: Potential
    at: Params
    gradient: Params

    def __call__(self, params: Params) -> Float[Array, ""]:
        away = jax.tree.map(jnp.subtract, params, self.at)
        loss = self.potential(self.at)
        return loss + dot(self.gradient, away).astype(loss.dtype)


class SAM(AbstractIncrementalOptimizer, AbstractLocalThreshold):
    """Sharpness-aware minimisation (arXiv 2010.01412): an optimizer that is given G in place of g.

        G(w) = g(w + rho g(w) / sqrt(|g(w)|^2 + s^2)),

    so that of gradient descent it is w' = w - eta G(w); with `normalised=False` it is
    G(w) = g(w + rho g(w)). A step costs two gradients. Weight decay acts at w itself.

    On a quadratic each component of g is multiplied by 1 - eta lambda_i (1 + rho lambda_i/|g|): at
    a gradient of this length it is stable if and only if the sharpness is below

        lambda* = (|g| / (2 rho)) (sqrt(1 + 4 rho S / |g|) - 1) < S,

    with S the optimizer's own critical sharpness, 2/eta for gradient descent (arXiv 2309.12488).
    It tends to S where |g| is large, and to 0 with |g|: SAM never converges. Below 2/eta it ends in
    a two-cycle along the top eigenvector, of half-length eta lambda rho / (2 - eta lambda), on
    which lambda* is lambda. With s > 0, |g| in these formulas is sqrt(|g|^2 + s^2).

    Attributes:
        optimizer: Which optimizer is given G: one of this package that takes its gradient at its
            parameters, or an optax transformation. The state is this optimizer's.
        radius: rho, scalar, at least 0, in parameters; in parameter^2 / loss if not normalised.
            With 0 it is `optimizer`, at the cost of two gradients.
        smoothing: s, scalar, at least 0, in loss / parameter. The map is smooth where it is above
            0; at 0 it jumps where g = 0, and stays there.
        normalised: False for G(w) = g(w + rho g(w)), which has no s, and for which |g| in the
            threshold is 1: it is one number.

    Raises:
        ValueError: If `radius` or `smoothing` is not one finite number of at least 0, or the latter
            is above 0 without the normalisation; or if `optimizer` takes other gradients.

    Example:
        On (lambda/2) w^2 with eta lambda = 1 the two-cycle is w = +-rho:

        >>> import jax.numpy as jnp
        >>> from flows import SAM, GradientDescent, critical_sharpness, iterate
        >>> optimizer, bowl = SAM(GradientDescent(0.5), 0.1), lambda w: jnp.sum(w**2)
        >>> run = iterate(optimizer, bowl, jnp.ones(1), steps=40)
        >>> [round(float(w[0]), 6) for w in run.params[-2:]]
        [-0.1, 0.1]
        >>> round(float(critical_sharpness(optimizer, optimizer.init(run.params[-1]), bowl)), 6)
        2.0

        (`run.state.optimizer` is one step ahead of the last row.)
    """

    optimizer: AbstractOptimizer = eqx.field(converter=_base)
    radius: Float[Array, ""] = eqx.field(converter=partial(non_negative, "radius"))
    smoothing: Float[Array, ""] = eqx.field(
        default=0.0, converter=partial(non_negative, "smoothing")
    )
    normalised: bool = eqx.field(
        static=True, default=True, converter=partial(boolean, "normalised"), kw_only=True
    )

    def __check_init__(self) -> None:
        smoothing = self.smoothing
        if not (self.normalised or is_traced(smoothing)) and float(smoothing) > 0:
            raise ValueError(
                "smoothing must be 0 with normalised=False, where nothing is divided by; got "
                f"{float(smoothing):g}."
            )

    def init(self, params: Params) -> PyTree[Array]:
        """Return the state of `optimizer` at `params`."""
        return self.optimizer.init(params)

    def step(self, state: PyTree[Array], potential: Potential) -> PyTree[Array]:
        """Return the state after a step of `optimizer` with G for its gradient."""
        return self.optimizer.step(state, self._seen(state, potential))

    def increment(self, state: PyTree[Array], potential: Potential) -> PyTree[Array]:
        """Return what a step adds, without cancellation where `optimizer` knows it so."""
        if isinstance(self.optimizer, AbstractIncrementalOptimizer):
            return self.optimizer.increment(state, self._seen(state, potential))
        return jax.tree.map(jnp.subtract, self.step(state, potential), state)

    def params(self, state: PyTree[Array]) -> Params:
        """Return w, where the first of the two gradients is taken."""
        return self.optimizer.params(state)

    def perturbed(self, params: Params, potential: Potential) -> Params:
        """Return w + rho g / sqrt(|g|^2 + s^2), where the second gradient is taken."""
        gradient = jax.grad(potential)(params)
        length = self._length(gradient)
        return add_scaled(params, self.radius.astype(length.dtype) / length, gradient)

    def gradient(self, params: Params, potential: Potential) -> Params:
        """Return G(w)."""
        return jax.grad(potential)(self.perturbed(params, potential))

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """That of the unnormalised method, (sqrt(1 + 4 rho S) - 1) / (2 rho).

        Raises:
            ValueError: If the method is normalised: it depends on |g|.
        """
        if self.normalised:
            raise ValueError(
                "the critical sharpness of SAM depends on the length of the gradient: ask for it "
                "at a state, of flows.critical_sharpness(optimizer, state, potential)."
            )
        return self._threshold(jnp.ones_like(self.radius))

    def critical_sharpness_at(self, params: Params, potential: Potential) -> Float[Array, ""]:
        """Return lambda* at the gradient at `params`; 0 where that is zero, without smoothing.

        Raises:
            ValueError: If the optimizer has a preconditioner, or no critical sharpness itself.
        """
        return self._threshold(self._length(jax.grad(potential)(params), empty=0.0))

    @property
    def cost(self) -> Cost:
        """What a step of `optimizer` costs, and one gradient more."""
        return self.optimizer.cost + Cost(gradients=1)

    def _seen(self, state: PyTree[Array], potential: Potential) -> _Replaced:
        params = self.params(state)
        return _Replaced(potential, params, self.gradient(params, potential))

    def _length(self, gradient: Params, empty: float = 1.0) -> Float[Array, ""]:
        """Return sqrt(|g|^2 + s^2), or `empty` in place of 0; 1 if not normalised."""
        square = squared_norm(gradient)
        if not self.normalised:
            return jnp.ones_like(square)
        square = square + self.smoothing.astype(square.dtype) ** 2
        return jnp.where(square > 0, root(square), jnp.asarray(empty, square.dtype))

    def _threshold(self, length: Float[Array, ""]) -> Float[Array, ""]:
        if is_preconditioned(self.optimizer):
            raise ValueError(
                "no curvature decides about the stability of SAM with a preconditioner P: that "
                f"depends on how P turns the Hessian; got {type(self.optimizer).__name__}."
            )
        own = self.optimizer.critical_sharpness
        # As (sqrt(1 + x) - 1) / x, without cancellation, and 0 where the length is.
        ratio = 4 * self.radius * own / jnp.where(length > 0, length, 1).astype(own.dtype)
        return jnp.where(length > 0, 2 * own / (1 + jnp.sqrt(1 + ratio)), 0)
