"""What the studies of uncertainty share: train on noisy targets, then fit every method."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import potentials

from ..uncertainty import METHODS, Fit, Posteriors, classification_metrics, interpolate


class Settings(NamedTuple):
    """How networks are trained, and posteriors fitted.

    Attributes:
        hidden: units of the one hidden layer.
        samples: of each method.
        members: of the deep ensemble.
        scales: standard deviations of the weights to choose from.
        gravity: of dissipative mechanics.
        friction: its viscous coefficient.
        tolerance: the loss at which a particle is at rest.
        max_time: when a particle is given up.
    """

    hidden: int
    samples: int
    members: int
    scales: tuple[float, ...]
    gravity: float
    friction: float
    tolerance: float
    max_time: float


class Trained(NamedTuple):
    """A network that meets its training targets.

    Attributes:
        potential: the training loss.
        posteriors: the methods around it.
        loss: the training loss that was reached.
    """

    potential: potentials.SupervisedPotential
    posteriors: Posteriors
    loss: float


def train(
    data: potentials.Dataset,
    settings: Settings,
    seed: int,
    *,
    noise: float = 1.0,
    smoothing: float | None = None,
) -> Trained:
    """Train a network of one hidden layer until it meets its targets.

    Args:
        data: the training examples.
        settings: sizes and scales.
        seed: of the weights, and of all draws after.
        noise: standard deviation of a regression's targets.
        smoothing: share of the uniform distribution in the targets of classes; None for a
            regression.
    """
    widths = (data.inputs.shape[1], settings.hidden, data.targets.shape[1])
    targets = data.targets
    if smoothing is not None:
        targets = jnp.asarray(potentials.smoothed(np.asarray(targets), smoothing))
    potential = potentials.SupervisedPotential(
        potentials.MLP(widths, key=jax.random.key(0)),
        data.inputs,
        targets,
        potentials.mse if smoothing is None else potentials.kl_divergence,
    )
    weights, draws = jax.random.split(jax.random.key(seed))
    params, loss = interpolate(potential, potential.init(weights))
    posteriors = Posteriors(
        potential,
        params,
        draws,
        samples=settings.samples,
        members=settings.members,
        noise=noise,
        gravity=settings.gravity,
        friction=settings.friction,
        tolerance=settings.tolerance,
        max_time=settings.max_time,
    )
    return Trained(potential, posteriors, float(loss))


def probabilities(fit: Fit, inputs: Any) -> np.ndarray:
    """Predicted probabilities, the mean over samples of the softmax, (examples, classes)."""
    return np.asarray(jnp.mean(jax.nn.softmax(fit.predict(inputs), axis=-1), axis=0))


def labels(data: potentials.Dataset) -> np.ndarray:
    """The classes of a data set, as whole numbers."""
    return np.asarray(data.targets).argmax(axis=1)


def classification_score(data: potentials.Dataset) -> Callable[[Fit], float]:
    """The negative log likelihood on a data set, as a score of a method's samples."""
    return lambda fit: classification_metrics(probabilities(fit, data.inputs), labels(data))["nll"]


def regression_moments(fit: Fit, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over samples of a regression's prediction, (examples,) each."""
    outputs = np.asarray(fit.predict(inputs))[..., 0]
    return outputs.mean(axis=0), outputs.std(axis=0)


def regression_score(data: potentials.Dataset, noise: float) -> Callable[[Fit], float]:
    """The negative log likelihood of a normal with the samples' and the noise's variance."""

    def score(fit: Fit) -> float:
        mean, deviation = regression_moments(fit, data.inputs)
        variance = deviation**2 + noise**2
        squares = (np.asarray(data.targets)[:, 0] - mean) ** 2
        return float(np.mean(np.log(2 * np.pi * variance) + squares / variance) / 2)

    return score


__all__ = [
    "METHODS",
    "Settings",
    "Trained",
    "classification_score",
    "labels",
    "probabilities",
    "regression_moments",
    "regression_score",
    "train",
]
