"""Losses to descend: toy potentials known in closed form, networks, and data sets."""

from potentials.catapult import Catapult, Layers
from potentials.criteria import cross_entropy, kl_divergence, mse
from potentials.data import (
    Dataset,
    banana,
    chebyshev,
    generated_regression,
    load_breast_cancer,
    load_cifar10,
    load_digits,
    load_npz,
    load_other_digits,
    load_wine,
    one_hot,
    smoothed,
    two_moons,
)
from potentials.data_parallel import DataParallel
from potentials.double_well import DoubleWell
from potentials.gaussian_pits import GaussianPits
from potentials.matrix_factorization import Factors, MatrixFactorization
from potentials.networks import ACTIVATIONS, CNN, MLP, AbstractNetwork, parameter_count
from potentials.potential import AbstractPotential
from potentials.precision import cast
from potentials.quadratic import Quadratic
from potentials.quartic import Quartic
from potentials.ring import Ring
from potentials.rosenbrock import Rosenbrock
from potentials.scalar_product import ScalarProduct
from potentials.sine_regression import SineRegression
from potentials.supervised import SupervisedPotential
from potentials.torch_modules import from_torch
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
    "DataParallel",
    "Dataset",
    "DoubleWell",
    "Factors",
    "GaussianPits",
    "Layers",
    "MatrixFactorization",
    "Quadratic",
    "Quartic",
    "Ring",
    "Rosenbrock",
    "ScalarProduct",
    "SharpValley",
    "SharpValley2",
    "SineRegression",
    "SupervisedPotential",
    "Weierstrass",
    "WeierstrassSine",
    "Whitley",
    "banana",
    "cast",
    "chebyshev",
    "cross_entropy",
    "from_torch",
    "generated_regression",
    "kl_divergence",
    "load_breast_cancer",
    "load_cifar10",
    "load_digits",
    "load_npz",
    "load_other_digits",
    "load_wine",
    "mse",
    "one_hot",
    "parameter_count",
    "smoothed",
    "two_moons",
]
