"""What a computation costs, counted in passes through the potential."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int


def _count(value) -> Int[Array, ""]:
    return jnp.asarray(value, jnp.int32)


class Cost(eqx.Module):
    """Counts of the derivatives of the potential that were evaluated.

    Attributes:
        gradients: Gradients.
        hvps: Hessian-vector products.
        third_derivatives: Gradients of a quadratic form u^T H(w) v.
    """

    gradients: Int[Array, ""] = eqx.field(converter=_count, default=0)
    hvps: Int[Array, ""] = eqx.field(converter=_count, default=0)
    third_derivatives: Int[Array, ""] = eqx.field(converter=_count, default=0)

    @property
    def gradient_equivalents(self) -> Int[Array, ""]:
        """The same in gradients: a Hessian-vector product counts 2, a third derivative 4."""
        return self.gradients + 2 * self.hvps + 4 * self.third_derivatives

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.gradients + other.gradients,
            self.hvps + other.hvps,
            self.third_derivatives + other.third_derivatives,
        )

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(
            self.gradients - other.gradients,
            self.hvps - other.hvps,
            self.third_derivatives - other.third_derivatives,
        )

    def __mul__(self, times) -> "Cost":
        times = _count(times)
        return Cost(self.gradients * times, self.hvps * times, self.third_derivatives * times)
