"""Predictions of a method's samples, and how well they fit the targets of a data set."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

import potentials

from .metrics import classification_metrics
from .posteriors import Fit


def probabilities(fit: Fit, inputs: ArrayLike) -> np.ndarray:
    """Return predicted probabilities, the mean over samples of the softmax, (examples, classes)."""
    return np.asarray(jnp.mean(jax.nn.softmax(fit.predict(inputs), axis=-1), axis=0))


def labels(data: potentials.Dataset) -> np.ndarray:
    """Return the classes of a data set as whole numbers, (examples,)."""
    return np.asarray(data.targets).argmax(axis=1)


def classification_score(data: potentials.Dataset) -> Callable[[Fit], float]:
    """Return the score of a method's samples that is their negative log likelihood on a data set.

    It is the mean over examples, in nats.
    """
    return lambda fit: classification_metrics(probabilities(fit, data.inputs), labels(data))["nll"]


def regression_moments(fit: Fit, inputs: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation over samples of a prediction, (examples,) each."""
    outputs = np.asarray(fit.predict(inputs))[..., 0]
    return outputs.mean(axis=0), outputs.std(axis=0)


def regression_score(data: potentials.Dataset, noise: float) -> Callable[[Fit], float]:
    """Return the score of a method's samples that is the negative log likelihood of a normal.

    The normal has the samples' mean, and the sum of their variance and the noise's; the score is
    the mean over examples, in nats.

    Args:
        data: The examples, of one target each.
        noise: Standard deviation of the targets.
    """

    def score(fit: Fit) -> float:
        mean, deviation = regression_moments(fit, data.inputs)
        variance = deviation**2 + noise**2
        squares = (np.asarray(data.targets)[:, 0] - mean) ** 2
        return float(np.mean(np.log(2 * np.pi * variance) + squares / variance) / 2)

    return score
