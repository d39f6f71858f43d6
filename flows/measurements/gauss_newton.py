"""The largest eigenvalues of the Gauss-Newton matrix, measured along a trajectory."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final

import equinox as eqx
from jaxtyping import Array, Int

from ..core.arrays import Modes
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import positive_integer, proper_fraction
from ..core.variables import SHARPNESS, Variable
from ..curvature.eigenpairs import find_eigenpairs, starting_modes
from .base import AbstractMeasurement, Measured
from .occasional import when_due

_GAUSS_NEWTON: Final = {
    "gauss_newton_sharpness": Variable(SHARPNESS, "largest eigenvalue of the Gauss-Newton matrix"),
    "gauss_newton_eigenvalues": Variable(
        SHARPNESS,
        "largest eigenvalues of the Gauss-Newton matrix, in descending order",
        ("gauss_newton_mode",),
    ),
}


def need(potential: Any, method: str, measurement: str) -> None:
    """Check that a potential knows its examples, as one of `potentials.SupervisedPotential` does.

    Args:
        potential: The loss.
        method: What is asked of it.
        measurement: Who asks, for the message.

    Raises:
        ValueError: If it has no such method.
    """
    if not callable(getattr(potential, method, None)):
        # A loss that is a function has been replaced by what it computes.
        known = type(potential).__name__.replace("CapturedPotential", "function or another module")
        raise ValueError(
            f"potential must be a potentials.SupervisedPotential, or another one with a method "
            f"`{method}`, for {measurement}: a loss that only returns a number does not say what "
            f"its examples and predictions are; got a {known}."
        )


class GaussNewton(AbstractMeasurement):
    """The largest eigenvalues of the Gauss-Newton matrix, G = mean_i J_i^T C_i J_i.

    J_i is the Jacobian of the model's prediction for example i, C_i the Hessian of the criterion
    with respect to it. G is the part of the Hessian that is left if the model is linear in its
    weights; of a convex criterion it has no negative eigenvalues. They are found as those of the
    Hessian, of the loss of the linearised model.

    It needs a potential with a method `linearised(params)` that returns that loss, as
    `potentials.SupervisedPotential` has it, with any model and criterion.

    Attributes:
        eigenvalues: How many, 1 to P, the number of parameters.
        every: Measure at every n-th saved step; the values are nan in between.
        tolerance: Residual at which an eigenpair is accepted, relative to the largest eigenvalue.
        max_products: Bound on the products of one measurement, beyond those with the eigenvectors
            of the measurement before, from which it starts.

    Raises:
        ValueError: If an argument is not a positive number of its kind; when it is measured, if
            there are fewer parameters than eigenvalues, or the potential has no `linearised`.

    Example:
        >>> import jax
        >>> from flows import GaussNewton, measure
        >>> from potentials import MLP, SupervisedPotential, chebyshev, mse
        >>> data = chebyshev(examples=5, degree=2)
        >>> network = MLP((1, 3, 1), key=jax.random.key(0))
        >>> loss = SupervisedPotential(network, data.inputs, data.targets, mse)
        >>> path = jax.tree.map(lambda x: x[None], loss.params)
        >>> values, _ = measure(GaussNewton(2), loss, path)
        >>> [round(float(x), 3) for x in values["gauss_newton_eigenvalues"][0]]
        [1.791, 0.451]
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
        """`gauss_newton_sharpness` and `gauss_newton_eigenvalues`."""
        return _GAUSS_NEWTON

    def init(self, potential: Potential, params: Params) -> Modes:
        """Return a random block; the first measurement replaces it with eigenvectors."""
        need(potential, "linearised", "Gauss-Newton eigenvalues")
        return starting_modes(params, self.eigenvalues)

    def measure(
        self, potential: Any, params: Params, state: Modes, index: Int[Array, ""]
    ) -> Measured:
        """Return `gauss_newton_sharpness` and `gauss_newton_eigenvalues`."""

        def measured(modes: Modes) -> Measured:
            pairs = find_eigenpairs(
                potential.linearised(params),
                params,
                self.eigenvalues,
                start=modes,
                tolerance=self.tolerance,
                max_products=self.max_products,
            )
            values = {
                "gauss_newton_sharpness": pairs.values[0],
                "gauss_newton_eigenvalues": pairs.values,
            }
            return values, pairs.vectors, Cost(gradients=1, hvps=pairs.hvps)

        return when_due(measured, self.every, params, state, index)
