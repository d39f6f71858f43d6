"""Data sets: inputs and targets as arrays, ready for a `SupervisedPotential`."""

from potentials.data.cifar10 import load_cifar10
from potentials.data.dataset import Dataset, one_hot, smoothed
from potentials.data.digits import load_digits, load_other_digits
from potentials.data.generated import banana, generated_regression
from potentials.data.npz import load_npz
from potentials.data.synthetic import chebyshev, two_moons
from potentials.data.tabular import load_breast_cancer, load_wine

__all__ = [
    "Dataset",
    "banana",
    "chebyshev",
    "generated_regression",
    "load_breast_cancer",
    "load_cifar10",
    "load_digits",
    "load_npz",
    "load_other_digits",
    "load_wine",
    "one_hot",
    "smoothed",
    "two_moons",
]
