"""What rooms share: types of arrays and numbers, the largest matrix, and promotions of dtypes."""

import contextlib
from collections.abc import Iterator
from typing import Final, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

DENSE_LIMIT: Final = 512
"""Above this many parameters nothing of size P x P is built."""

ScalarLike: TypeAlias = float | int | np.generic | np.ndarray | Array
"""One real number, as a user writes it, or as JAX traces it."""

BoolLike: TypeAlias = bool | np.bool_ | np.ndarray | Array
"""One truth value, as Python or JAX has it."""

RealScalarLike: TypeAlias = float | int | np.ndarray | Array
"""One real number inside a solve, as diffrax passes it: its own alias of this name is private."""

BoolScalarLike: TypeAlias = bool | np.ndarray | Array
"""One truth value inside a solve, as diffrax passes it."""

PRNGKeyLike: TypeAlias = np.ndarray | Array
"""One key of `jax.random`, as `jax.random.key` or `jax.random.PRNGKey` makes it."""

Vector: TypeAlias = Float[Array, " parameter"]
"""All parameters in one flat array (P,)."""

Modes: TypeAlias = Float[Array, "mode parameter"]
"""Directions as rows, (k, P)."""


@contextlib.contextmanager
def usual_promotions() -> Iterator[None]:
    """Allow the implicit promotions of dtypes and ranks that the code of others relies on."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def divisor(preconditioner: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return what a step divides by: P, and 1 where P is 0.

    It is 0 where a parameter never had a gradient and nothing is added to the root: what is divided
    there is 0 too.
    """
    return jnp.where(preconditioner == 0, 1, preconditioner)
