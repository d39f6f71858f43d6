"""The preconditioner of an adaptive method within Central Flow: how it moves with the average.

The state holds nu, the average of squared gradients that the step at w divides by. The average of
the squared gradients over the oscillation is s + diag(H Sigma H), where s = g^2 is that at the
centre, so that (arXiv 2410.24206, with the lag of an average that holds the current gradient)

    dnu/dt = rho (s + diag(H Sigma H) - nu),    rho = (1 - b2) / b2,

entry by entry; or with |g|^2 and the trace, where all parameters share one nu.

In the direction in which the iterates alternate, nu alternates too, in step with the gradient: the
step is a little shorter where the gradient is larger. On average that slows the descent by

    K = 1 - kappa N,    kappa = (1 - b2) / (1 + b2),
    N = clip(1 - g^2 / nu, 0, 1) 2 (nu / P) dP/dnu,

a correction of our own: without it, the flow of RMSProp does not converge to the averaged iterates
as the learning rate falls.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..core.arrays import Modes, Vector, divisor
from ..core.trees import Params
from ..linear_algebra.packed_symmetric import Square, pairs
from ..optimizers.second_moment import Average, FlatAverage, SecondMoment, unbiased
from .place import Place


class Preconditioner(eqx.Module):
    """P at a place, and how it is about to change without oscillation.

    Attributes:
        diagonal: P, (P,).
        descent: K / P, what a gradient is multiplied by, (P,).
        slope: dP/dnu, (P,).
        drift: dP/dt without oscillation, (P,).
        pull: rho (s - nu), as a vector, (P,) or (1,).
        lag: rho.
        shared: True if all parameters share one nu.
    """

    diagonal: Vector
    descent: Vector
    slope: Vector
    drift: Vector
    pull: FlatAverage
    lag: Float[Array, ""]
    shared: bool = eqx.field(static=True)

    def energies(self, modes: Modes, covariance: Float[Array, "mode mode"]) -> FlatAverage:
        """Return diag(P U^T X U P), or its trace, (1,): that of H Sigma H is S^2 times as much."""
        own = self.diagonal**2 * jnp.sum((covariance @ modes) * modes, axis=0)
        return jnp.sum(own, keepdims=True) if self.shared else own

    def feedback(self, modes: Modes) -> Square:
        """Return the packed operator X -> U dP[X] U^T, with dP[X] = dP/dnu diag(P U^T X U P)."""
        rows, columns, weights = pairs(modes.shape[0])
        products = modes[rows] * modes[columns] * jnp.asarray(weights[:, None], modes.dtype)
        given, taken = products * self.slope[None], products * self.diagonal[None] ** 2
        if self.shared:
            given, taken = (jnp.sum(part, axis=1, keepdims=True) for part in (given, taken))
        with jax.default_matmul_precision("highest"):
            operator = given @ taken.T
        return 0.5 * (operator + operator.T)


class Preconditioning(eqx.Module):
    """How the preconditioner of an adaptive method depends on the state of Central Flow.

    Attributes:
        average: The conventions of nu.
        alternation: True to correct for the alternation of nu.
    """

    average: SecondMoment
    alternation: bool = eqx.field(static=True)

    @property
    def lag(self) -> Float[Array, ""]:
        """The rate rho = (1 - b2) / b2 at which nu follows what it averages, per step."""
        return (1 - self.average.b2) / self.average.b2

    def diagonal(self, place: Place) -> Vector:
        """Return P, (P,)."""
        return self._diagonal(place.params, place.second_moment, self._count(place.time))

    def at(self, place: Place, gradient: Params) -> Preconditioner:
        """Return P at a place with its changes.

        Args:
            place: Where.
            gradient: g there.
        """
        nu, time = place.second_moment, place.time
        dtype = jax.tree.leaves(nu)[0].dtype
        lag = self.lag.astype(dtype)
        pull = jax.tree.map(lambda s, x: lag * (s - x), self.average.source(gradient), nu)

        def of_nu(nu: Average) -> Vector:
            return divisor(self._diagonal(place.params, nu, self._count(time)))

        # P depends on its own entry of nu only: the derivative along ones is all of it.
        diagonal, slope = jax.jvp(of_nu, (nu,), (jax.tree.map(jnp.ones_like, nu),))
        drift = slope * self.average.diagonal(place.params, pull)
        if self.average.bias_correction:
            assert time is not None

            def of_time(t: Array) -> Vector:
                return divisor(self._diagonal(place.params, nu, self._count(t)))

            drift = drift + jax.jvp(of_time, (time,), (jnp.ones_like(time),))[1]
        descent = 1 / diagonal
        if self.alternation:
            b2 = self.average.b2.astype(dtype)
            kappa = (1 - b2) / (1 + b2)
            flat = self.average.diagonal(place.params, nu)
            corrected = flat
            if self.average.bias_correction:
                assert time is not None
                # What the step divides by is the corrected average, which alternates by more.
                weight = unbiased(self.average.b2, time + 1).astype(dtype)
                kappa, corrected = kappa / weight, flat / weight
            squared = self.average.diagonal(place.params, self.average.source(gradient))
            shared = squared / jnp.where(corrected > 0, corrected, jnp.inf)
            alternating = jnp.clip(1 - shared, 0, 1)
            descent = descent * (1 - kappa * alternating * 2 * flat * slope / diagonal)
        return Preconditioner(
            diagonal,
            descent,
            slope,
            drift,
            ravel_pytree(pull)[0],
            lag,
            shared=self.average.shared,
        )

    def _count(self, time: Float[Array, ""] | None) -> Array | None:
        return None if time is None else time + 1

    def _diagonal(self, params: Params, nu: Average, count: Array | None) -> Vector:
        return self.average.diagonal(params, self.average.preconditioner(nu, count))
