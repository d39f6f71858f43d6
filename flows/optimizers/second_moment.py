"""The running average of squared gradients by which adaptive methods divide, and its conventions.

A gradient g makes nu' = b2 nu + (1 - b2) s, with s = g^2 entry by entry, or |g|^2 where all
parameters share one nu. The preconditioner of that step is P = sqrt(nu' + eps_root) + eps. So nu'
holds the current gradient already, on which the stability of a two-cycle depends.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, PyTree, Real

from ..core.arrays import Vector, divisor
from ..core.trees import Params, is_traced, root, scaled, squared_norm
from ..core.validation import as_params, non_negative

Average = PyTree[Float[Array, "..."]]
"""nu: like the parameters, or one number."""

FlatAverage = Float[Array, " average"]
"""nu as a vector, with as many entries as there are parameters, or one."""


class SecondMoment(eqx.Module):
    """How an adaptive method averages squared gradients, and what it divides by.

    Attributes:
        b2: The share of nu that a step keeps.
        eps: Added to the root.
        eps_root: Added under the root.
        shared: True if all parameters share one nu, the average of |g|^2.
        bias_correction: True if nu is divided by 1 - b2^k after k gradients.
    """

    b2: Float[Array, ""]
    eps: Float[Array, ""]
    eps_root: Float[Array, ""]
    shared: bool = eqx.field(static=True)
    bias_correction: bool = eqx.field(static=True)

    def init(self, params: Params, initial: Average) -> Average:
        """Return nu before the first gradient.

        Args:
            params: Where the optimizer starts.
            initial: A number, or a pytree like nu.

        Raises:
            ValueError: If `initial` is neither.
        """
        dtype = jax.tree.leaves(params)[0].dtype
        like = jnp.zeros((), dtype) if self.shared else params
        if isinstance(initial, Array) and initial.shape == ():
            return jax.tree.map(lambda x: jnp.full(x.shape, initial, x.dtype), like)
        wanted, found = (
            (jax.tree.structure(tree), [x.shape for x in jax.tree.leaves(tree)])
            for tree in (like, initial)
        )
        if wanted != found:
            raise ValueError(
                f"initial_nu must be a number, or a {wanted[0]} with shapes {wanted[1]}; got a "
                f"{found[0]} with shapes {found[1]}."
            )
        return jax.tree.map(lambda x: x.astype(dtype), initial)

    def source(self, gradient: Params) -> Average:
        """Return s, of which nu is the running average."""
        return squared_norm(gradient) if self.shared else jax.tree.map(jnp.square, gradient)

    def after(self, average: Average, gradient: Params) -> Average:
        """Return nu' = b2 nu + (1 - b2) s."""
        return mixed(self.b2, average, self.source(gradient))

    def change(self, average: Average, gradient: Params) -> Average:
        """Return nu' - nu = (1 - b2) (s - nu)."""
        difference = jax.tree.map(jnp.subtract, self.source(gradient), average)
        return scaled(1 - self.b2, difference)

    def preconditioner(self, average: Average, count: Real[Array, ""] | None) -> Average:
        """Return P = sqrt(nu + eps_root) + eps, with nu corrected for its start after k gradients.

        An nu that the solver's error in a flow takes below zero counts as zero.
        """

        def of(nu: Array) -> Array:
            eps, eps_root = self.eps.astype(nu.dtype), self.eps_root.astype(nu.dtype)
            if self.bias_correction:
                assert count is not None
                nu = nu / unbiased(self.b2, count).astype(nu.dtype)
            return root(nu + eps_root) + eps

        return jax.tree.map(of, average)

    def divide(self, tree: Params, preconditioner: Average) -> Params:
        """Return P^-1 of a tree like the parameters; 0 where it and P are 0."""

        def divided(x: Array, p: Array) -> Array:
            return x / divisor(p)

        if self.shared:
            return jax.tree.map(lambda x: divided(x, preconditioner), tree)
        return jax.tree.map(divided, tree, preconditioner)

    def diagonal(self, params: Params, preconditioner: Average) -> Vector:
        """Return P as a flat vector (P,)."""
        if self.shared:
            flat, _ = ravel_pytree(params)
            return jnp.full_like(flat, preconditioner)
        return ravel_pytree(preconditioner)[0]


def initial_average(value: PyTree[ArrayLike]) -> Average:
    """Convert what a user gives for nu before the first gradient to arrays.

    Raises:
        ValueError: If an entry is not a finite number of at least 0.
    """
    if jax.tree.structure(value) == jax.tree.structure(0.0) and jnp.ndim(value) == 0:
        return non_negative("initial_nu", value)
    average = as_params(value, "initial_nu")
    message = "initial_nu must be at least 0"
    for path, leaf in jax.tree_util.tree_flatten_with_path(average)[0]:
        if is_traced(leaf):
            average = eqx.error_if(average, jnp.any(leaf < 0), f"{message}.")
        elif bool(jnp.any(leaf < 0)):
            where = f"initial_nu{jax.tree_util.keystr(path)}"
            raise ValueError(f"{where} must be at least 0; got an entry of {float(leaf.min()):g}.")
    return average


def mixed(share: Float[Array, ""], kept: Params, added: Params) -> Params:
    """Return b x + (1 - b) y of two trees, exact at b = 0 however small y is."""
    rest = 1 - share
    return jax.tree.map(
        lambda x, y: share.astype(x.dtype) * x + rest.astype(x.dtype) * y, kept, added
    )


def unbiased(share: Float[Array, ""], count: Real[Array, ""]) -> Float[Array, ""]:
    """Return 1 - b^k in the precision of b: the weight of k terms in an average from 0."""
    return 1 - share ** count.astype(share.dtype)
