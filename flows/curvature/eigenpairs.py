"""The top eigenpairs of a potential's Hessian, without the Hessian where it would be large."""

from collections.abc import Callable
from typing import Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from ..core.arrays import DENSE_LIMIT, Modes, Vector
from ..core.captured import captured
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import as_params, positive_integer, proper_fraction
from ..linear_algebra.eigensolver import BlockEigenpairs, Demand, block_eigenpairs
from .derivatives import flat_product
from .metric import AbstractMetric, IdentityMetric

# How much larger a residual may be where the eigenvector does not matter.
_COARSER: Final = 10


class Eigenpairs(eqx.Module):
    """Eigenpairs of a Hessian, H u = lambda u, or H u = lambda P u in a metric P.

    Attributes:
        values: Eigenvalues lambda, (k,), loss / parameter^2.
        vectors: Eigenvectors u as rows, (k, P), in the order of `ravel_pytree(params)`; orthonormal
            in the metric, U P U^T = 1.
        residuals: |H u - lambda u| of each pair, (k,): an error bound on its eigenvalue. In a
            metric |P^(-1/2) (H u - lambda P u)|.
        hvps: How many Hessian-vector products they took.
        converged: True for each pair whose residual met the tolerance, (k,).

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import top_eigenpairs
        >>> pairs = top_eigenpairs(lambda w: jnp.sum(w**4), jnp.asarray([1.0, 2.0, 3.0]), 2)
        >>> pairs.values, int(pairs.hvps)
        (Array([108.,  48.], dtype=float64), 3)
    """

    values: Float[Array, " mode"]
    vectors: Modes
    residuals: Float[Array, " mode"]
    hvps: Int[Array, ""]
    converged: Bool[Array, " mode"]

    @property
    def sharpness(self) -> Float[Array, ""]:
        """The largest eigenvalue."""
        return jnp.max(self.values)


def eigenpair_tolerance(dtype: DTypeLike) -> float:
    """Return the default residual tolerance of an eigenpair, relative to the largest eigenvalue.

    The error of the eigenvalue itself is of the order of the tolerance's square over the relative
    gap: about 1e-6 in float32 and 1e-12 in float64 for a gap of a few per cent.
    """
    return 1e-6 if jnp.finfo(dtype).bits > 32 else 3e-4


def random_modes(count: int, size: int, dtype: DTypeLike) -> Modes:
    """Return a fixed random block to start an eigen-iteration from."""
    return jax.random.normal(jax.random.key(0), (count, size), dtype)


def starting_modes(params: Params, count: int) -> Modes:
    """Return a random block for `count` eigenvalues at `params`.

    Raises:
        ValueError: If there are fewer parameters.
    """
    flat, _ = ravel_pytree(params)
    if count > flat.size:
        raise ValueError(
            f"eigenvalues must be at most the number of parameters, {flat.size}; got {count}."
        )
    return random_modes(count, flat.size, flat.dtype)


def _oriented(vectors: Modes) -> Modes:
    """Give each row the sign that makes its largest entry positive."""
    largest = jnp.take_along_axis(
        vectors, jnp.argmax(jnp.abs(vectors), axis=1, keepdims=True), axis=1
    )
    return vectors * jnp.where(largest < 0, -1, 1).astype(vectors.dtype)


def _dense_eigenpairs(
    product: Callable[[Vector], Vector],
    within: Callable[[Vector], Vector] | None,
    size: int,
    count: int,
    dtype: DTypeLike,
) -> BlockEigenpairs:
    unit = jnp.eye(size, dtype=dtype)
    matrix, dimension = jax.vmap(product)(unit), None
    if within is not None:
        # What does not count gets an eigenvalue below all others.
        projector = jax.vmap(within)(unit)
        dimension = jnp.trace(projector)
        matrix = matrix - 2 * jnp.linalg.norm(matrix) * (unit - projector)
    values, vectors = jnp.linalg.eigh(0.5 * (matrix + matrix.T))
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count].T
    residuals = jnp.linalg.norm(vectors @ matrix - values[:, None] * vectors, axis=1)
    if dimension is not None:
        values = jnp.where(jnp.arange(count, dtype=dtype) + 0.5 < dimension, values, jnp.nan)
    return BlockEigenpairs(values, vectors, residuals, jnp.asarray(size, jnp.int32))


