"""The rolling ball: an optimizer that sees the landscape through a ball of finite radius."""

from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from ..core.arrays import RealScalarLike, Vector
from ..core.captured import captured
from ..core.cost import Cost
from ..core.optimizer import AbstractCheckedOptimizer
from ..core.potential import Potential
from ..core.schedules import Rate, at, counter, late, rate
from ..core.trees import Params, is_traced
from ..core.validation import non_negative, positive, positive_integer
from .contacts import Contacts, ContactSearch
from .nearest_point import Scalar, Surface, largest_curvature
from .placement import SLACK, place

NOT_FOUND = (
    "the point of the landscape nearest to the ball's centre was not found: residual {detail:.3g} "
    "(the sine of the angle to the normal); allow more `iterations`, or a larger `tolerance`"
)
CUTS = (
    "the ball at the start cuts the landscape: the largest radius admissible there is "
    "{detail:.6g}. Take a smaller one, or drop the ball from above: start at "
    "drop(optimizer, potential, params)"
)
OFF = (
    "the ball could not be put where it touches the landscape: distance minus radius is "
    "{detail:.3g}; the landscape may be too rough for the search (`candidates`)"
)

_DROP_ATTEMPTS = 40
# In radii.
_ASIDE = 1e-2
# To find the largest admissible radius: grid points, and how often the grid is refined.
_ZOOM_POINTS = 65
_ZOOMS = 12


class RollingBallState(eqx.Module):
    """State of the rolling ball: its contact, and how the steps up to it went.

    Attributes:
        params: The contact, where the ball touches the landscape.
        started: True once it was checked that the ball does not cut the landscape at the start.
        detail: The last projection's residual, or the radius that would have been admissible.
        failure: Which of the optimizer's `failures` happened, from 1; 0 for none.
        cost: What was spent since the start.
        count: How many steps were taken; None if the learning rate is a number.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import RollingBall
        >>> state = RollingBall(0.1, radius=0.5).init(jnp.asarray([2.0]))
        >>> print(state.params, bool(state.started), int(state.failure))
        [2.] False 0
    """

    params: Params
    started: Bool[Array, ""]
    detail: Float[Array, ""]
    failure: Int[Array, ""]
    cost: Cost
    count: Int[Array, ""] | None = None


