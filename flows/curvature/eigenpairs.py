"""Curvature of a potential without its Hessian: products, top eigenpairs, third derivatives."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..core.arrays import DENSE_LIMIT, Modes
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import as_params, positive_integer, proper_fraction
from ..linear_algebra.eigensolver import block_eigenpairs
from .derivatives import linearise_gradient


class Eigenpairs(eqx.Module):
    """Eigenpairs of a Hessian.

    Attributes:
        values: Eigenvalues, loss / parameter^2.
        vectors: Orthonormal eigenvectors as rows, in the order of `ravel_pytree(params)`.
        residuals: |H u - lambda u| of each pair: an error bound on its eigenvalue.
        hvps: How many Hessian-vector products they took.
        converged: Whether each residual met the tolerance.
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


def eigenpair_tolerance(dtype: Any) -> float:
    """Residual tolerance of an eigenpair, relative to the largest eigenvalue.

    The error of the eigenvalue itself is of the order of the tolerance's square over the relative
    gap: about 1e-6 in float32 and 1e-12 in float64 for a gap of a few per cent.
    """
    return 1e-6 if jnp.finfo(dtype).bits > 32 else 3e-4


def random_modes(count: int, size: int, dtype: Any) -> Modes:
    """Return a fixed random block to start an eigen-iteration from."""
    return jax.random.normal(jax.random.key(0), (count, size), dtype)


def _oriented(vectors: Modes) -> Modes:
    """Give each row the sign that makes its largest entry positive."""
    largest = jnp.take_along_axis(
        vectors, jnp.argmax(jnp.abs(vectors), axis=1, keepdims=True), axis=1
    )
    return vectors * jnp.where(largest < 0, -1, 1).astype(vectors.dtype)


def _dense_eigenpairs(product: Callable[[Modes], Modes], size: int, count: int, dtype: Any):
    hessian = product(jnp.eye(size, dtype=dtype))
    values, vectors = jnp.linalg.eigh(0.5 * (hessian + hessian.T))
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count].T
    residuals = jnp.linalg.norm(vectors @ hessian - values[:, None] * vectors, axis=1)
    return values, vectors, residuals, jnp.asarray(size, jnp.int32)


def top_eigenpairs(
    potential: Potential,
    params: PyTree[Any],
    count: int = 1,
    *,
    start: Modes | None = None,
    tolerance: float | None = None,
    max_products: int = 300,
    dense_limit: int = DENSE_LIMIT,
) -> Eigenpairs:
    """Find the largest eigenvalues of the Hessian, in descending order, and their eigenvectors.

    Up to `dense_limit` parameters the Hessian is built from P products and factorised; beyond, an
    iteration needs `count` products and one more per vector that it adds to their span, so that
    a good `start` (the eigenvectors at a nearby point) is what makes it cheap.

    Args:
        potential: The loss, twice differentiable at `params`.
        params: The point, any pytree of floats with P entries.
        count: How many pairs, 1 to P.
        start: Guess of the eigenvectors, (count or more, P); rows beyond `count` speed up the
            convergence of the others.
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
    return _top_eigenpairs(
        potential, params, start, tolerance, count, max_products, size <= dense_limit
    )


@eqx.filter_jit
def _top_eigenpairs(
    potential: Potential,
    params: Params,
    start: Modes | None,
    tolerance: float | None,
    count: int,
    max_products: int,
    dense: bool,
) -> Eigenpairs:
    flat, _ = ravel_pytree(params)
    _, product = linearise_gradient(potential, params)
    if tolerance is None:
        tolerance = eigenpair_tolerance(flat.dtype)
    if dense:
        values, vectors, residuals, hvps = _dense_eigenpairs(
            jax.vmap(product), flat.size, count, flat.dtype
        )
    else:
        block = random_modes(count, flat.size, flat.dtype) if start is None else start
        found = block_eigenpairs(
            product, block, wanted=count, tolerance=tolerance, max_products=max_products
        )
        values, vectors, residuals = found.values, found.vectors, found.residuals
        hvps = found.products
    bound = jnp.asarray(tolerance, flat.dtype) * jnp.max(jnp.abs(values))
    return Eigenpairs(values, _oriented(vectors), residuals, hvps, residuals <= bound)


@eqx.filter_jit
def follow_modes(pairs: Eigenpairs, previous: Modes) -> Eigenpairs:
    """Reorder and reflect eigenpairs so that each continues the same row of `previous`.

    Where two eigenvalues cross, the descending order swaps their eigenvectors; here mode i stays
    the one that overlaps most with the earlier mode i, and keeps its sign.

    Args:
        pairs: k eigenpairs at a point.
        previous: k eigenvectors at a nearby point, as rows.
    """
    overlaps = previous @ pairs.vectors.T
    count = overlaps.shape[0]

    def assign(_: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
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
