"""Curvature on a manifold, and how well a run stays on it, measured along a trajectory."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from ..core.arrays import Modes
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params, all_finite
from ..core.validation import positive_integer, proper_fraction
from ..core.variables import NONE, SHARPNESS, Variable
from ..curvature.eigenpairs import find_eigenpairs, starting_modes
from ..manifolds.product import Product, on_leaves
from .base import AbstractMeasurement, Measured

_CURVATURE: Final = {
    "riemannian_sharpness": Variable(
        SHARPNESS, "largest eigenvalue of the Riemannian Hessian on the manifold"
    ),
    "riemannian_eigenvalues": Variable(
        SHARPNESS,
        "largest eigenvalues of the Riemannian Hessian, in descending order",
        ("riemannian_mode",),
    ),
}
_DRIFT: Final = {
    "constraint_drift": Variable(NONE, "by how much the parameters miss the manifold's equations"),
}


class RiemannianCurvature(AbstractMeasurement):
    """The largest eigenvalues of the Riemannian Hessian, P Hess L P on the tangent space.

    Their critical value is 2/eta for Riemannian gradient descent. They are those of the Hessian of
    L in normal coordinates, found by `top_eigenpairs` without a matrix where there are many
    parameters. Directions across the manifold do not count: at a maximum all are negative, and
    where more are asked for than the manifold has dimensions, the last are nan.

    Attributes:
        manifold: Where the parameters live: a manifold for every leaf, or a `Product`.
        eigenvalues: How many, 1 to P, the number of parameters.
        every: Measure at every n-th saved step; the values are nan in between.
        tolerance: Residual at which an eigenpair is accepted, relative to the largest eigenvalue.
        max_products: Bound on the products of one measurement, beyond those with the eigenvectors
            of the measurement before, from which it starts.

    Raises:
        ValueError: If an argument is of the wrong kind, there are fewer parameters than
            eigenvalues, or the parameters do not have the shape of points of the manifold.

    Example:
        On L = w.A w/2 the sphere's sharpness at the minimum is the largest eigenvalue of A minus
        the smallest:

        >>> import jax.numpy as jnp
        >>> from flows import RiemannianCurvature, RiemannianGradientDescent, Sphere, iterate
        >>> loss = lambda w: 0.5 * jnp.sum(jnp.asarray([1.0, 3.0, 6.0]) * w**2)
        >>> run = iterate(
        ...     RiemannianGradientDescent(0.2, Sphere()),
        ...     loss,
        ...     jnp.asarray([0.6, 0.0, 0.8]),
        ...     steps=100,
        ...     measurements=RiemannianCurvature(Sphere()),
        ... )
        >>> round(float(run.observables["riemannian_sharpness"][-1]), 6)
        5.0
    """

    structural_fields: ClassVar[tuple[str, ...]] = ("eigenvalues",)

    manifold: Product = eqx.field(converter=on_leaves)
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
        """`riemannian_sharpness` and `riemannian_eigenvalues`."""
        return _CURVATURE

    def init(self, potential: Potential, params: Params) -> Modes:
        """Return a random block; the first measurement replaces it with eigenvectors."""
        del potential
        self.manifold.assigned(params)
        return starting_modes(params, self.eigenvalues)

    def measure(
        self, potential: Potential, params: Params, state: Modes, index: Int[Array, ""]
    ) -> Measured:
        """Return `riemannian_sharpness` and `riemannian_eigenvalues`."""

        def in_coordinates(coordinates: Params) -> Array:
            return potential(self.manifold.chart(params, coordinates))

        def effective(coordinates: Params) -> Params:
            return self.manifold.effective(params, coordinates)

        def measured(modes: Modes) -> Measured:
            pairs = find_eigenpairs(
                in_coordinates,
                jax.tree.map(jnp.zeros_like, params),
                self.eigenvalues,
                start=modes,
                tolerance=self.tolerance,
                max_products=self.max_products,
                within=effective,
            )
            cost = Cost(gradients=1, hvps=pairs.hvps)
            return _values(pairs.values), pairs.vectors, cost

        def skipped(modes: Modes) -> Measured:
            return _values(jnp.full(self.eigenvalues, jnp.nan, modes.dtype)), modes, Cost()

        due = (index % self.every == 0) & all_finite(params)
        return lax.cond(due, measured, skipped, state)


class ConstraintDrift(AbstractMeasurement):
    """By how much the parameters miss the equations of their manifold, the worst leaf's.

    | |w| - 1 | for spheres, the largest entry of |X^T X - I| for a Stiefel matrix, the relative
    error of x_0 for a hyperboloid, and 0 in flat space. Methods on a manifold stay at rounding
    errors; it shows how far another one leaves it.

    Attributes:
        manifold: Where the parameters should live: a manifold for every leaf, or a `Product`.

    Raises:
        ValueError: If `manifold` is no manifold; when it is measured, if the parameters do not have
            the shape of its points.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import ConstraintDrift, GradientDescent, Sphere, iterate
        >>> run = iterate(
        ...     GradientDescent(0.5),
        ...     lambda w: 0.5 * w[0] ** 2,
        ...     jnp.asarray([0.8, 0.6]),
        ...     steps=1,
        ...     measurements=ConstraintDrift(Sphere()),
        ... )
        >>> [round(float(x), 4) for x in run.observables["constraint_drift"]]
        [0.0, 0.2789]
    """

    manifold: Product = eqx.field(converter=on_leaves)

    @property
    def variables(self) -> Mapping[str, Variable]:
        """`constraint_drift`."""
        return _DRIFT

    def init(self, potential: Potential, params: Params) -> None:
        """Return None: nothing is carried from one save to the next."""
        del potential
        self.manifold.assigned(params)

    def measure(
        self, potential: Potential, params: Params, state: None, index: Int[Array, ""]
    ) -> Measured:
        """Return `constraint_drift`."""
        del potential, index
        return {"constraint_drift": self.manifold.violation(params)}, state, Cost()


def _values(eigenvalues: Array) -> dict[str, Array]:
    return {"riemannian_sharpness": eigenvalues[0], "riemannian_eigenvalues": eigenvalues}
