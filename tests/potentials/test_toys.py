"""What every toy potential does, whatever its formula."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from jax.flatten_util import ravel_pytree

import potentials
from potentials import (
    AbstractPotential,
    Catapult,
    DataParallel,
    DoubleWell,
    GaussianPits,
    MatrixFactorization,
    Quadratic,
    Quartic,
    Rosenbrock,
    ScalarProduct,
    SharpValley,
    SharpValley2,
    SineRegression,
    SupervisedPotential,
    Weierstrass,
    WeierstrassSine,
    Whitley,
    cast,
)
from tests.helpers import assert_trees_close, finite_difference_gradient, finite_difference_jvp
from tests.potentials.dense import TOYS

every_toy = pytest.mark.parametrize("potential", TOYS.values(), ids=TOYS.keys())


def test_every_toy_potential_of_the_package_is_tested_here():
    """A new toy potential joins the table, or this fails."""
    public = [getattr(potentials, name) for name in potentials.__all__]
    toys = {c for c in public if isinstance(c, type) and issubclass(c, AbstractPotential)}
    toys -= {AbstractPotential, DataParallel, SupervisedPotential}
    assert toys == {type(potential) for potential in TOYS.values()}


@every_toy
def test_compiled_value_equals_the_plain_one(potential, getkey):
    """As a function of the parameters, and of the potential too."""
    params = potential.init(getkey())
    plain = potential(params)
    assert plain.shape == ()
    # To rounding: compiled and op-by-op sums may be ordered differently.
    assert_trees_close(jax.jit(lambda p: potential(p))(params), plain, rtol=1e-13)
    assert_trees_close(jax.jit(lambda f, p: f(p))(potential, params), plain, rtol=1e-13)


@every_toy
def test_a_batch_of_parameters_equals_the_loop(potential, getkey):
    """`jax.vmap` over parameters that were drawn in a batch."""
    keys = jax.random.split(getkey(), 3)

    @jax.jit
    def start(key):
        params = potential.init(key)
        return potential(params), params

    value = jax.jit(jax.vmap(lambda w: potential(w)))(jax.vmap(start)(keys)[1])
    loop = jnp.stack([start(key)[0] for key in keys])
    assert_trees_close(value, loop, rtol=1e-13)


@every_toy
def test_derivatives_to_third_order_agree_with_finite_differences(potential, getkey):
    """The gradient, a Hessian-vector product, and grad(u^T H v) as the central flow needs it."""
    flat, unravel = ravel_pytree(potential.init(getkey()))
    u, v = jax.random.normal(getkey(), (2, flat.size))

    def loss(w):
        return potential(unravel(w))

    def product(w):
        return jax.jvp(jax.grad(loss), (w,), (v,))[1]

    def curvature(w):
        return u @ product(w)

    # Whitley's cosines turn over lengths of 1e-3.
    step = 1e-6 if isinstance(potential, Whitley) else 1e-4

    def exact(w):
        return jax.grad(loss)(w), product(w), jax.grad(curvature)(w)

    def differences(w):
        return (
            finite_difference_gradient(loss, w, step),
            finite_difference_jvp(jax.grad(loss), w, v, step),
            finite_difference_gradient(curvature, w, step),
        )

    # The differences' own error: h^4 times a fifth derivative, and 1e-16 times the value over h.
    assert_trees_close(jax.jit(exact)(flat), jax.jit(differences)(flat), rtol=1e-7, atol=1e-7)


@every_toy
def test_the_loss_has_the_dtype_of_the_parameters(potential, getkey):
    """Single-precision parameters are not promoted by double-precision hyperparameters."""
    params = cast(potential.init(getkey()), "float32")
    value, gradient = jax.eval_shape(lambda w: jax.value_and_grad(potential)(w), params)
    assert value.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}


@every_toy
def test_a_start_depends_on_the_key_only(potential, getkey):
    """The same key draws the same start, another key another one."""
    key = getkey()
    assert_trees_close(potential.init(key), potential.init(key), rtol=0.0, atol=0.0)
    first, second = (ravel_pytree(potential.init(k))[0] for k in (key, getkey()))
    assert not jnp.array_equal(first, second)


@every_toy
def test_new_hyperparameters_do_not_compile_again(potential, getkey):
    """Numbers are leaves: one trace serves every value, a Python number or an array."""
    traces = []

    @jax.jit
    def loss(potential, params):
        traces.append(None)
        return potential(params)

    params = potential.init(getkey())
    loss(potential, params)
    loss(jax.tree.map(lambda leaf: 1.1 * leaf, potential), params)
    assert len(traces) == 1


def test_a_python_number_and_an_array_are_the_same_compilation():
    """Hyperparameters are never weakly typed."""
    plain, array = SharpValley(0.01), SharpValley(jnp.linspace(0.01, 1.0, 3)[0])
    leaves = zip(jax.tree.leaves(plain), jax.tree.leaves(array), strict=True)
    assert all(a.aval == b.aval for a, b in leaves)


def test_a_batch_of_potentials_equals_the_loop(getkey):
    """`jax.vmap` over the constructor's arguments, called inside or stacked outside."""
    epsilons = jnp.array([0.0, 0.01, 0.1])
    params = SharpValley(0.01).init(getkey())
    loop = jnp.stack([SharpValley(epsilon)(params) for epsilon in epsilons])
    inside = jax.vmap(lambda epsilon: SharpValley(epsilon)(params))(epsilons)
    stacked = jax.vmap(SharpValley)(epsilons)
    assert_trees_close(inside, loop, rtol=1e-14)
    assert_trees_close(jax.vmap(lambda f: f(params))(stacked), loop, rtol=1e-14)


