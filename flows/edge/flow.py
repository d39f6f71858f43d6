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
from ..core.flow import AbstractFlow, Integrator, Midpoint
from ..core.optimizer import AbstractDescent, AbstractOptimizer, objective
from ..core.potential import Potential
from ..core.schedules import at
from ..core.trees import Params, add_scaled
from ..core.validation import as_params, non_negative_integer, positive_integer
from ..core.variables import LOSS, PARAMETER, SHARPNESS, STEPS, Variable
from ..curvature.eigenpairs import find_eigenpairs
from ..optimizers.local_fit import check_fit, fit_step, fitted
from ..optimizers.optax_optimizer import as_descent, as_optimizer
from ..optimizers.phase_space import check_phase_space
from ..solvers.chebyshev import RungeKuttaChebyshev
from .equation import Curvature, EdgeEquation, Growth
from .state import EdgeState

Start = Literal["top", "fit", "given"]

# The centre decays at the rate eta s, and the direction turns at eta times the gap to the smallest
# eigenvalue: 2 at the edge, 3 in a catapult, and a margin for negative curvature.
_STIFFEST_RATE: Final = 4.0


class EdgeFlow(AbstractFlow):
    """Edge Flow of gradient descent, as far as the abstract of arXiv 2606.18080 fixes it.

    The iterates are c + (-1)^t a v, with a centre c, a direction v of length 1 and a length a > 0.
    In units of one step of w' = w - eta g(w), with the Hessian H,

        dc/dt = -(eta/2) (g(c + a v) + g(c - a v)),
        dv/dt = eta (H(c) v - (v . H(c) v) v),
        d(log a)/dt = eta s - 2    or    log|eta s - 1|,

    that is, descent on the symmetrised loss, a power iteration, and growth where the curvature s
    along v is above 2/eta. The state holds log a, so that a stays above 0 and can return from below
    the smallest floating-point number. Where eta is a schedule it is eta(t), and with weight decay
    lambda g and H are those of L + lambda |w|^2 / 2.

    **This is a reconstruction.** Only the abstract of the paper could be read. It says: the centre
    descends the symmetrised loss, the direction follows the Rayleigh quotient, the length grows
    exponentially about the threshold 2/eta, at two gradients and one Hessian-vector product an
    evaluation. Choices of ours, which may differ from the paper's, are:

    - s: the mean curvature along the rod, v . (g(c + a v) - g(c - a v))/(2 a), or v . H(c) v. The
      first has the two-cycles of gradient descent as equilibria. The second has not in general: on
      a quartic well c = 0 stays and a diverges.
    - The growth rate: the logarithm of the factor per step, |1 - eta s|, or its first order.
    - Where it starts (below), and that its centre models (w_{t-1} + 2 w_t + w_{t+1})/4.
    - Where a is too short for a difference of two gradients, s is v . H(c) v in both cases, and
      log|eta s - 1| is at least the logarithm of the unit roundoff.

    One direction only is followed. A second mode at the edge, or an oscillation that decays below
    the rounding errors of the optimizer and returns from these, is not represented.

    Attributes:
        optimizer: `GradientDescent`, another `AbstractDescent`, or an optax transformation that is
            one, such as `optax.sgd(0.1)`.
        curvature: Which curvature s is: "rod" or "centre".
        growth: Which growth rate: "log" or "linear".
        start: Where the state comes from. "top": v is the top eigenvector of the Hessian at w_0,
            a = (eta/2) |v . g(w_0)| and c = w_0 - a v, with the sign of v that makes v . g
            positive, so that along v the first step leads from c + a v to c - a v. "fit": c and
            a v are those of a local fit of C(t) + (-1)^t D(t) to the iterates around step `burn`,
            where the flow starts, as for `ParityFlow`. "given": c = w_0 - `difference`, and a v is
            `difference`.
        burn: The step at which a fitted start begins, at least `half_width`; 0 or None otherwise.
        half_width: How many iterates on each side of `burn` are fitted.
        degree: The degree of both fitted polynomials, at most `half_width` - 1.
        difference: a v at step 0, a pytree like the parameters; for start="given" only. One of
            length 0 has no direction: v then lies along all parameters equally.

    Raises:
        ValueError: If an argument is of the wrong kind or out of range, or the optimizer is no
            descent without memory; from `init` if its map is not smooth, or `difference` is not
            like the parameters.

    Example:
        Gradient descent on L = (S/2) w^2 - w^4/4 with learning rate 1 settles on the two-cycle
        w = +-a, a^2 = S - 2:

        >>> import jax.numpy as jnp
        >>> from flows import EdgeFlow, GradientDescent, iterate_error, iterate, simulate
        >>> well = lambda w: jnp.sum(0.5 * 2.1 * w**2 - 0.25 * w**4)
        >>> optimizer, start = GradientDescent(1.0), jnp.asarray([0.1])
        >>> flow = simulate(EdgeFlow(optimizer), well, start, steps=100)
        >>> round(float(flow.observables["half_difference_length"][-1]), 3), round(0.1**0.5, 3)
        (0.316, 0.316)
        >>> bool(iterate_error(flow, iterate(optimizer, well, start, steps=100)) < 0.01)
        True
    """

    optimizer: AbstractDescent
    curvature: Curvature = eqx.field(static=True)
    growth: Growth = eqx.field(static=True)
    start: Start = eqx.field(static=True)
    burn: int | None = eqx.field(static=True)
    half_width: int = eqx.field(static=True)
    degree: int = eqx.field(static=True)
    difference: Params | None

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
            SHARPNESS, "curvature of the loss along v, which decides about the growth of a"
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
                f"burn must be 0 or None with start={start!r}, which begins at step 0; got "
                f"{burn!r}."
            )
        self.optimizer = descent
        self.curvature = curvature
        self.growth = growth
        self.start = start
        self.burn = burn
        self.half_width = half_width
        self.degree = degree
        self.difference = None if difference is None else as_params(difference, "difference")

    @property
    def first_step(self) -> int:
        """The optimizer's step at which the flow begins: `burn` for a fitted start, else 0."""
        return fit_step(self.burn, self.half_width) if self.start == "fit" else 0

    @property
    def equation(self) -> EdgeEquation:
        """The right-hand side."""
        return EdgeEquation(self.optimizer.learning_rate, self.curvature, self.growth)

    def init(self, potential: Potential, params: Params) -> EdgeState:
        """Return the state at `first_step` of an optimizer that starts at `params`.

        Raises:
            ValueError: As `counted_init`.
        """
        return self.counted_init(potential, params)[0]

    def counted_init(self, potential: Potential, params: Params) -> tuple[EdgeState, Cost]:
        """Return the state at `first_step`, and what it costs to find it.

        For a fitted start that is a run of the optimizer to step `first_step` + `half_width`.

        Raises:
            ValueError: If the optimizer's map is not smooth, or `difference` is not like `params`.
        """
        check_phase_space(self.optimizer, potential, params, counters=True)
        flat, unravel = ravel_pytree(params)
        # An oscillation of length 0 has no direction; along all parameters if none is known.
        somewhere, cost = jnp.full_like(flat, 1 / math.sqrt(flat.size)), Cost()
        if self.start == "fit":
            parts = fitted(
                self.optimizer, potential, params, self.first_step, self.half_width, self.degree
            )
            centre, half = (ravel_pytree(self.optimizer.params(part))[0] for part in parts)
            cost = self.optimizer.cost * (self.first_step + self.half_width)
        else:
            if self.start == "top":
                pairs = find_eigenpairs(potential, params)
                somewhere, cost = pairs.vectors[0], Cost(gradients=1, hvps=pairs.hvps)
                gradient, _ = ravel_pytree(jax.grad(objective(self.optimizer, potential))(params))
                rate = at(self.optimizer.learning_rate, 0).astype(flat.dtype)
                half = 0.5 * rate * (somewhere @ gradient) * somewhere
            else:
                self._check_difference(params)
                half, _ = ravel_pytree(self.difference)
            centre = flat - half
        length, tiny = jnp.linalg.norm(half), jnp.finfo(flat.dtype).tiny
        direction = jnp.where(length > tiny, half / jnp.maximum(length, tiny), somewhere)
        log_length = jnp.log(jnp.maximum(length, tiny))
        return EdgeState(unravel(centre), unravel(direction), log_length), cost

    def _check_difference(self, params: Params) -> None:
        """Check that `difference` has the structure, shapes and dtype of the parameters.

        Raises:
            ValueError: If it does not.
        """
        wanted, found = (
            (jax.tree.structure(tree), [(x.shape, str(x.dtype)) for x in jax.tree.leaves(tree)])
            for tree in (params, self.difference)
        )
        if wanted != found:
            raise ValueError(
                f"difference must be like the parameters, a {wanted[0]} with leaves {wanted[1]}; "
                f"got a {found[0]} with leaves {found[1]}."
            )

    def vector_field(
        self, t: Real[Array, ""] | float, state: EdgeState, args: Potential
    ) -> EdgeState:
        """Return dc/dt, dv/dt and d(log a)/dt."""
        return self.equation.vector_field(t, state, objective(self.optimizer, args))

    def params(self, state: EdgeState) -> Params:
        """Return the centre."""
        return state.centre

    def observables(self, state: EdgeState, potential: Potential) -> dict[str, Array]:
        """Return the predicted loss, the half-difference and the curvature along it.

        The predicted average of the loss is (L(c + a v) + L(c - a v))/2.
        """
        half = state.half_difference
        ends = jax.lax.map(
            lambda sign: potential(add_scaled(state.centre, sign, half)),
            jnp.asarray([1, -1], state.log_length.dtype),
        )
        return {
            "predicted_loss": jnp.mean(ends),
            "half_difference_length": state.length,
            "half_difference": ravel_pytree(half)[0],
            "direction_curvature": self.equation.forces(state, potential).curvature,
        }

    @property
    def observables_cost(self) -> Cost:
        """What the vector field costs."""
        return self.equation.cost

    def integrator(self, dtype: DTypeLike) -> Integrator:
        """Return the stabilised Chebyshev solver, at 1e-4 relative and 1e-6 absolute.

        The stiff rates are real, about -2 per step at the edge: Tsit5 is held to steps of about
        one optimizer step by its stability at any tolerance, and costs twice as much as this.
        Other tolerances are passed to `simulate` with the solver.
        """
        del dtype
        solver = RungeKuttaChebyshev(spectral_radius=_STIFFEST_RATE)
        return Integrator(solver, diffrax.PIDController(rtol=1e-4, atol=1e-6))

    @property
    def cost(self) -> Cost:
        """Two gradients and a Hessian-vector product."""
        return self.equation.cost
