"""How good predicted probabilities are, and how well they show what is not known."""

from typing import Any

import numpy as np

_BINS = 10


def classification_metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Measure how well predicted probabilities agree with the true classes.

    Args:
        probabilities: Shape (examples, classes), rows that sum to 1.
        labels: The true classes, whole numbers, shape (examples,).

    Returns:
        `nll`, the mean negative log likelihood in nats; `brier`, the mean of the squared distance
        from the one-hot label, summed over classes (0 to 2); `ece`; `accuracy`. nan where the
        probabilities are.
    """
    import sklearn.metrics

    if not np.isfinite(probabilities).all():
        return dict.fromkeys(("nll", "brier", "ece", "accuracy"), float("nan"))
    classes = np.arange(probabilities.shape[1])
    # Rounding in the softmax leaves sums of 1 +- 1e-16, which is renormalised, not warned about.
    rows = probabilities / probabilities.sum(axis=1, keepdims=True)
    # The stubs of scikit-learn 1.8 know no value but the default "auto".
    halve: Any = False
    brier = sklearn.metrics.brier_score_loss(labels, rows, labels=classes, scale_by_half=halve)
    return {
        "nll": float(sklearn.metrics.log_loss(labels, rows, labels=classes)),
        "brier": float(brier),
        "ece": expected_calibration_error(rows, labels),
        "accuracy": float(sklearn.metrics.accuracy_score(labels, rows.argmax(axis=1))),
    }


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = _BINS
) -> float:
    """Return the mean over examples of |accuracy - confidence| of the bin that each is in.

    Args:
        probabilities: Shape (examples, classes).
        labels: The true classes, shape (examples,).
        bins: How many bins of confidence, of equal width on [0, 1].
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for one in range(bins):
        inside = index == one
        if inside.any():
            error += abs(correct[inside].mean() - confidence[inside].mean()) * inside.mean()
    return float(error)


def out_of_distribution_auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Return the area under the ROC curve of a test that takes a large entropy for another kind.

    Args:
        inside: Probabilities for examples of the training's kind, shape (examples, classes).
        outside: Those for examples of another kind.

    Returns:
        1 if every other example has a larger entropy, 0.5 for chance; nan where probabilities are.
    """
    import sklearn.metrics

    if not (np.isfinite(inside).all() and np.isfinite(outside).all()):
        return float("nan")
    tiny = np.finfo(inside.dtype).tiny
    entropy = [-(p * np.log(np.maximum(p, tiny))).sum(axis=1) for p in (inside, outside)]
    truth = np.repeat([0, 1], [len(inside), len(outside)])
    return float(sklearn.metrics.roc_auc_score(truth, np.concatenate(entropy)))
