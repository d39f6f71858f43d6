"""The training loss of any Equinox model on any data."""

from collections.abc import Callable
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree, Shaped

from potentials.checks import PositiveInteger, checked, is_traced
from potentials.criteria import OF_PROBABILITIES
from potentials.data.dataset import is_one_hot
from potentials.networks import AbstractNetwork
from potentials.potential import AbstractPotential

Criterion: TypeAlias = Callable[[Array, Array], Array]
"""The loss of one example, a scalar function of prediction and target."""

Model: TypeAlias = Callable[[Array], Array]
"""Maps one example to its prediction."""

# How far from 1 the sum of a row of rounded probabilities may be.
_PROBABILITY = 1e-3


class SupervisedPotential(AbstractPotential):
    """The mean over examples of criterion(model(input), target), as a function of the weights.

    L(w) = (1/n) sum_i criterion(model_w(input_i), target_i).

    The parameters w are the model's float arrays, `eqx.filter(model, eqx.is_inexact_array)`: a
    pytree of the model's structure with None elsewhere. `potential.params` are those of the model
    that was given, `potential.init(key)` draws new ones, `potential.model(params)` puts them back
    into a model. The loss is computed in the dtype of the parameters, to which float inputs and
    targets are cast (see `cast`).

    The potential is a pytree whose arrays are the data and the model's arrays; the model's
    structure, the criterion and the sizes are static. Data of the same shapes, swapped in with
    `eqx.tree_at`, run without a new compilation.

    Args:
        model: any `eqx.Module` that maps one example to one prediction, `model(input)`, without
            random numbers or state. The potential maps it over the examples.
        inputs: examples, shape (examples, ...).
        targets: their targets, shape (examples, ...), as the criterion takes them.
        criterion: `mse`, `cross_entropy`, `kl_divergence` or any function (prediction, target) ->
            scalar of one example. JAX compares it by identity when it looks for an earlier
            compilation: define it once, rather than a new lambda for each potential.
        chunk_size: how many examples are evaluated at a time; None for all. With a number, the loss
            and its derivatives hold the model's intermediate values of only one chunk, and compute
            those of the forward pass twice. The result is the same to rounding; the number of
            examples need not be a multiple.
        build: `build(key)` returns a model like `model` with fresh weights, for `init`. Networks of
            this package need none. Compared by identity, like the criterion.
        classification: whether `accuracy` is defined. By default it is if the targets are one-hot
            rows (two classes or more), or if the criterion is `cross_entropy` or `kl_divergence`.

    Raises:
        ValueError: if inputs and targets differ in length or are empty, have entries that are not
            finite, do not suit the model or the criterion (for `cross_entropy` and
            `kl_divergence`: are no probabilities), the model has no float arrays, or `chunk_size`
            is not a whole number >= 1.

    Example:
        >>> import jax
        >>> from potentials import MLP, SupervisedPotential, chebyshev, mse
        >>> data = chebyshev(examples=5, degree=2)
        >>> network = MLP((1, 3, 1), key=jax.random.key(0))
        >>> potential = SupervisedPotential(network, data.inputs, data.targets, mse)
        >>> potential(potential.params).shape, potential.has_accuracy
        ((), False)
        >>> potential.predict(potential.init(jax.random.key(1))).shape
        (5, 1)
    """

    params: PyTree
    buffers: PyTree
    structure: PyTree = eqx.field(static=True)
    inputs: Shaped[Array, "examples ..."]
    targets: Shaped[Array, "examples ..."]
    criterion: Criterion = eqx.field(static=True)
    chunk_size: int | None = eqx.field(static=True)
    build: Callable[[PRNGKeyArray], eqx.Module] | None = eqx.field(static=True)
    has_accuracy: bool = eqx.field(static=True)

    @checked
    def __init__(
        self,
        model: eqx.Module,
        inputs: Shaped[ArrayLike, "..."],
        targets: Shaped[ArrayLike, "..."],
        criterion: Criterion,
        chunk_size: PositiveInteger | None = None,
        *,
        build: Callable[[PRNGKeyArray], eqx.Module] | None = None,
        classification: bool | None = None,
    ):
        self.params, rest = eqx.partition(model, eqx.is_inexact_array)
        self.buffers, self.structure = eqx.partition(rest, _is_buffer)
        if not jax.tree.leaves(self.params):
            raise ValueError("model must have at least one float array to train, it has none.")
        self.inputs = _examples("inputs", inputs)
        self.targets = _examples("targets", targets)
        if self.inputs.shape[0] != self.targets.shape[0]:
            raise ValueError(
                f"inputs and targets must be as many, got {self.inputs.shape[0]} inputs and "
                f"{self.targets.shape[0]} targets."
            )
        if not callable(criterion):
            raise ValueError(
                f"criterion must be a function such as mse or cross_entropy, got {criterion!r}."
            )
        self.criterion = criterion
        self.chunk_size = chunk_size
        self.build = build
        prediction = self._check_example()
        of_probabilities = criterion in OF_PROBABILITIES
        if of_probabilities and not is_traced(self.targets):
            _check_probabilities(np.asarray(self.targets), self.criterion)
        if classification is None:
            classification = of_probabilities or (
                not is_traced(self.targets) and is_one_hot(np.asarray(self.targets))
            )
        comparable = prediction.ndim == 1 and prediction.shape == self.targets.shape[1:]
        self.has_accuracy = bool(classification) and comparable and prediction.shape[0] > 1

    def __call__(self, params: PyTree) -> Float[Array, ""]:
        """Return the mean loss over the examples, in the dtype of `params`."""
        return self._mean(self.example_loss, params)

    def init(self, key: PRNGKeyArray) -> PyTree:
        """Draw fresh weights, as the model's own class or `build` does it.

        Raises:
            ValueError: if there is no `build` and the model is not a network of this package, or
                if `build` returns a model of another structure.
        """
        if self.build is not None:
            model = self.build(key)
        elif isinstance(self.structure, AbstractNetwork):
            model = self.structure.redraw(key)
        else:
            raise ValueError(
                f"{type(self.structure).__name__} does not say how its weights are drawn: give "
                f"SupervisedPotential build=lambda key: ... that returns a fresh model, or start "
                f"from potential.params, the weights of the model that was given."
            )
        params = eqx.filter(model, eqx.is_inexact_array)
        _check_like(self.params, params, "build(key)")
        return params

    def model(self, params: PyTree) -> Model:
        """Return the model with the weights `params`, a function of one example.

        Raises:
            ValueError: if `params` have another structure or other shapes than the model's.
        """
        _check_like(self.params, params, "params")
        return eqx.combine(params, self.buffers, self.structure)

    def predict(
        self, params: PyTree, inputs: Shaped[ArrayLike, "..."] | None = None
    ) -> PyTree[Array]:
        """Return the model's predictions, with a leading axis of examples.

        Args:
            params: the weights.
            inputs: examples, shape (examples, ...); by default the potential's own.
        """
        model = self.model(params)
        examples = self.inputs if inputs is None else _examples("inputs", inputs)
        return jax.lax.map(
            model, _follow(params, examples), batch_size=self.chunk_size or examples.shape[0]
        )

    def accuracy(self, params: PyTree) -> Float[Array, ""]:
        """Return the fraction of examples whose largest output is where the target's is.

        Raises:
            ValueError: if `has_accuracy` is false: the targets are no classes.
        """
        if not self.has_accuracy:
            raise ValueError(
                "accuracy is defined for targets that name a class in one-hot rows of the "
                f"prediction's shape; these targets have shape {self.targets.shape} and are a "
                "regression's, or were traced when the potential was built (then give "
                "classification=True). Ask has_accuracy first."
            )

        return self._mean(is_correct, params)

    def example_losses(self, params: PyTree) -> Float[Array, " examples"]:
        """Return the loss of each example, shape (examples,), whose mean is the potential."""
        targets = _follow(params, self.targets)
        return jax.vmap(self.criterion)(self.predict(params), targets)

    def subset(self, indices: Shaped[ArrayLike, " examples"]) -> "SupervisedPotential":
        """Return the mean loss over some of the examples.

        Args:
            indices: which examples, whole numbers from 0; those outside of the data count as the
                nearest inside.
        """
        rows = jnp.asarray(indices)
        chosen = self.inputs[rows], self.targets[rows]
        return eqx.tree_at(lambda p: (p.inputs, p.targets), self, chosen)

    def linearised(self, params: PyTree) -> Callable[[PyTree], Array]:
        """Return the loss of the model that is linear in its weights, with that slope at `params`.

        It is w -> mean_i criterion(f_i + J_i (w - params), target_i), with the predictions f_i and
        their Jacobians J_i at `params`. Its Hessian there is the Gauss-Newton matrix
        (1/n) sum_i J_i^T (d^2 criterion / d prediction^2) J_i.
        """
        return _Linearised(self, params)

    def example_loss(self, model: Model, example: Array, target: Array) -> Array:
        """Return the criterion of one example, for a model that has its weights."""
        return self.criterion(model(example), target)

    def weighted_sum(
        self,
        function: Callable[[Model, Array, Array], Array],
        params: PyTree,
        inputs: Shaped[Array, "examples ..."],
        targets: Shaped[Array, "examples ..."],
        weights: Float[Array, " examples"] | None = None,
    ) -> Float[Array, ""]:
        """Return the sum over examples of weight * function(model, input, target).

        At most `chunk_size` examples are evaluated at a time.

        Args:
            function: a function of the model with the weights `params`, an input and a target.
            params: the weights of the model.
            inputs: examples like the potential's own, shape (examples, ...).
            targets: their targets, shape (examples, ...).
            weights: weights of the examples, shape (examples,); 1 if not given.
        """
        inputs, targets = _follow(params, inputs), _follow(params, targets)
        total = inputs.shape[0]

        def values(params: PyTree, inputs: Array, targets: Array) -> Array:
            model = self.model(params)
            return jax.vmap(lambda x, y: function(model, x, y))(inputs, targets)

        size = self.chunk_size
        if size is None or size >= total:
            all_ = values(params, inputs, targets)
            return jnp.sum(all_ if weights is None else weights * all_)

        # Rematerialised, so that the backward pass (and its linearisation) keeps only the index of
        # a chunk, rather than the model's intermediate values of every chunk.
        @jax.checkpoint
        def chunk_sum(params: PyTree, first: Array) -> Array:
            # The last chunk reaches back to keep its size; what it repeats has weight zero.
            start = jnp.minimum(first, total - size)
            x, y, w = (
                None if rows is None else jax.lax.dynamic_slice_in_dim(rows, start, size)
                for rows in (inputs, targets, weights)
            )
            assert x is not None
            assert y is not None
            chunk = values(params, x, y) if w is None else w * values(params, x, y)
            return jnp.sum(jnp.where(start + jnp.arange(size) >= first, chunk, 0.0))

        def step(sum_: Array, first: Array) -> tuple[Array, None]:
            return sum_ + chunk_sum(params, first), None

        # Made of the weights, so that under `shard_map` it varies over devices as they do.
        zero = jnp.zeros((), _float_dtype(params)) if weights is None else 0 * weights[0]
        return jax.lax.scan(step, zero, jnp.arange(0, total, size))[0]

    def _mean(self, function: Callable[[Model, Array, Array], Array], params: PyTree) -> Array:
        """Return the mean over examples of function(model, input, target)."""
        sum_ = self.weighted_sum(function, params, self.inputs, self.targets)
        return sum_ / self.inputs.shape[0]

    def _check_example(self) -> jax.ShapeDtypeStruct:
        """Trace model and criterion with the shapes of one example; return the prediction's."""
        prediction = eqx.filter_eval_shape(
            lambda params, x: self.model(params)(x),
            self.params,
            _follow(self.params, self.inputs)[0],
        )
        loss = eqx.filter_eval_shape(
            self.criterion, prediction, _follow(self.params, self.targets)[0]
        )
        shape = getattr(loss, "shape", None)
        if shape != ():
            raise ValueError(
                f"criterion must give a scalar for one example, got shape {shape} from "
                f"predictions of shape {prediction.shape} and targets of shape "
                f"{self.targets.shape[1:]}."
            )
        return prediction


