"""The training loss of a model on data: values, chunks, derivatives, memory, misuse."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from potentials import (
    MLP,
    SupervisedPotential,
    cast,
    chebyshev,
    cross_entropy,
    kl_divergence,
    mse,
    one_hot,
    parameter_count,
)
from tests.helpers import as_users_run, assert_trees_close

EXAMPLES = 7


def classification(criterion=mse, chunk_size=None, **options) -> SupervisedPotential:
    """A small classifier on random data; tests vary one thing each."""
    keys = jax.random.split(jax.random.key(1), 2)
    inputs = jax.random.normal(keys[0], (EXAMPLES, 4))
    targets = jnp.asarray(one_hot(np.arange(EXAMPLES) % 3, 3))
    model = MLP((4, 5, 3), key=keys[1])
    return SupervisedPotential(model, inputs, targets, criterion, chunk_size, **options)


class Scale(eqx.Module):
    """A user's model: float, integer, NumPy and plain leaves, and a function among them."""

    factor: jax.Array
    shift: jax.Array
    frozen: np.ndarray
    gain: float
    activation: Callable[[jax.Array], jax.Array]

    def __call__(self, x):
        return self.activation(self.factor * x) * self.gain + self.shift + self.frozen


def scale() -> Scale:
    """A module of every kind of leaf."""
    return Scale(jnp.array([2.0]), jnp.array([1]).astype(int), np.array([3]), 0.5, jnp.tanh)


def user_criterion(prediction, target):
    """A criterion of a user's own."""
    return jnp.sum(jnp.abs(prediction - target) ** 3)


def test_a_criterion_that_cannot_be_called_is_refused():
    """The config's name of one, for example."""
    message = r"criterion must be a function .* got 'mse'"
    with as_users_run(), pytest.raises(ValueError, match=message):
        classification("mse")


@pytest.mark.parametrize("criterion", [mse, cross_entropy, user_criterion])
def test_the_loss_is_the_mean_of_the_criterion_over_examples(criterion):
    """Against a Python loop over the examples."""
    potential = classification(criterion)
    model = potential.model(potential.params)
    pairs = zip(potential.inputs, potential.targets, strict=True)
    losses = [criterion(model(x), y) for x, y in pairs]
    assert_trees_close(potential(potential.params), jnp.mean(jnp.stack(losses)), rtol=1e-13)


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_chunks_give_the_same_loss_and_derivatives(chunk_size):
    """Chunk sizes that divide the 7 examples, leave a remainder, or exceed them."""
    whole, chunked = classification(), classification(chunk_size=chunk_size)
    flat, unravel = ravel_pytree(whole.params)
    direction = jax.random.normal(jax.random.key(2), flat.shape)

    @eqx.filter_jit
    def derivatives(potential, w):
        gradient = jax.grad(lambda w: potential(unravel(w)))
        product = jax.jvp(gradient, (w,), (direction,))[1]
        third = jax.grad(lambda w: direction @ jax.jvp(gradient, (w,), (direction,))[1])(w)
        return potential(unravel(w)), gradient(w), product, third

    # Sums in another order: a few units in the last place.
    assert_trees_close(derivatives(chunked, flat), derivatives(whole, flat), 1e-11, 1e-13)


def test_chunks_give_the_same_accuracy_and_predictions():
    """Of its own examples and of others, whatever their number."""
    whole, chunked = classification(), classification(chunk_size=3)
    params = whole.params
    assert_trees_close(chunked.accuracy(params), whole.accuracy(params), rtol=1e-14)
    expected = jax.vmap(whole.model(params))(whole.inputs)
    for potential in (whole, chunked):
        assert_trees_close(potential.predict(params), expected, rtol=1e-13)
        assert_trees_close(potential.predict(params, whole.inputs[:4]), expected[:4], rtol=1e-13)


