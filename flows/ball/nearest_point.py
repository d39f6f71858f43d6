"""The point of a landscape nearest to the centre of a ball, by a safeguarded Newton method.

The landscape is the graph of F = a L over the parameters, a the height scale. With the centre
(x, y) it minimises D(q) = (|q - x|^2 + (F(q) - y)^2) / 2, whose derivatives at q are

    grad D = q - x + (F - y) G,      Hess D = I + G G^T + (F - y) H

with G, H those of F. Where the ball touches from above y - F = radius / w, w = sqrt(1 + |G|^2),
and Hess D is positive definite iff radius times every principal curvature is below 1.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..core.arrays import Vector
from ..core.cost import Cost
from ..core.trees import all_finite
from ..linear_algebra.eigensolver import Demand, block_eigenpairs

Scalar = Float[Array, ""]
Surface = Callable[[Vector], Scalar]
"""A function from flat parameters (P,) to a height."""

# For the residual, the sine of the angle between the line to the centre and the normal.
_TOLERANCES = {"float32": 1e-4, "float64": 1e-10}
# Rounding errors in a loss, in units of its last digit, below which no iteration makes progress.
_ROUNDING = 64
_CG_ITERATIONS = 30
_HALVINGS = 12
# Up to this many parameters linear systems and eigenvalues are dense.
_DENSE = 16
_CURVATURE_TOLERANCE = 1e-3
_CURVATURE_PRODUCTS = 120


class NearestPoint(eqx.Module):
    """A local minimum of the distance to the centre.

    Attributes:
        point: q, parameters.
        height: F(q), scaled loss.
        slope: G(q).
        distance: |(q, F(q)) - centre|.
        residual: Sine of the angle between the line to the centre and the landscape's normal.
        converged: True if the residual is within the tolerance, or as small as rounding permits.
        cost: What was evaluated. A value of the loss in the line search counts as a gradient.
    """

    point: Vector
    height: Scalar
    slope: Vector
    distance: Scalar
    residual: Scalar
    converged: Bool[Array, ""]
    cost: Cost


def nearest_point(
    surface: Surface,
    x: Vector,
    y: Scalar,
    start: Vector,
    *,
    tolerance: float | None = None,
    iterations: int = 30,
) -> NearestPoint:
    """Find a local minimum of the distance from (x, y) to a landscape.

    This is Newton's method with a line search. Its systems are dense for up to 16 parameters; for
    more they are solved by a truncated, preconditioned conjugate gradient iteration of at most 30
    Hessian-vector products, which falls back to Gauss-Newton's direction where Hess D is not
    positive. Either direction always descends. The result is differentiable by the implicit
    function theorem, forwards and backwards.

    Args:
        surface: F, from flat parameters to a height.
        x: The centre's parameters (P,).
        y: The centre's height.
        start: Where to start, (P,), which decides which minimum is found.
        tolerance: For the residual; 1e-10 in float64 and 1e-4 in float32 if not given.
        iterations: Bound on the Newton steps.
    """
    tolerance = _TOLERANCES[str(x.dtype)] if tolerance is None else tolerance
    # What a user's function closes over becomes an argument, so that it can be differentiated.
    converted = eqx.filter_closure_convert(surface, x)
    return _nearest(converted, x, y, lax.stop_gradient(start), tolerance, iterations)


@eqx.filter_custom_jvp
def _nearest(
    surface: Surface, x: Vector, y: Scalar, start: Vector, tolerance: float, iterations: int
) -> NearestPoint:
    eps = jnp.finfo(x.dtype).eps

    def body(state: tuple[Any, ...]) -> tuple[Any, ...]:
        index, _, found = state
        (height, slope), product = jax.linearize(jax.value_and_grad(surface), found.point)
        offset, above = found.point - x, height - y
        distance = jnp.sqrt(offset @ offset + above**2)
        gradient = offset + above * slope
        tangential = jnp.sqrt(jnp.maximum(gradient @ _gauss_newton(slope, gradient), 0))
        size = jnp.max(jnp.abs(found.point)) + jnp.abs(y) + jnp.abs(height)
        floor = distance + jnp.sqrt(eps) * size + jnp.finfo(x.dtype).tiny
        residual = tangential / floor
        converged = residual <= tolerance + _ROUNDING * eps * size / floor
        finite = all_finite((height, slope))

        def moved() -> tuple[Vector, Cost]:
            direction, products = _direction(
                lambda v: v + slope * (slope @ v) + above * product(v)[1], slope, gradient, residual
            )
            length, trials = _line_search(surface, x, y, found.point, direction)
            return found.point + length * direction, Cost(gradients=trials, hvps=products)

        point, spent = lax.cond(converged | ~finite, lambda: (found.point, Cost()), moved)
        cost = found.cost + spent + Cost(gradients=1)
        following = NearestPoint(point, height, slope, distance, residual, converged, cost)
        return index + 1, converged | ~finite, following

    start_state = NearestPoint(
        point=start,
        height=jnp.zeros_like(y),
        slope=jnp.zeros_like(x),
        distance=jnp.full_like(y, jnp.inf),
        residual=jnp.full_like(y, jnp.inf),
        converged=jnp.asarray(False),
        cost=Cost(),
    )
    index = jnp.zeros((), jnp.int32)
    return lax.while_loop(
        lambda s: (s[0] < iterations) & ~s[1], body, (index, jnp.asarray(False), start_state)
    )[2]


@_nearest.def_jvp
def _nearest_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    surface, x, y, start, tolerance, iterations = primals
    d_surface, dx, dy, *_ = tangents
    dx = jnp.zeros_like(x) if dx is None else dx
    dy = jnp.zeros_like(y) if dy is None else dy
    found = _nearest(surface, x, y, start, tolerance, iterations)
    point = lax.stop_gradient(found.point)

    def gradient(surface: Surface, q: Vector, x: Vector, y: Scalar) -> Vector:
        height, slope = jax.value_and_grad(surface)(q)
        return q - x + (height - y) * slope

    moved = eqx.filter_jvp(
        lambda s, x, y: gradient(s, point, x, y), (surface, x, y), (d_surface, dx, dy)
    )[1]
    _, product = jax.linearize(lambda q: gradient(surface, q, x, y), point)
    d_point = -_solve(product, moved)

    def outputs(surface: Surface, q: Vector, x: Vector, y: Scalar) -> tuple[Scalar, Vector, Scalar]:
        height, slope = jax.value_and_grad(surface)(q)
        squared = (q - x) @ (q - x) + (height - y) ** 2
        # A ball of radius zero touches its own centre, where the distance has a kink.
        distance = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
        return height, slope, distance

    _, (d_height, d_slope, d_distance) = eqx.filter_jvp(
        outputs, (surface, point, x, y), (d_surface, d_point, dx, dy)
    )
    d_found = jax.tree.map(lambda leaf: None, found)
    d_found = eqx.tree_at(
        lambda n: (n.point, n.height, n.slope, n.distance),
        d_found,
        (d_point, d_height, d_slope, d_distance),
        is_leaf=lambda leaf: leaf is None,
    )
    return found, d_found


def _gauss_newton(slope: Vector, vector: Vector) -> Vector:
    """Return (I + G G^T)^-1 v."""
    return vector - slope * ((slope @ vector) / (1 + slope @ slope))


def _solve(product: Callable[[Vector], Vector], vector: Vector) -> Vector:
    """Solve a symmetric system, positive where the point is a minimum."""
    if vector.size <= _DENSE:
        matrix = jax.vmap(product)(jnp.eye(vector.size, dtype=vector.dtype))
        return jnp.linalg.solve(0.5 * (matrix + matrix.T), vector)
    tolerance = float(jnp.sqrt(jnp.finfo(vector.dtype).eps)) * 1e-2
    return jax.scipy.sparse.linalg.cg(product, vector, tol=tolerance, maxiter=200)[0]


def _direction(
    product: Callable[[Vector], Vector], slope: Vector, gradient: Vector, residual: Scalar
) -> tuple[Vector, Array]:
    """Return Newton's direction, changed where the matrix is not positive, and its products."""
    if gradient.size <= _DENSE:
        matrix = jax.vmap(product)(jnp.eye(gradient.size, dtype=gradient.dtype))
        values, vectors = jnp.linalg.eigh(0.5 * (matrix + matrix.T))
        # Absolute values, with which it descends where the matrix is not positive too.
        inverse = 1 / jnp.maximum(jnp.abs(values), 1e-8 * jnp.max(jnp.abs(values)))
        step = -vectors @ (inverse * (vectors.T @ gradient))
        return step, jnp.asarray(gradient.size, jnp.int32)
    limit = _CG_ITERATIONS
    # Loose far away, where Newton's model is; superlinear convergence near the solution.
    forcing = jnp.minimum(0.1, jnp.sqrt(residual)).astype(gradient.dtype)

    def body(state: tuple[Any, ...]) -> tuple[Any, ...]:
        index, step, rest, search, energy, _ = state
        image = product(search)
        curvature = search @ image
        positive = curvature > 0
        length = energy / jnp.where(positive, curvature, 1)
        first = jnp.where(index == 0, search, step)
        following = jnp.where(positive, step + length * search, first)
        rest = rest - length * image
        preconditioned = _gauss_newton(slope, rest)
        renewed = rest @ preconditioned
        search = preconditioned + (renewed / energy) * search
        return index + 1, following, rest, search, renewed, positive

    rest = -gradient
    search = _gauss_newton(slope, rest)
    energy = rest @ search
    target = forcing**2 * energy
    state = jnp.zeros((), jnp.int32), jnp.zeros_like(rest), rest, search, energy, jnp.asarray(True)
    index, step, *_ = lax.while_loop(lambda s: (s[0] < limit) & (s[4] > target) & s[5], body, state)
    return step, index


