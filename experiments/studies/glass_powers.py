"""How the second difference of the gradient grows with the length of the probes, and glass with N.

Where a segment of length sigma crosses boundaries, their number grows as sigma, and each adds the
square of its jump: the squared second difference goes as sigma. Where the gradient is smooth it
goes as sigma^4, which is more at large lengths. Of a ReLU network the weights of the output have a
continuous gradient: with kinks, that is sigma^3, or sigma^4 where these do not matter. The jumps of
one of N examples are 1/N of its own, so that the density falls as 1/N: glass is an effect of small
batches.
"""

from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, jax, jnp, potentials
from ..tables.base import PositiveFloat
from .fields import Once
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

_INPUTS, _OUTPUTS = 6, 3
_EXAMPLES = "examples"
_LEAVES = ("first weights", "first biases", "output weights", "output biases")


class GlassPowers(AbstractStudy):
    """`kind = "glass_powers"`: glass of a network with one hidden layer, on random data.

    Attributes:
        activations: Of the hidden layer, each a part.
        width: Of the hidden layer.
        examples: How many examples the powers are of.
        shortest: The smallest sigma.
        longest: The largest sigma.
        lengths: How many.
        probes: How many probes each estimate is a mean of.
        numbers: The numbers of examples at which the density of ReLU is found, and counted exactly.
        sigma: The length of those probes.
        seed: Of the data, the weights and the probes.
    """

    kind: Literal["glass_powers"]
    activations: Annotated[
        tuple[Literal["relu", "tanh", "softplus", "gelu"], ...],
        pydantic.Field(strict=False, min_length=1),
        Once,
    ] = ("relu", "tanh")
    width: Annotated[int, pydantic.Field(ge=1, le=1000)] = 16
    examples: Annotated[int, pydantic.Field(ge=1, le=100_000)] = 400
    shortest: PositiveFloat = 1e-4
    longest: PositiveFloat = 1.0
    lengths: Annotated[int, pydantic.Field(ge=2, le=1000)] = 25
    probes: Annotated[int, pydantic.Field(ge=1, le=10_000)] = 32
    numbers: Annotated[
        tuple[Annotated[int, pydantic.Field(ge=1, le=10_000)], ...],
        pydantic.Field(strict=False, min_length=2),
        Once,
    ] = (25, 100, 400, 1600)
    sigma: PositiveFloat = 3e-3
    seed: Annotated[int, pydantic.Field(ge=0, le=2**31)] = 1

    figures = ("glass_powers",)

    @property
    def attributes(self) -> dict[str, Any]:
        """The number of examples, and of probes."""
        return {"examples": self.examples, "probes": self.probes, "sigma": self.sigma}

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per activation, and one for the number of examples."""
        return (*self.activations, _EXAMPLES)

    def check(self) -> None:
        """Check that the lengths are in order.

        Raises:
            ValueError: if they are not.
        """
        if self.shortest >= self.longest:
            raise ValueError(
                f"shortest must be below longest, {self.longest:g}; got {self.shortest:g}."
            )

    def compute(self, part: str) -> Dataset:
        """Estimate over lengths, or over numbers of examples."""
        return self._over_examples() if part == _EXAMPLES else self._over_lengths(part)

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Give powers at short lengths, and of N."""
        conclusions = []
        for part, data in parts.items():
            if part == _EXAMPLES:
                numbers, density = data["number"].values, data["density"].sel(leaf=_LEAVES[0])
                power = np.polyfit(np.log(numbers), np.log(density), 1)[0]
                conclusions.append(Conclusion("power of N of the density of ReLU", power, -1.0))
                ratio = float((density / data["exact"].sel(leaf=_LEAVES[0]))[-1])
                quantity = f"density over the exact count at N = {numbers[-1]}"
                conclusions.append(Conclusion(quantity, ratio, 1.0))
                continue
            quarter = max(len(data["sigma"]) // 4, 2)
            for leaf in (_LEAVES[0], _LEAVES[2]):
                square = data["squared_difference"].sel(leaf=leaf)
                logs = np.log(data["sigma"].values), np.log(square.values)
                power = np.polyfit(logs[0][:quarter], logs[1][:quarter], 1)[0]
                quantity = f"{part}, {leaf}: power of sigma at short lengths"
                kinked = part == "relu"
                predicted = 4.0 if not kinked else 1.0 if leaf == _LEAVES[0] else 3.0
                conclusions.append(Conclusion(quantity, power, predicted))
        return conclusions

    def _potential(self, activation: Any, examples: int) -> "potentials.SupervisedPotential":
        keys = jax.random.split(jax.random.key(self.seed), 3)
        inputs = jax.random.normal(keys[0], (examples, _INPUTS))
        targets = jax.random.normal(keys[1], (examples, _OUTPUTS))
        network = potentials.MLP((_INPUTS, self.width, _OUTPUTS), activation, key=keys[2])
        return potentials.SupervisedPotential(network, inputs, targets, potentials.mse)

    def _over_lengths(self, activation: str) -> Dataset:
        potential = self._potential(activation, self.examples)
        estimate = self._estimate(potential)
        sigmas = np.geomspace(self.shortest, self.longest, self.lengths)
        density = np.array([estimate(sigma) for sigma in sigmas])
        return dataset(
            {
                "squared_difference": (
                    ("sigma", "leaf"),
                    density * sigmas[:, None] / 2,
                    "loss^2 / parameter^2",
                    "sum over an array of ((g+ + g-)/2 - g0)^2",
                ),
            },
            {
                "sigma": ("sigma", sigmas, "parameter", "length of the probes"),
                "leaf": ("leaf", np.array(_LEAVES, object), "1", "which array of the parameters"),
            },
            label=activation,
        )

    def _over_examples(self) -> Dataset:
        from flows.glass.crossings import jump_density

        found, exact = [], []
        for number in self.numbers:
            potential = self._potential("relu", number)
            found.append(self._estimate(potential)(self.sigma))
            probes = self._probes(potential)
            counted = [
                _sums(
                    jump_density(
                        potential,
                        potential.params,
                        jax.tree.map(lambda x, i=i: x[i], probes),
                        self.sigma,
                    )
                )
                for i in range(self.probes)
            ]
            exact.append(np.mean(counted, 0))
        units = "loss^2 / parameter^3"
        along = ("number", "leaf")
        return dataset(
            {
                "density": (along, found, units, "sum of the estimates over an array"),
                "exact": (along, exact, units, "squared jumps per length, counted exactly"),
            },
            {
                "number": ("number", np.array(self.numbers), "1", "number of examples"),
                "leaf": ("leaf", np.array(_LEAVES, object), "1", "which array of the parameters"),
            },
            label="relu",
        )

    def _estimate(self, potential: "potentials.SupervisedPotential") -> Any:
        """Return a function from a length to the density of each array."""

        def density(sigma: float) -> np.ndarray:
            found = flows.glass_density(
                potential, potential.params, sigma, probes=self.probes, seed=self.seed
            )
            return _sums(found.density)

        return density

    def _probes(self, potential: "potentials.SupervisedPotential") -> Any:
        from flows.glass.density import rademacher

        return rademacher(self.seed, potential.params, self.probes)


def _sums(tree: Any) -> np.ndarray:
    return np.array([float(jnp.sum(leaf)) for leaf in jax.tree.leaves(tree)])
