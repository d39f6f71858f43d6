"""Shape aliases that several rooms share, and the size above which no matrix is built."""

from jaxtyping import Array, Float

# Above this many parameters nothing of size P x P is built.
DENSE_LIMIT = 512

Vector = Float[Array, " parameter"]
Modes = Float[Array, "mode parameter"]