def _line_search(
    surface: Surface, x: Vector, y: Scalar, point: Vector, direction: Vector
) -> tuple[Scalar, Array]:
    """Halve the step until the distance does not grow; return its length and the values taken."""

    def squared(length: Scalar) -> Scalar:
        q = point + length * direction
        return (q - x) @ (q - x) + (surface(q) - y) ** 2

    start = squared(jnp.zeros_like(y))
    # Near the minimum the squared distance is flat to rounding.
    bound = start + 8 * jnp.finfo(y.dtype).eps * (start + y**2)
    if point.size <= _DENSE:
        # All at once: a loop would cost more, to compile above all.
        lengths = jnp.asarray(0.5, y.dtype) ** jnp.arange(_HALVINGS).astype(y.dtype)
        below = jax.vmap(squared)(lengths) <= bound
        return lengths[jnp.argmax(below.at[-1].set(True))], jnp.asarray(_HALVINGS + 1, jnp.int32)
    # The negated comparison counts not-a-number as too far.
    trials, length, _ = lax.while_loop(
        lambda s: (s[0] < _HALVINGS) & ~(s[2] <= bound),
        lambda s: (s[0] + 1, 0.5 * s[1], squared(0.5 * s[1])),
        (jnp.ones((), jnp.int32), jnp.ones_like(y), squared(jnp.ones_like(y))),
    )
    return length, trials + 1