def test_the_memory_of_derivatives_is_that_of_one_chunk():
    """Compiled temporaries of gradient, products, linearisation and third derivatives.

    With 64 chunks they take less than a tenth of those of the whole batch.
    """
    inputs = jax.random.normal(jax.random.key(0), (2048, 8))
    model = MLP((8, 64, 1), key=jax.random.key(1))

    def temporaries(chunk_size):
        potential = SupervisedPotential(model, inputs, inputs[:, :1], mse, chunk_size)
        gradient = jax.grad(potential)

        def product(w, v):
            return jax.jvp(gradient, (w,), (v,))[1]

        def linearised(w, v):
            apply = jax.linearize(gradient, w)[1]
            return apply(apply(v))

        def third(w, v):
            return jax.grad(lambda w: ravel_pytree(product(w, v))[0] @ ravel_pytree(v)[0])(w)

        functions = (lambda w, v: gradient(w), product, linearised, third)
        compiled = (jax.jit(f).lower(model_params, model_params).compile() for f in functions)
        analyses = [c.memory_analysis() for c in compiled]
        return [a.temp_size_in_bytes for a in analyses if a is not None]

    model_params = eqx.filter(model, eqx.is_inexact_array)
    whole, chunked = temporaries(None), temporaries(32)
    assert len(whole) == 4
    assert all(10 * c < w for c, w in zip(chunked, whole, strict=True))


def test_new_data_of_the_same_shapes_does_not_compile_again():
    """Data are leaves of the potential."""
    traces = []

    @jax.jit
    def loss(potential, params):
        traces.append(None)
        return potential(params)

    potential = classification(cross_entropy, chunk_size=3)
    before = loss(potential, potential.params)
    other = eqx.tree_at(lambda p: p.inputs, potential, potential.inputs + 1.0)
    assert not jnp.array_equal(loss(other, potential.params), before)
    loss(classification(cross_entropy, chunk_size=3), potential.params)
    assert len(traces) == 1


def test_a_batch_of_weights_and_of_data_equals_the_loop():
    """`jax.vmap` over seeds, over data, and over both chunked."""
    potential = classification(chunk_size=3)
    keys = jax.random.split(jax.random.key(5), 3)
    weights = jax.vmap(potential.init)(keys)
    value = jax.jit(lambda w: potential(w))
    rows = [jax.tree.map(lambda leaf, i=i: leaf[i], weights) for i in range(3)]
    loop = jnp.stack([value(row) for row in rows])
    assert_trees_close(jax.vmap(value)(weights), loop, rtol=1e-13)
    shifts = jnp.arange(3.0)

    def shifted(shift):
        moved = eqx.tree_at(lambda p: p.inputs, potential, potential.inputs + shift)
        return moved(potential.params)

    compiled = jax.jit(shifted)
    loop = jnp.stack([compiled(shift) for shift in shifts])
    assert_trees_close(jax.vmap(compiled)(shifts), loop, rtol=1e-13)


def test_parameters_are_the_inexact_arrays_of_any_module():
    """A user's module keeps its integers, NumPy constants, numbers and functions."""
    inputs = jnp.linspace(-1.0, 1.0, 5)[:, None]
    with jax.numpy_dtype_promotion("standard"):
        potential = SupervisedPotential(scale(), inputs, inputs, mse)
        assert parameter_count(potential.params) == 1
        assert_trees_close(potential.params.factor, jnp.array([2.0]))
        expected = jnp.mean(0.5 * (0.5 * jnp.tanh(2.0 * inputs) + 4.0 - inputs) ** 2)
        value = jax.jit(lambda f, w: f(w))(potential, potential.params)
        assert_trees_close(value, expected, rtol=1e-13)


def test_init_draws_fresh_weights_for_networks_of_the_package():
    """Another key, other weights, of the same structure; the given ones stay in `params`."""
    potential = classification()
    first, second = (potential.init(jax.random.key(seed)) for seed in (3, 4))
    assert jax.tree.structure(first) == jax.tree.structure(potential.params)
    assert not jnp.array_equal(ravel_pytree(first)[0], ravel_pytree(second)[0])
    again = eqx.filter(MLP((4, 5, 3), key=jax.random.key(3)), eqx.is_inexact_array)
    assert_trees_close(jax.tree.leaves(first), jax.tree.leaves(again), rtol=0.0, atol=0.0)


