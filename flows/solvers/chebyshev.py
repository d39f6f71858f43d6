"""A stabilised explicit Runge-Kutta solver for flows that are slow but mildly stiff.

Runge-Kutta-Chebyshev of order two (Sommeijer, Shampine and Verwer, "RKC: an explicit solver for
parabolic PDEs", 1998). With s stages it is stable up to a step of 0.65 s^2 over the spectral
radius, so that the evaluations per unit of time fall with the step, where those of a solver such
as Tsit5 do not. It fits flows at the edge of stability: what moves is slow, and what is stiff (the
directions at the threshold) decays at a known rate and along the real axis.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..core.arrays import BoolScalarLike, RealScalarLike
from ..core.results import RESULTS, choose
from ..core.trees import add_scaled, norm, scaled
from ..core.validation import positive, positive_integer

# An estimate of the spectral radius is one product of a power iteration that goes on from step to
# step. It is taken so much larger, and a random direction of this share is mixed in, so that a rate
# that becomes the fastest later is found soon.
_ESTIMATE_SAFETY = 1.25
_RANDOM_SHARE = 0.05

DAMPING = 2 / 13
"""What the scheme's authors recommend: decay of the stiffest modes by 5% in a step at least."""


SLOPE_IN_ERROR = 0.4
"""What the slopes at the ends, times the step, count in the estimate of its error."""


class ChebyshevState(eqx.Module):
    """State of the solver.

    Attributes:
        slope: The vector field at the current point.
        evaluations: How often accepted steps have evaluated it; a product with its Jacobian counts
            as two.
        direction: Where the spectral radius is estimated, a state of length 1 near the eigenvector
            of the fastest rate; otherwise None.
    """

    slope: PyTree[Array]
    evaluations: Int[Array, ""]
    direction: PyTree[Array] | None = None


def _coefficients(most: int, damping: float) -> np.ndarray:
    """Return the scheme's coefficients, (stages, stage, coefficient), zero where not used.

    There is a row for one stage more than there are, which is read and not used.

    Row [s, j] holds mu_j, nu_j, mu~_j, gamma~_j and c_{j-1} of the s-stage method, for j = 2..s;
    row [s, 1] holds mu~_1 in its third entry.
    """
    table = np.zeros((most + 1, most + 2, 5))
    for stages in range(2, most + 1):
        w0 = 1 + damping / stages**2
        t, dt, ddt = np.zeros((3, stages + 1))
        t[:2], dt[1] = (1, w0), 1
        for j in range(2, stages + 1):
            t[j] = 2 * w0 * t[j - 1] - t[j - 2]
            dt[j] = 2 * t[j - 1] + 2 * w0 * dt[j - 1] - dt[j - 2]
            ddt[j] = 4 * dt[j - 1] + 2 * w0 * ddt[j - 1] - ddt[j - 2]
        w1 = dt[stages] / ddt[stages]
        b = np.zeros(stages + 1)
        b[2:] = ddt[2:] / dt[2:] ** 2
        b[0], b[1] = b[2], 1 / w0
        c = np.zeros(stages + 1)
        c[2:] = w1 * ddt[2:] / dt[2:]
        c[1] = b[1] * w1
        table[stages, 1, 2] = b[1] * w1
        for j in range(2, stages + 1):
            shared = 2 * b[j] * w1 / b[j - 1]
            gamma = -(1 - b[j - 1] * t[j - 1]) * shared
            table[stages, j] = (
                2 * b[j] * w0 / b[j - 1],
                -b[j] / b[j - 2],
                shared,
                gamma,
                c[j - 1],
            )
    return table


def check_stages(most_stages: object) -> None:
    """Check how many stages a step may have.

    Raises:
        ValueError: If that is not an integer of at least 2.
    """
    if positive_integer("most_stages", most_stages) < 2:
        raise ValueError(f"most_stages must be at least 2; got {most_stages}.")


