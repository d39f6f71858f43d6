"""The density of the Hessian's eigenvalues and its trace, measured along a trajectory."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from ..core.arrays import DENSE_LIMIT
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import positive_integer, prng_seed, proper_fraction
from ..core.variables import SHARPNESS, Variable
from ..curvature.spectrum import find_spectrum
from .base import AbstractMeasurement, Measured
from .occasional import when_due

_SPECTRUM: Final = {
    "spectral_density": Variable(
        "parameter^2 / loss",
        "density of the Hessian's eigenvalues, of integral 1, each broadened to a Gaussian",
        ("spectral_point",),
    ),
    "spectral_eigenvalue": Variable(
        SHARPNESS, "eigenvalue at which the spectral density is taken", ("spectral_point",)
    ),
    "hessian_trace": Variable(SHARPNESS, "sum of the Hessian's eigenvalues"),
    "hessian_trace_error": Variable(SHARPNESS, "standard error of the trace, 0 where it is exact"),
}
# The density ends so many widths beyond the last eigenvalue.
_MARGIN = 4.0


class SpectralDensity(AbstractMeasurement):
    """The density of the Hessian's eigenvalues on a grid, and the Hessian's trace.

    They are those of `hessian_spectrum`, with the same random probes at each save, so that curves
    over time are smooth. The grid goes from the lowest eigenvalue to the highest, and 4 widths
    beyond on both sides; `spectral_eigenvalue` holds it. P times the density, between two
    eigenvalues, is how many of the P eigenvalues lie there.

    Attributes:
        points: Of the grid, at least 2.
        width: Standard deviation of the Gaussian that broadens each eigenvalue, as a share of the
            distance of the highest eigenvalue from the lowest. The grid resolves it if `points` is
            at least 1 / width + 8.
        probes: Random vectors, beyond 512 parameters.
        depth: Lanczos steps of each, a Hessian-vector product each.
        seed: Of the probes.
        every: Measure at every n-th saved step; the values are nan in between.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import SpectralDensity, measure
        >>> scales = jnp.asarray([1.0, 2.0, 3.0])
        >>> bowl = lambda w: 0.5 * jnp.sum(scales * w**2)
        >>> values, _ = measure(SpectralDensity(), bowl, jnp.zeros((1, 3)))
        >>> float(values["hessian_trace"][0]), float(values["hessian_trace_error"][0])
        (6.0, 0.0)
        >>> density, at = values["spectral_density"][0], values["spectral_eigenvalue"][0]
        >>> round(float(jnp.trapezoid(density * at, at)), 3)
        2.0
    """

    structural_fields: ClassVar[tuple[str, ...]] = ("points",)

    points: int = eqx.field(static=True, default=200, converter=partial(positive_integer, "points"))
    width: float = eqx.field(static=True, default=0.01, converter=partial(proper_fraction, "width"))
    probes: int = eqx.field(static=True, default=10, converter=partial(positive_integer, "probes"))
    depth: int = eqx.field(static=True, default=40, converter=partial(positive_integer, "depth"))
    seed: int = eqx.field(static=True, default=0, converter=partial(prng_seed, "seed"))
    every: int = eqx.field(static=True, default=1, converter=partial(positive_integer, "every"))

    def __check_init__(self) -> None:
        if self.points < 2:
            raise ValueError(f"points must be an integer of at least 2; got {self.points}.")

    @property
    def variables(self) -> Mapping[str, Variable]:
        """`spectral_density`, `spectral_eigenvalue`, `hessian_trace`, `hessian_trace_error`."""
        return _SPECTRUM

    def init(self, potential: Potential, params: Params) -> None:
        """Return None: nothing is carried from one save to the next."""
        del potential, params

    def measure(
        self, potential: Potential, params: Params, state: None, index: Int[Array, ""]
    ) -> Measured:
        """Return the density, its grid, the trace and its standard error."""

        def measured(state: None) -> Measured:
            found = find_spectrum(
                potential,
                params,
                probes=self.probes,
                depth=self.depth,
                seed=self.seed,
                dense_limit=DENSE_LIMIT,
            )
            lowest, highest = found.range
            extent = highest - lowest
            # Equal eigenvalues have no extent of their own.
            size = jnp.where(extent > 0, extent, jnp.maximum(jnp.abs(highest), 1))
            width = jnp.asarray(self.width, size.dtype) * size
            grid = jnp.linspace(lowest - _MARGIN * width, highest + _MARGIN * width, self.points)
            values = {
                "spectral_density": found.density(grid, width),
                "spectral_eigenvalue": grid,
                "hessian_trace": found.trace,
                "hessian_trace_error": found.trace_error,
            }
            return values, state, Cost(gradients=1, hvps=found.hvps)

        return when_due(measured, self.every, params, state, index)