def top_eigenpairs(
    potential: Potential,
    params: PyTree[ArrayLike],
    count: int = 1,
    *,
    start: Modes | None = None,
    metric: AbstractMetric | None = None,
    tolerance: float | None = None,
    max_products: int = 300,
    dense_limit: int = DENSE_LIMIT,
) -> Eigenpairs:
    """Find the largest eigenvalues of the Hessian, in descending order, and their eigenvectors.

    Up to `dense_limit` parameters the Hessian is built from P products and factorised; beyond, an
    iteration needs `count` products and one more per vector that it adds to their span, so that
    a good `start` (the eigenvectors at a nearby point) is what makes it cheap.

    In a metric P they are those of P^-1 H: H u = lambda P u, with U P U^T = 1. They are found as
    the eigenpairs of P^(-1/2) H P^(-1/2).

    Args:
        potential: The loss, twice differentiable at `params`.
        params: The point, any pytree of floats with P entries.
        count: How many pairs, 1 to P.
        start: Guess of the eigenvectors, (count or more, P); rows beyond `count` speed up the
            convergence of the others.
        metric: P, such as `DiagonalMetric(d)`; the identity if not given.
        tolerance: Residual at which a pair counts as converged, relative to the largest
            eigenvalue, between 0 and 1; `eigenpair_tolerance` of the dtype if not given.
        max_products: Bound on the products of the iteration, which makes those with the start in
            any case. A pair that has not converged by then is returned all the same: its residual
            says how good it is, `converged` that it is not.
        dense_limit: Largest P at which the Hessian itself is built.

    Returns:
        The `count` pairs of the largest eigenvalues; each eigenvector's largest entry is positive.

    Raises:
        ValueError: If `params` is no pytree of finite floats, `count` or `start` does not fit it,
            or `tolerance` or `max_products` is no number of its kind.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import top_eigenpairs
        >>> pairs = top_eigenpairs(lambda w: w[0] ** 2 + 2 * w[1] ** 2, jnp.zeros(2))
        >>> pairs.sharpness, pairs.vectors
        (Array(4., dtype=float64), Array([[0., 1.]], dtype=float64))
    """
    params = as_params(params)
    return find_eigenpairs(
        captured(potential, params),
        params,
        count,
        start=start,
        metric=metric,
        tolerance=tolerance,
        max_products=max_products,
        dense_limit=dense_limit,
    )


def find_eigenpairs(
    potential: Potential,
    params: PyTree[ArrayLike],
    count: int = 1,
    *,
    start: Modes | None = None,
    metric: AbstractMetric | None = None,
    tolerance: float | None = None,
    max_products: int = 300,
    dense_limit: int = DENSE_LIMIT,
    remote: Float[Array, ""] | None = None,
    within: Callable[[Params], Params] | None = None,
) -> Eigenpairs:
    """Return `top_eigenpairs` of a loss that is part of a traced or compiled program already.

    Pairs whose eigenvalues are certainly below `remote` may have residuals ten times as large.
    With `within`, the orthogonal projector onto a space that the Hessian maps into itself and
    without which it is zero, they are those in that space; where the matrix is built, values beyond
    its dimension are nan.
    """
    params, count = as_params(params), positive_integer("count", count)
    max_products = positive_integer("max_products", max_products)
    if tolerance is not None:
        tolerance = proper_fraction("tolerance", tolerance)
    size = sum(x.size for x in jax.tree.leaves(params))
    if count > size:
        raise ValueError(f"count must be at most the number of parameters, {size}; got {count}.")
    if start is not None and (start.shape[0] < count or start.shape[1:] != (size,)):
        raise ValueError(
            f"start must have shape (at least {count}, {size}); got {tuple(start.shape)}."
        )
    metric = IdentityMetric() if metric is None else metric
    return _top_eigenpairs(
        potential,
        params,
        start,
        metric,
        tolerance,
        remote,
        within,
        count,
        max_products,
        size <= dense_limit,
    )


