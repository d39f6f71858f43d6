"""The Hessian's largest eigenvalues in the metric of an adaptive method, along a trajectory."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from ..core.arrays import Modes
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params, all_finite
from ..core.validation import positive_integer, proper_fraction
from ..core.variables import Variable
from ..curvature.eigenpairs import find_eigenpairs, starting_modes
from ..curvature.metric import AbstractMetric
from .base import AbstractMetricMeasurement, Measured, no_preconditioner

# P has the unit of a gradient, H that of a gradient over a parameter.
_UNIT: Final = "1 / parameter"

_PRECONDITIONED: Final = {
    "preconditioned_sharpness": Variable(
        _UNIT, "largest eigenvalue of P^-1 H, P the preconditioner without the learning rate"
    ),
    "preconditioned_eigenvalues": Variable(
        _UNIT, "largest eigenvalues of P^-1 H, in descending order", ("preconditioned_mode",)
    ),
}


class PreconditionedCurvature(AbstractMetricMeasurement):
    """The largest eigenvalues of P^-1 H, with the preconditioner P of an adaptive method.

    Their critical value is `critical_sharpness(optimizer)` (arXiv 2207.14484). P is that of the
    step from the saved state: it holds the gradient there already. Where P is 1 they are the
    eigenvalues of H itself; where it is not known they are nan: for optax transformations with
    second moments, and for flows of adaptive methods that do not follow P, as `GradientFlow`.

    Attributes:
        eigenvalues: How many, 1 to P, the number of parameters.
        every: Measure at every n-th saved step; the values are nan in between.
        tolerance: Residual at which an eigenpair is accepted, relative to the largest eigenvalue.
        max_products: Bound on the products of one measurement, beyond those with the eigenvectors
            of the measurement before, from which it starts.

    Raises:
        ValueError: If an argument is not a positive number of its kind, or there are fewer
            parameters than eigenvalues.

    Example:
        RMSProp ends where its preconditioned sharpness is 2/eta, whatever the loss:

        >>> import jax.numpy as jnp
        >>> from flows import PreconditionedCurvature, RMSProp, iterate
        >>> bowl = lambda w: 2.0 * jnp.sum(w**2)
        >>> run = iterate(
        ...     RMSProp(0.1, b2=0.9),
        ...     bowl,
        ...     jnp.asarray([1.0]),
        ...     steps=200,
        ...     measurements=PreconditionedCurvature(),
        ... )
        >>> round(float(run.observables["preconditioned_sharpness"][-1]), 1)
        20.0
    """

    structural_fields: ClassVar[tuple[str, ...]] = ("eigenvalues",)

    eigenvalues: int = eqx.field(
        static=True, default=1, converter=partial(positive_integer, "eigenvalues")
    )
    every: int = eqx.field(static=True, default=1, converter=partial(positive_integer, "every"))
    tolerance: float = eqx.field(
        static=True, default=1e-3, converter=partial(proper_fraction, "tolerance")
    )
    max_products: int = eqx.field(
        static=True, default=300, converter=partial(positive_integer, "max_products")
    )

    @property
    def variables(self) -> Mapping[str, Variable]:
        """`preconditioned_sharpness` and `preconditioned_eigenvalues`."""
        return _PRECONDITIONED

    def init(self, potential: Potential, params: Params) -> Modes:
        """Return a random block; the first measurement replaces it with eigenvectors."""
        del potential
        return starting_modes(params, self.eigenvalues)

    def measure(
        self, potential: Potential, params: Params, state: Modes, index: Int[Array, ""]
    ) -> Measured:
        """Refuse to measure along a bare path.

        Raises:
            ValueError: Always.
        """
        del potential, params, state, index
        raise no_preconditioner("PreconditionedCurvature")

    def measure_in(
        self,
        metric: AbstractMetric | None,
        potential: Potential,
        params: Params,
        state: Modes,
        index: Int[Array, ""],
    ) -> Measured:
        """Return `preconditioned_sharpness` and `preconditioned_eigenvalues`."""

        def measured(modes: Modes) -> Measured:
            pairs = find_eigenpairs(
                potential,
                params,
                self.eigenvalues,
                start=modes,
                metric=metric,
                tolerance=self.tolerance,
                max_products=self.max_products,
            )
            cost = Cost(gradients=1, hvps=pairs.hvps)
            return _values(pairs.values), pairs.vectors, cost

        def skipped(modes: Modes) -> Measured:
            return _values(jnp.full(self.eigenvalues, jnp.nan, modes.dtype)), modes, Cost()

        if metric is None:
            return skipped(state)
        due = (index % self.every == 0) & all_finite(params)
        return lax.cond(due, measured, skipped, state)


def _values(eigenvalues: Array) -> dict[str, Array]:
    return {
        "preconditioned_sharpness": eigenvalues[0],
        "preconditioned_eigenvalues": eigenvalues,
    }
