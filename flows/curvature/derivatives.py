"""Derivatives of a potential without its Hessian: products and third derivatives."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..core.arrays import Modes, Vector
from ..core.potential import Potential
from ..core.trees import Params
from ..linear_algebra.packed_symmetric import pairs


def hvp(potential: Potential, params: Params, vector: Params) -> Params:
    """Return the Hessian-vector product H(params) vector, a pytree like `params`.

    For several products at one point use `linearise_gradient`, which shares the work.
    """
    return jax.jvp(jax.grad(potential), (params,), (vector,))[1]


def linearise_gradient(
    potential: Potential, params: Params
) -> tuple[Vector, Callable[[Vector], Vector]]:
    """Evaluate the gradient once, and return it with the function v -> H v, both flat.

    Args:
        potential: The loss.
        params: The point, any pytree of floats with P entries.

    Returns:
        The gradient (P,), and the product with the Hessian, (P,) -> (P,), which reuses the
        evaluation of the gradient and can be vmapped over vectors.
    """
    flat, unravel = ravel_pytree(params)
    return jax.linearize(jax.grad(lambda w: potential(unravel(w))), flat)


def third_derivative(potential: Potential, params: Params, u: Params, v: Params) -> Params:
    """Return grad_w (u^T H(w) v) at `params`, a pytree like `params`.

    It is the change of the curvature u^T H v with the parameters, symmetric in `u` and `v`.
    """

    def curvature(w: Params) -> Float[Array, ""]:
        def slope(x: Params) -> Float[Array, ""]:
            return jax.jvp(potential, (x,), (v,))[1]

        return jax.jvp(slope, (w,), (u,))[1]

    return jax.grad(curvature)(params)


def third_derivatives(
    potential: Potential, params: Params, vectors: Modes
) -> Float[Array, "mode mode parameter"]:
    """Return grad_w (u_i^T H(w) u_j) for all pairs of rows, flat.

    The result is symmetric in its first two axes; each unordered pair is evaluated once.

    Args:
        potential: The loss.
        params: The point, P entries.
        vectors: u_1 to u_k as rows, (k, P).
    """
    count = vectors.shape[0]
    upper = third_derivative_pairs(potential, params, vectors)
    rows, columns, _ = pairs(count)
    full = jnp.zeros((count, count, upper.shape[1]), upper.dtype)
    return full.at[rows, columns].set(upper).at[columns, rows].set(upper)


def third_derivative_pairs(
    potential: Potential, params: Params, vectors: Modes, *, packed: bool = False
) -> Float[Array, "pair parameter"]:
    """Return `third_derivatives` for i <= j only, row by row: (k (k + 1) / 2, P).

    One after the other: on a CPU a batch of derivatives is slower than its members, and takes
    more memory everywhere.

    Args:
        potential: The loss.
        params: The point, P entries.
        vectors: u_1 to u_k as rows, (k, P).
        packed: Whether to weight the rows as in `packing.pack`: their products with each other
            are then the packed operator <dH_ij, dH_kl>.
    """
    flat, unravel = ravel_pytree(params)
    rows, columns, weights = pairs(vectors.shape[0])
    weights = jnp.asarray(weights if packed else np.ones_like(weights), flat.dtype)

    def one(pair: tuple[Array, Array, Array]) -> Vector:
        u, v = vectors[pair[0]], vectors[pair[1]]
        return pair[2] * third_derivative(lambda w: potential(unravel(w)), flat, u, v)

    return lax.map(one, (jnp.asarray(rows), jnp.asarray(columns), weights))
