"""The density of gradient glass in each layer, measured along a trajectory."""

import warnings
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params, all_finite
from ..core.validation import boolean, positive, positive_integer, prng_seed
from ..core.variables import Variable
from ..glass.density import Probes, probed, rademacher
from .base import AbstractMeasurement, Measured

_GLASS: Final = {
    "glass_density": Variable(
        "loss^2 / parameter^3",
        "density of gradient glass of all parameters: squared jumps of the gradient per length",
    ),
    "leaf_glass_density": Variable(
        "loss^2 / parameter^3",
        "density of gradient glass, summed over each array of the parameters",
        ("leaf",),
    ),
}

# Halfway between gradients that jump, 0, and smooth ones, 3.
_SMOOTH: Final = 1.5
# Above that of smooth ones.
_JUMPING: Final = 4.0


class GlassDensity(AbstractMeasurement):
    """The density of gradient glass, in all and in each array of the parameters.

    It is the sum of the estimates rho of `glass_density`, in the order of `jax.tree.leaves`, with
    the same probes at each save. Of a network with ReLU the weights of the last layer have none:
    their gradient is continuous. Where gradients do not jump at all, as with a smooth activation,
    what is measured falls as sigma^3 and is no density: a warning at the first save says so.

    Attributes:
        sigma: How far along a probe, in parameters, above 0.
        probes: How many, at least 1; each costs two gradients.
        seed: Of the probes, from 0 to 2^32 - 1.
        every: Measure at every n-th saved step; the values are nan in between.
        check: True to compare the first estimate with that of sigma/2, at two gradients a probe,
            and to warn if it falls.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GlassDensity, GradientDescent, iterate
        >>> kinks = lambda w: jnp.sum(jnp.abs(w["crossed"] - 0.01)) + jnp.sum(jnp.abs(w["far"]))
        >>> run = iterate(
        ...     GradientDescent(1e-4),
        ...     kinks,
        ...     {"crossed": jnp.zeros(1), "far": jnp.ones(2)},
        ...     steps=1,
        ...     measurements=GlassDensity(sigma=0.1),
        ... )
        >>> run.observables["leaf_glass_density"][0].tolist()
        [20.0, 0.0]
        >>> int(run.stats["measurement_gradient_equivalents"])
        8
    """

    structural_fields: ClassVar[tuple[str, ...]] = ("probes",)

    sigma: Float[Array, ""] = eqx.field(default=1e-3, converter=partial(positive, "sigma"))
    probes: int = eqx.field(static=True, default=1, converter=partial(positive_integer, "probes"))
    seed: int = eqx.field(static=True, default=0, converter=partial(prng_seed, "seed"))
    every: int = eqx.field(static=True, default=1, converter=partial(positive_integer, "every"))
    check: bool = eqx.field(static=True, default=True, converter=partial(boolean, "check"))

    @property
    def variables(self) -> Mapping[str, Variable]:
        """`glass_density` and `leaf_glass_density`."""
        return _GLASS

    def init(self, potential: Potential, params: Params) -> Probes:
        """Return the probes."""
        del potential
        return rademacher(self.seed, params, self.probes)

    def measure(
        self, potential: Potential, params: Params, state: Probes, index: Int[Array, ""]
    ) -> Measured:
        """Return `glass_density` and `leaf_glass_density`."""

        def measured() -> tuple[Float[Array, " leaf"], Cost]:
            gradient = jax.grad(potential)(params)

            def sums(sigma: Float[Array, ""]) -> Float[Array, " leaf"]:
                density, _ = probed(potential, params, gradient, state, sigma)
                return jnp.stack([jnp.sum(x) for x in jax.tree.leaves(density)])

            def compared() -> Cost:
                exponent = jnp.log2(jnp.sum(leaves) / jnp.sum(sums(self.sigma / 2)))
                # Under `jax.vmap` both branches are computed, at every save.
                jax.debug.callback(_warn_if_smooth, index == 0, exponent, self.sigma)
                return Cost(gradients=2 * self.probes)

            leaves, cost = sums(self.sigma), Cost(gradients=1 + 2 * self.probes)
            if self.check:
                cost = cost + lax.cond(index == 0, compared, Cost)
            return leaves, cost

        def skipped() -> tuple[Float[Array, " leaf"], Cost]:
            first = jax.tree.leaves(params)
            return jnp.full(len(first), jnp.nan, first[0].dtype), Cost()

        due = (index % self.every == 0) & all_finite(params)
        leaves, cost = lax.cond(due, measured, skipped)
        return {"glass_density": jnp.sum(leaves), "leaf_glass_density": leaves}, state, cost


def _warn_if_smooth(
    first: Bool[Array, ""], exponent: Float[Array, ""], sigma: Float[Array, ""]
) -> None:
    """Warn if the density rose with a power of sigma that derivatives of the curvature have.

    Only at the first save: elsewhere there is no power, except where `jax.vmap` computes it.
    A larger one is that of a jump that the longer segment crosses and the shorter one does not.
    """
    if bool(first) and _SMOOTH < float(exponent) < _JUMPING:
        warnings.warn(
            f"the measured density of glass grows as sigma to the power {float(exponent):.2g} at "
            f"sigma = {float(sigma):g}, where that of jumps would not depend on sigma: derivatives "
            "of the curvature outweigh the jumps of the gradient. With a smooth activation, for "
            "which the power is 3, there are none; otherwise use a smaller sigma.",
            UserWarning,
            stacklevel=2,
        )