class RollingBall(AbstractCheckedOptimizer):
    """Roll a ball of radius rho down the graph of the loss (arXiv 2505.19527).

    With p the contact on the graph of F = a L (a the height scale), nu the upward normal there and
    G the gradient of F, the centre c = p + rho nu moves to c~ = c - (eta / a) (G, |G|^2) along the
    tangent plane, the ball touches where the graph is nearest to c~, p', and its centre is put to
    c' = p' + rho nu(p'). A ball of radius 0 is gradient descent up to terms of order eta^2.

    Parameters and loss have no common unit: `height_scale` is the length, in parameters, of a unit
    of loss. A ball on a L is an ellipsoid on L, of semi-axis rho in the parameters and rho / a in
    the loss. Where the landscape is flat, at minima above all, it acts as a ball of radius a rho:
    a minimum of curvature sigma can be touched only if a rho sigma <= 1, and is sharpened to
    sigma / (1 - a rho sigma). At steep places, a |grad L| >> 1, only rho matters.

    With up to two parameters the nearest point is searched for globally, on a grid (`candidates`);
    with more it is the local minimum of the distance that Newton's method finds from p - eta g.

    Where a ball is held by two walls it jumps from one to the other. With one parameter it rests
    there as its flow does; with more it slides along the crease, on the curve of its flow but not
    with the flow's speed, however small the learning rate.

    Attributes:
        learning_rate: eta, scalar, above 0, or a schedule.
        radius: rho, scalar, at least 0, in the units of the parameters.
        height_scale: a, scalar, above 0, parameter / loss.
        candidates: Grid points per parameter of the global search; None for 256 in one and 33 in
            two dimensions. Their spacing must resolve the landscape.
        tolerance: For the sine of the angle between the line to the centre and the normal; None
            for 1e-10 in float64 and 1e-4 in float32.
        iterations: Bound on the Newton steps of a projection.

    Raises:
        ValueError: If one of them is out of its range.

    Example:
        On the bowl |w|^2 / 2 a ball of radius 1/2 is faster than gradient descent, which would be
        at 0.81:

        >>> import jax.numpy as jnp
        >>> from flows import RollingBall, iterate
        >>> bowl = lambda w: 0.5 * jnp.sum(w**2)
        >>> run = iterate(RollingBall(0.1, radius=0.5), bowl, jnp.asarray([1.0, 0.0, 0.0]), steps=2)
        >>> round(float(run.params[-1][0]), 4)
        0.7551
    """

    learning_rate: Rate = eqx.field(converter=partial(rate, "learning_rate"))
    radius: Float[Array, ""] = eqx.field(converter=partial(non_negative, "radius"))
    height_scale: Float[Array, ""] = eqx.field(
        converter=partial(positive, "height_scale"), default=1.0
    )
    candidates: int | None = eqx.field(static=True, default=None)
    tolerance: float | None = eqx.field(static=True, default=None)
    iterations: int = eqx.field(static=True, default=30)

    failures: ClassVar[tuple[str, ...]] = (NOT_FOUND, CUTS)

    def __post_init__(self):
        if self.candidates is not None and positive_integer("candidates", self.candidates) < 8:
            raise ValueError(f"candidates must be at least 8; got {self.candidates}.")
        if self.tolerance is not None:
            positive("tolerance", self.tolerance)
        positive_integer("iterations", self.iterations)

    @property
    def search(self) -> ContactSearch:
        """How contacts are found."""
        return ContactSearch(self.candidates, self.tolerance, self.iterations)

    def surface(self, potential: Potential, params: Params) -> Surface:
        """Return F, from flat parameters to a height; `params` gives their structure."""
        _, unravel = ravel_pytree(params)

        def height(flat: Vector) -> Scalar:
            # A loss may be computed in a higher precision than that of the parameters.
            value = jnp.asarray(potential(unravel(flat)), flat.dtype)
            return self.height_scale.astype(flat.dtype) * value

        return height

    def init(self, params: Params) -> RollingBallState:
        """Return the state of a ball that touches at `params`."""
        dtype = ravel_pytree(params)[0].dtype
        return RollingBallState(
            params=params,
            started=jnp.asarray(False),
            detail=jnp.zeros((), dtype),
            failure=jnp.zeros((), jnp.int32),
            cost=Cost(),
            count=counter(self),
        )

    def step(self, state: RollingBallState, potential: Potential) -> RollingBallState:
        """Roll once; from the step on whose projection fails the parameters are not finite."""
        flat, unravel = ravel_pytree(state.params)
        surface = self.surface(potential, state.params)
        height, slope = jax.value_and_grad(surface)(flat)
        radius, eta = self.radius.astype(flat.dtype), self.rate(flat.dtype, state.count)
        centre = _centre(flat, height, slope, radius)
        moved = centre[0] - eta * slope, centre[1] - eta * (slope @ slope)

        # The check at the start and the step itself, in a loop: one search to compile.
        reach = jnp.sqrt(jnp.sum((moved[0] - flat) ** 2) + (moved[1] - height) ** 2)
        targets = tuple(jnp.stack(pair) for pair in zip(centre, moved, strict=True))
        guesses = jnp.stack([flat, flat - eta * slope])
        looks = ~state.started & self.search.is_global(flat.size)
        needed = jnp.stack([looks, jnp.asarray(True)])

        def find(last: Contacts, one: tuple[Array, ...]) -> tuple[Contacts, Contacts]:
            x, y, guess, reach, wanted = one

            def found() -> Contacts:
                return self.search(surface, x, y, reach, guess)

            contacts = lax.cond(wanted, found, lambda: last)
            return contacts, contacts

        rows = (*targets, guesses, jnp.stack([radius, reach]), needed)
        _, both = lax.scan(find, self.search.nothing(surface, *moved), rows)
        first, second = (jax.tree.map(lambda a, i=i: a[i], both) for i in (0, 1))

        # What went wrong, if anything.
        cuts, limit = self.cuts(surface, flat, first.distances[0], ~state.started)
        point, residual = second.nearest, second.residual
        valid = jnp.isfinite(height) & jnp.all(jnp.isfinite(slope))
        failure = jnp.where(cuts, 2, jnp.where(second.converged | ~valid, 0, 1)).astype(jnp.int32)
        failure = jnp.where(state.failure > 0, state.failure, failure)
        detail = jnp.where(cuts, limit, residual)
        spent = second.cost + first.cost * (~state.started) + Cost(gradients=1)
        return RollingBallState(
            params=unravel(jnp.where((failure > 0) | ~valid, jnp.nan, point)),
            started=jnp.asarray(True),
            detail=jnp.where(state.failure > 0, state.detail, detail),
            failure=failure,
            cost=state.cost + spent,
            count=None if state.count is None else state.count + 1,
        )

    def params(self, state: RollingBallState) -> Params:
        """Return the contact."""
        return state.params

    def failure(self, state: RollingBallState) -> tuple[Int[Array, ""], Float[Array, ""]]:
        """Return which of `failures` happened, and the residual or the admissible radius."""
        return state.failure, state.detail

    def spent(self, state: RollingBallState) -> Cost:
        """Return what was counted since the start."""
        return state.cost

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """2 / (eta + 2 a rho): above, eta sigma / (1 - a rho sigma) exceeds 2."""
        eta = late("learning_rate", self.learning_rate)
        return 2 / (eta + 2 * (self.height_scale * self.radius).astype(eta.dtype))

    @property
    def cost(self) -> Cost:
        """The least that a step takes: two gradients. A run counts what it really took."""
        return Cost(gradients=2)

    def centre(self, potential: Potential, params: Params) -> tuple[Vector, Array]:
        """Return the centre of a ball that touches at `params`: (P,), and its scaled height."""
        flat, _ = ravel_pytree(params)
        height, slope = jax.value_and_grad(self.surface(potential, params))(flat)
        return _centre(flat, height, slope, self.radius.astype(flat.dtype))

    def rate(self, dtype: DTypeLike, t: RealScalarLike | None = None) -> Float[Array, ""]:
        """Return eta / a in a dtype: how far the centre moves per slope of the surface.

        Args:
            dtype: The dtype.
            t: The time in steps; needed if the learning rate is a schedule.
        """
        eta = at(self.learning_rate, t)
        return (eta / self.height_scale.astype(eta.dtype)).astype(dtype)

    def cuts(
        self, surface: Surface, point: Vector, distance: Array, wanted: Array
    ) -> tuple[Bool[Array, ""], Array]:
        """Find out if a ball that touches at a point cuts the landscape, there or elsewhere.

        With more than two parameters only the curvature at the point counts, no other walls.

        Args:
            surface: F.
            point: The contact (P,).
            distance: How far the point of the landscape nearest to the ball's centre is from it.
            wanted: False to skip the check: the ball then counts as one that does not cut.

        Returns:
            True if it cuts, and the largest radius admissible there if it does.
        """
        radius = self.radius.astype(point.dtype)
        slack = SLACK[str(point.dtype)] * radius
        local = not self.search.is_global(point.size)
        lower = wanted & (distance < radius - slack)
        # The contact is a stationary point of the distance; its curvature shows of which kind.
        limit = lax.cond(
            wanted if local else lower,
            lambda: self.limit(surface, point),
            lambda: jnp.full_like(radius, jnp.inf),
        )
        return wanted & (limit < radius - slack) if local else lower, limit

    def limit(self, surface: Surface, point: Vector) -> Array:
        """Return the largest admissible radius.

        With nu the normal at the point p it is

            inf over q with nu.(q - p) > 0 of |q - p|^2 / (2 nu.(q - p)).

        With more than two parameters it is what the curvature at p allows.
        """
        height, slope = jax.value_and_grad(surface)(point)
        size, radius = point.size, self.radius.astype(point.dtype)
        curvature = largest_curvature(surface, point)
        local = 1 / jnp.maximum(curvature, jnp.finfo(point.dtype).tiny)
        if not self.search.is_global(size):
            return local
        normal = jnp.append(-slope, 1) / jnp.sqrt(1 + slope @ slope)
        line = jnp.linspace(-1, 1, _ZOOM_POINTS, dtype=point.dtype)
        grid = jnp.stack(jnp.meshgrid(*[line] * size, indexing="ij"), axis=-1).reshape(-1, size)

        def ratios(q: Array) -> Array:
            offset = jnp.append(q - point, surface(q) - height)
            along, squared = normal @ offset, offset @ offset
            # Nearer points are covered by the curvature.
            seen = (along > 0) & (squared > (1e-3 * radius) ** 2)
            return jnp.where(seen, squared / (2 * jnp.where(seen, along, 1)), jnp.inf)

        def zoom(carry: tuple[Array, Array, Array], _: None) -> tuple[Any, None]:
            middle, half, best = carry
            points = middle[None, :] + half * grid
            values = jax.vmap(ratios)(points)
            lowest = jnp.argmin(values)
            return (
                points[lowest],
                half * (6 / _ZOOM_POINTS),
                jnp.minimum(best, values[lowest]),
            ), None

        (_, _, best), _ = lax.scan(zoom, (point, 2 * radius, local), length=_ZOOMS)
        return best