class _Linearised(eqx.Module):
    """The loss of a model that is linear in its weights, with the model's slope at `at`."""

    potential: SupervisedPotential
    at: PyTree

    def __call__(self, params: PyTree) -> Float[Array, ""]:
        step = jax.tree.map(jnp.subtract, params, self.at)

        def of_example(_: Model, example: Array, target: Array) -> Array:
            def predict(weights: PyTree) -> Array:
                return self.potential.model(weights)(example)

            predicted, slope = jax.jvp(predict, (self.at,), (step,))
            return self.potential.criterion(predicted + slope, target)

        return self.potential._mean(of_example, params)


def is_correct(model: Model, example: Array, target: Array) -> Array:
    """Return 1 if the prediction is largest at the target's largest entry, else 0."""
    prediction = model(example)
    return (jnp.argmax(prediction) == jnp.argmax(target)).astype(prediction.dtype)


def _is_buffer(leaf: object) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, (np.ndarray, np.generic))


def _examples(name: str, value: ArrayLike) -> Array:
    """Data as an array with a leading axis of examples; finite, where it is known."""
    array = jnp.asarray(value)
    if array.ndim == 0 or array.shape[0] == 0:
        raise ValueError(f"{name} must have a leading axis of examples, got shape {array.shape}.")
    if jnp.issubdtype(array.dtype, jnp.inexact) and not is_traced(array):
        bad = np.flatnonzero(
            ~np.isfinite(np.asarray(array)).reshape(array.shape[0], -1).all(axis=1)
        )
        if bad.size:
            raise ValueError(
                f"{name} must be finite, got nan or inf in {bad.size} examples, the first of "
                f"index {bad[0]}."
            )
    return array


