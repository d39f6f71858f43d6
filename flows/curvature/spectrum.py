"""The spectrum of a Hessian: all of its eigenvalues, or random samples of their distribution."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from ..core.arrays import DENSE_LIMIT, ScalarLike, Vector
from ..core.captured import captured
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import as_params, non_negative_integer, positive_integer, prng_seed
from .derivatives import linearise_gradient

# A coupling of the tridiagonal matrix below this share of its largest entry, in units of rounding,
# says that the Krylov space is exhausted: beyond it there is only noise.
_NOISE = 100.0
# Nodes of less weight come from beyond an exhausted Krylov space, and are none.
_WEIGHTLESS = 1e-12


class Spectrum(eqx.Module):
    """The distribution of a Hessian's P eigenvalues, as a quadrature rule.

    The mean of a function f over the eigenvalues, tr f(H) / P, is the mean over the probes of
    sum_j weights_j f(nodes_j).

    Attributes:
        nodes: Eigenvalues, or the Ritz values that stand in their place, (probe, node).
        weights: Their shares, (probe, node), of sum 1 for each probe.
        trace: The sum of the eigenvalues, scalar, loss / parameter^2.
        trace_error: The standard error of that; 0 where it is exact, nan for a single probe.
        hvps: How many Hessian-vector products it took.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import hessian_spectrum
        >>> found = hessian_spectrum(lambda w: w[0] ** 2 + 2 * w[1] ** 2, jnp.zeros(2))
        >>> found.nodes.tolist(), float(found.trace)
        ([[2.0, 4.0]], 6.0)
        >>> round(float(found.density(jnp.asarray([2.0]), width=0.1)[0]), 3)
        1.995
    """

    nodes: Float[Array, "probe node"]
    weights: Float[Array, "probe node"]
    trace: Float[Array, ""]
    trace_error: Float[Array, ""]
    hvps: Int[Array, ""]

    @property
    def range(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The lowest and the highest node: estimates of the extreme eigenvalues, from within."""
        real = self.weights > _WEIGHTLESS
        lowest = jnp.min(jnp.where(real, self.nodes, jnp.inf))
        return lowest, jnp.max(jnp.where(real, self.nodes, -jnp.inf))

    def density(
        self, eigenvalues: Float[Array, " point"], width: ScalarLike
    ) -> Float[Array, " point"]:
        """Return the density of eigenvalues, each broadened to a Gaussian; its integral is 1.

        Args:
            eigenvalues: Where, (point,).
            width: The standard deviation of the Gaussians, in the unit of an eigenvalue.
        """
        width = jnp.asarray(width, self.nodes.dtype)
        nodes, weights = self.nodes.reshape(-1), self.weights.reshape(-1) / self.nodes.shape[0]
        apart = (eigenvalues[:, None] - nodes[None, :]) / width
        heights = jnp.exp(-0.5 * apart**2) / (
            jnp.sqrt(jnp.asarray(2 * jnp.pi, width.dtype)) * width
        )
        return heights @ weights


def hessian_spectrum(
    potential: Potential,
    params: PyTree[ArrayLike],
    *,
    probes: int = 10,
    depth: int = 40,
    seed: int = 0,
    dense_limit: int = DENSE_LIMIT,
) -> Spectrum:
    """Return the distribution of the Hessian's eigenvalues, and its trace.

    Up to `dense_limit` parameters they are all computed, from P products. Beyond, by stochastic
    Lanczos quadrature (Ghorbani et al., arXiv 1901.10159): random vectors v of signs, and for each
    the Lanczos process of some steps, whose Ritz values and squared first components are the Gauss
    quadrature of the spectral measure of v. It integrates polynomials up to degree 2 depth - 1, and
    finds extreme eigenvalues first. The mean of v^T H v over the probes is Hutchinson's estimate of
    the trace, exact for a diagonal Hessian.

    All Lanczos vectors are kept and each new one is made orthogonal to them twice: in rounding
    errors, the three-term recurrence finds eigenvalues again and again. Where the Krylov space of
    a probe is exhausted, as for a Hessian with few distinct eigenvalues, the process ends.

    Args:
        potential: The loss, twice differentiable at `params`.
        params: The point, any pytree of floats with P entries.
        probes: How many random vectors, at least 1; two or more give the trace a standard error.
        depth: Lanczos steps of each, at least 1; P at most are made. They hold that many vectors.
        seed: Of the probes.
        dense_limit: Largest P at which the Hessian itself is built.

    Raises:
        ValueError: If `params` is no pytree of finite floats, or a number is none of its kind.

    Example:
        The eigenvalues are 1 and 9; without the matrix the trace is exact all the same:

        >>> import jax.numpy as jnp
        >>> from flows import hessian_spectrum
        >>> scales = jnp.asarray([1.0, 1.0, 9.0])
        >>> found = hessian_spectrum(
        ...     lambda w: 0.5 * jnp.sum(scales * w**2), jnp.zeros(3), probes=2, dense_limit=0
        ... )
        >>> round(float(found.trace), 12), float(found.trace_error), int(found.hvps)
        (11.0, 0.0, 6)
    """
    params = as_params(params)
    return find_spectrum(
        captured(potential, params),
        params,
        probes=positive_integer("probes", probes),
        depth=positive_integer("depth", depth),
        seed=prng_seed("seed", seed),
        dense_limit=non_negative_integer("dense_limit", dense_limit),
    )