def _centre(point: Vector, height: Array, slope: Vector, radius: Array) -> tuple[Vector, Array]:
    """Return p + rho nu(p)."""
    w = jnp.sqrt(1 + slope @ slope)
    return point - (radius / w) * slope, height + radius / w


def check_rolling_ball(optimizer: RollingBall) -> RollingBall:
    """Check that the optimizer of a flow is a rolling ball, and return it.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(optimizer, RollingBall):
        return optimizer
    raise ValueError(
        f"optimizer must be a RollingBall, whose radius the flow has; got {optimizer!r}."
    )


@eqx.filter_jit
def _dropped(
    optimizer: RollingBall, potential: Potential, params: Params
) -> tuple[Params, Bool[Array, ""], Scalar]:
    """Return the contact of a dropped ball, whether it was found, and the residual."""
    flat, unravel = ravel_pytree(params)
    surface = optimizer.surface(potential, params)
    radius = optimizer.radius.astype(flat.dtype)
    height, slope = jax.value_and_grad(surface)(flat)
    # It starts where a plane through the point below would hold it, or at the dilation on a grid.
    start, guess = height + radius * jnp.sqrt(1 + slope @ slope), flat
    if optimizer.search.is_global(flat.size):
        start = optimizer.search.dilation(surface, flat, radius)
    else:
        # On an axis of symmetry the point below may be a saddle of the distance, which a search
        # that starts there does not leave.
        aside = jax.random.normal(jax.random.key(0), flat.shape, flat.dtype)
        guess = flat + _ASIDE * radius * aside / jnp.linalg.norm(aside)
    placed = place(optimizer.search, surface, flat, start, radius, guess, _DROP_ATTEMPTS)
    found = placed.contacts
    return unravel(found.nearest), found.converged & ~placed.off(radius), found.residual


def drop(optimizer: RollingBall, potential: Potential, params: Params) -> Params:
    """Drop a ball from above, with its centre over `params`, and return where it touches.

    It touches where F(q) + sqrt(rho^2 - |q - x|^2) is largest (arXiv 2505.19527), F the height
    scale times the loss. That is always an admissible start: pass it as `params` to `iterate` and
    `simulate`. Where it touches in several points at once one of them is returned, from which the
    ball goes on in the same way. With more than two parameters the search is local.

    Args:
        optimizer: The ball.
        potential: The loss.
        params: x, where to drop it, any pytree of floats.

    Returns:
        The contact, a pytree like `params`.

    Raises:
        ValueError: If no contact was found there: a finer grid (`candidates`) may help.

    Example:
        In the groove 2 w_1^2 a ball of radius 2 cannot touch the bottom. Dropped over it, it lies
        on a wall, sqrt(63)/4 away:

        >>> import jax.numpy as jnp
        >>> from flows import RollingBall, drop
        >>> groove = lambda w: 2.0 * w[0] ** 2 + 0.0 * w[1] + 0.0 * w[2]
        >>> contact = drop(RollingBall(0.1, radius=2.0), groove, jnp.zeros(3))
        >>> print(round(float(abs(contact[0])), 4))
        1.9843
    """
    potential = captured(potential, params)
    contact, found, residual = _dropped(optimizer, potential, params)
    message = "params must be a place over which the ball touches the landscape when dropped"
    if not is_traced(found) and not bool(found):
        raise ValueError(
            f"{message}; no contact was found there (residual {float(residual):.3g}). Give more "
            "candidates or iterations."
        )
    return eqx.error_if(contact, ~found, f"{message}.")


def principal_curvature(
    optimizer: RollingBall, potential: Potential, params: Params
) -> Float[Array, ""]:
    """Return the largest principal curvature of the landscape at `params`, 1 / parameter.

    It is the largest eigenvalue of (1/w) (I - G G^T / w^2) H, with G and H the derivatives of
    F = a L, a the height scale, and w = sqrt(1 + |G|^2); positive where the graph of F is convex.
    A ball can touch there only if its radius times this is at most 1 (arXiv 2505.19527).

    Args:
        optimizer: The ball, of which only the height scale matters.
        potential: The loss.
        params: The point, any pytree of floats.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import RollingBall, principal_curvature
        >>> bowl = lambda w: 0.5 * jnp.sum(jnp.asarray([4.0, 1.0]) * w**2)
        >>> print(round(float(principal_curvature(RollingBall(0.1, 0.2), bowl, jnp.zeros(2))), 6))
        4.0
    """
    return _principal_curvature(optimizer, captured(potential, params), params)


@eqx.filter_jit
def _principal_curvature(
    optimizer: RollingBall, potential: Potential, params: Params
) -> Float[Array, ""]:
    surface = optimizer.surface(potential, params)
    return largest_curvature(surface, ravel_pytree(params)[0])
