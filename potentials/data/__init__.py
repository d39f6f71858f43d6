"""Data sets: inputs and targets as arrays, ready for a `SupervisedPotential`."""

from potentials.data.dataset import Dataset, one_hot
from potentials.data.digits import load_digits

__all__ = ["Dataset", "load_digits", "one_hot"]