def largest_curvature(surface: Surface, point: Vector) -> Scalar:
    """Return the largest principal curvature of a landscape, positive where it is convex.

    It is the largest eigenvalue of the shape operator (1/w) (I - G G^T / w^2) H, or of the
    symmetric (1/w) R H R with R = I - (1 - 1/w) G G^T / |G|^2, which has the same spectrum.

    Args:
        surface: F.
        point: Where, (P,).
    """
    slope, product = jax.linearize(jax.grad(surface), point)
    squared = slope @ slope
    w = jnp.sqrt(1 + squared)
    # (1 - 1/w) / |G|^2 without the cancellation at small slopes.
    factor = 1 / (w * (1 + w))

    def reduced(vector: Vector) -> Vector:
        return vector - factor * slope * (slope @ vector)

    def shape(vector: Vector) -> Vector:
        return reduced(product(reduced(vector))) / w

    if point.size <= _DENSE:
        matrix = jax.vmap(shape)(jnp.eye(point.size, dtype=point.dtype))
        return jnp.linalg.eigvalsh(0.5 * (matrix + matrix.T))[-1]
    start = jax.random.normal(jax.random.key(0), (1, point.size), point.dtype)
    found = block_eigenpairs(
        shape,
        start,
        wanted=1,
        demand=Demand(jnp.asarray(_CURVATURE_TOLERANCE, point.dtype)),
        max_products=_CURVATURE_PRODUCTS,
    )
    return found.values[0]
