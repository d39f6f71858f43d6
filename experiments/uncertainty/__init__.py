"""Uncertainty of trained networks: approximate posteriors, and metrics of their predictions."""

from .laplace import MOST_PARAMETERS, Laplace
from .metrics import classification_metrics, expected_calibration_error, out_of_distribution_auroc
from .posteriors import METHODS, Fit, Posteriors
from .training import interpolate

__all__ = [
    "METHODS",
    "MOST_PARAMETERS",
    "Fit",
    "Laplace",
    "Posteriors",
    "classification_metrics",
    "expected_calibration_error",
    "interpolate",
    "out_of_distribution_auroc",
]