def stages_for(step: Array, spectral_radius: Array) -> Float[Array, ""]:
    """Return the fewest stages that are stable, as a float: 1 + sqrt(1 + 1.54 h rho)."""
    return jnp.ceil(1 + jnp.sqrt(1 + 1.54 * step * spectral_radius.astype(step.dtype)))


def damped_stages_for(step: Array, spectral_radius: float, damping: float) -> Float[Array, ""]:
    """Return the fewest stages that are stable with a damping of any size, as a float.

    s stages are stable up to a step of (s^2 - 1) / k over the spectral radius, where, for many
    stages, k = a^2 / (2 (a coth a - 1)) with a^2 twice the damping: 1.53 at the authors' 2/13.
    """
    a = math.sqrt(2 * damping)
    k = a**2 / (2 * (a / math.tanh(a) - 1))
    return jnp.ceil(jnp.sqrt(1 + k * spectral_radius * step))


def _combine(coefficients: Array, *trees: PyTree[Array]) -> PyTree[Array]:
    def leaf(*xs: Array) -> Array:
        weights = coefficients.astype(xs[0].dtype)
        return sum((weights[i] * x for i, x in enumerate(xs[1:], start=1)), weights[0] * xs[0])

    return jax.tree.map(leaf, *trees)


def chebyshev_step(
    field: Callable[[Array, Any], PyTree[Array]],
    t0: Array,
    step: Array,
    y0: PyTree[Array],
    f0: PyTree[Array],
    stages: Int[Array, ""],
    most_stages: int,
    combine: Callable[..., PyTree[Array]] = _combine,
) -> PyTree[Array]:
    """Return where one Runge-Kutta-Chebyshev step of `stages` stages leads.

    Args:
        field: The vector field, of time and state.
        t0: Where the step starts.
        step: Its length.
        y0: The state there.
        f0: The vector field there.
        stages: How many stages to make, 2 to `most_stages`.
        most_stages: The bound on them that the program is compiled for.
        combine: Linear combination of states and slopes, for states that are not a vector space:
            called with the coefficients and y0, f0, and with the coefficients and y0, the current
            state, the one before, the slope at the current one, and f0.
    """
    table = jnp.asarray(_coefficients(most_stages, DAMPING), step.dtype)[stages]
    first = combine(jnp.stack([jnp.ones_like(step), table[1, 2] * step]), y0, f0)

    def stage(carry: tuple[Any, Any], j: Array) -> tuple[tuple[Any, Any], None]:
        def evaluate(carry: tuple[Any, Any]) -> tuple[Any, Any]:
            before, current = carry
            mu, nu, shared, gamma, node = table[j]
            slope = field(t0 + node * step, current)
            weights = jnp.stack([1 - mu - nu, mu, nu, shared * step, gamma * step])
            return current, combine(weights, y0, current, before, slope, f0)

        return lax.cond(j <= stages, evaluate, lambda carry: carry, carry), None

    (_, last), _ = lax.scan(stage, (y0, first), jnp.arange(2, most_stages + 1, dtype=jnp.int32))
    return last