@eqx.filter_jit
def find_spectrum(
    potential: Potential, params: Params, *, probes: int, depth: int, seed: int, dense_limit: int
) -> Spectrum:
    """Return `hessian_spectrum` of a loss that is part of a traced or compiled program already."""
    gradient, product = linearise_gradient(potential, params)
    size, dtype = gradient.size, gradient.dtype
    if size <= dense_limit:
        matrix = jax.vmap(product)(jnp.eye(size, dtype=dtype))
        nodes = jnp.linalg.eigvalsh(0.5 * (matrix + matrix.T))[None, :]
        zero = jnp.zeros((), dtype)
        products = jnp.asarray(size, jnp.int32)
        return Spectrum(nodes, jnp.full_like(nodes, 1 / size), jnp.trace(matrix), zero, products)
    depth = min(depth, size)

    def of_probe(key: Array) -> tuple[Array, Array, Array]:
        signs = jax.random.rademacher(key, (size,), dtype)
        found = lanczos(product, signs / jnp.sqrt(jnp.asarray(size, dtype)), depth)
        matrix = jnp.diag(found.diagonal) + jnp.diag(found.couplings, 1)
        nodes, vectors = jnp.linalg.eigh(matrix + jnp.diag(found.couplings, -1))
        return nodes, vectors[0] ** 2, size * found.diagonal[0]

    keys = jax.random.split(jax.random.key(seed), probes)
    # One after the other, so that the Lanczos vectors of only one are in memory.
    nodes, weights, traces = lax.map(of_probe, keys)
    error = jnp.std(traces, ddof=1) / jnp.sqrt(jnp.asarray(probes, dtype))
    if probes == 1:
        error = jnp.full_like(error, jnp.nan)
    products = jnp.asarray(probes * depth, jnp.int32)
    return Spectrum(nodes, weights, jnp.mean(traces), error, products)


class Tridiagonal(NamedTuple):
    """A symmetric tridiagonal matrix: its diagonal (n,), and its couplings (n - 1,)."""

    diagonal: Float[Array, " node"]
    couplings: Float[Array, " coupling"]


def lanczos(product: Callable[[Vector], Vector], start: Vector, depth: int) -> Tridiagonal:
    """Return a symmetric matrix H in the Krylov space of a vector, Q H Q^T.

    It is tridiagonal in the orthonormal basis Q that the Lanczos process makes of v, H v, H^2 v.
    Where these span less than `depth` dimensions, the rest of the matrix is zero and decoupled.

    Args:
        product: The function v -> H v.
        start: v, (P,), of length 1.
        depth: How many dimensions, at most P.
    """
    size, dtype = start.size, start.dtype
    noise = jnp.asarray(_NOISE * jnp.finfo(dtype).eps, dtype)

    def step(index: Array, carry: tuple[Array, Array, Array, Array]) -> tuple[Array, ...]:
        basis, diagonal, couplings, scale = carry
        now = basis[index]
        image = product(now)
        entry = now @ image
        # Twice: the first pass leaves the rounding errors of what it takes away.
        for _ in range(2):
            image = image - (basis @ image) @ basis
        length = jnp.linalg.norm(image)
        scale = jnp.maximum(scale, jnp.maximum(jnp.abs(entry), length))
        alive = length > noise * scale
        following = jnp.where(alive, image / jnp.where(alive, length, 1), 0)
        return (
            # Beyond the last row nothing is written.
            basis.at[index + 1].set(following, mode="drop"),
            diagonal.at[index].set(entry),
            couplings.at[index].set(jnp.where(alive, length, 0)),
            scale,
        )

    carry = (
        jnp.zeros((depth, size), dtype).at[0].set(start),
        jnp.zeros(depth, dtype),
        jnp.zeros(depth, dtype),
        jnp.zeros((), dtype),
    )
    _, diagonal, couplings, _ = lax.fori_loop(0, depth, step, carry)
    # The last one leads out of the space.
    return Tridiagonal(diagonal, couplings[:-1])