@eqx.filter_jit
def _top_eigenpairs(
    potential: Potential,
    params: Params,
    start: Modes | None,
    metric: AbstractMetric,
    tolerance: float | None,
    remote: Float[Array, ""] | None,
    within: Callable[[Params], Params] | None,
    count: int,
    max_products: int,
    dense: bool,
) -> Eigenpairs:
    flat, _ = ravel_pytree(params)
    projected = None if within is None else flat_product(within, params)
    # Linearised here, not by `linearise_gradient`: the loss is then one frame nearer to its user.
    _, linear = jax.linearize(jax.grad(potential), params)
    hessian = flat_product(linear, params)

    def product(vector: Vector) -> Vector:
        return metric.inverse_sqrt(hessian(metric.inverse_sqrt(vector)))

    if tolerance is None:
        tolerance = eigenpair_tolerance(flat.dtype)
    fine = jnp.asarray(tolerance, flat.dtype)
    demand = Demand(fine, _COARSER * fine, remote)
    if dense:
        found = _dense_eigenpairs(product, projected, flat.size, count, flat.dtype)
    else:
        block = random_modes(count, flat.size, flat.dtype) if start is None else start
        if projected is not None:
            # The iteration then stays in this space, which products do not leave.
            block = jax.vmap(projected)(block)
        found = block_eigenpairs(
            product,
            metric.sqrt(block),
            wanted=count,
            demand=demand,
            max_products=max_products,
        )
    return Eigenpairs(
        values=found.values,
        vectors=_oriented(metric.inverse_sqrt(found.vectors)),
        residuals=found.residuals,
        hvps=found.products,
        converged=found.residuals <= demand.allowed(found.values, found.residuals),
    )


@eqx.filter_jit
def follow_modes(pairs: Eigenpairs, previous: Modes) -> Eigenpairs:
    """Reorder and reflect eigenpairs so that each continues the same row of `previous`.

    Where two eigenvalues cross, the descending order swaps their eigenvectors; here mode i stays
    the one that overlaps most with the earlier mode i, and keeps its sign.

    Args:
        pairs: k eigenpairs at a point.
        previous: k eigenvectors at a nearby point, as rows, (k, P).

    Returns:
        The same pairs in the order of the rows of `previous`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import follow_modes, top_eigenpairs
        >>> pairs = top_eigenpairs(lambda w: w[0] ** 2 + 2 * w[1] ** 2, jnp.zeros(2), 2)
        >>> follow_modes(pairs, jnp.asarray([[-1.0, 0.1], [0.1, 1.0]])).values
        Array([2., 4.], dtype=float64)
    """
    overlaps = previous @ pairs.vectors.T
    count = overlaps.shape[0]

    def assign(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        free, order = carry
        best = jnp.argmax(free)
        old, new = best // count, best % count
        taken = (jnp.arange(count)[:, None] == old) | (jnp.arange(count)[None, :] == new)
        return jnp.where(taken, -1, free), order.at[old].set(new.astype(order.dtype))

    start = (jnp.abs(overlaps), jnp.zeros(count, jnp.int32))
    _, order = lax.fori_loop(0, count, assign, start)
    signs = jnp.where(overlaps[jnp.arange(count), order] < 0, -1, 1).astype(overlaps.dtype)
    return Eigenpairs(
        values=pairs.values[order],
        vectors=signs[:, None] * pairs.vectors[order],
        residuals=pairs.residuals[order],
        hvps=pairs.hvps,
        converged=pairs.converged[order],
    )