def _check_probabilities(targets: np.ndarray, criterion: Criterion) -> None:
    """Raise a ValueError unless each row is a probability distribution, to rounding."""
    wrong = (targets < 0).any(axis=1) | (np.abs(targets.sum(axis=1) - 1) > _PROBABILITY)
    if wrong.any():
        index = int(np.argmax(wrong))
        row = np.array2string(targets[index], threshold=6, precision=4)
        raise ValueError(
            f"targets must be probabilities that sum to 1 for {criterion.__name__}, as one-hot "
            f"rows are; got {row} for the example of index {index}. mse takes any numbers."
        )


def _float_dtype(params: PyTree) -> np.dtype:
    return jnp.result_type(*jax.tree.leaves(params))


def _follow(params: PyTree, data: Array) -> Array:
    """Float data in the dtype of the parameters; labels and tokens as they are."""
    if jnp.issubdtype(data.dtype, jnp.floating):
        return data.astype(_float_dtype(params))
    return data


def _check_like(expected: PyTree, given: PyTree, name: str) -> None:
    """Raise a ValueError unless both have the same structure and shapes."""
    if jax.tree.structure(expected) != jax.tree.structure(given):
        raise ValueError(
            f"{name} must have the structure of the model's float arrays, "
            f"eqx.filter(model, eqx.is_inexact_array); got {type(given).__name__} with "
            f"{len(jax.tree.leaves(given))} leaves instead of {len(jax.tree.leaves(expected))}."
        )
    pairs = zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(given), strict=True)
    for (path, leaf), other in pairs:
        if jnp.shape(other) != leaf.shape:
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)} must have shape {leaf.shape}, "
                f"got {jnp.shape(other)}."
            )
