"""Top eigenpairs of a symmetric operator that is known only through its products with vectors.

Davidson's method without a preconditioner (Davidson 1975; Stathopoulos, Saad and Wu 1998, thick
restarts): Rayleigh-Ritz on a growing orthonormal basis, to which each iteration adds the residual
of the wanted pair that is worst. With one vector it is Lanczos's method. A good guess stops it at
once, the whole basis is used rather than a three-term recurrence, and no product is spent on a
pair that has converged: along a path it takes half the products of LOBPCG.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

Block = Float[Array, "block parameter"]
Vector = Float[Array, " parameter"]

# A residual of which less than this share is new, after projection, is rounding error.
_NEW_SHARE = 0.1

# Ritz vectors kept at a restart beyond those of the start. They approximate the eigenvectors just
# below the wanted ones, whose eigenvalues set the speed of convergence.
_KEPT = 2


class Demand(eqx.Module):
    """When a pair has converged.

    Attributes:
        tolerance: The largest residual, relative to the largest wanted Ritz value.
        coarse: The same for a pair of a small eigenvalue.
        remote: An eigenvalue is small if, by its residual, it is below this for certain; None if
            none is.
    """

    tolerance: Float[Array, ""]
    coarse: Float[Array, ""] | None = None
    remote: Float[Array, ""] | None = None

    def allowed(
        self, values: Float[Array, " wanted"], residuals: Float[Array, " wanted"]
    ) -> Float[Array, " wanted"]:
        """Return the largest residual of each pair, given the Ritz values and residuals."""
        scale = jnp.max(jnp.abs(values))
        allowed = jnp.broadcast_to(self.tolerance * scale, values.shape)
        if self.remote is None or self.coarse is None:
            return allowed
        small = values + residuals < self.remote
        return jnp.where(small, jnp.maximum(self.coarse, self.tolerance) * scale, allowed)


class BlockEigenpairs(eqx.Module):
    """Ritz pairs in descending order.

    Attributes:
        values: Ritz values.
        vectors: Ritz vectors, orthonormal rows.
        residuals: Norms |A u - theta u|.
        products: How many products with a single vector were made.
    """

    values: Float[Array, " block"]
    vectors: Block
    residuals: Float[Array, " block"]
    products: Int[Array, ""]


class _State(eqx.Module):
    """An orthonormal basis, its images, and the Ritz pairs on it.

    Attributes:
        basis: Orthonormal rows, the first `size` of them; the others are not in use.
        images: The operator's products with them.
        projected: Products of rows and images, up to `size`.
        size: How many rows are in use.
        values: Ritz values, descending; those beyond `size` are below all others.
        coefficients: Ritz vectors in the basis, as columns in the same order.
        residuals: Norms of the residuals of the wanted pairs.
        expansion: The one of these residuals that is largest over what is allowed.
        products: How many products were made.
        stalled: True if that residual is rounding error, from which nothing more can be learned.
    """

    basis: Block
    images: Block
    projected: Float[Array, "block block"]
    size: Int[Array, ""]
    values: Float[Array, " block"]
    coefficients: Float[Array, "block block"]
    residuals: Float[Array, " wanted"]
    expansion: Vector
    products: Int[Array, ""]
    stalled: Bool[Array, ""]

    @property
    def used(self) -> Bool[Array, " block"]:
        """Mask of the rows that are in use."""
        return jnp.arange(self.basis.shape[0], dtype=jnp.int32) < self.size


def _ritz(demand: Demand, state: _State) -> tuple[Array, Array, Array, Array]:
    """Return Ritz values, coefficients, norms of residuals and the worst one, of the basis."""
    used, wanted = state.used, state.residuals.shape[0]
    projected = jnp.where(used[:, None] & used[None, :], state.projected, 0)
    # Unused rows decouple, and this diagonal puts them below every Ritz value.
    floor = -(1 + 2 * jnp.sum(jnp.abs(projected)))
    values, coefficients = jnp.linalg.eigh(
        projected + jnp.diag(jnp.where(used, jnp.zeros_like(floor), floor))
    )
    values, coefficients = values[::-1], jnp.where(used[:, None], coefficients[:, ::-1], 0)
    top = coefficients[:, :wanted].T
    residuals = top @ state.images - (values[:wanted, None] * top) @ state.basis
    norms = jnp.linalg.norm(residuals, axis=1)
    allowed = demand.allowed(values[:wanted], norms)
    worst = jnp.argmax(norms / jnp.where(allowed > 0, allowed, 1))
    return values, coefficients, norms, residuals[worst]


def _expand(
    product: Callable[[Vector], Vector], demand: Demand, count: int, state: _State
) -> _State:
    """Add a row to the basis: the next of the `count` start rows, later the worst residual."""
    residual = state.expansion / jnp.linalg.norm(state.expansion)
    new = jnp.where(state.products < count, state.basis[state.size], residual)
    # Twice: the first projection leaves rounding errors of the size of what it removes.
    for _ in range(2):
        new = new - jnp.where(state.used, state.basis @ new, 0) @ state.basis
    share = jnp.linalg.norm(new)
    stalled = share < _NEW_SHARE
    new = new / share
    image = product(new)

    def renewed(rows: Block, row: Vector, axis: int = 0) -> Block:
        # There is room: a scatter would check that.
        return lax.dynamic_update_index_in_dim(rows, row, state.size, axis)

    basis = renewed(state.basis, new)
    row = basis @ image
    state = dataclasses.replace(
        state,
        basis=basis,
        images=renewed(state.images, image),
        projected=renewed(renewed(state.projected, row), row, axis=1),
        size=state.size + (~stalled).astype(jnp.int32),
        products=state.products + 1,
        stalled=stalled,
    )

    def unknown() -> tuple[Array, Array, Array, Array]:
        return state.values, state.coefficients, state.residuals, state.expansion

    found = lax.cond(state.products < count, unknown, lambda: _ritz(demand, state))
    return eqx.tree_at(lambda s: (s.values, s.coefficients, s.residuals, s.expansion), state, found)


def _restart(state: _State, kept: int) -> _State:
    """Make the top Ritz vectors the basis: `kept` of them, or as many as there are."""
    capacity = state.basis.shape[0]
    top = state.coefficients[:, :kept].T
    return eqx.tree_at(
        lambda s: (s.basis, s.images, s.projected, s.size, s.coefficients),
        state,
        (
            state.basis.at[:kept].set(top @ state.basis),
            state.images.at[:kept].set(top @ state.images),
            jnp.diag(state.values),
            jnp.minimum(state.size, kept),
            jnp.eye(capacity, dtype=state.coefficients.dtype),
        ),
    )


def _begin(rows: Block, wanted: int, capacity: int) -> _State:
    """Return the state with orthonormal rows to start from, none of which is in use yet."""
    square = jnp.zeros((capacity, capacity), rows.dtype)
    basis = jnp.pad(rows, ((0, capacity - rows.shape[0]), (0, 0)))
    return _State(
        basis=basis,
        images=jnp.zeros_like(basis),
        projected=square,
        size=jnp.zeros((), jnp.int32),
        values=square[0],
        coefficients=square,
        residuals=jnp.full(wanted, jnp.inf, rows.dtype),
        expansion=jnp.zeros_like(rows[0]),
        products=jnp.zeros((), jnp.int32),
        stalled=jnp.asarray(False),
    )


def block_eigenpairs(
    product: Callable[[Vector], Vector],
    start: Block,
    *,
    wanted: int,
    demand: Demand,
    max_products: int,
) -> BlockEigenpairs:
    """Find the algebraically largest eigenpairs of a symmetric operator.

    Args:
        product: Multiplies a vector (parameter,) by the operator.
        start: First guess, (block, parameter), at least `wanted` rows.
        wanted: How many pairs must converge; further rows of the start only help.
        demand: Stop when all wanted pairs have converged by this.
        max_products: Stop after this many products in any case (but make those with the start);
            the residuals then say so.

    Returns:
        The wanted pairs. Beside its arguments the iteration holds two bases of 2 block + 4 vectors.
    """
    count, size = start.shape
    capacity = min(2 * count + 4, size)
    kept = min(count + _KEPT, capacity)
    # Householder's method completes the basis where rows of `start` depend on each other.
    rows = jnp.linalg.qr(start.T)[0].T
    state = _begin(rows, wanted, capacity)

    def unconverged(state: _State) -> Bool[Array, ""]:
        more = (state.products < max(max_products, count)) & ~state.stalled
        allowed = demand.allowed(state.values[:wanted], state.residuals)
        return more & (jnp.any(state.residuals > allowed) | (state.products < count))

    def cycle(state: _State) -> _State:
        state = lax.while_loop(
            lambda s: (s.size < capacity) & unconverged(s),
            lambda s: _expand(product, demand, count, s),
            state,
        )
        return _restart(state, kept)

    # A basis with room for the whole space needs no restart.
    state = lax.while_loop(unconverged, cycle, state) if kept < capacity else cycle(state)
    return BlockEigenpairs(
        values=state.values[:wanted],
        vectors=state.basis[:wanted],
        residuals=state.residuals,
        products=state.products,
    )
