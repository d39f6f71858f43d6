"""Loss and sharpness of parts of the examples, measured along a trajectory."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from ..core.arrays import Modes
from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import boolean, positive_integer, prng_seed, text
from ..core.variables import LOSS, SHARPNESS, Variable
from ..curvature.eigenpairs import find_eigenpairs, starting_modes
from ..curvature.metric import AbstractMetric
from .base import AbstractMeasurement, AbstractMetricMeasurement, Measured
from .gauss_newton import need
from .occasional import when_due

_LOSSES: Final = {
    "class_loss": Variable(LOSS, "mean loss of the examples of each class", ("class",))
}
_SHARPNESSES: Final = {
    "class_sharpness": Variable(
        SHARPNESS, "largest eigenvalue of the Hessian of each class's mean loss", ("class",)
    )
}


class _Weighted(eqx.Module):
    """The mean loss of examples that have weights."""

    potential: Any
    weights: Float[Array, " example"]

    def __call__(self, params: Params) -> Float[Array, ""]:
        whole = self.potential
        total = whole.weighted_sum(
            whole.example_loss, params, whole.inputs, whole.targets, self.weights
        )
        return total / jnp.sum(self.weights)


class ClassLosses(AbstractMeasurement):
    """The mean loss of the examples of each class, and the sharpness of each such loss.

    The class of an example is where its target is largest. Weighted by their shares of the
    examples, the losses add up to the loss. The sharpness of a class is that of the loss that has
    only its examples: an eigenproblem for each class and save.

    It needs a classifier's `potentials.SupervisedPotential`, whose `has_accuracy` is true.

    Attributes:
        sharpness: True to measure `class_sharpness` too.
        every: Measure at every n-th saved step; the values are nan in between, and for a class
            without examples.

    Raises:
        ValueError: If an argument is not of its kind; when it is measured, if the potential has no
            classes.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flows import ClassLosses, measure
        >>> from potentials import MLP, SupervisedPotential, cross_entropy
        >>> network = MLP((1, 2), key=jax.random.key(0))
        >>> loss = SupervisedPotential(
        ...     network, jnp.asarray([[-1.0], [2.0], [3.0]]), jnp.eye(2)[jnp.asarray([0, 1, 1])],
        ...     cross_entropy,
        ... )
        >>> path = jax.tree.map(lambda x: x[None], loss.params)
        >>> classes = measure(ClassLosses(), loss, path)[0]["class_loss"][0]
        >>> bool(abs(classes[0] / 3 + 2 * classes[1] / 3 - loss(loss.params)) < 1e-12)
        True
    """

    structural_fields: ClassVar[tuple[str, ...]] = ("sharpness",)

    sharpness: bool = eqx.field(static=True, default=False, converter=partial(boolean, "sharpness"))
    every: int = eqx.field(static=True, default=1, converter=partial(positive_integer, "every"))

    @property
    def variables(self) -> Mapping[str, Variable]:
        """`class_loss`, and `class_sharpness` if that is measured."""
        return {**_LOSSES, **_SHARPNESSES} if self.sharpness else _LOSSES

    def init(self, potential: Any, params: Params) -> Modes | None:
        """Return random vectors to start eigen-iterations from, one for each class."""
        need(potential, "example_losses", "losses of classes")
        if not potential.has_accuracy:
            raise ValueError(
                "potential must be a classifier's for losses of classes: its targets are one-hot "
                f"rows; these have shape {potential.targets.shape} and are a regression's."
            )
        if not self.sharpness:
            return None
        return jnp.repeat(starting_modes(params, 1), potential.targets.shape[1], axis=0)

    def measure(
        self, potential: Any, params: Params, state: Modes | None, index: Int[Array, ""]
    ) -> Measured:
        """Return `class_loss`, and `class_sharpness` if that is measured."""

        def measured(state: Modes | None) -> Measured:
            losses = potential.example_losses(params)
            count = potential.targets.shape[1]
            labels = jnp.argmax(potential.targets, axis=1)
            members = jax.nn.one_hot(labels, count, axis=0, dtype=losses.dtype)
            sizes = jnp.sum(members, axis=1)
            values = {"class_loss": jnp.where(sizes > 0, members @ losses / sizes, jnp.nan)}
            # The losses take a forward pass, which the loss measured beside them takes too.
            if state is None:
                return values, state, Cost()

            def of_class(start: tuple[Array, Array]) -> tuple[Array, Array, Array]:
                # Of a class without examples the loss is zero, and replaced.
                weights = start[0] + jnp.where(jnp.any(start[0] > 0), 0, 1).astype(losses.dtype)
                pairs = find_eigenpairs(
                    _Weighted(potential, weights), params, start=start[1][None], tolerance=1e-3
                )
                return pairs.values[0], pairs.vectors[0], pairs.hvps

            found, vectors, hvps = lax.map(of_class, (members, state))
            values["class_sharpness"] = jnp.where(sizes > 0, found, jnp.nan)
            return values, vectors, Cost(gradients=count, hvps=jnp.sum(hvps))

        return when_due(measured, self.every, params, state, index)


def _examples(examples: Any) -> int | tuple[int, ...]:
    if isinstance(examples, int | np.integer) and not isinstance(examples, bool):
        return positive_integer("examples", examples)
    array = np.asarray(examples)
    if array.ndim != 1 or not array.size or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            "examples must be how many to draw, or the indices of some, as in [0, 1, 5]; got "
            f"{examples!r}."
        )
    if np.min(array) < 0:
        raise ValueError(f"examples must be indices of at least 0; got {int(np.min(array))}.")
    return tuple(array.tolist())


class OnExamples(AbstractMetricMeasurement):
    """Another measurement, made on the loss over some of the examples only.

    `OnExamples(Curvature(1), 100)` is the sharpness of the loss over 100 examples drawn at random,
    the same ones at each save, at a fraction of the cost of that over all.

    It needs a potential with `inputs`, a row for each example, and a method `subset(indices)` that
    returns the loss over some of them, as `potentials.SupervisedPotential` has it.

    Attributes:
        measurement: What is measured. Its quantities and their dimensions get the name in front:
            `subset_sharpness`.
        examples: How many to draw, without repetition, or the indices of some.
        seed: Of the draw.
        name: In front of the quantities; of two of these it has to differ.

    Raises:
        ValueError: If an argument is not of its kind; when it is measured, if the potential has no
            examples, or fewer.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flows import LossAndGradient, OnExamples, measure
        >>> from potentials import MLP, SupervisedPotential, chebyshev, mse
        >>> data = chebyshev(examples=5, degree=2)
        >>> network = MLP((1, 3, 1), key=jax.random.key(0))
        >>> loss = SupervisedPotential(network, data.inputs, data.targets, mse)
        >>> path = jax.tree.map(lambda x: x[None], loss.params)
        >>> values, _ = measure(OnExamples(LossAndGradient(), [0, 3], name="two"), loss, path)
        >>> part = SupervisedPotential(
        ...     network, data.inputs[jnp.asarray([0, 3])], data.targets[jnp.asarray([0, 3])], mse
        ... )
        >>> bool(abs(values["two_loss"][0] - part(loss.params)) < 1e-12)
        True
    """

    structural_fields: ClassVar[tuple[str, ...]] = ("measurement", "name")

    measurement: AbstractMeasurement
    examples: int | tuple[int, ...] = eqx.field(static=True, converter=_examples)
    seed: int = eqx.field(static=True, default=0, converter=partial(prng_seed, "seed"))
    name: str = eqx.field(static=True, default="subset", converter=partial(text, "name"))

    def __check_init__(self) -> None:
        if not isinstance(self.measurement, AbstractMeasurement):
            raise ValueError(
                f"measurement must be one such as Curvature(1); got {self.measurement!r}."
            )

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Those of the measurement, with the name in front."""
        return {
            f"{self.name}_{name}": variable._replace(
                description=f"{variable.description}; over some examples",
                dims=tuple(f"{self.name}_{dim}" for dim in variable.dims),
            )
            for name, variable in self.measurement.variables.items()
        }

    def init(self, potential: Any, params: Params) -> PyTree[Array]:
        """Return the state of the measurement."""
        return self.measurement.init(self.part(potential), params)

    def measure(
        self, potential: Any, params: Params, state: PyTree[Array], index: Int[Array, ""]
    ) -> Measured:
        """Return what the measurement does along a bare path, with the name in front."""
        found = self.measurement.measure(self.part(potential), params, state, index)
        return self._named(*found)

    def measure_in(
        self,
        metric: AbstractMetric | None,
        potential: Any,
        params: Params,
        state: PyTree[Array],
        index: Int[Array, ""],
    ) -> Measured:
        """Return what the measurement does in the metric of the run, with the name in front."""
        inner, part = self.measurement, self.part(potential)
        if isinstance(inner, AbstractMetricMeasurement):
            values, state, cost = inner.measure_in(metric, part, params, state, index)
        else:
            values, state, cost = inner.measure(part, params, state, index)
        return self._named(values, state, cost)

    def _named(self, values: dict[str, Array], state: PyTree[Array], cost: Cost) -> Measured:
        return {f"{self.name}_{name}": value for name, value in values.items()}, state, cost

    def part(self, potential: Any) -> Potential:
        """Return the potential of the chosen examples.

        Raises:
            ValueError: If the potential has no examples, or not so many.
        """
        need(potential, "subset", "a part of the examples")
        if not hasattr(potential, "inputs"):
            raise ValueError(
                "potential must have `inputs`, a row for each example, for a part of the examples; "
                f"got a {type(potential).__name__} without."
            )
        total = potential.inputs.shape[0]
        chosen = self.examples
        count = chosen if isinstance(chosen, int) else len(chosen)
        if count > total:
            raise ValueError(f"examples must be at most {total}, all there are; got {count}.")
        if isinstance(chosen, int):
            indices = jax.random.permutation(jax.random.key(self.seed), total)[:count]
            return potential.subset(indices)
        if max(chosen) >= total:
            raise ValueError(
                f"examples must be indices below {total}, the number of examples; got "
                f"{max(chosen)}."
            )
        return potential.subset(jnp.asarray(chosen, jnp.int32))
