"""Any optax gradient transformation as an optimizer."""

import functools
import inspect
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..core.arrays import usual_promotions
from ..core.cost import Cost
from ..core.optimizer import AbstractDescent, AbstractOptimizer
from ..core.potential import Potential
from ..core.trees import Params, dot, is_traced
from .gradient_descent import GradientDescent
from .linear_stability import linear_threshold

# Rounding of a few products, relative, in units of the precision.
_ROUNDING = 4


class OptaxState(eqx.Module):
    """State of an optax optimizer.

    Attributes:
        params: The iterate w_t.
        transformation: The transformation's own state: moments, traces, step counters, ...
        slow: For `optax.lookahead`, its slow parameters; otherwise None.
    """

    params: Params
    transformation: PyTree[Any]
    slow: Params | None = None


class OptaxOptimizer(AbstractOptimizer):
    """Any optax gradient transformation as an optimizer, w' = w + update.

    `iterate` and the flows make one of a bare transformation. `iterate` runs every transformation
    that needs the gradient, the loss (`optax.polyak_sgd`) and its function (`optax.lbfgs`,
    `optax.contrib.sam` in either mode). For `optax.lookahead` the params are the fast parameters,
    where gradients are taken; the slow ones are in the state. `RodFlow` models those whose state
    holds float arrays only and whose map is smooth, such as `optax.sgd` with or without momentum;
    `GradientFlow` models those with step counters too.

    The transformation is static: its hyperparameters are constants of the compiled program, and a
    new one compiles again. To map over them, make it inside: `jax.vmap(lambda rate: iterate(
    OptaxOptimizer(optax.sgd(rate)), ...))(rates)`.

    Attributes:
        transformation: An `optax.GradientTransformation`.

    Raises:
        ValueError: If it is none.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flows import OptaxOptimizer, iterate
        >>> optimizer = OptaxOptimizer(optax.adam(0.1))
        >>> run = iterate(optimizer, lambda w: 0.5 * jnp.sum(w**2), jnp.ones(2), steps=3)
        >>> round(float(run.params[-1][0]), 3)
        0.702
        >>> round(float(optimizer.critical_sharpness), 3)
        380.0
    """

    transformation: optax.GradientTransformation = eqx.field(static=True)

    def __init__(self, transformation: optax.GradientTransformation):
        _check_transformation("transformation", "", transformation)
        self.transformation = transformation

    def init(self, params: Params) -> OptaxState:
        """Return the transformation's state at `params`.

        Raises:
            ValueError: If the transformation contains `optax.lookahead` inside of another.
        """
        slow = params if self._is_lookahead else None
        with usual_promotions():
            state = self.transformation.init(_given(params, slow))
        lookaheads = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, optax.LookaheadState))
        if slow is None and any(isinstance(x, optax.LookaheadState) for x in lookaheads):
            raise ValueError(
                "optax.lookahead must be the outermost transformation, since it moves two sets of "
                "parameters at once: write optax.lookahead(optax.chain(..., optax.sgd(0.1)), 5, "
                "0.5) instead of optax.chain(..., optax.lookahead(optax.sgd(0.1), 5, 0.5))."
            )
        # Python numbers, which some transformations start from, cannot be carried by a loop.
        return OptaxState(params, jax.tree.map(jnp.asarray, state), slow)

    def step(self, state: OptaxState, potential: Potential) -> OptaxState:
        """Return the state after one update, params' = params + update."""
        updates, transformation = self.updates(state, potential)
        moved: Any = optax.apply_updates(_given(state.params, state.slow), updates)
        if state.slow is None:
            return OptaxState(moved, transformation)
        return OptaxState(moved.fast, transformation, moved.slow)

    def updates(self, state: OptaxState, potential: Potential) -> tuple[Params, PyTree[Array]]:
        """Return what a step adds to the params, and the transformation's state after it.

        Raises:
            ValueError: If a transformation inside of others does not take the loss and its
                function as further arguments, nor ignores them.
        """
        value, gradient = jax.value_and_grad(potential)(state.params)
        offered = {"value": value, "grad": gradient, "value_fn": potential}
        update = optax.with_extra_args_support(self.transformation).update
        names = inspect.signature(update).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in names.values()):
            # optax.contrib.sam alone, which refuses what it does not use.
            offered["grad_fn"] = lambda params, _: jax.grad(potential)(params)
            offered = {name: x for name, x in offered.items() if name in names}
        try:
            with usual_promotions():
                updates, transformation = update(
                    gradient, state.transformation, _given(state.params, state.slow), **offered
                )
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise ValueError(
                "a transformation inside of others must ignore further arguments that it does not "
                f"use, which are {', '.join(offered)}; here {error}. optax.contrib.sam can be used "
                "as the outermost transformation."
            ) from error
        # Some transformations let their state drift to another dtype in the first step.
        return updates, jax.tree.map(_like, transformation, state.transformation)

    def params(self, state: OptaxState) -> Params:
        """Return the iterate."""
        return state.params

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """As `flows.critical_sharpness` finds it numerically, once per transformation."""
        return jnp.asarray(_threshold(self.transformation), jnp.result_type(float))

    @property
    def cost(self) -> Cost:
        """One gradient; what a line search evaluates besides is not counted."""
        return Cost(gradients=1)

    @property
    def _is_lookahead(self) -> bool:
        # Its init takes anything for params, with a logged warning, and its update does not.
        return getattr(self.transformation.init, "__module__", "") == optax.lookahead.__module__