@pytest.mark.parametrize(
    ("potential", "shape"),
    [
        (Quadratic([1.0, 2.0]), (3,)),
        (Quartic(1.0, 1.0), (2,)),
        (DoubleWell(transverse=[1.0]), (1,)),
        (SharpValley(0.01), (5,)),
        (SharpValley2(0.01), (2,)),
        (ScalarProduct(3), (2,)),
        (Rosenbrock(), (2, 2)),
        (WeierstrassSine(3), (2,)),
        (Weierstrass(), (2,)),
        (GaussianPits(3), (3,)),
        (Whitley(3), (2,)),
        (SineRegression(), (1,)),
    ],
)
def test_parameters_of_another_shape_are_refused(potential, shape):
    """The message names the potential, its shape and the one given; under jit too."""
    expected = rf"{type(potential).__name__} takes params of shape .*got \({shape[0]}"
    with pytest.raises(ValueError, match=expected):
        potential(jnp.ones(shape))
    with pytest.raises(ValueError, match=expected):
        eqx.filter_jit(potential)(jnp.ones(shape))


def test_factors_of_another_shape_are_refused():
    """The message names the factor."""
    factorization = MatrixFactorization([[1.0, 2.0]], 1)
    with pytest.raises(ValueError, match="takes right of shape"):
        factorization(potentials.Factors(jnp.ones((1, 1)), jnp.ones((3, 1))))
    with pytest.raises(ValueError, match="takes u of shape"):
        Catapult(3)(potentials.Layers(jnp.ones(2), jnp.ones(3)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SharpValley(-0.01), r"epsilon must be a finite number >= 0, got -0\.01"),
        (lambda: SharpValley2(-1.0), "epsilon must be a finite number >= 0"),
        (lambda: SharpValley(0.01, float("nan")), "zeta must be a finite number, got nan"),
        (lambda: SharpValley(jnp.ones(2)), r"epsilon must be one number.*jax\.vmap"),
        (lambda: Quadratic([]), "spectrum must be a non-empty array"),
        (lambda: Quadratic([1.0, float("inf")]), "spectrum must hold finite numbers only"),
        (lambda: Quadratic(jnp.ones((2, 2))), r"spectrum.*got shape \(2, 2\)"),
        (lambda: Quartic(0.0, 1.0), "curvature must be a finite number > 0"),
        (lambda: Quartic(1.0, -1.0), "quartic must be a finite number > 0"),
        (lambda: DoubleWell(height=-1.0), "height must be"),
        (lambda: DoubleWell(half_width=0.0), "half_width must be"),
        (lambda: DoubleWell(transverse=[1.0, -1.0]), "transverse must hold finite numbers > 0"),
        (lambda: Rosenbrock(b=0.0), "b must be a finite number > 0"),
        (lambda: ScalarProduct(1), "depth must be a whole number >= 2, got 1"),
        (lambda: Catapult(0), "width must be a whole number >= 1, got 0"),
        (lambda: WeierstrassSine(0), "terms must be a whole number >= 1, got 0"),
        (lambda: Weierstrass(a=1.0), "a must be a finite number > 0 and < 1, got 1"),
        (lambda: Weierstrass(b=1.0), "b must be a finite number > 1"),
        (lambda: GaussianPits(width=0.0), "width must be a finite number > 0"),
        (lambda: GaussianPits(depth=-1.0), "depth must be a finite number >= 0"),
        (lambda: GaussianPits(seed=-1), r"seed must be a whole number in 0\.\.4294967295, got -1"),
        (lambda: Whitley(0), "dimension must be a whole number >= 1"),
        (lambda: SineRegression(examples=1), "examples must be a whole number >= 2, got 1"),
        (lambda: MatrixFactorization([[1.0]], 0), "rank must be a whole number >= 1"),
        (lambda: MatrixFactorization(jnp.ones(3), 1), "target must be a non-empty array with 2"),
    ],
)
def test_a_bad_argument_is_named(build: Callable[[], AbstractPotential], message: str):
    """A ValueError says the argument, what is allowed and what was given."""
    with pytest.raises(ValueError, match=message):
        build()


def test_a_bad_argument_known_at_run_time_only_is_refused_then():
    """A traced hyperparameter is checked when its value is there."""
    build = eqx.filter_jit(lambda epsilon: SharpValley(epsilon)(jnp.ones(2)))
    build(jnp.array(0.1))
    with pytest.raises(eqx.EquinoxRuntimeError, match="epsilon must be a finite number >= 0"):
        build(jnp.array(-0.1)).block_until_ready()
