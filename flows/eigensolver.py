"""Top eigenpairs of a symmetric operator that is known only through its products with blocks.

A block eigensolver in the LOBPCG family with an orthonormal basis (Hetmaniuk and Lehoucq 2006,
Duersch et al. 2018): Rayleigh-Ritz on the span of the current vectors, their residuals and the
previous directions. Two things matter here and are why jax's own `lobpcg_standard` is not used:
it can start from a good guess and stop at once, and one iteration costs one product per
eigenvector, not three, because the products with the other two blocks are carried along.
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

Block = Float[Array, "block parameter"]

# A direction of which less than this share is new, after projection, is rounding error.
_NEW_SHARE = 1e-3


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
    values: Float[Array, " block"]
    vectors: Block
    images: Block
    directions: Block
    direction_images: Block
    iteration: Int[Array, ""]

    def residual(self) -> Block:
        return self.images - self.values[:, None] * self.vectors


def _project_out(rows: Array, spans: Sequence[Array]) -> Array:
    for span in spans:
        rows = rows - (rows @ span.T) @ span
    return rows


def _orthonormal_rows(rows: Array, against: Sequence[Array] = ()) -> tuple[Array, Array]:
    """Orthonormalise rows, also against orthonormal (or zero) rows; zero those that are not new.

    Returns the rows and which of them are valid.
    """
    lengths = jnp.linalg.norm(rows, axis=1, keepdims=True)
    rows = jnp.where(lengths > 0, rows / jnp.where(lengths > 0, lengths, 1), 0)
    rows = _project_out(_project_out(rows, against), against)
    basis, triangle = jnp.linalg.qr(rows.T)
    valid = jnp.abs(jnp.diagonal(triangle)) > _NEW_SHARE
    basis = jnp.where(valid[:, None], basis.T, 0)
    if against:
        # The division by a small diagonal entry has magnified what was left of `against`.
        basis = _project_out(basis, against)
        lengths = jnp.linalg.norm(basis, axis=1, keepdims=True)
        basis = jnp.where(valid[:, None], basis / jnp.where(valid[:, None], lengths, 1), 0)
    return basis, valid


def _rayleigh_ritz(
    bases: Sequence[Block], images: Sequence[Block], valid: Bool[Array, " rows"], count: int
) -> tuple[Float[Array, " block"], Float[Array, "rows block"]]:
    """Return the top Ritz values on the span of the valid rows, and their coefficients."""
    projected = jnp.block([[basis @ image.T for image in images] for basis in bases])
    projected = 0.5 * (projected + projected.T)
    # Invalid rows are zero: they decouple, and this diagonal puts them below every Ritz value.
    floor = -(1 + 2 * jnp.sum(jnp.abs(projected)))
    projected = projected + jnp.diag(jnp.where(valid, jnp.zeros_like(floor), floor))
    values, coefficients = jnp.linalg.eigh(projected)
    return values[::-1][:count], coefficients[:, ::-1][:, :count]


def _combine(coefficients: Float[Array, "rows block"], blocks: Sequence[Block]) -> Block:
    """Return coefficients^T (stacked blocks), without stacking them: that would be a copy."""
    parts = jnp.split(coefficients, len(blocks))
    return sum(
        (c.T @ b for c, b in zip(parts[1:], blocks[1:], strict=True)), parts[0].T @ blocks[0]
    )


def _iterate(matvec: Callable[[Block], Block], state: _State) -> _State:
    count = state.vectors.shape[0]
    directions_valid = jnp.linalg.norm(state.directions, axis=1) > 0.5
    fresh, fresh_valid = _orthonormal_rows(state.residual(), (state.vectors, state.directions))
    bases = (state.vectors, fresh, state.directions)
    images = (state.images, matvec(fresh), state.direction_images)
    valid = jnp.concatenate([jnp.ones(count, bool), fresh_valid, directions_valid])
    values, coefficients = _rayleigh_ritz(bases, images, valid, count)

    # The next directions: the new vectors without their share of the old ones, made orthogonal
    # to the new vectors in coefficient space, where it is cheap and exact.
    moved = jnp.where(jnp.arange(3 * count)[:, None] < count, 0, coefficients)
    direction_coefficients, _ = _orthonormal_rows(moved.T, (coefficients.T,))
    return _State(
        values=values,
        vectors=_combine(coefficients, bases),
        images=_combine(coefficients, images),
        directions=_combine(direction_coefficients.T, bases),
        direction_images=_combine(direction_coefficients.T, images),
        iteration=state.iteration + 1,
    )


def block_eigenpairs(
    matvec: Callable[[Block], Block],
    start: Block,
    *,
    wanted: int,
    tolerance: Float[Array, ""] | float,
    max_iterations: int,
) -> BlockEigenpairs:
    """Find the algebraically largest eigenpairs of a symmetric operator.

    Args:
        matvec: Multiplies each row of a (block, parameter) array by the operator.
        start: First guess, (block, parameter); its rows must be linearly independent.
        wanted: How many of the block's pairs must converge; the others only help.
        tolerance: Stop when the residuals of the first `wanted` pairs are at most this times the
            largest Ritz value in absolute value.
        max_iterations: Stop after this many iterations in any case; the residuals then say so.

    Returns:
        The pairs of the whole block.
    """
    count = start.shape[0]
    vectors, _ = _orthonormal_rows(start)
    images = matvec(vectors)
    values, coefficients = _rayleigh_ritz((vectors,), (images,), jnp.ones(count, bool), count)
    state = _State(
        values=values,
        vectors=_combine(coefficients, (vectors,)),
        images=_combine(coefficients, (images,)),
        directions=jnp.zeros_like(vectors),
        direction_images=jnp.zeros_like(vectors),
        iteration=jnp.zeros((), jnp.int32),
    )

    def unconverged(state: _State) -> Bool[Array, ""]:
        residuals = jnp.linalg.norm(state.residual()[:wanted], axis=1)
        bound = jnp.asarray(tolerance, residuals.dtype) * jnp.max(jnp.abs(state.values))
        return (state.iteration < max_iterations) & jnp.any(residuals > bound)

    state = lax.while_loop(unconverged, lambda s: _iterate(matvec, s), state)
    return BlockEigenpairs(
        values=state.values,
        vectors=state.vectors,
        residuals=jnp.linalg.norm(state.residual(), axis=1),
        products=count * (1 + state.iteration),
    )