@functools.lru_cache(maxsize=64)
def _threshold(transformation: optax.GradientTransformation) -> float:
    return linear_threshold(OptaxOptimizer(transformation))


def _given(params: Params, slow: Params | None) -> Any:
    return params if slow is None else optax.LookaheadParams(fast=params, slow=slow)


def _like(new: Any, old: Array) -> Array:
    new = jnp.asarray(new)
    return new if new.dtype == old.dtype else new.astype(old.dtype)


def _check_transformation(argument: str, others: str, value: object) -> None:
    if isinstance(value, optax.GradientTransformation):
        return
    allowed = f"{argument} must be {others}an optax gradient transformation such as optax.sgd(0.1)"
    if isinstance(value, optax.MultiSteps):
        raise ValueError(
            f"{allowed}; got an optax.MultiSteps, which gives one by its method "
            ".gradient_transformation()."
        )
    if inspect.isfunction(value):
        raise ValueError(
            f"{allowed}; got the function {value.__name__}. If it makes one, call it: "
            f"{value.__name__}(0.1). If it is the loss, it comes after the optimizer or the flow."
        )
    raise ValueError(f"{allowed}; got {value!r}.")


def as_optimizer(value: AbstractOptimizer | optax.GradientTransformation) -> AbstractOptimizer:
    """Return an optimizer as it is, and an optax transformation as an `OptaxOptimizer`.

    Args:
        value: What a user gives for an optimizer.

    Raises:
        ValueError: If `value` is neither; for `optax.MultiSteps` it names the method to call.

    Example:
        >>> import optax
        >>> from flows.optimizers.optax_optimizer import as_optimizer
        >>> type(as_optimizer(optax.sgd(0.1))).__name__
        'OptaxOptimizer'
    """
    if isinstance(value, AbstractOptimizer):
        return value
    _check_transformation("optimizer", "an optimizer such as GradientDescent(0.1), or ", value)
    return OptaxOptimizer(value)


def as_descent(
    value: AbstractOptimizer | optax.GradientTransformation,
) -> AbstractDescent | None:
    """Return the descent w' = w - eta g(w) that an optimizer is, or None if it is none.

    `optax.sgd(eta)` is one, and so is any chain of transformations without state that multiplies
    gradients by a negative number. It is recognised by trying: for gradients and parameters of
    random values, sizes from 1e-6 to 1e6 and three shapes, and for random losses, each update must
    be the same multiple of the gradient, to rounding.

    Args:
        value: An optimizer, or an optax transformation.

    Returns:
        `value` itself if it is an `AbstractDescent`; `GradientDescent(eta)` for a transformation
        that is one; otherwise None. None too for a transformation whose numbers are not known,
        under `jax.vmap` over its learning rate.

    Example:
        >>> import optax
        >>> from flows.optimizers.optax_optimizer import as_descent
        >>> float(as_descent(optax.sgd(0.1)).learning_rate)
        0.1
        >>> as_descent(optax.sgd(0.1, momentum=0.9)) is None
        True
    """
    if isinstance(value, AbstractDescent):
        return value
    optimizer = as_optimizer(value)
    if not isinstance(optimizer, OptaxOptimizer):
        return None
    # The numbers are looked at, even inside of a function that is being compiled.
    with jax.ensure_compile_time_eval():
        rate = _constant_rate(optimizer)
    return None if rate is None else GradientDescent(rate)


def _constant_rate(optimizer: OptaxOptimizer) -> float | None:
    generator = np.random.default_rng(0)
    shapes = {"number": (), "vector": (3,), "matrix": (2, 3)}
    rate = None
    # Gradients of ones first: the update is the rate itself, without rounding.
    for size in (None, 1e-6, 1e-3, 1.0, 1e3, 1e6):
        scale = 10.0 ** generator.integers(-6, 7)
        offset = jnp.asarray(generator.normal())
        params = {k: jnp.asarray(scale * generator.normal(size=s)) for k, s in shapes.items()}
        gradient = {
            k: jnp.asarray(np.ones(s) if size is None else size * generator.normal(size=s))
            for k, s in shapes.items()
        }

        def potential(
            w: Params, gradient: Params = gradient, offset: Float[Array, ""] = offset
        ) -> Float[Array, ""]:
            return offset + dot(gradient, w)

        try:
            state = optimizer.init(params)
            if jax.tree.leaves((state.transformation, state.slow)):
                return None
            updates, _ = optimizer.updates(state, potential)
        except Exception:
            # Made for parameters of another structure, perhaps, on which it cannot be tried.
            return None
        if is_traced(updates):
            return None
        update, g = (np.asarray(ravel_pytree(tree)[0]) for tree in (updates, gradient))
        if rate is None:
            rate = float(-update[0])
        if not (np.isfinite(rate) and rate > 0):
            return None
        expected = -rate * g
        if np.any(np.abs(update - expected) > _ROUNDING * np.finfo(g.dtype).eps * np.abs(expected)):
            return None
    return rate