def test_init_of_another_module_needs_build():
    """With `build` it draws weights; without, an error says what to do."""

    def build(key):
        return eqx.nn.MLP(1, 1, 4, 1, key=key)

    data = chebyshev()
    silent = SupervisedPotential(build(jax.random.key(0)), data.inputs, data.targets, mse)
    with pytest.raises(ValueError, match=r"MLP does not say.*build=lambda key.*potential\.params"):
        silent.init(jax.random.key(1))
    drawn = SupervisedPotential(
        build(jax.random.key(0)), data.inputs, data.targets, mse, build=build
    )
    assert_trees_close(drawn.init(jax.random.key(0)), drawn.params, rtol=0.0, atol=0.0)
    other = SupervisedPotential(
        build(jax.random.key(0)),
        data.inputs,
        data.targets,
        mse,
        build=lambda key: eqx.nn.MLP(1, 1, 5, 1, key=key),
    )
    with pytest.raises(ValueError, match=r"build\(key\) must have the structure"):
        other.init(jax.random.key(1))


def test_the_loss_follows_the_precision_of_the_parameters():
    """Single-precision weights give a single-precision loss on double-precision data."""
    potential = classification(cross_entropy, chunk_size=3)
    single = cast(potential.params, "float32")
    value, gradient = jax.jit(lambda w: jax.value_and_grad(potential)(w))(single)
    assert value.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}
    # Single precision has 7 digits.
    expected = potential(potential.params).astype(jnp.float32)
    assert_trees_close(value, expected, rtol=1e-5)
    assert cast(potential, "float32").inputs.dtype == jnp.float32


def test_accuracy_is_the_fraction_of_agreeing_largest_outputs():
    """With NumPy, for both criteria."""
    for criterion in (mse, cross_entropy):
        potential = classification(criterion)
        assert potential.has_accuracy
        predictions = np.asarray(potential.predict(potential.params))
        agree = predictions.argmax(axis=1) == np.asarray(potential.targets).argmax(axis=1)
        expected = jnp.array(agree.mean())
        assert_trees_close(potential.accuracy(potential.params), expected, rtol=1e-14)


@pytest.mark.parametrize("outputs", [1, 3])
def test_accuracy_of_a_regression_is_refused(outputs):
    """Scalar and vector targets that are no one-hot rows."""
    inputs = jnp.linspace(-1.0, 1.0, 6)[:, None]
    model = MLP((1, 4, outputs), key=jax.random.key(0))
    targets = jnp.tile(inputs, (1, outputs))
    potential = SupervisedPotential(model, inputs, targets, mse)
    assert not potential.has_accuracy
    with pytest.raises(ValueError, match=r"accuracy is defined for.*has_accuracy"):
        potential.accuracy(potential.params)


def test_classification_may_be_stated():
    """For soft labels with mse, and against one-hot rows that are no classes."""
    potential = classification()
    soft = 0.9 * potential.targets + 0.03
    model = potential.model(potential.params)
    assert not SupervisedPotential(model, potential.inputs, soft, mse).has_accuracy
    stated = SupervisedPotential(model, potential.inputs, soft, mse, classification=True)
    assert stated.has_accuracy
    assert not classification(classification=False).has_accuracy


def test_a_potential_may_be_built_inside_a_traced_function():
    """Data known at run time only: nothing is inspected, the loss is the same."""
    potential = classification()
    model = potential.model(potential.params)

    @jax.jit
    def loss(inputs, targets):
        built = SupervisedPotential(model, inputs, targets, mse)
        assert not built.has_accuracy
        return built(built.params)

    value = loss(potential.inputs, potential.targets)
    assert_trees_close(value, potential(potential.params), rtol=1e-13)


