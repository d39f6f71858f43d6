"""What the studies of uncertainty share: fields, checks of a network's size, and training."""

import importlib.util
from typing import TYPE_CHECKING, Annotated, TypeAlias

import pydantic

from ..system.lazy import jax, potentials
from ..tables.base import BuildError, PositiveFloat, Size, SmallSize
from ..uncertainty.methods import METHODS, Method
from .fields import Once, Positives
from .study import AbstractStudy

if TYPE_CHECKING:
    from ..uncertainty.posteriors import Posteriors

Methods: TypeAlias = Annotated[tuple[Method, ...], pydantic.Field(strict=False, min_length=1), Once]
Smoothing = Annotated[float, pydantic.Field(gt=0, lt=1)]


class AbstractPosteriorStudy(AbstractStudy):
    """A study of approximate posteriors of networks that meet their noisy training targets.

    Attributes:
        hidden: Units of the one hidden layer.
        train: Training examples.
        validation: Held-out examples, by whose negative log likelihood each method's scale is
            chosen.
        samples: Of each method.
        members: Of the deep ensemble.
        scales: Standard deviations of the weights to choose from.
        gravity: Of dissipative mechanics.
        friction: Its viscous coefficient.
        tolerance: The loss at which a particle is at rest. For P weights it takes a share
            sqrt(2 gravity tolerance / P) / (scale * friction) of the way of DiMS.
        max_time: When a particle is given up.
        methods: Those that are drawn or judged.
    """

    hidden: SmallSize
    train: Size
    validation: Size
    samples: SmallSize = 32
    members: SmallSize = 8
    scales: Positives = (0.1, 0.3, 1.0)
    gravity: PositiveFloat = 10.0
    friction: PositiveFloat = 1.0
    tolerance: PositiveFloat = 1e-5
    max_time: PositiveFloat = 5000.0
    methods: Methods = METHODS


def check_network(
    study: AbstractPosteriorStudy,
    widths: tuple[int, int, int],
    train: int,
    *,
    classes: bool,
    where: str = "",
) -> None:
    """Refuse a network of which no set of minima, or no Laplace approximation, can be made.

    Args:
        study: The study.
        widths: Of its network, which has one hidden layer.
        train: Its training examples.
        classes: True if its outputs are those of a softmax, of which one is redundant.
        where: The table of the key `hidden`, with a dot, if it is not the study itself.

    Raises:
        BuildError: if the weights, less those that a softmax makes redundant, are fewer than the
            numbers that they are trained to meet; if the dense matrix of P columns is too large, or
            laplax not installed.
    """
    from ..uncertainty.laplace import MOST_PARAMETERS

    inputs, hidden, outputs = widths
    # One number added to all outputs leaves a softmax as it is.
    independent = outputs - classes
    free = (inputs + 1) * hidden + (hidden + 1) * independent
    targets = train * independent
    if free < targets:
        least = -(-(targets - independent) // (inputs + 1 + independent))
        raise BuildError(
            f"{where}hidden",
            f"given {hidden}, a network of {free} independent weights for {targets} independent "
            f"targets of {train} examples, without a set of minima to sample; must be at least "
            f"{least}",
        )
    asked = [method for method in study.methods if method.endswith("laplace")]
    size = (inputs + 1) * hidden + (hidden + 1) * outputs
    if asked and size > MOST_PARAMETERS:
        message = f"given {hidden}, a network of {size} weights; Laplace approximations"
        raise BuildError(
            f"{where}hidden", f"{message} form a matrix of at most {MOST_PARAMETERS} columns"
        )
    if asked and importlib.util.find_spec("laplax") is None:
        message = f"given {', '.join(asked)}, which need the package laplax, not installed here"
        raise BuildError("methods", message)


def train(
    study: AbstractPosteriorStudy,
    data: "potentials.Dataset",
    seed: int,
    *,
    noise: float = 1.0,
    smoothing: float | None = None,
) -> "Posteriors":
    """Train a network until it meets its targets.

    Args:
        study: Sizes and scales.
        data: The training examples.
        seed: Of the weights, and of all draws after.
        noise: Standard deviation of a regression's targets.
        smoothing: Share of the uniform distribution in the targets of classes; None for a
            regression.

    Returns:
        The methods around the network.
    """
    from ..uncertainty.posteriors import Posteriors
    from ..uncertainty.training import interpolate, network

    potential = network(data, study.hidden, smoothing)
    weights, draws = jax.random.split(jax.random.key(seed))
    params, _ = interpolate(potential, potential.init(weights))
    return Posteriors(
        potential,
        params,
        draws,
        samples=study.samples,
        members=study.members,
        noise=noise,
        gravity=study.gravity,
        friction=study.friction,
        tolerance=study.tolerance,
        max_time=study.max_time,
    )
