"""What a computation costs, counted in passes through the potential."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from .arrays import ScalarLike


def _count(value: ScalarLike) -> Int[Array, ""]:
    return jnp.asarray(value, jnp.int32)


class Cost(eqx.Module):
    """How many derivatives of the potential were evaluated.

    Costs add, subtract, and multiply with a number of evaluations, inside compiled code too.

    Attributes:
        gradients: Gradients, scalar integer.
        hvps: Hessian-vector products, scalar integer.
        third_derivatives: Gradients of a quadratic form u^T H(w) v, scalar integer.

    Example:
        >>> from flows import Cost
        >>> evaluation = Cost(gradients=1, hvps=1)
        >>> int((evaluation * 10 + Cost(third_derivatives=1)).gradient_equivalents)
        34
    """

    gradients: Int[Array, ""] = eqx.field(converter=_count, default=0)
    hvps: Int[Array, ""] = eqx.field(converter=_count, default=0)
    third_derivatives: Int[Array, ""] = eqx.field(converter=_count, default=0)

    @property
    def gradient_equivalents(self) -> Int[Array, ""]:
        """The sum in units of a gradient: a Hessian-vector product is 2, a third derivative 4."""
        return self.gradients + 2 * self.hvps + 4 * self.third_derivatives

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.gradients + other.gradients,
            self.hvps + other.hvps,
            self.third_derivatives + other.third_derivatives,
        )

    def __sub__(self, other: "Cost") -> "Cost":
        return self + other * -1

    def __mul__(self, times: ScalarLike) -> "Cost":
        times = _count(times)
        return Cost(self.gradients * times, self.hvps * times, self.third_derivatives * times)
