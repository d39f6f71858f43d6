"""Losses to descend: toy potentials known in closed form, networks, and data sets."""

from potentials.catapult import Catapult, Layers
from potentials.criteria import cross_entropy, mse
from potentials.data import (
    Dataset,
    chebyshev,
    load_cifar10,
    load_digits,
    load_npz,
    one_hot,
    two_moons,
)
from potentials.double_well import DoubleWell
from potentials.matrix_factorization import Factors, MatrixFactorization
from potentials.networks import ACTIVATIONS, CNN, MLP, AbstractNetwork, parameter_count
from potentials.potential import AbstractPotential
from potentials.precision import cast
from potentials.quadratic import Quadratic
from potentials.quartic import Quartic
from potentials.ring import Ring
from potentials.rosenbrock import Rosenbrock
from potentials.scalar_product import ScalarProduct
from potentials.supervised import SupervisedPotential
from potentials.valley import SharpValley, SharpValley2

__all__ = [
    "ACTIVATIONS",
    "CNN",
    "MLP",
    "AbstractNetwork",
    "AbstractPotential",
    "Catapult",
    "Dataset",
    "DoubleWell",
    "Factors",
    "Layers",
    "MatrixFactorization",
    "Quadratic",
    "Quartic",
    "Ring",
    "Rosenbrock",
    "ScalarProduct",
    "SharpValley",
    "SharpValley2",
    "SupervisedPotential",
    "cast",
    "chebyshev",
    "cross_entropy",
    "load_cifar10",
    "load_digits",
    "load_npz",
    "mse",
    "one_hot",
    "parameter_count",
    "two_moons",
]
