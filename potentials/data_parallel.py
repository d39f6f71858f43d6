"""A supervised potential whose examples are spread over several devices."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped
from jaxtyping import ArrayLike as ShapedArrayLike

from potentials.potential import AbstractPotential
from potentials.supervised import SupervisedPotential, is_correct

_AXIS = "examples"


class DataParallel(AbstractPotential):
    """The same loss as a `SupervisedPotential`, each device computing that of its own examples.

    The parameters are on every device; the examples are dealt out in equal shares, the last one
    filled up with examples of weight zero. Losses, gradients and every further derivative equal
    those on one device to rounding: only the order of a sum is another. Where the potential is
    evaluated in chunks, each device takes chunks of its share.

    Args:
        potential: the loss, a SupervisedPotential.
        devices: where to; by default all of this process, `jax.local_devices()`.

    Raises:
        ValueError: if `potential` is no SupervisedPotential, or there are no devices.
    """

    whole: SupervisedPotential
    examples: int = eqx.field(static=True)
    mesh: Mesh = eqx.field(static=True)

    def __init__(self, potential: Any, devices: Sequence[Any] | None = None):
        if not isinstance(potential, SupervisedPotential):
            raise ValueError(
                f"potential must be a SupervisedPotential, got a {type(potential).__name__}."
            )
        chosen = jax.local_devices() if devices is None else list(devices)
        if not chosen:
            raise ValueError("devices must be at least one, got none.")
        self.mesh = Mesh(np.asarray(chosen), (_AXIS,))
        self.examples = potential.inputs.shape[0]
        dealt = tuple(_deal(data, self.mesh) for data in (potential.inputs, potential.targets))
        self.whole = eqx.tree_at(lambda p: (p.inputs, p.targets), potential, dealt)

    @property
    def params(self) -> PyTree:
        """The weights of the model that was given."""
        return self.whole.params

    @property
    def has_accuracy(self) -> bool:
        """Whether `accuracy` has a meaning."""
        return self.whole.has_accuracy

    def __call__(self, params: PyTree) -> Float[Array, ""]:
        """The mean loss over the examples, of the dtype of `params`."""
        return self._mean(self.whole.example_loss, params)

    def init(self, key: PRNGKeyArray) -> PyTree:
        """Fresh weights drawn from `key`, as `SupervisedPotential.init` draws them."""
        return self.whole.init(key)

    def model(self, params: PyTree) -> Any:
        """The model with the weights `params`, as a callable of one example."""
        return self.whole.model(params)

    def predict(
        self, params: PyTree, inputs: Shaped[ShapedArrayLike, "..."] | None = None
    ) -> PyTree[Array]:
        """The model's predictions, with a leading axis of examples.

        Args:
            params: the weights.
            inputs: examples, shape (examples, ...); by default the potential's own.
        """
        given = self.whole.inputs[: self.examples] if inputs is None else inputs
        return self.whole.predict(params, given)

    def accuracy(self, params: PyTree) -> Float[Array, ""]:
        """The fraction of examples whose largest prediction is at the target's largest entry.

        Raises:
            ValueError: as `SupervisedPotential.accuracy`.
        """
        if not self.has_accuracy:
            return self.whole.accuracy(params)  # It says why.
        return self._mean(is_correct, params)

    def _mean(self, function: Callable[[Any, Array, Array], Array], params: PyTree) -> Array:
        # All that is no data travels as an argument: every device has the whole of it.
        rest = eqx.tree_at(lambda p: (p.inputs, p.targets), self.whole, (None, None))
        arrays, static = eqx.partition(rest, eqx.is_array)

        def share(arrays: PyTree, params: PyTree, inputs: Array, targets: Array) -> Array:
            potential = eqx.combine(arrays, static)
            first = jax.lax.axis_index(_AXIS) * inputs.shape[0]
            counts = first + jnp.arange(inputs.shape[0], dtype=first.dtype) < self.examples
            weights = counts.astype(jnp.result_type(*jax.tree.leaves(params)))
            sum_ = potential.weighted_sum(function, params, inputs, targets, weights)
            return jax.lax.psum(sum_, _AXIS)

        everywhere, dealt = PartitionSpec(), PartitionSpec(_AXIS)
        total = jax.shard_map(
            share,
            mesh=self.mesh,
            in_specs=(everywhere, everywhere, dealt, dealt),
            out_specs=everywhere,
        )(arrays, params, self.whole.inputs, self.whole.targets)
        return total / self.examples


def _deal(data: Array, mesh: Mesh) -> Array:
    """Fill data up to equal shares with repetitions of the first example, and spread them."""
    missing = -data.shape[0] % mesh.size
    filled = jnp.concatenate([data, jnp.repeat(data[:1], missing, axis=0)])
    return jax.device_put(filled, NamedSharding(mesh, PartitionSpec(_AXIS)))
