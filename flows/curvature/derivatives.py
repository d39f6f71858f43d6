"""Derivatives of a potential without its Hessian: products and third derivatives."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from ..core.arrays import Modes, Vector
from ..core.potential import Potential
from ..core.trees import Params, dot
from ..linear_algebra.packed_symmetric import pairs

_Derivatives = TypeVar("_Derivatives")

Linearised: TypeAlias = tuple[Params, Callable[[Params], Params]]
"""g(w) and the function v -> H(w) v, as `jax.linearize(jax.grad(potential), params)` gives them."""


def hvp(potential: Potential, params: Params, vector: Params) -> Params:
    """Return the Hessian-vector product H(w) v, as the derivative of the gradient along v.

    It costs about two gradients. For several products at one point use `linearise_gradient`, which
    shares the work.

    Args:
        potential: The loss, twice differentiable at `params`.
        params: The point w, any pytree of floats.
        vector: v, a pytree like `params`.

    Returns:
        H(w) v, a pytree like `params`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import hvp
        >>> hvp(lambda w: w[0] ** 2 * w[1], jnp.asarray([1.0, 3.0]), jnp.asarray([1.0, 0.0]))
        Array([6., 2.], dtype=float64)
    """
    return jax.jvp(jax.grad(potential), (params,), (vector,))[1]


def linearise_gradient(
    potential: Potential, params: Params
) -> tuple[Vector, Callable[[Vector], Vector]]:
    """Evaluate the gradient once, and return it with the function v -> H v, both flat.

    Args:
        potential: The loss, twice differentiable at `params`.
        params: The point, any pytree of floats with P entries.

    Returns:
        The gradient (P,), and the product with the Hessian, (P,) -> (P,), which reuses the
        evaluation of the gradient and can be vmapped over vectors.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import linearise_gradient
        >>> gradient, product = linearise_gradient(
        ...     lambda w: w["a"] ** 2 * w["b"], {"a": jnp.asarray(1.0), "b": jnp.asarray(3.0)}
        ... )
        >>> gradient.tolist(), product(jnp.asarray([1.0, 0.0])).tolist()
        ([6.0, 1.0], [6.0, 2.0])
    """
    gradient, product = jax.linearize(jax.grad(potential), params)
    return ravel_pytree(gradient)[0], flat_product(product, params)


def flat_product(product: Callable[[Params], Params], params: Params) -> Callable[[Vector], Vector]:
    """Return a function of pytrees like `params` as one of flat vectors."""
    _, unravel = ravel_pytree(params)
    return lambda vector: ravel_pytree(product(unravel(vector)))[0]


def third_derivative(potential: Potential, params: Params, u: Params, v: Params) -> Params:
    """Return grad_w (u^T H(w) v): how the curvature u^T H v changes with the parameters.

    Args:
        potential: The loss, three times differentiable at `params`.
        params: The point w, any pytree of floats.
        u: A direction, a pytree like `params`.
        v: Another one; the result is symmetric in the two.

    Returns:
        The gradient of the curvature, a pytree like `params`. It costs about four gradients.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import third_derivative
        >>> u = jnp.asarray([1.0, 0.0])
        >>> third_derivative(lambda w: w[0] ** 3 * w[1], jnp.asarray([1.0, 3.0]), u, u)
        Array([18.,  6.], dtype=float64)
    """
    return _without_forward_rules(
        lambda slope: jax.grad(_curvature(slope, u, v))(params), potential
    )


_Slope: TypeAlias = Callable[[Params, Params], Float[Array, ""]]
"""From w and v to the derivative of the loss along v."""


def _curvature(slope: _Slope, u: Params, v: Params) -> Callable[[Params], Float[Array, ""]]:
    """Return the function w -> u^T H(w) v."""
    return lambda w: jax.jvp(lambda w: slope(w, v), (w,), (u,))[1]


def _without_forward_rules(
    of_slope: Callable[[_Slope], _Derivatives], potential: Potential
) -> _Derivatives:
    """Differentiate the slope, which reverse mode gives where the loss has no forward derivative.

    A function with `jax.custom_vjp` has none. Its gradient has one, if its own rules are
    differentiable; it takes a little longer.
    """

    def forward(w: Params, v: Params) -> Float[Array, ""]:
        return jax.jvp(potential, (w,), (v,))[1]

    def reverse(w: Params, v: Params) -> Float[Array, ""]:
        return dot(jax.grad(potential)(w), v)

    try:
        return of_slope(forward)
    except (NotImplementedError, TypeError):
        # JAX's errors, of its transpose and of its forward mode; other ones come again.
        return of_slope(reverse)


def third_derivatives(
    potential: Potential, params: Params, vectors: Modes
) -> Float[Array, "mode mode parameter"]:
    """Return dH_ij = grad_w (u_i^T H(w) u_j) for all pairs of rows, flat.

    Each of the k (k + 1) / 2 unordered pairs is evaluated once.

    Args:
        potential: The loss, three times differentiable at `params`.
        params: The point w, any pytree of floats with P entries.
        vectors: u_1 to u_k as rows, (k, P).

    Returns:
        dH, (k, k, P), symmetric in its first two axes.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import third_derivatives
        >>> third_derivatives(lambda w: w[0] ** 2 * w[1], jnp.ones(2), jnp.eye(2))[0]
        Array([[0., 2.],
               [2., 0.]], dtype=float64)
    """
    count = vectors.shape[0]
    upper = third_derivative_pairs(potential, params, vectors)
    rows, columns, _ = pairs(count)
    full = jnp.zeros((count, count, upper.shape[1]), upper.dtype)
    return full.at[rows, columns].set(upper).at[columns, rows].set(upper)


def third_derivative_pairs(
    potential: Potential,
    params: Params,
    vectors: Modes,
    *,
    packed: bool = False,
    wanted: Bool[Array, " mode"] | None = None,
) -> Float[Array, "pair parameter"]:
    """Return `third_derivatives` for i <= j only, row by row: (k (k + 1) / 2, P).

    The pairs are evaluated one after the other: on a CPU a batch of derivatives is slower than its
    members, and it takes more memory everywhere.

    Args:
        potential: The loss.
        params: The point, P entries.
        vectors: u_1 to u_k as rows, (k, P).
        packed: True to weight the rows as `packed_symmetric.pack` does: their products with each
            other are then the packed operator <dH_ij, dH_kl>.
        wanted: Which vectors matter: a pair is evaluated if both do, and zero otherwise. All of
            them if not given.
    """
    flat, unravel = ravel_pytree(params)
    rows, columns, weights = pairs(vectors.shape[0])
    weights = jnp.asarray(weights if packed else np.ones_like(weights), flat.dtype)

    def all_pairs(slope: _Slope) -> Float[Array, "pair parameter"]:
        def curvature(w: Vector, pair: tuple[Array, Array, Array]) -> Float[Array, ""]:
            u, v = unravel(vectors[pair[0]]), unravel(vectors[pair[1]])
            return pair[2] * _curvature(slope, u, v)(unravel(w))

        slope_of = partial(jax.grad(curvature), flat)
        places = jnp.asarray(rows), jnp.asarray(columns), weights
        if wanted is None:
            return lax.map(slope_of, places)

        def if_wanted(place: tuple[tuple[Array, Array, Array], Array]) -> Vector:
            pair, both = place
            return lax.cond(both, slope_of, lambda _: jnp.zeros_like(flat), pair)

        return lax.map(if_wanted, (places, wanted[rows] & wanted[columns]))

    return _without_forward_rules(all_pairs, potential)