def chebyshev_step_with_slopes(
    field: Callable[[Array, Any], PyTree[Array]],
    t0: Array,
    step: Array,
    y0: PyTree[Array],
    slope: PyTree[Array],
    known: Bool[Array, ""] | Literal[True],
    stages: Int[Array, ""],
    most_stages: int,
    damping: float = DAMPING,
) -> tuple[PyTree[Array], PyTree[Array], PyTree[Array]]:
    """Return y1 as `chebyshev_step` does, with the slopes at the start and at the end.

    The field stands in one place of the program, which takes a fraction of the time to compile.

    Args:
        field: The vector field, of time and state.
        t0: Where the step starts.
        step: Its length.
        y0: The state there.
        slope: The vector field there, if it is known.
        known: True if it is; Python's `True` saves the memory of another slope.
        stages: How many stages to make, 2 to `most_stages`.
        most_stages: The bound on them that the program is compiled for.
        damping: As in `stages_for`.
    """
    table = jnp.asarray(_coefficients(most_stages, damping), step.dtype)[stages]

    def stage(carry: tuple[Any, ...], j: Array) -> tuple[tuple[Any, ...], None]:
        def evaluate(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            before, current, *first = carry
            # y_j is where stage j has led; its node is in the row of the next stage.
            node = jnp.where(j == 0, 0, jnp.where(j == stages, 1, table[j + 1, 4]))
            f0 = first[0] if first else slope
            found = lax.cond(known & (j == 0), lambda: f0, lambda: field(t0 + node * step, current))
            if first:
                f0 = jax.tree.map(lambda f, s: jnp.where(j == 0, s, f), f0, found)
                first = [f0]
            mu, nu, shared, gamma, _ = table[j + 1]
            weights = jnp.stack([1 - mu - nu, mu, nu, shared * step, gamma * step])
            # The first stage is one of Euler; after the last one only the slope is wanted.
            euler = jnp.stack([1, 0, 0, table[1, 2] * step, 0])
            only = jnp.asarray([0, 0, 0, 1, 0], step.dtype)
            weights = jnp.where(j == 0, euler, jnp.where(j == stages, only, weights))
            return current, _combine(weights, y0, current, before, found, f0), *first

        return lax.cond(j <= stages, evaluate, lambda carry: carry, carry), None

    # The slope at the start changes in the loop only if it may be found there.
    start = (y0, y0) if known is True else (y0, y0, slope)
    nodes = jnp.arange(most_stages + 1, dtype=jnp.int32)
    (y1, f1, *first), _ = lax.scan(stage, start, nodes)
    return y1, first[0] if first else slope, f1


def chebyshev_error(
    step: Array, y0: PyTree[Array], y1: PyTree[Array], f0: PyTree[Array], f1: PyTree[Array]
) -> PyTree[Array]:
    """Return the scheme's estimate of the error of a step, 0.8 (y0 - y1) + 0.4 h (f0 + f1)."""
    weights = jnp.stack([0.8 * jnp.ones_like(step), -0.8 * jnp.ones_like(step)])
    weights = jnp.concatenate([weights, SLOPE_IN_ERROR * jnp.stack([step, step])])
    return _combine(weights, y0, y1, f0, f1)


def _radius(value: object) -> Float[Array, ""] | None:
    return None if value is None else positive("spectral_radius", value)


def _normalised(direction: PyTree[Array]) -> tuple[PyTree[Array], Float[Array, ""]]:
    """Return a direction with length 1, or 0, and the length that it had."""
    length = norm(direction)
    return scaled(1 / jnp.where(length > 0, length, 1), direction), length


def _mixed(direction: PyTree[Array]) -> PyTree[Array]:
    """Return a direction with a random one mixed in, of length 1."""
    flat, unravel = ravel_pytree(direction)
    random = jax.random.normal(jax.random.key(0), flat.shape, flat.dtype)
    return _normalised(
        add_scaled(direction, _RANDOM_SHARE, _normalised(unravel(random))[0]),
    )[0]


class RungeKuttaChebyshev(diffrax.AbstractAdaptiveSolver):
    """Runge-Kutta-Chebyshev of order two with as many stages as each step needs.

    The stages of a step of length h are the fewest that are stable, s = 1 + sqrt(1 + 1.54 h rho),
    so that a step twice as long costs only sqrt(2) times as much: an explicit solver for flows
    that are slow but mildly stiff (Sommeijer, Shampine and Verwer, 1998).

    Attributes:
        spectral_radius: rho, bound on the modulus of the eigenvalues of the vector field's
            Jacobian, which should be real and negative, per unit of time. None to estimate it on
            the way: each step makes one product with the Jacobian, a power iteration's, and one
            that would be unstable for all that has a large error, and is rejected.
        most_stages: The most stages of a step, at least 2; a step that would need more is rejected.

    Raises:
        ValueError: If `spectral_radius` is not positive or `most_stages` below 2.

    Example:
        >>> import diffrax, jax.numpy as jnp
        >>> from flows import GradientDescent, GradientFlow, RungeKuttaChebyshev, simulate
        >>> from potentials import Quadratic
        >>> flow, bowl = GradientFlow(GradientDescent(0.1)), Quadratic(jnp.asarray([1.0, 500.0]))
        >>> run = simulate(
        ...     flow,
        ...     bowl,
        ...     jnp.asarray([1.0, 2.0]),
        ...     steps=40,
        ...     save_every=40,
        ...     solver=RungeKuttaChebyshev(spectral_radius=50.0),
        ...     stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-6),
        ... )
        >>> int(run.stats["gradient_evaluations"])  # Tsit5 makes 4407
        699
    """

    spectral_radius: Float[Array, ""] | None = eqx.field(converter=_radius)
    most_stages: int = eqx.field(static=True, default=24)

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., diffrax.AbstractLocalInterpolation]] = (
        diffrax.ThirdOrderHermitePolynomialInterpolation
    )

    def __check_init__(self) -> None:
        check_stages(self.most_stages)

    def order(self, terms: diffrax.AbstractTerm) -> int:
        """Return 2."""
        del terms
        return 2

    def init(
        self,
        terms: diffrax.AbstractTerm,
        t0: RealScalarLike,
        t1: RealScalarLike,
        y0: PyTree[Array],
        args: PyTree,
    ) -> ChebyshevState:
        """Return the vector field at the start, which is also the first direction."""
        del t1
        slope = terms.vf(t0, y0, args)
        direction = _normalised(slope)[0] if self.spectral_radius is None else None
        return ChebyshevState(slope, jnp.asarray(1, jnp.int32), direction)

    def step(
        self,
        terms: diffrax.AbstractTerm,
        t0: RealScalarLike,
        t1: RealScalarLike,
        y0: PyTree[Array],
        args: PyTree,
        solver_state: ChebyshevState,
        made_jump: BoolScalarLike,
    ) -> tuple[Any, Any, dict[str, Any], ChebyshevState, RESULTS]:
        """Take one step, with the error estimate of the scheme's authors."""
        # As few stages as are stable.
        t0, step = jnp.asarray(t0), jnp.asarray(t1 - t0)
        radius, direction, spent = self.spectral_radius, solver_state.direction, 0
        if radius is None:
            field_at_start, along = partial(terms.vf, t0, args=args), _mixed(direction)
            product = jax.jvp(field_at_start, (y0,), (along,))[1]
            direction, radius = _normalised(product)
            radius, spent = _ESTIMATE_SAFETY * radius, 2
        stages = stages_for(step, radius)
        too_many = stages > self.most_stages
        stages = jnp.clip(stages, 2, self.most_stages).astype(jnp.int32)

        def field(t: Array, y: Any) -> Any:
            return terms.vf(t, y, args)

        # The slope at the start was the last thing that the step before evaluated.
        known, slope = ~jnp.asarray(made_jump), solver_state.slope
        y1, f0, f1 = chebyshev_step_with_slopes(
            field, t0, step, y0, slope, known, stages, self.most_stages
        )
        error = chebyshev_error(step, y0, y1, f0, f1)
        error = jax.tree.map(lambda e: jnp.where(too_many, jnp.inf, e), error)
        # What the interpolation between the ends takes: values, and slopes times the step.
        slopes = {
            name: jax.tree.map(lambda f: step.astype(f.dtype) * f, f)
            for name, f in (("k0", f0), ("k1", f1))
        }
        dense_info = {"y0": y0, "y1": y1, **slopes}
        evaluations = solver_state.evaluations + stages + spent
        state = ChebyshevState(f1, evaluations, direction)
        # Read only where the step size is constant: an adaptive controller rejects the step.
        result = choose(too_many, RESULTS.nonlinear_divergence, RESULTS.successful)
        return y1, error, dense_info, state, result

    def func(
        self, terms: diffrax.AbstractTerm, t0: RealScalarLike, y0: PyTree[Array], args: PyTree
    ) -> Any:
        """Return the vector field."""
        return terms.vf(t0, y0, args)
