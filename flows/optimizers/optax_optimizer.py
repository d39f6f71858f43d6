"""Any optax gradient transformation as an optimizer."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from ..core.cost import Cost
from ..core.optimizer import AbstractOptimizer
from ..core.potential import Potential
from ..core.trees import Params


class OptaxState(eqx.Module):
    """State of an optax optimizer.

    Attributes:
        params: The iterate w_t.
        transformation: The transformation's own state: moments, traces, step counters, ...
    """

    params: Params
    transformation: PyTree[Any]


class OptaxOptimizer(AbstractOptimizer):
    """Any optax gradient transformation as an optimizer, `OptaxOptimizer(optax.adam(1e-3))`.

    `iterate` runs every one, those too that ask for the loss (`optax.polyak_sgd`) or for the
    function (`optax.lbfgs`). `RodFlow` models those whose state holds float arrays only and whose
    map is smooth, such as `optax.sgd` with or without momentum and `optax.rmsprop`.

    The transformation is static: its hyperparameters are constants of the compiled program, and a
    new one compiles anew. To map over them, make it inside: `jax.vmap(lambda rate: iterate(
    OptaxOptimizer(optax.sgd(rate)), ...))(rates)`.

    Attributes:
        transformation: An `optax.GradientTransformation`.

    Raises:
        ValueError: If it is none.
    """

    transformation: Any = eqx.field(static=True)

    def __init__(self, transformation: Any):
        if not isinstance(transformation, optax.GradientTransformation):
            raise ValueError(
                "transformation must be an optax gradient transformation such as "
                f"optax.adam(1e-3); got {transformation!r}."
            )
        self.transformation = transformation

    def init(self, params: Params) -> OptaxState:
        """Return the transformation's state at `params`."""
        state = self.transformation.init(params)
        # Python numbers, which some transformations start from, cannot be carried by a loop.
        return OptaxState(params, jax.tree.map(jnp.asarray, state))

    def step(self, state: OptaxState, potential: Potential) -> OptaxState:
        """Return the state after one update, params' = params + update."""
        value, gradient = jax.value_and_grad(potential)(state.params)
        updates, transformation = optax.with_extra_args_support(self.transformation).update(
            gradient,
            state.transformation,
            state.params,
            value=value,
            grad=gradient,
            value_fn=potential,
        )
        params: Any = optax.apply_updates(state.params, updates)
        # Some transformations let their state drift to another dtype in the first step.
        transformation = jax.tree.map(_like, transformation, state.transformation)
        return OptaxState(params, transformation)

    def params(self, state: OptaxState) -> Params:
        """Return the iterate."""
        return state.params

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """Not known: nan."""
        return jnp.asarray(jnp.nan)

    @property
    def cost(self) -> Cost:
        """One gradient; what a line search evaluates besides is not counted."""
        return Cost(gradients=1)


def _like(new: Any, old: Array) -> Array:
    new = jnp.asarray(new)
    return new if new.dtype == old.dtype else new.astype(old.dtype)


def as_optimizer(value: AbstractOptimizer | optax.GradientTransformation) -> AbstractOptimizer:
    """Return an optimizer as it is, and an optax transformation as an `OptaxOptimizer`.

    Raises:
        ValueError: If `value` is neither.
    """
    if isinstance(value, AbstractOptimizer):
        return value
    if isinstance(value, optax.GradientTransformation):
        return OptaxOptimizer(value)
    raise ValueError(
        "optimizer must be an optimizer such as GradientDescent(0.1), or an optax gradient "
        f"transformation such as optax.sgd(0.1); got {value!r}."
    )
