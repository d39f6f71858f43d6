"""The density of gradient glass: how much gradients jump at boundaries such as those of a ReLU.

Along a displacement delta of parameter i its gradient changes by the curvature, and by a
pseudorandom walk of variance rho_i |delta|: each boundary that is crossed adds a jump. rho_i is the
glass density, loss^2 / parameter^3 (arXiv 2411.16914).
"""

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..core.arrays import ScalarLike
from ..core.captured import captured
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params, add_scaled, dot, root, scaled
from ..core.validation import (
    as_params,
    positive,
    positive_integer,
    prng_seed,
)

LOSS_CHANGE: Final = math.sqrt(2 / (3 * math.pi))
"""c: the mean size of a normal number of variance 1/3, 0.460659."""

Probes = PyTree[Float[Array, "probe ..."]]
"""Directions whose entries are +1 or -1: a pytree like the parameters, with an axis in front."""


class GlassEstimate(NamedTuple):
    """What probes find of the gradient around a point.

    Attributes:
        density: rho, a pytree like the parameters, loss^2 / parameter^3.
        curvature: The mean of |h| or of h^2, h = (H z)_i, a pytree like the parameters.
        gradient: g at the point, a pytree like the parameters.
        cost: One gradient, and two for each probe.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import glass_density
        >>> found = glass_density(lambda w: w[0] * w[1], jnp.asarray([2.0, 3.0]), probes=4)
        >>> found.gradient.tolist(), [round(float(h), 6) for h in found.curvature]
        ([3.0, 2.0], [1.0, 1.0])
    """

    density: Params
    curvature: Params
    gradient: Params
    cost: Cost


def rademacher(seed: int | Array, params: Params, count: int) -> Probes:
    """Return random directions whose entries are +1 or -1, each with probability 1/2.

    Args:
        seed: An integer, or a PRNG key.
        params: Whose shapes and dtypes the directions have.
        count: How many.

    Returns:
        A pytree like `params`, with an axis of length `count` in front of each leaf.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows.glass.density import rademacher
        >>> rademacher(0, {"weight": jnp.zeros((2, 3))}, 4)["weight"].shape
        (4, 2, 3)
    """
    key = jax.random.key(seed) if isinstance(seed, int) else seed
    flat, unravel = ravel_pytree(params)
    return jax.vmap(unravel)(jax.random.rademacher(key, (count, flat.size), flat.dtype))


def probed(
    potential: Potential,
    params: Params,
    gradient: Params,
    probes: Probes,
    sigma: Float[Array, ""],
    size: Callable[[Array], Array] = jnp.abs,
) -> tuple[Params, Params]:
    """Return the density and the curvature that probes find, each a mean over the probes.

    Args:
        potential: The loss.
        params: Around which point.
        gradient: g there, which whoever probes has already.
        probes: The directions z.
        sigma: How far along them the gradient is taken: g+ and g- at `params` +- sigma z.
        size: What the curvature is the mean of, a function of h = (g+ - g-)/(2 sigma).

    Returns:
        2 ((g+ + g-)/2 - g)^2 / sigma, and `size` of h: pytrees like `params`.
    """

    def one(probe: Params) -> tuple[Params, Params]:
        # One after the other: a batch of two gradients is slower on a CPU, and takes more memory.
        ends = lax.map(
            lambda sign: jax.grad(potential)(add_scaled(params, sign, scaled(sigma, probe))),
            jnp.asarray([1, -1], jax.tree.leaves(params)[0].dtype),
        )
        second = jax.tree.map(lambda g, g0: 0.5 * (g[0] + g[1]) - g0, ends, gradient)
        half = jax.tree.map(lambda g: 0.5 * (g[0] - g[1]), ends)
        density = scaled(2 / sigma, jax.tree.map(jnp.square, second))
        return density, jax.tree.map(size, scaled(1 / sigma, half))

    return jax.tree.map(lambda x: jnp.mean(x, 0), lax.map(one, probes))


def glass_density(
    potential: Potential,
    params: PyTree,
    sigma: ScalarLike = 1e-3,
    *,
    probes: int = 1,
    seed: int = 0,
) -> GlassEstimate:
    """Estimate the density of gradient glass of each parameter (arXiv 2411.16914).

    With z a vector of random signs, gradients g+ and g- at w +- sigma z and g0 at w,

        rho = 2 ((g+ + g-)/2 - g0)^2 / sigma,    h = (g+ - g-) / (2 sigma),

    entry by entry, and rho and |h| are averaged over the probes z. rho is, in expectation, the sum
    of the squared jumps of the gradient per length of the segment, if jumps do not correlate. h is
    an entry of H z: it is of the size of a row of the Hessian, and not of its diagonal.

    Where the gradient has no jumps, rho measures derivatives of the curvature, and falls as
    sigma^3: compare two lengths. The rounding error of rho is about (u g)^2 / sigma, with the unit
    roundoff u, so that a small sigma loses digits.

    Args:
        potential: The loss.
        params: Around which point, any pytree of floats.
        sigma: How far along a probe, in parameters, above 0.
        probes: How many, at least 1; each costs two gradients.
        seed: Of the probes, which are the same for the same seed.

    Returns:
        The estimate, with the gradient at `params` and the cost.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        The gradient of |w| jumps by 2 at 0, which segments of length 2 sigma about 0 cross:

        >>> import jax.numpy as jnp
        >>> from flows import glass_density
        >>> found = glass_density(lambda w: jnp.sum(jnp.abs(w - 0.04)), jnp.zeros(1), 0.1)
        >>> float(found.density[0]), int(found.cost.gradients)
        (20.0, 3)
    """
    sigma, params = positive("sigma", sigma), as_params(params)
    count, seed = positive_integer("probes", probes), prng_seed("seed", seed)
    potential = captured(potential, params)
    return _estimated(potential, params, rademacher(seed, params, count), sigma)


@eqx.filter_jit
def _estimated(
    potential: Potential, params: Params, probes: Probes, sigma: Float[Array, ""]
) -> GlassEstimate:
    gradient = jax.grad(potential)(params)
    density, curvature = probed(potential, params, gradient, probes, sigma)
    count = len(jax.tree.leaves(probes)[0])
    return GlassEstimate(density, curvature, gradient, Cost(gradients=1 + 2 * count))


def glass_loss_change(density: Params, displacement: Params) -> Float[Array, ""]:
    """Return the size of the change of the loss that glass makes, as expected for a displacement.

    Along one parameter it is normal with variance rho |delta|^3 / 3, so that its expected size is
    c sqrt(rho) |delta|^(3/2), c = sqrt(2/(3 pi)) = 0.460659 (arXiv 2411.16914). The sum over all
    parameters is what a step that minimises a bound for each of them adds up.

    Args:
        density: rho, a pytree like the parameters.
        displacement: delta, a pytree like the parameters.

    Returns:
        The sum of c sqrt(rho_i) |delta_i|^(3/2), scalar, in units of the loss.

    Raises:
        ValueError: If the two have leaves of other shapes.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import glass_loss_change
        >>> round(float(glass_loss_change(jnp.asarray([1.0]), jnp.asarray([1.0]))), 6)
        0.460659
    """
    shapes = [[jnp.shape(x) for x in jax.tree.leaves(tree)] for tree in (density, displacement)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"displacement must have leaves of the shapes of density, {shapes[0]}; got {shapes[1]}."
        )
    roots = jax.tree.map(root, density)
    sizes = jax.tree.map(lambda x: jnp.abs(x) ** 1.5, displacement)
    return LOSS_CHANGE * dot(roots, sizes)
