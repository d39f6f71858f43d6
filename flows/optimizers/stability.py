"""The curvature at which an optimizer turns unstable."""

import equinox as eqx
import optax
from jaxtyping import Array, Float, PyTree

from ..core.arrays import RealScalarLike
from ..core.optimizer import AbstractAdaptiveMethod, AbstractLocalThreshold, AbstractOptimizer
from ..core.potential import Potential
from ..core.schedules import fixed_at, is_scheduled
from .adam import threshold_after
from .adaptive import AbstractSecondMomentMethod
from .linear_stability import has_second_moment
from .optax_optimizer import OptaxOptimizer, as_optimizer


def critical_sharpness(
    optimizer: AbstractOptimizer | optax.GradientTransformation,
    state: PyTree[Array] | None = None,
    potential: Potential | None = None,
) -> Float[Array, ""]:
    """Return the sharpness at which an optimizer turns unstable: lambda_max(P^-1 H).

    H is the Hessian and P the optimizer's preconditioner without the learning rate: the identity
    for gradient descent and momentum, sqrt(nu) + eps for RMSProp and Adam. With update
    -sum_k q_k P^-1 g_(t-k) at a fixed P it is 2 / sum_k (-1)^k q_k (arXiv 2207.14484): 2/eta for
    gradient descent, 2 (1 + b1)/(eta (1 - b1)) for Adam.

    Optimizers of this package give it by their own formula, which works under `jax.jit`,
    `jax.vmap` and `jax.grad` over the learning rate. Where that is a schedule, the value is the one
    at the step that `state` counts, with the bias corrections there, and without a state the one
    late in a run. For an optax
    transformation it is found from its own map, in float64: the smallest S at which the spectral
    radius of the Jacobian of a step on the quadratic (S/2) x^2, at rest, exceeds 1. Counters are
    late then, so that bias corrections have ended and schedules are at their end. The first call
    for a transformation takes a second.

    Args:
        optimizer: An optimizer, or an optax transformation.
        state: A state of the optimizer: where the value depends on the gradient, as for `SAM`; or,
            with its step in the field `count`, for the value within a schedule.
        potential: The loss; needed with the state where the value depends on the gradient.

    Returns:
        In loss / parameter^2 for P = 1. It is inf for a map that no curvature makes unstable, such
        as `optax.polyak_sgd`.

    Raises:
        ValueError: If the map has none: it jumps at rest (`optax.lion`, `optax.sign_sgd`,
            `optax.contrib.muon`), its steps differ in a cycle (`optax.lookahead`), it has stopped
            by then (a schedule that ends at zero), or its state is not understood; if `state`
            has no step counter and the learning rate is a schedule; or if the value depends on the
            gradient and `state` or `potential` is missing.

    Example:
        >>> import optax
        >>> from flows import HeavyBall, critical_sharpness
        >>> round(float(critical_sharpness(HeavyBall(0.1, 0.9))), 6)
        38.0
        >>> round(float(critical_sharpness(optax.sgd(0.1, momentum=0.9))), 6)
        38.0
        >>> round(float(critical_sharpness(optax.adam(0.1))), 6)
        380.0
        >>> import jax.numpy as jnp
        >>> scheduled = HeavyBall(optax.linear_schedule(0.1, 0.2, 100), 0.9)
        >>> round(float(critical_sharpness(scheduled)), 6)
        19.0
        >>> round(float(critical_sharpness(scheduled, scheduled.init(jnp.ones(2)))), 6)
        38.0
    """
    optimizer = as_optimizer(optimizer)
    if state is not None and is_scheduled(optimizer):
        count = getattr(state, "count", None)
        if count is None:
            raise ValueError(
                "state must be one of this optimizer, whose learning rate is a schedule, with the "
                f"step in its field `count`; got {type(state).__name__} without."
            )
        if not isinstance(optimizer, AbstractLocalThreshold):
            return threshold_at(optimizer, count)
        optimizer = fixed_at(optimizer, count)
    if isinstance(optimizer, AbstractLocalThreshold) and state is not None:
        if potential is None:
            raise ValueError(
                "potential must be given: the critical sharpness of "
                f"{type(optimizer).__name__} depends on the gradient at the state."
            )
        if eqx.is_array_like(state) or isinstance(state, dict | list):
            raise ValueError(
                f"state must be one of {type(optimizer).__name__}, as optimizer.init(params) gives "
                f"it; got {type(state).__name__}. At parameters there is "
                "optimizer.critical_sharpness_at(params, potential)."
            )
        return optimizer.critical_sharpness_at(optimizer.params(state), potential)
    return optimizer.critical_sharpness


def threshold_at(optimizer: AbstractOptimizer, t: RealScalarLike) -> Float[Array, ""]:
    """Return the critical sharpness at step t: of the schedules and bias corrections there.

    Args:
        optimizer: The optimizer.
        t: How many steps it has taken.

    Example:
        >>> from flows import Adam
        >>> from flows.optimizers.stability import threshold_at
        >>> [round(float(threshold_at(Adam(1.0), t)), 2) for t in (0, 1, 100)]
        [3.8, 7.22, 38.0]
    """
    fixed = fixed_at(optimizer, t)
    if isinstance(fixed, AbstractSecondMomentMethod):
        return threshold_after(fixed, t + 1)
    return fixed.critical_sharpness


def is_preconditioned(optimizer: AbstractOptimizer | optax.GradientTransformation) -> bool:
    """Return True if an optimizer's critical sharpness is one of P^-1 H with P other than 1.

    So it is for adaptive methods, for optax transformations that keep a second moment, and for
    what wraps one of these in a field `optimizer`, as `SAM` does.

    Args:
        optimizer: An optimizer, or an optax transformation.

    Raises:
        ValueError: If a transformation does not take a single array for parameters.

    Example:
        >>> import optax
        >>> from flows.optimizers.stability import is_preconditioned
        >>> is_preconditioned(optax.adam(0.1)), is_preconditioned(optax.sgd(0.1, momentum=0.9))
        (True, False)
    """
    optimizer = as_optimizer(optimizer)
    optimizer = getattr(optimizer, "optimizer", optimizer)
    if isinstance(optimizer, OptaxOptimizer):
        return has_second_moment(optimizer)
    return isinstance(optimizer, AbstractAdaptiveMethod)


def has_one_threshold(optimizer: AbstractOptimizer) -> bool:
    """Return True if an optimizer's critical sharpness is the same all along a run.

    It is not where a schedule moves the learning rate, or where it depends on the gradient.

    Example:
        >>> from flows import SAM, GradientDescent
        >>> from flows.optimizers.stability import has_one_threshold
        >>> descent = GradientDescent(0.1)
        >>> has_one_threshold(descent), has_one_threshold(SAM(descent, 0.05))
        (True, False)
    """
    return not (is_scheduled(optimizer) or isinstance(optimizer, AbstractLocalThreshold))
