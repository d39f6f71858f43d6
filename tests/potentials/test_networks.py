"""Networks: shapes, sizes, choices, derivatives and misuse."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from potentials import ACTIVATIONS, CNN, MLP, parameter_count
from tests.helpers import assert_trees_close


def test_an_mlp_is_its_formula(getkey):
    """Two hidden layers, with NumPy."""
    mlp = MLP((3, 5, 4, 2), "softplus", key=getkey())
    x = np.asarray(jax.random.normal(getkey(), (3,)))
    h = x
    for layer in mlp.layers[:-1]:
        h = np.log1p(np.exp(np.asarray(layer.weight) @ h + np.asarray(layer.bias)))
    expected = np.asarray(mlp.layers[-1].weight) @ h + np.asarray(mlp.layers[-1].bias)
    assert_trees_close(mlp(jnp.asarray(x)), jnp.asarray(expected), rtol=1e-13)


@pytest.mark.parametrize(
    ("widths", "bias", "size"),
    [((64, 32, 32, 10), True, 3466), ((64, 10), False, 640), ((1, 20, 20, 1), False, 440)],
)
def test_an_mlp_has_any_width_and_depth(widths, bias, size, getkey):
    """The number of parameters, with and without biases."""
    mlp = MLP(list(widths), bias=bias, key=getkey())
    assert parameter_count(mlp) == size
    assert mlp(jnp.ones(widths[0])).shape == (widths[-1],)


def test_an_mlp_with_identity_activation_is_linear(getkey):
    """A deep linear network: the product of its weights."""
    mlp = MLP((3, 4, 4, 2), "identity", bias=False, key=getkey())
    first, second, third = (layer.weight for layer in mlp.layers)
    x = jax.random.normal(getkey(), (3,))
    assert_trees_close(mlp(x), third @ second @ first @ x, rtol=1e-12)


def test_an_mlp_takes_an_image_of_as_many_entries(getkey):
    """The example is flattened."""
    mlp, vector = MLP((64, 10), key=getkey()), jax.random.normal(getkey(), (64,))
    assert_trees_close(mlp(vector.reshape(1, 8, 8)), mlp(vector), rtol=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_has_finite_third_derivatives(name, getkey):
    """Of a network's output along a line of inputs."""
    mlp = MLP((2, 3, 1), name, key=getkey())
    x = jax.random.normal(getkey(), (2,))
    third = jax.jit(jax.jacfwd(jax.hessian(lambda x: mlp(x)[0])))(x)
    assert bool(jnp.all(jnp.isfinite(third)))


def test_an_activation_may_be_a_function(getkey):
    """A user's own, as if it had a name."""
    key, x = getkey(), jnp.ones(2)
    assert_trees_close(MLP((2, 3, 1), jnp.tanh, key=key)(x), MLP((2, 3, 1), "tanh", key=key)(x))


@pytest.mark.parametrize("network", [MLP, CNN])
def test_redrawn_weights_are_those_of_a_new_network(network, getkey):
    """`redraw(key)` equals the constructor with that key, all choices kept."""
    options = {MLP: ((4, 3), "relu", False), CNN: ((1, 4, 4), 3, (2,), "relu", 5, "max", False)}
    key = getkey()
    redrawn = network(*options[network], key=getkey()).redraw(key)
    fresh = network(*options[network], key=key)
    assert jax.tree.structure(redrawn) == jax.tree.structure(fresh)
    assert_trees_close(jax.tree.leaves(redrawn), jax.tree.leaves(fresh), rtol=0.0, atol=0.0)


def test_weights_start_within_the_documented_range(getkey):
    """Uniform within +-1/sqrt(fan-in): the variance is a third of 1/fan-in."""
    weight = MLP((100, 400), key=getkey()).layers[0].weight
    assert float(jnp.max(jnp.abs(weight))) <= 0.1
    # 40000 draws: the variance's relative error is about sqrt(0.8/40000) = 0.005.
    assert_trees_close(jnp.var(weight), jnp.array(0.01 / 3.0), rtol=0.025)


