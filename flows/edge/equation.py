"""The right-hand side of Edge Flow: descent of the centre, a power iteration, and a growth rate."""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Real

from ..core.cost import Cost
from ..core.potential import Potential
from ..core.schedules import Rate, at
from ..core.trees import Params, add_scaled, dot, norm, scaled
from ..curvature.derivatives import hvp
from .state import EdgeState

Curvature = Literal["rod", "centre"]
Growth = Literal["log", "linear"]

# A difference of two gradients loses a fraction u x / a of the rod's curvature to rounding, x being
# how far along v the origin and the minimum are; the curvature at the centre differs from it by
# the order of (a / x)^2. Both are equal where a is x times this power of u.
_CENTRE_BELOW = 1 / 3


class EdgeForces(NamedTuple):
    """What the right-hand side is made of.

    Attributes:
        mean_gradient: (g(c + a v) + g(c - a v)) / 2, a pytree like the parameters.
        product: H(c) v.
        quotient: v . H(c) v, scalar.
        curvature: s, which decides about the growth of a, scalar.
    """

    mean_gradient: Params
    product: Params
    quotient: Float[Array, ""]
    curvature: Float[Array, ""]


class EdgeEquation(eqx.Module):
    """The right-hand side of Edge Flow.

    Attributes:
        learning_rate: eta, scalar, or a schedule of it.
        curvature: Which curvature is s: "rod" or "centre".
        growth: Which function of it is the growth rate: "log" or "linear".
    """

    learning_rate: Rate
    curvature: Curvature = eqx.field(static=True)
    growth: Growth = eqx.field(static=True)

    def vector_field(
        self, t: Real[Array, ""] | float, state: EdgeState, potential: Potential
    ) -> EdgeState:
        """Return dc/dt, dv/dt and d(log a)/dt."""
        learning_rate = at(self.learning_rate, t)
        forces = self.forces(state, potential)
        turning = add_scaled(forces.product, -forces.quotient, state.unit)
        return EdgeState(
            scaled(-learning_rate, forces.mean_gradient),
            scaled(learning_rate, turning),
            self._growth_rate(learning_rate, forces.curvature),
        )

    def forces(self, state: EdgeState, potential: Potential) -> EdgeForces:
        """Return the mean of the gradients at both ends, the product with the Hessian, and s."""
        direction, length = state.unit, state.length
        # One after the other: a batch of two gradients is slower on a CPU, and takes more memory.
        ends = lax.map(
            lambda sign: jax.grad(potential)(add_scaled(state.centre, sign, state.half_difference)),
            jnp.asarray([1, -1], length.dtype),
        )
        mean = jax.tree.map(lambda g: 0.5 * (g[0] + g[1]), ends)
        product = hvp(potential, state.centre, direction)
        quotient = dot(direction, product)
        if self.curvature == "centre":
            return EdgeForces(mean, product, quotient, quotient)
        placed = norm(jax.tree.map(jnp.multiply, direction, state.centre))
        rounding = jnp.abs(quotient) * placed + jnp.abs(dot(direction, mean))
        least = jnp.finfo(length.dtype).eps ** _CENTRE_BELOW
        short = (length == 0) | (length * jnp.abs(quotient) < least * rounding)
        half = jax.tree.map(lambda g: 0.5 * (g[0] - g[1]), ends)
        along_rod = dot(direction, half) / jnp.where(short, 1, length)
        return EdgeForces(mean, product, quotient, jnp.where(short, quotient, along_rod))

    def _growth_rate(
        self, learning_rate: Float[Array, ""], curvature: Float[Array, ""]
    ) -> Float[Array, ""]:
        """Return d(log a)/dt."""
        multiplier = learning_rate.astype(curvature.dtype) * curvature - 1
        if self.growth == "linear":
            return multiplier - 1
        # A step that would make the oscillation zero leaves its rounding error of it.
        return jnp.log(jnp.maximum(jnp.abs(multiplier), jnp.finfo(curvature.dtype).eps))

    @property
    def cost(self) -> Cost:
        """A gradient at each end, and a product with the Hessian at the centre."""
        return Cost(gradients=2, hvps=1)
