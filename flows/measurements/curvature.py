"""The Hessian's largest eigenvalues, measured along a trajectory."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Int

from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params, all_finite
from ..core.validation import positive_integer, proper_fraction
from ..core.variables import SHARPNESS, Variable
from ..curvature.eigenpairs import find_eigenpairs, follow_modes, starting_modes
from ..curvature.mode_history import HISTORY, ModeHistory
from .base import AbstractMeasurement, Measured

# How many eigenvalues, where no number is given and there are so many parameters.
_FEW: Final = 3

_CURVATURE: Final = {
    "sharpness": Variable(SHARPNESS, "largest eigenvalue of the Hessian of the loss"),
    "eigenvalues": Variable(
        SHARPNESS, "largest eigenvalues of the Hessian, each mode followed", ("mode",)
    ),
    "eigenvalue_residuals": Variable(
        SHARPNESS, "|H u - lambda u| of each eigenpair, a bound on its error", ("mode",)
    ),
}


def _number_of_eigenvalues(value: object) -> int | None:
    return None if value is None else positive_integer("eigenvalues", value)


class Curvature(AbstractMeasurement):
    """The largest eigenvalues of the Hessian, each followed along the path.

    `eigenvalues` are in the order of the modes: mode i stays the one whose eigenvector continues
    that of mode i at the measurement before, also where two eigenvalues cross; `sharpness` is the
    largest. Between measurements, and where the parameters are not finite, the values are nan.

    Up to 512 parameters P each measurement builds the whole Hessian, as `top_eigenpairs` does: P
    Hessian-vector products, which cost as much as 2 P gradients, and a factorisation of the P x P
    matrix; `every` makes that rarer. Beyond 512 nothing of that size is built: the eigenvectors at
    the last four measured points predict those at the next, from which the iteration starts. Where
    the loss decouples exactly, an eigenvalue that overtakes all of them from another part of it is
    not seen.

    Attributes:
        eigenvalues: How many, 1 to P, the number of parameters. None, the default, is min(P, 3).
        every: Measure at every n-th saved step.
        tolerance: Residual at which an eigenpair is accepted, relative to the sharpness. The
            relative error of an eigenvalue is about the tolerance's square over the relative gap.
        max_products: Bound on the products of one measurement, beyond those with the eigenvectors
            that it starts from; where it is reached, `eigenvalue_residuals` show it.

    Raises:
        ValueError: If an argument is not a positive number of its kind, or there are fewer
            parameters than eigenvalues.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Curvature, GradientDescent, iterate
        >>> valley = lambda w: 0.5 * w[0] ** 2 * (1 + w[1] ** 2)
        >>> run = iterate(
        ...     GradientDescent(0.1),
        ...     valley,
        ...     jnp.asarray([1.0, 2.0]),
        ...     steps=2,
        ...     measurements=Curvature(2, every=2),
        ... )
        >>> [round(float(x), 3) for x in run.observables["sharpness"]]
        [7.472, nan, 4.321]
    """

    structural_fields: ClassVar[tuple[str, ...]] = ("eigenvalues",)

    eigenvalues: int | None = eqx.field(static=True, default=None, converter=_number_of_eigenvalues)
    every: int = eqx.field(static=True, default=1, converter=partial(positive_integer, "every"))
    tolerance: float = eqx.field(
        static=True, default=1e-3, converter=partial(proper_fraction, "tolerance")
    )
    max_products: int = eqx.field(
        static=True, default=300, converter=partial(positive_integer, "max_products")
    )

    @property
    def variables(self) -> Mapping[str, Variable]:
        """`sharpness`, `eigenvalues` and `eigenvalue_residuals`."""
        return _CURVATURE

    def init(self, potential: Potential, params: Params) -> ModeHistory:
        """Return a random block; the first measurement replaces it with eigenvectors."""
        del potential
        flat, _ = ravel_pytree(params)
        count = min(_FEW, flat.size) if self.eigenvalues is None else self.eigenvalues
        modes = starting_modes(params, count)
        return ModeHistory(
            points=jnp.zeros((HISTORY + 1, flat.size), flat.dtype),
            modes=jnp.broadcast_to(modes, (HISTORY + 1, *modes.shape)),
            size=jnp.zeros((), jnp.int32),
        )

    def measure(
        self, potential: Potential, params: Params, state: ModeHistory, index: Int[Array, ""]
    ) -> Measured:
        """Return `sharpness`, `eigenvalues` and `eigenvalue_residuals`."""
        count = state.modes.shape[1]

        def measured(state: ModeHistory) -> Measured:
            flat, _ = ravel_pytree(params)
            pairs = find_eigenpairs(
                potential,
                params,
                count,
                start=state.predict(flat),
                tolerance=self.tolerance,
                max_products=self.max_products,
            )
            pairs = follow_modes(pairs, jnp.where(state.started, state.modes[0], pairs.vectors))
            values = self._values(pairs.sharpness, pairs.values, pairs.residuals)
            cost = Cost(gradients=1, hvps=pairs.hvps)
            return values, state.append(flat, pairs.vectors), cost

        def skipped(state: ModeHistory) -> Measured:
            nothing = jnp.full(count, jnp.nan, state.modes.dtype)
            return self._values(nothing[0], nothing, nothing), state, Cost()

        due = (index % self.every == 0) & all_finite(params)
        return lax.cond(due, measured, skipped, state)

    def _values(self, sharpness: Array, values: Array, residuals: Array) -> dict[str, Array]:
        return {
            "sharpness": sharpness,
            "eigenvalues": values,
            "eigenvalue_residuals": residuals,
        }
