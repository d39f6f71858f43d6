"""Shape aliases that several rooms share, and the size above which no matrix is built."""

from typing import TypeAlias

import numpy as np
from jaxtyping import Array, Float

# Above this many parameters nothing of size P x P is built.
DENSE_LIMIT = 512

ScalarLike: TypeAlias = float | int | np.generic | np.ndarray | Array
"""One real number, as a user writes it, or as JAX traces it."""

BoolLike: TypeAlias = bool | np.bool_ | np.ndarray | Array
"""One truth value, as Python or JAX has it."""

Vector: TypeAlias = Float[Array, " parameter"]
Modes: TypeAlias = Float[Array, "mode parameter"]
