"""The interface to a loss: a function of a pytree of float arrays that returns a scalar."""

from collections.abc import Callable
from typing import Any, TypeAlias

from jaxtyping import Array, Float

Potential: TypeAlias = Callable[[Any], Float[Array, ""]]
"""A loss: `potential(params)` is one float, differentiable by JAX as often as a flow asks for."""
