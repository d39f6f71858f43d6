"""Edge Flow: a centre and one oscillating direction whose length grows or decays exponentially.

A reconstruction of arXiv 2606.18080, of which this project could read only the abstract.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Final, Literal, get_args

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, PyTree, Real

from ..core.cost import Cost
from ..core.flow import AbstractFlow, Integrator, Midpoint, default_controller
from ..core.optimizer import AbstractDescent, AbstractOptimizer
from ..core.potential import Potential
from ..core.trees import Params, add_scaled, dot, norm, scaled
from ..core.validation import as_params, non_negative_integer, positive_integer
from ..core.variables import LOSS, PARAMETER, SHARPNESS, STEPS, Variable
from ..curvature.eigenpairs import top_eigenpairs
from ..optimizers.local_fit import check_fit, fit_step, fitted
from ..optimizers.optax_optimizer import as_descent, as_optimizer
from ..optimizers.phase_space import check_phase_space
from .equation import Curvature, EdgeEquation, Growth
from .state import EdgeState

Start = Literal["top", "fit", "given"]


class EdgeFlow(AbstractFlow):
    """Edge Flow."""

    optimizer: AbstractDescent
    curvature: Curvature = eqx.field(static=True)
    growth: Growth = eqx.field(static=True)
    start: Start = eqx.field(static=True)
    burn: int | None = eqx.field(static=True)
    half_width: int = eqx.field(static=True)
    degree: int = eqx.field(static=True)
    difference: PyTree[ArrayLike] | None

    midpoint: ClassVar[Midpoint] = "three_point"
    time_unit: ClassVar[str] = STEPS
    variables: ClassVar[Mapping[str, Variable]] = {
        "predicted_loss": Variable(LOSS, "predicted average of the loss over two iterates"),
        "half_difference_length": Variable(PARAMETER, "length a of the half-difference"),
        "half_difference": Variable(
            PARAMETER,
            "half-difference a v, flattened: the iterate at step t is predicted at "
            "params + (-1)^t a v",
            ("parameter",),
        ),
        "direction_curvature": Variable(
            SHARPNESS, "curvature s along v, which decides about the growth of a"
        ),
    }

    def __init__(
        self,
        optimizer: AbstractOptimizer | optax.GradientTransformation,
        curvature: Curvature = "rod",
        growth: Growth = "log",
        *,
        start: Start = "top",
        burn: int | None = None,
        half_width: int = 7,
        degree: int = 4,
        difference: PyTree[ArrayLike] | None = None,
    ):
        descent = as_descent(optimizer) or as_optimizer(optimizer)
        if not isinstance(descent, AbstractDescent):
            raise ValueError(
                "optimizer must be GradientDescent, or another AbstractDescent: Edge Flow "
                f"models w' = w - eta g(w), a step without memory; got {optimizer!r}."
            )
        for name, value, allowed in (
            ("curvature", curvature, get_args(Curvature)),
            ("growth", growth, get_args(Growth)),
            ("start", start, get_args(Start)),
        ):
            if value not in allowed:
                names = " or ".join(f'"{x}"' for x in allowed)
                raise ValueError(f"{name} must be {names}; got {value!r}.")
        if (difference is None) == (start == "given"):
            raise ValueError('difference must be given with start="given", and only with it.')
        half_width = positive_integer("half_width", half_width)
        degree = non_negative_integer("degree", degree)
        if start == "fit":
            check_fit(burn, half_width, degree)
        elif burn not in (None, 0):
            raise ValueError(
                f"burn must be 0 or None with start={start!r}, which begins at step 0; got {burn!r}."
            )
        self.optimizer = descent
        self.curvature = curvature
        self.growth = growth
        self.start = start
        self.burn = burn
        self.half_width = half_width
        self.degree = degree
        self.difference = difference

    @property
    def first_step(self) -> int:
        """The optimizer's step at which the flow begins: `burn` for a fitted start, else 0."""
        return fit_step(self.burn, self.half_width) if self.start == "fit" else 0

    @property
    def equation(self) -> EdgeEquation:
        """The right-hand side."""
        return EdgeEquation(self.optimizer.learning_rate, self.curvature, self.growth)

    def init(self, potential: Potential, params: Params) -> EdgeState:
        """Return the state at `first_step`."""
        check_phase_space(self.optimizer, potential, params)
        flat, unravel = ravel_pytree(params)
        if self.start == "top":
            direction = top_eigenpairs(potential, params).vectors[0]
            gradient = ravel_pytree(jax.grad(potential)(params))[0]
            half = unravel(
                0.5 * self.optimizer.learning_rate.astype(flat.dtype)
                * (direction @ gradient) * direction
            )
            # What has no component along v keeps its direction.
            fallback = unravel(direction)
            centre = jax.tree.map(jnp.subtract, params, half)
        elif self.start == "fit":
            centre, half = (
                self.optimizer.params(part)
                for part in fitted(
                    self.optimizer, potential, params, self.first_step, self.half_width, self.degree
                )
            )
            fallback = unravel(jnp.full_like(flat, 1 / math.sqrt(flat.size)))
        else:
            half = as_params(self.difference, "difference")
            fallback = unravel(jnp.full_like(flat, 1 / math.sqrt(flat.size)))
            centre = jax.tree.map(jnp.subtract, params, half)
        length, tiny = norm(half), jnp.finfo(flat.dtype).tiny
        direction = jax.tree.map(
            lambda d, n: jnp.where(length > tiny, d / jnp.maximum(length, tiny), n), half, fallback
        )
        return EdgeState(centre, direction, jnp.log(jnp.maximum(length, tiny)))

    def vector_field(
        self, t: Real[Array, ""] | float, state: EdgeState, args: Potential
    ) -> EdgeState:
        """Return dc/dt, dv/dt and d(log a)/dt."""
        return self.equation.vector_field(t, state, args)

    def params(self, state: EdgeState) -> Params:
        """Return the centre."""
        return state.centre

    def observables(self, state: EdgeState, potential: Potential) -> dict[str, Array]:
        """Return what `variables` describes."""
        ends = jax.lax.map(
            lambda sign: potential(add_scaled(state.centre, sign, state.half_difference)),
            jnp.asarray([1, -1], state.log_length.dtype),
        )
        return {
            "predicted_loss": jnp.mean(ends),
            "half_difference_length": state.length,
            "half_difference": ravel_pytree(state.half_difference)[0],
            "direction_curvature": self.equation.forces(state, potential).curvature,
        }

    def integrator(self, dtype: DTypeLike) -> Integrator:
        """Return."""
        return Integrator(diffrax.Tsit5(), default_controller(dtype))

    @property
    def cost(self) -> Cost:
        """Two gradients and a Hessian-vector product."""
        return self.equation.cost