@pytest.mark.parametrize("size", [0, -1, True])
def test_a_bad_chunk_size_is_refused(size):
    """A whole number >= 1 it must be."""
    model = MLP((1, 1), key=jax.random.key(0))
    x = jnp.ones((2, 1))
    with pytest.raises(ValueError, match="chunk_size must be a whole number >= 1"):
        SupervisedPotential(model, x, x, mse, chunk_size=size)


@pytest.mark.parametrize(
    ("inputs", "targets", "criterion", "message"),
    [
        (jnp.ones((3, 4)), jnp.ones((2, 3)), mse, "inputs and targets must be as many, got 3"),
        (jnp.ones((3, 5)), jnp.ones((3, 3)), mse, r"widths\[0\] = 4 entries, got shape \(5,\)"),
        (jnp.ones((3, 4)), jnp.ones((3, 2)), mse, r"mse takes a target .* \(3,\).*got \(2,\)"),
        (jnp.ones((3, 4)), jnp.arange(3), cross_entropy, "cross_entropy takes.*one_hot"),
        (jnp.ones((3, 4)), jnp.ones((3, 3)), lambda p, t: p - t, "criterion must give a scalar"),
        (jnp.ones((0, 4)), jnp.ones((0, 3)), mse, "inputs must have a leading axis of examples"),
        (jnp.array(1.0), jnp.ones((3, 3)), mse, "inputs must have a leading axis of examples"),
        (jnp.full((3, 4), jnp.nan), jnp.ones((3, 3)), mse, "inputs must be finite, got nan"),
        (jnp.ones((3, 4)), jnp.full((3, 3), jnp.inf), mse, "targets must be finite"),
    ],
)
def test_data_that_do_not_fit_are_refused(inputs, targets, criterion, message):
    """At construction, with a message that says what does not fit."""
    model = MLP((4, 3), key=jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        SupervisedPotential(model, inputs, targets, criterion)


@pytest.mark.parametrize("criterion", [cross_entropy, kl_divergence])
@pytest.mark.parametrize(
    ("row", "fits"),
    [
        ([0.0, 1.0, 0.0], True),
        ([0.1, 0.85, 0.05], True),
        ([0.5, 1.0, 0.0], False),
        ([1.5, -0.5, 0.0], False),
        ([0.0, 0.0, 0.0], False),
    ],
)
def test_losses_of_logits_take_probabilities(row, fits, criterion):
    """One-hot rows and soft labels, which are of classes, and no targets of a regression."""
    model = MLP((4, 3), key=jax.random.key(0))
    targets = jnp.asarray([[0.0, 0.0, 1.0], row])
    if fits:
        assert SupervisedPotential(model, jnp.ones((2, 4)), targets, criterion).has_accuracy
        return
    message = rf"targets must be probabilities .* {criterion.__name__}, .* of index 1\. mse"
    with pytest.raises(ValueError, match=message):
        SupervisedPotential(model, jnp.ones((2, 4)), targets, criterion)


def test_a_model_without_weights_is_refused():
    """There would be nothing to train."""
    with pytest.raises(ValueError, match="at least one float array"):
        SupervisedPotential(eqx.nn.Identity(), jnp.ones((2, 1)), jnp.ones((2, 1)), mse)


def test_parameters_of_another_model_are_refused():
    """Other shapes, and another structure."""
    potential = classification()
    wide = eqx.filter(MLP((4, 6, 3), key=jax.random.key(0)), eqx.is_inexact_array)
    with pytest.raises(ValueError, match="structure of the model's float arrays"):
        potential(wide)
    with pytest.raises(ValueError, match="structure of the model's float arrays"):
        potential(jnp.ones(3))
    longer = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), potential.params)
    with pytest.raises(ValueError, match=r"params.*weight must have shape \(5, 4\), got \(10, 4\)"):
        potential(longer)
