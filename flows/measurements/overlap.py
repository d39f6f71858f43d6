"""How much the Hessian's top eigenvectors turn from one save to the next, and since the first."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from ..core.arrays import Modes
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import positive_integer, proper_fraction
from ..core.variables import NONE, Variable
from ..curvature.eigenpairs import find_eigenpairs, starting_modes
from .base import AbstractMeasurement, Measured
from .occasional import when_due

_OVERLAP: Final = {
    "eigenvector_overlaps": Variable(
        NONE,
        "|<v_i, u_j>| of the top eigenvectors v here and u at the save measured before",
        ("overlap_mode", "earlier_mode"),
    ),
    "first_eigenvector_overlaps": Variable(
        NONE,
        "|<v_i, u_j>| of the top eigenvectors v here and u at the first save",
        ("overlap_mode", "earlier_mode"),
    ),
    "subspace_overlap": Variable(
        NONE, "share of the top eigenspace in that of the save measured before, 0 to 1"
    ),
    "first_subspace_overlap": Variable(
        NONE, "share of the top eigenspace in that of the first save, 0 to 1"
    ),
}


class OverlapState(eqx.Module):
    """What `EigenvectorOverlap` remembers.

    Attributes:
        previous: Eigenvectors at the last save that was measured.
        first: Those at the first one.
        started: True once there is one.
    """

    previous: Modes
    first: Modes
    started: Bool[Array, ""]


class EigenvectorOverlap(AbstractMeasurement):
    """The overlaps |<v_i, u_j>| of the Hessian's top eigenvectors with those of earlier saves.

    `eigenvector_overlaps[i, j]` is that of the i-th here, by descending eigenvalue, and the j-th at
    the save measured before: the identity where nothing turns, and a permutation where two
    eigenvalues cross. `subspace_overlap` is the mean square length of the ones in the span of the
    others, sum_ij <v_i, u_j>^2 / k (arXiv 1812.04754), which does not see how eigenvectors of
    eigenvalues close to each other turn among themselves. Both are there for the first save too.
    At the first save there is none before, and the former are nan.

    Attributes:
        eigenvalues: How many eigenvectors, k, 1 to P.
        every: Measure at every n-th saved step; the values are nan in between.
        tolerance: Residual at which an eigenpair is accepted, relative to the largest eigenvalue.
            The error of an eigenvector is about the tolerance over the relative gap.
        max_products: Bound on the products of one measurement, beyond those with the eigenvectors
            of the measurement before, from which it starts.

    Raises:
        ValueError: If an argument is not a positive number of its kind, or there are fewer
            parameters than eigenvalues.

    Example:
        The larger of two eigenvalues becomes the smaller:

        >>> import jax.numpy as jnp
        >>> from flows import EigenvectorOverlap, measure
        >>> crossing = lambda w: w[0] ** 2 + w[1] ** 2 * w[2]
        >>> path = jnp.asarray([[0.0, 0.0, 0.5], [0.0, 0.0, 2.0]])
        >>> values, _ = measure(EigenvectorOverlap(2), crossing, path)
        >>> values["eigenvector_overlaps"][1].tolist()
        [[0.0, 1.0], [1.0, 0.0]]
        >>> values["subspace_overlap"].tolist()
        [nan, 1.0]
    """

    structural_fields: ClassVar[tuple[str, ...]] = ("eigenvalues",)

    eigenvalues: int = eqx.field(
        static=True, default=3, converter=partial(positive_integer, "eigenvalues")
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
        """The overlaps of eigenvectors and of their spans, with the last save and the first."""
        return _OVERLAP

    def init(self, potential: Potential, params: Params) -> OverlapState:
        """Return random blocks; the first measurement replaces them with eigenvectors."""
        del potential
        modes = starting_modes(params, self.eigenvalues)
        return OverlapState(modes, modes, jnp.zeros((), bool))

    def measure(
        self, potential: Potential, params: Params, state: OverlapState, index: Int[Array, ""]
    ) -> Measured:
        """Return the overlaps with the last save and with the first."""

        def measured(state: OverlapState) -> Measured:
            pairs = find_eigenpairs(
                potential,
                params,
                self.eigenvalues,
                start=state.previous,
                tolerance=self.tolerance,
                max_products=self.max_products,
            )
            first = jnp.where(state.started, state.first, pairs.vectors)
            with_last = jnp.abs(pairs.vectors @ state.previous.T)
            with_last = jnp.where(state.started, with_last, jnp.nan)
            with_first = jnp.abs(pairs.vectors @ first.T)
            values = {
                "eigenvector_overlaps": with_last,
                "first_eigenvector_overlaps": with_first,
                "subspace_overlap": jnp.sum(with_last**2) / self.eigenvalues,
                "first_subspace_overlap": jnp.sum(with_first**2) / self.eigenvalues,
            }
            following = OverlapState(pairs.vectors, first, jnp.ones((), bool))
            return values, following, Cost(gradients=1, hvps=pairs.hvps)

        return when_due(measured, self.every, params, state, index)
