"""A supervised potential whose examples are spread over several devices."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree, Shaped

from potentials.potential import AbstractPotential
from potentials.supervised import Model, SupervisedPotential, is_correct

_AXIS = "examples"


class DataParallel(AbstractPotential):
    """The loss of a `SupervisedPotential`, computed by several devices, each on its own examples.

    The parameters are on every device; the examples are spread in equal shares, the last of which
    is filled up with examples of weight zero. Losses, gradients and all further derivatives equal
    those on one device to rounding: only the order of summation differs. If the potential evaluates
    its examples in chunks, each device goes through its share in chunks of that size.

    With the devices of several processes, as of a job over several nodes, each process runs the
    same program on the same data: after `jax.distributed.initialize()`, `DataParallel(potential,
    jax.devices())` spreads the examples over all of them, and all processes get all results.

    Args:
        potential: the loss, a SupervisedPotential.
        devices: the devices to use; by default all of this process, `jax.local_devices()`. Those
            of other processes are among `jax.devices()`.

    Raises:
        ValueError: if `potential` is no SupervisedPotential, or there are no devices.

    Example:
        >>> import jax
        >>> from potentials import MLP, DataParallel, SupervisedPotential, chebyshev, mse
        >>> data = chebyshev(examples=5, degree=2)
        >>> network = MLP((1, 3, 1), key=jax.random.key(0))
        >>> whole = SupervisedPotential(network, data.inputs, data.targets, mse)
        >>> spread = DataParallel(whole, jax.local_devices()[:1])
        >>> bool(abs(spread(spread.params) - whole(whole.params)) < 1e-12)
        True
    """

    whole: SupervisedPotential
    examples: int = eqx.field(static=True)
    mesh: Mesh = eqx.field(static=True)

    def __init__(
        self,
        potential: SupervisedPotential,
        devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
    ):
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
        """True if the targets are classes, so that `accuracy` is defined."""
        return self.whole.has_accuracy

    def __call__(self, params: PyTree) -> Float[Array, ""]:
        """Return the mean loss over the examples, in the dtype of `params`."""
        return self._mean(self.whole.example_loss, params)

    def init(self, key: PRNGKeyArray) -> PyTree:
        """Draw fresh weights, as `SupervisedPotential.init` does."""
        return self.whole.init(key)

    def model(self, params: PyTree) -> Model:
        """Return the model with the weights `params`, a function of one example."""
        return self.whole.model(params)

    def predict(
        self, params: PyTree, inputs: Shaped[ArrayLike, "..."] | None = None
    ) -> PyTree[Array]:
        """Return the model's predictions, with a leading axis of examples.

        Args:
            params: the weights.
            inputs: examples, shape (examples, ...); by default the potential's own.
        """
        given = self.whole.inputs[: self.examples] if inputs is None else inputs
        return self.whole.predict(params, given)

    def accuracy(self, params: PyTree) -> Float[Array, ""]:
        """Return the fraction of examples whose largest output is where the target's is.

        Raises:
            ValueError: as `SupervisedPotential.accuracy`.
        """
        if not self.has_accuracy:
            return self.whole.accuracy(params)  # Raises an error that says why.
        return self._mean(is_correct, params)

    def _mean(self, function: Callable[[Model, Array, Array], Array], params: PyTree) -> Array:
        # Everything but the data is passed as an argument, of which every device gets a copy.
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
    """Fill the data up to equal shares by repeating the first example, and spread them."""
    missing = -data.shape[0] % mesh.size
    filled = jnp.concatenate([data, jnp.repeat(data[:1], missing, axis=0)])
    return jax.device_put(filled, NamedSharding(mesh, PartitionSpec(_AXIS)))
