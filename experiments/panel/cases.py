"""The cases of the panel: a loss, an optimizer, a start and a length each.

They were fixed before any flow was run on them, and no flow is tuned to one. On toys all flows
start at step 0; on networks, whose first steps no smooth flow follows, all of them start at step
`burn` of one discrete run.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..system.lazy import flows, jax, jnp, potentials

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, PyTree

    Problem: TypeAlias = tuple[flows.Potential, PyTree[Array]]
    Optimizer: TypeAlias = flows.AbstractOptimizer | optax.GradientTransformation


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the panel.

    Attributes:
        description: One line: the loss, the optimizer and the start.
        problem: Makes the loss, and the parameters of step 0.
        optimizer: Makes the optimizer, or an optax transformation.
        steps: The last step.
        burn: The step at which the flows start.
        rods: How many rods Rod Flow has beside the run with one; 1 where one is all there can be.
        watched: How many eigenvalues Central Flow watches: more than ever oscillate.
    """

    description: str
    problem: "Callable[[], Problem]"
    optimizer: "Callable[[], Optimizer]"
    steps: int
    burn: int = 0
    rods: int = 4
    watched: int = 5


def _descent(learning_rate: float) -> "Callable[[], Optimizer]":
    return lambda: flows.GradientDescent(learning_rate)


def _optax(name: str, learning_rate: float, **options: float) -> "Callable[[], Optimizer]":
    def make() -> "Optimizer":
        import optax

        return getattr(optax, name)(learning_rate, **options)

    return make


def _valley(epsilon: float, *start: float) -> "Callable[[], Problem]":
    return lambda: (potentials.SharpValley(epsilon), jnp.asarray(start))


def _valley_2(*start: float) -> "Callable[[], Problem]":
    return lambda: (potentials.SharpValley2(0.01), jnp.asarray(start))


def _product() -> "Problem":
    return potentials.ScalarProduct(), jnp.asarray([2.5, 0.5])


def _quartic() -> "Problem":
    return potentials.Quartic(2.1, 1.0), jnp.asarray([0.05])


def _factorization() -> "Problem":
    target = [[2.0, 0.0], [0.0, 1.0]]
    left, right = [[2.2, 0.1], [0.0, 1.3]], [[0.8, 0.0], [0.1, 0.6]]
    start = potentials.Factors(jnp.asarray(left), jnp.asarray(right))
    return potentials.MatrixFactorization(target, rank=2), start


def _trained(
    model: Callable[..., "potentials.AbstractNetwork"],
    data: Callable[[], "potentials.Dataset"],
    criterion: str = "mse",
) -> "Callable[[], Problem]":
    """Return what makes the loss of a network, with the weights that key 0 draws."""

    def make() -> "Problem":
        found = data()
        network = model(key=jax.random.key(0))
        loss = getattr(potentials, criterion)
        potential = potentials.SupervisedPotential(network, found.inputs, found.targets, loss)
        return potential, potential.params

    return make


def _mlp(*widths: int) -> Callable[..., "potentials.AbstractNetwork"]:
    return lambda key: potentials.MLP(widths, key=key)


def _cnn(key: "Array") -> "potentials.AbstractNetwork":
    return potentials.CNN((1, 8, 8), outputs=10, channels=(4, 4), activation="tanh", key=key)


def _attention(key: "Array") -> "potentials.AbstractNetwork":
    from .attention import AttentionBlock

    return AttentionBlock((8, 8), outputs=10, width=8, heads=2, key=key)


def _digits(examples: int, flatten: bool = True) -> Callable[[], "potentials.Dataset"]:
    return lambda: potentials.load_digits(examples, flatten=flatten)


def _plain_digits() -> "potentials.Dataset":
    """Return the first 200 digits with pixels x/16 - 0.3, for x from 0 to 16."""
    import sklearn.datasets

    images, labels = map(np.asarray, sklearn.datasets.load_digits(return_X_y=True))
    return potentials.Dataset(images[:200] / 16 - 0.3, potentials.one_hot(labels[:200], 10), 10)


def _chebyshev() -> "potentials.Dataset":
    return potentials.chebyshev(examples=20, degree=4)


_SMALL = _trained(_mlp(64, 16, 10), _plain_digits)

CASES = {
    "valley": Case(
        "valley, epsilon .01, from (0, 6)",
        _valley(0.01, 0.0, 6.0),
        _descent(0.3),
        steps=1000,
        rods=2,
        watched=2,
    ),
    "valley-edge": Case(
        "valley, epsilon .001, from the edge",
        _valley(0.001, 0.001**0.5, 2 / 0.3),
        _descent(0.3),
        steps=1500,
        rods=2,
        watched=2,
    ),
    "valley-2": Case(
        "valley of two sharp directions, from near the edge",
        _valley_2(0.0, 0.0, 5.6, 6.2, 0.2),
        _descent(0.3),
        steps=600,
        rods=3,
        watched=3,
    ),
    "valley-2-catapult": Case(
        "valley of two sharp directions, from far below",
        _valley_2(0.0, 0.0, 4.0, 5.0, 0.2),
        _descent(0.3),
        steps=2000,
        rods=3,
        watched=3,
    ),
    "product": Case(
        "product of two scalars, a catapult at the start",
        _product,
        _descent(0.4),
        steps=100,
        rods=2,
        watched=2,
    ),
    "quartic": Case("quartic, S = 2.1", _quartic, _descent(1.0), steps=200, rods=1, watched=1),
    "factorization": Case(
        "matrix factorization of rank 2",
        _factorization,
        _descent(0.4),
        steps=100,
        rods=3,
        watched=3,
    ),
    "chebyshev-mlp": Case(
        "MLP 1-20-20-1, Chebyshev polynomial",
        _trained(_mlp(1, 20, 20, 1), _chebyshev),
        _descent(0.4),
        steps=1500,
        burn=10,
        rods=3,
    ),
    "digits-mlp": Case(
        "MLP 64-16-16-10, digits, squared error",
        _trained(_mlp(64, 16, 16, 10), _digits(200)),
        _descent(0.2),
        steps=300,
        burn=10,
    ),
    "cross-entropy": Case(
        "MLP 64-16-10, digits, cross-entropy",
        _trained(_mlp(64, 16, 10), _digits(200), "cross_entropy"),
        _descent(1.0),
        steps=300,
        burn=10,
    ),
    "cnn": Case(
        "CNN, digits, squared error",
        _trained(_cnn, _digits(50, flatten=False)),
        _descent(0.35),
        steps=300,
        burn=10,
    ),
    "attention": Case(
        "attention block, digits, squared error",
        _trained(_attention, _digits(100)),
        _descent(0.22),
        steps=300,
        burn=10,
    ),
    "heavy-ball": Case(
        "MLP 64-16-10, heavy ball, momentum .5",
        _SMALL,
        lambda: flows.HeavyBall(0.35, 0.5),
        steps=500,
        burn=20,
    ),
    "rmsprop": Case(
        "MLP 64-16-10, RMSProp",
        _SMALL,
        lambda: flows.RMSProp(5e-4, 0.99, eps=0.0, eps_root=1e-8),
        steps=1000,
        burn=60,
    ),
    "nadam": Case(
        "MLP 64-16-10, NAdam", _SMALL, _optax("nadam", 3e-3, b1=0.9, b2=0.99), steps=1000, burn=60
    ),
    "adam": Case(
        "MLP 64-16-10, Adam", _SMALL, _optax("adam", 1e-2, b1=0.9, b2=0.99), steps=1000, burn=60
    ),
}
"""Every case by its name, in the order of the panel's rows."""
