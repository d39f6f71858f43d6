"""Data sets: inputs and targets as arrays, ready for a `SupervisedPotential`."""

from potentials.data.cifar10 import load_cifar10
from potentials.data.dataset import Dataset, one_hot
from potentials.data.digits import load_digits
from potentials.data.npz import load_npz
from potentials.data.synthetic import chebyshev, two_moons

__all__ = [
    "Dataset",
    "chebyshev",
    "load_cifar10",
    "load_digits",
    "load_npz",
    "one_hot",
    "two_moons",
]
