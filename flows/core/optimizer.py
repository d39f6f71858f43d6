"""The abstraction of an optimizer: the discrete map that a flow models."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Int, PyTree

from .cost import Cost
from .potential import Potential
from .trees import Params


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


class AbstractDescent(AbstractIncrementalOptimizer):
    """An optimizer whose step is w' = w - eta g(w): the gradient where it is, and no memory.

    What a flow needs to know of it are two numbers, the learning rate eta and the critical
    sharpness, and that the map's derivative is symmetric: its eigenvalues are real.

    Attributes:
        learning_rate: eta, scalar, above 0.
    """

    learning_rate: eqx.AbstractVar[Float[Array, ""]]


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
