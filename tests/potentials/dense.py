"""Dense Hessians of small potentials, and every toy potential with parameters to try it at."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

import potentials

TOYS: dict[str, potentials.AbstractPotential] = {
    "quadratic": potentials.Quadratic([3.0, 1.0, 0.0, -0.5]),
    "quartic": potentials.Quartic(2.1, 1.0),
    "double well": potentials.DoubleWell(0.5, 1.5, [2.0, 0.3]),
    "valley": potentials.SharpValley(0.01, 0.8),
    "valley of codimension two": potentials.SharpValley2(0.01),
    "product": potentials.ScalarProduct(),
    "deep product": potentials.ScalarProduct(4),
    "factorization": potentials.MatrixFactorization([[1.0, 2.0], [0.5, -1.0], [0.0, 3.0]], 2),
    "rosenbrock": potentials.Rosenbrock(),
    "catapult": potentials.Catapult(4),
    "sum of sines": potentials.WeierstrassSine(4),
    "weierstrass": potentials.Weierstrass(0.5, 2.5, 3),
    "pits": potentials.GaussianPits(5, width=0.3),
    "whitley": potentials.Whitley(2),
    "ring": potentials.Ring(1.2),
    "sine regression": potentials.SineRegression(3.0, examples=8),
}


@eqx.filter_jit
def hessian(potential: potentials.AbstractPotential, params: Any) -> Float[Array, "p p"]:
    """The dense Hessian in the order of `ravel_pytree`."""
    flat, unravel = ravel_pytree(params)
    return jax.hessian(lambda w: potential(unravel(w)))(flat)


@eqx.filter_jit
def spectrum(potential: potentials.AbstractPotential, params: Any) -> Float[Array, " p"]:
    """The Hessian's eigenvalues, ascending."""
    return jnp.linalg.eigvalsh(hessian(potential, params))


@eqx.filter_jit
def gradient(potential: potentials.AbstractPotential, params: Any) -> Any:
    """The compiled gradient."""
    return jax.grad(potential)(params)


def gradient_norm(potential: potentials.AbstractPotential, params: Any) -> float:
    """The Euclidean norm of the gradient."""
    return float(jnp.linalg.norm(ravel_pytree(gradient(potential, params))[0]))
