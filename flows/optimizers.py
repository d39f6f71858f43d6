"""Discrete optimizers: the maps that the flows model."""

import abc
from functools import partial
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int, PyTree

from .cost import Cost
from .potential import Potential
from .trees import Params, add_scaled, scaled
from .validation import positive


class AbstractOptimizer(eqx.Module):
    """A discrete map on parameters: `init`, `step`, and `params` to read a state.

    Subclasses are frozen and final; hyperparameters are array leaves, so that `jax.vmap` works
    over them and a new value does not recompile.
    """

    @abc.abstractmethod
    def init(self, params: Params) -> PyTree[Array]:
        """Return the state that starts at `params`: a named pytree of arrays."""

    @abc.abstractmethod
    def step(self, state: Any, potential: Potential) -> PyTree[Array]:
        """Return the state after one step on `potential`."""

    @abc.abstractmethod
    def params(self, state: Any) -> Params:
        """Return the parameters that `state` stands for."""

    @property
    @abc.abstractmethod
    def critical_sharpness(self) -> Float[Array, ""]:
        """The curvature of a quadratic above which the map is unstable; nan where not known."""

    @property
    @abc.abstractmethod
    def cost(self) -> Cost:
        """What one step costs."""


class AbstractIncrementalOptimizer(AbstractOptimizer):
    """An optimizer that also knows what a step adds to its state.

    The difference of two states loses the digits that they share: a flow that models the map by
    its increments F(z) = step(z) - z takes them from here where they are known.
    """

    @abc.abstractmethod
    def increment(self, state: Any, potential: Potential) -> PyTree[Array]:
        """Return `step(state) - state`, a pytree like `state`, without the cancellation."""


class AbstractCheckedOptimizer(AbstractOptimizer):
    """An optimizer whose step can fail, and whose steps do not all cost the same.

    Where a step fails its parameters are not finite, which ends a run.

    Attributes:
        failures: What can go wrong, a sentence each; `{detail}` stands for the number that
            `failure` returns.
    """

    failures: eqx.AbstractClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def failure(self, state: Any) -> tuple[Int[Array, ""], Float[Array, ""]]:
        """Return 0, or i where `failures[i - 1]` happened, and the number that belongs to it."""

    @abc.abstractmethod
    def spent(self, state: Any) -> Cost:
        """Return what the steps up to `state` cost."""


class GradientDescentState(eqx.Module):
    """State of gradient descent.

    Attributes:
        params: The iterate w_t.
    """

    params: Params


class GradientDescent(AbstractIncrementalOptimizer):
    """Gradient descent, w' = w - eta grad L(w).

    On a quadratic it is stable iff the sharpness is below 2/eta, the critical sharpness
    (arXiv 2103.00065).

    Attributes:
        learning_rate: eta, scalar, above 0.

    Raises:
        ValueError: If `learning_rate` is not one finite number above 0.
    """

    learning_rate: Float[Array, ""] = eqx.field(converter=partial(positive, "learning_rate"))

    def init(self, params: Params) -> GradientDescentState:
        """Return the state at `params`."""
        return GradientDescentState(params)

    def step(self, state: GradientDescentState, potential: Potential) -> GradientDescentState:
        """Return the state after w' = w - eta grad L(w)."""
        gradient = jax.grad(potential)(state.params)
        return GradientDescentState(add_scaled(state.params, -self.learning_rate, gradient))

    def increment(self, state: GradientDescentState, potential: Potential) -> GradientDescentState:
        """Return -eta grad L(w)."""
        return GradientDescentState(scaled(-self.learning_rate, jax.grad(potential)(state.params)))

    def params(self, state: GradientDescentState) -> Params:
        """Return the iterate."""
        return state.params

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 / eta, in loss / parameter^2."""
        return 2 / self.learning_rate

    @property
    def cost(self) -> Cost:
        """One gradient."""
        return Cost(gradients=1)
