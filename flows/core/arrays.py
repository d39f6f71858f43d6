"""Types of arrays and numbers that several rooms share, and how large a matrix may be."""

from typing import Final, TypeAlias

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
