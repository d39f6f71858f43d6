"""Losses of one example; `SupervisedPotential` takes their mean over the examples.

A criterion is any function `(prediction, target) -> scalar` of one example's prediction and
target. The three here accept the same targets, so that a classifier can be trained with any of
them. Those in `OF_PROBABILITIES` compare probabilities: their predictions are logits, and their
targets sum to 1.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


def mse(prediction: Float[Array, "..."], target: Shaped[Array, "..."]) -> Float[Array, ""]:
    """Half the squared error, summed over the outputs: 0.5 sum_k (prediction_k - target_k)^2.

    Args:
        prediction: the model's output for one example, of any shape.
        target: what it should be, of the same shape.

    Returns:
        The loss, a scalar in the unit of the outputs squared.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import mse
        >>> float(mse(jnp.asarray([1.0, 3.0]), jnp.asarray([0.0, 1.0])))
        2.5
    """
    _check_shapes("mse", prediction, target)
    return 0.5 * jnp.sum((prediction - target) ** 2)


def cross_entropy(
    prediction: Float[Array, "..."], target: Shaped[Array, "..."]
) -> Float[Array, ""]:
    """Cross entropy in nats between one-hot targets and the softmax of the prediction.

    -sum_k target_k log softmax(prediction)_k. Targets are one-hot rows (see `one_hot`) or any other
    probabilities, such as smoothed labels (see `smoothed`).

    Args:
        prediction: logits of one example, shape (classes,) with two classes or more.
        target: probabilities of the classes, of the same shape, that sum to 1.

    Returns:
        The loss, a scalar, at least the entropy of the target.

    Raises:
        ValueError: if the shapes differ, as they do with integer labels, or there is one class.

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import cross_entropy
        >>> round(float(cross_entropy(jnp.zeros(2), jnp.asarray([1.0, 0.0]))), 6)
        0.693147
    """
    _check_shapes("cross_entropy", prediction, target, "; turn labels into rows with one_hot")
    if prediction.ndim != 1 or prediction.shape[0] < 2:
        raise ValueError(
            f"cross_entropy takes one logit for each of at least 2 classes, got predictions of "
            f"shape {prediction.shape}."
        )
    return -jnp.sum(target * jax.nn.log_softmax(prediction))


def kl_divergence(
    prediction: Float[Array, "..."], target: Shaped[Array, "..."]
) -> Float[Array, ""]:
    """Kullback-Leibler divergence in nats of the softmax of the prediction from the target.

    sum_k target_k (log target_k - log softmax(prediction)_k): the cross entropy minus the target's
    own entropy. Its minimum is 0, where the softmax equals the target.

    Args:
        prediction: logits of one example, shape (classes,) with two classes or more.
        target: probabilities of the classes, of the same shape, that sum to 1.

    Returns:
        The loss, a scalar, not negative.

    Raises:
        ValueError: as `cross_entropy`.

    Example:
        >>> import jax.numpy as jnp
        >>> from potentials import kl_divergence
        >>> float(kl_divergence(jnp.zeros(2), jnp.asarray([0.5, 0.5])))
        0.0
    """
    entropy = -jnp.sum(jax.scipy.special.xlogy(target, target))
    return cross_entropy(prediction, target) - entropy


OF_PROBABILITIES = (cross_entropy, kl_divergence)
"""The criteria whose targets are probabilities of classes."""


def _check_shapes(name: str, prediction: Array, target: Array, hint: str = "") -> None:
    if prediction.shape != target.shape:
        raise ValueError(
            f"{name} takes a target of the prediction's shape {prediction.shape} for each "
            f"example, got {target.shape}{hint}."
        )
