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
from potentials.gaussian_pits import GaussianPits
from potentials.matrix_factorization import Factors, MatrixFactorization
from potentials.networks import ACTIVATIONS, CNN, MLP, AbstractNetwork, parameter_count
from potentials.potential import AbstractPotential
from potentials.precision import cast
from potentials.quadratic import Quadratic
from potentials.quartic import Quartic
from potentials.rosenbrock import Rosenbrock
from potentials.scalar_product import ScalarProduct
from potentials.sine_regression import SineRegression
from potentials.supervised import SupervisedPotential
from potentials.valley import SharpValley, SharpValley2
from potentials.weierstrass import Weierstrass, WeierstrassSine
from potentials.whitley import Whitley

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
    "GaussianPits",
    "Layers",
    "MatrixFactorization",
    "Quadratic",
    "Quartic",
    "Rosenbrock",
    "ScalarProduct",
    "SharpValley",
    "SharpValley2",
    "SineRegression",
    "SupervisedPotential",
    "Weierstrass",
    "WeierstrassSine",
    "Whitley",
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