@pytest.mark.parametrize(("shape", "size"), [((1, 8, 8), 2514), ((3, 32, 32), 2730)])
def test_a_cnn_takes_small_and_large_images(shape, size, getkey):
    """Digits and CIFAR-10, with the documented numbers of parameters."""
    cnn = CNN(shape, 10, key=getkey())
    assert parameter_count(cnn) == size
    assert jax.eval_shape(cnn, jnp.ones(shape)).shape == (10,)


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_cnn_pooling_is_that_of_equinox(pooling, getkey):
    """The same blocks written with equinox's layers."""
    cnn = CNN((1, 16, 16), 10, pooling=pooling, key=getkey())
    # Drawn flat, which gives the same numbers and compiles in a tenth of the time.
    image = jax.random.normal(getkey(), (256,)).reshape(1, 16, 16)
    first = {"average": eqx.nn.AvgPool2d, "max": eqx.nn.MaxPool2d}[pooling](2, 2)
    last = {"average": eqx.nn.AvgPool2d, "max": eqx.nn.MaxPool2d}[pooling](4, 4)

    @eqx.filter_jit
    def reference(cnn, image):
        x = first(jnp.tanh(cnn.convolutions[0](image)))
        x = last(jnp.tanh(cnn.convolutions[1](x)))
        return cnn.linear(x.reshape(-1))

    assert_trees_close(eqx.filter_jit(cnn)(image), reference(cnn, image), rtol=1e-12)


def test_a_cnn_has_finite_third_derivatives(getkey):
    """With its defaults, along random directions of its weights."""
    params, static = eqx.partition(CNN((1, 8, 8), 10, key=getkey()), eqx.is_inexact_array)
    image = jax.random.normal(getkey(), (64,)).reshape(1, 8, 8)

    @jax.jit
    def along(t):
        moved = jax.tree.map(lambda leaf: leaf * (1.0 + t), params)
        return eqx.combine(moved, static)(image)[0]

    third = jax.jit(jax.grad(jax.grad(jax.grad(along))))(0.0)
    assert bool(jnp.isfinite(third))
    assert float(third) != 0.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda k: MLP((3,), key=k), r"widths must hold at least.*\(3,\)"),
        (lambda k: MLP((3, 0, 2), key=k), "every entry of widths must be a whole number >= 1"),
        (lambda k: MLP((3, 2), "tahn", key=k), "got 'tahn'. Did you mean 'tanh'?"),
        (lambda k: CNN((8, 8), 2, key=k), "shape must be"),
        (lambda k: CNN((1, 8, 4), 2, key=k), "shape must be"),
        (lambda k: CNN((1, 6, 6), 2, key=k), "multiple of 4"),
        (lambda k: CNN((1, 8, 8), 0, key=k), "outputs must be"),
        (lambda k: CNN((1, 8, 8), 2, channels=(), key=k), "channels must name"),
        (lambda k: CNN((1, 8, 8), 2, kernel_size=2, key=k), "kernel_size must be odd"),
        (lambda k: CNN((1, 8, 8), 2, pooling="mean", key=k), "pooling must be one of average, max"),
    ],
)
def test_a_bad_choice_is_named(build, message, getkey):
    """A ValueError says the argument and what is allowed."""
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        build(getkey())


def test_examples_of_another_shape_are_refused(getkey):
    """The message gives both shapes."""
    with pytest.raises(ValueError, match=r"widths\[0\] = 4 entries, got shape \(5,\)"):
        MLP((4, 2), key=getkey())(jnp.ones(5))
    with pytest.raises(ValueError, match=r"images of shape \(1, 8, 8\).*got \(8, 8, 1\)"):
        CNN((1, 8, 8), 2, key=getkey())(jnp.ones((8, 8, 1)))
