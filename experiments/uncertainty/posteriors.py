"""Predictions of approximate posteriors of one trained network, each a set of samples.

Every method has one scale, a standard deviation of the weights. For the Laplace methods it is that
of the prior; for dissipative mechanics the initial speed over the viscous friction, which is how
far a particle moves along a flat set of minima. Where the data say nothing both are the same, but
for the end of the way: a particle is stopped at the energy E = gravity * tolerance, with a share of
at most sqrt(E / E_0) of its speed left, where E_0 = speed^2 P / 2 is the expected energy at the
start for P weights, and its way is shorter by that share. For speed 0.1, P = 42 and gravity 10 it
is 22% at a tolerance of 1e-3, 7% at 1e-4, 2% at 1e-5 and 0.7% at 1e-6. A tenth of the tolerance
takes about ten times as long, since the last of the way is along soft directions.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

import flows
from potentials import SupervisedPotential

from .laplace import Laplace
from .training import interpolate

# Share of the samples that must count for a scale to be chosen.
_ENOUGH = 0.9


class Fit(NamedTuple):
    """A method's samples, as predictions.

    Attributes:
        predict: Maps inputs (examples, ...) to outputs (samples, examples, outputs).
        kept: Share of the samples that count, of all that were drawn, or of an ensemble's members.
        training_loss: The largest loss of the networks that were trained for it, whether they count
            or not: of the members, or of the one that all other methods are around.
    """

    predict: Callable[[ArrayLike], Float[Array, "samples examples outputs"]]
    kept: float
    training_loss: float


@eqx.filter_jit
def _loss(potential: SupervisedPotential, params: PyTree[Array]) -> Float[Array, ""]:
    return potential(params)


@eqx.filter_jit
def _predict(potential: SupervisedPotential, params: PyTree[Array], inputs: Array) -> Array:
    return jax.vmap(lambda w: potential.predict(w, inputs))(params)


@eqx.filter_jit
def _predict_linearised(
    potential: SupervisedPotential, params: PyTree[Array], samples: PyTree[Array], inputs: Array
) -> Array:
    def one(sample: PyTree[Array]) -> Array:
        tangent = jax.tree.map(jnp.subtract, sample, params)
        value, change = jax.jvp(lambda w: potential.predict(w, inputs), (params,), (tangent,))
        return value + change

    return jax.vmap(one)(samples)


class NegativeLogPosterior(eqx.Module):
    """The sum over examples of the loss, over the noise's variance, and a normal prior.

    Attributes:
        potential: The mean loss.
        factor: examples / noise^2.
        precision: Of the prior.
    """

    potential: flows.Potential
    factor: Float[Array, ""]
    precision: Float[Array, ""]

    def __call__(self, params: PyTree[Array]) -> Float[Array, ""]:
        """Return its value at `params`, without the constant."""
        flat = ravel_pytree(params)[0]
        return self.factor * self.potential(params) + self.precision * jnp.sum(flat**2) / 2


class Posteriors:
    """The methods around one trained network.

    A network whose training did not end at its targets, at a loss of at most `tolerance`, is warned
    of; members of the ensemble for which that is so do not count.

    Args:
        potential: The training loss, with the criterion `mse` or `kl_divergence`.
        params: The trained weights.
        key: PRNG key of all draws.
        samples: How many samples each method draws; the ensemble has `members`.
        members: Networks of the deep ensemble, each trained from its own start.
        noise: Standard deviation of a regression's targets; 1 for classes.
        gravity: Of dissipative mechanics.
        friction: Its viscous coefficient.
        tolerance: A loss: that of networks at their targets, and a particle's energy at rest over
            gravity.
        max_time: When a particle is given up, and not counted.
    """

    def __init__(
        self,
        potential: SupervisedPotential,
        params: PyTree[Array],
        key: PRNGKeyArray,
        *,
        samples: int,
        members: int,
        noise: float = 1.0,
        gravity: float = 10.0,
        friction: float = 1.0,
        tolerance: float = 1e-5,
        max_time: float = 1000.0,
    ):
        self._potential, self._params, self._key = potential, params, key
        self._samples, self._members, self._noise = samples, members, noise
        self._gravity, self._friction = gravity, friction
        self._tolerance, self._max_time = tolerance, max_time
        self._laplace: Laplace | None = None
        self._loss = float(_loss(potential, params))
        if not self._loss <= tolerance:
            warnings.warn(
                f"the network's training did not end at its targets: its loss is {self._loss:.3g}, "
                f"above the tolerance {tolerance:.3g}. All methods but the ensemble are around it.",
                UserWarning,
                stacklevel=2,
            )
        self._fits: dict[str, Callable[[float], Fit]] = {
            "map": lambda scale: self._nonlinear(jax.tree.map(lambda x: x[None], params)),
            "laplace": lambda scale: self._nonlinear(self._draw(scale)),
            "linearised_laplace": self._linearised,
            "riemannian_laplace": self._riemannian,
            "dims": self._dims,
            "deep_ensemble": lambda scale: self._ensemble(),
        }

    def fit(self, method: str, scale: float) -> Fit:
        """Draw a method's samples.

        Args:
            method: One of `METHODS`.
            scale: Standard deviation of the weights; "map" and "deep_ensemble" have none.
        """
        return self._fits[method](scale)

    def choose(
        self, method: str, scales: Sequence[float], score: Callable[[Fit], float]
    ) -> tuple[Fit, float]:
        """Draw a method's samples for each scale, and keep those of the smallest score.

        A scale at which a tenth of the samples or more do not count, since they are not at rest by
        `max_time`, or their geodesics did not end, is chosen only if there is no other.

        Args:
            method: One of `METHODS`.
            scales: To choose from; a method without a scale is fitted once.
            score: The smaller the better; one that is not finite is never chosen over a finite one.

        Returns:
            The samples, and their scale, nan for a method that has none.
        """
        if method in ("map", "deep_ensemble"):
            return self.fit(method, scales[0]), float("nan")
        fits = [self.fit(method, scale) for scale in scales]
        scores = np.nan_to_num([score(fit) for fit in fits], nan=np.inf)
        enough = np.array([fit.kept > _ENOUGH for fit in fits])
        best = int(np.argmin(np.where(enough, scores, np.inf) if enough.any() else scores))
        return fits[best], float(scales[best])

    def _nonlinear(
        self, params: PyTree[Array], kept: float = 1.0, training_loss: float | None = None
    ) -> Fit:
        return Fit(
            lambda inputs: _predict(self._potential, params, jnp.asarray(inputs)),
            kept,
            self._loss if training_loss is None else training_loss,
        )

    def _draw(self, scale: float) -> PyTree[Array]:
        if self._laplace is None:
            self._laplace = Laplace(self._potential, self._params, self._noise)
        return self._laplace.sample(jax.random.fold_in(self._key, 0), self._samples, scale)

    def _linearised(self, scale: float) -> Fit:
        samples = self._draw(scale)
        return Fit(
            lambda inputs: _predict_linearised(
                self._potential, self._params, samples, jnp.asarray(inputs)
            ),
            1.0,
            self._loss,
        )

    def _riemannian(self, scale: float) -> Fit:
        velocities = jax.tree.map(lambda s, w: s - w[None], self._draw(scale), self._params)
        examples = self._potential.inputs.shape[0]
        posterior = NegativeLogPosterior(
            self._potential,
            jnp.asarray(examples / self._noise**2),
            jnp.asarray(scale**-2),
        )
        ends, arrived = flows.exponential_map(posterior, self._params, velocities)
        return self._counted(ends, np.asarray(arrived))

    def _dims(self, scale: float) -> Fit:
        found = flows.sample_minima(
            self._potential,
            self._params,
            jax.random.fold_in(self._key, 1),
            self._samples,
            speed=scale * self._friction,
            gravity=self._gravity,
            friction=self._friction,
            tolerance=self._tolerance * self._gravity,
            max_time=self._max_time,
        )
        return self._counted(found.params, np.asarray(found.converged))

    def _ensemble(self) -> Fit:
        keys = jax.random.split(jax.random.fold_in(self._key, 2), self._members)
        starts = [self._potential.init(key) for key in keys]
        members, losses = zip(
            *(interpolate(self._potential, start) for start in starts), strict=True
        )
        reached = np.array([float(loss) for loss in losses])
        # A loss that is not a number does not count either.
        counts = reached <= self._tolerance
        if not counts.all():
            warnings.warn(
                f"{(~counts).sum()} of {counts.size} members of the ensemble did not end at their "
                f"targets and do not count: the largest loss is {reached.max():.3g}, the tolerance "
                f"{self._tolerance:.3g}.",
                UserWarning,
                stacklevel=4,
            )
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
        return self._counted(stacked, counts, float(reached.max()))

    def _counted(
        self, params: PyTree[Array], counts: np.ndarray, training_loss: float | None = None
    ) -> Fit:
        """Return the samples that count; if none does, a network whose predictions are nan."""
        if not counts.any():
            params = jax.tree.map(lambda x: jnp.full_like(x[:1], jnp.nan), params)
        else:
            params = jax.tree.map(lambda x: x[counts], params)
        return self._nonlinear(params, float(counts.mean()), training_loss)
