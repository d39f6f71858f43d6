"""The critical points and curvatures that the toy potentials' docstrings state."""

import math
from typing import Any

import equinox as eqx
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from potentials import (
    AbstractPotential,
    Catapult,
    DoubleWell,
    Factors,
    Layers,
    MatrixFactorization,
    Quadratic,
    Quartic,
    Rosenbrock,
    ScalarProduct,
    SharpValley,
    SharpValley2,
)
from tests.helpers import assert_trees_close
from tests.potentials.dense import gradient, gradient_norm, hessian, spectrum

# Eigenvalues of a small symmetric matrix of entries of order one carry an error of about 1e-15.
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}


def number(low: float, high: float):
    """Floats of a range, without the subnormal ones."""
    return st.floats(low, high, allow_subnormal=False)


@eqx.filter_jit
def descend(potential: AbstractPotential, params: Array, learning_rate: float, steps: int) -> Array:
    """Gradient descent, compiled."""

    def step(_, w):
        return w - learning_rate * jax.grad(potential)(w)

    return jax.lax.fori_loop(0, steps, step, params)


@eqx.filter_jit
def flow(potential: AbstractPotential, params: Any, time: float, steps: int) -> Any:
    """Gradient flow by the classical fourth-order method of Runge and Kutta."""
    dt = time / steps

    def field(w):
        return jax.tree.map(jnp.negative, jax.grad(potential)(w))

    def add(w, scale, k):
        return jax.tree.map(lambda a, b: a + scale * b, w, k)

    def step(_, w):
        k1 = field(w)
        k2 = field(add(w, dt / 2, k1))
        k3 = field(add(w, dt / 2, k2))
        k4 = field(add(w, dt, k3))
        mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4)
        return add(w, dt, mean)

    return jax.lax.fori_loop(0, steps, step, params)


def test_gradient_descent_on_a_quadratic_is_its_closed_form():
    """w_i(t) = (1 - eta s_i)^t w_i(0), in stable and unstable directions alike."""
    values = jnp.array([2.5, 1.0, 0.0, -0.5])
    start = jnp.array([0.1, 1.0, 2.0, 0.3])
    end = descend(Quadratic(values), start, 0.9, 25)
    assert_trees_close(end, (1.0 - 0.9 * values) ** 25 * start, rtol=1e-13)


def test_the_hessian_of_a_quadratic_is_its_spectrum():
    """Everywhere, of any signs."""
    values = jnp.array([2.5, 0.0, -0.5])
    assert_trees_close(hessian(Quadratic(values), jnp.ones(3)), jnp.diag(values), **ROUNDING)


@hypothesis.given(number(0.5, 5.0), number(0.5, 5.0))
def test_quartic_critical_points(curvature, quartic):
    """A minimum of curvature S at zero and maxima of curvature -2S at +-sqrt(S/Q)."""
    well = Quartic(curvature, quartic)
    assert gradient_norm(well, jnp.zeros(1)) == 0.0
    assert_trees_close(hessian(well, jnp.zeros(1)), jnp.array([[curvature]]), **ROUNDING)
    for sign in (-1.0, 1.0):
        top = jnp.array([sign * math.sqrt(curvature / quartic)])
        assert gradient_norm(well, top) < 1e-12
        assert_trees_close(hessian(well, top), jnp.array([[-2.0 * curvature]]), **ROUNDING)


@pytest.mark.parametrize(
    ("curvature", "square"), [(2.01, 0.01), (2.1, 0.1), (2.2, 0.2), (2.5, 0.5)]
)
def test_gradient_descent_on_the_quartic_settles_on_its_two_cycle(curvature, square):
    """a^2 = S/Q - 2/(eta Q), reached from w = 0.05 with eta = Q = 1."""
    well = Quartic(curvature, 1.0)
    # The slowest case attracts at a rate of 0.04 per two steps: 3000 steps leave exp(-60).
    end = descend(well, jnp.array([0.05]), 1.0, 3000)
    assert_trees_close(end**2, jnp.array([square]), rtol=1e-12)
    assert_trees_close(descend(well, end, 1.0, 1), -end, rtol=1e-12)


@hypothesis.given(number(0.2, 3.0), number(0.5, 2.0))
def test_double_well_critical_points(height, half_width):
    """Minima of loss zero at +-c and a saddle of loss h at zero, with the curvatures stated."""
    well = DoubleWell(height, half_width, [0.7, 2.0])
    unit = height / half_width**2
    for sign in (-1.0, 1.0):
        minimum = jnp.array([sign * half_width, 0.0, 0.0])
        assert abs(float(well(minimum))) < 1e-14
        assert gradient_norm(well, minimum) < 1e-12
        expected = jnp.diag(jnp.array([8.0 * unit, 0.7, 2.0]))
        assert_trees_close(hessian(well, minimum), expected, **ROUNDING)
    saddle = jnp.zeros(3)
    assert_trees_close(well(saddle), jnp.array(height), **ROUNDING)
    assert gradient_norm(well, saddle) == 0.0
    expected = jnp.diag(jnp.array([-4.0 * unit, 0.7, 2.0]))
    assert_trees_close(hessian(well, saddle), expected, **ROUNDING)
    inflection = jnp.array([half_width / math.sqrt(3.0), 0.0, 0.0])
    assert abs(float(hessian(well, inflection)[0, 0])) < 1e-12 * unit * 8.0


@hypothesis.given(number(-2.0, 2.0), number(-8.0, 8.0), number(-1.0, 2.0))
def test_valley_sharpness(x, y, zeta):
    """(s + sqrt(s^2 + 4 x^2))/2 with s = y + 3 zeta x."""
    s = y + 3.0 * zeta * x
    expected = 0.5 * (s + math.sqrt(s**2 + 4.0 * x**2))
    computed = spectrum(SharpValley(0.01, zeta), jnp.array([x, y]))[-1]
    assert_trees_close(computed, jnp.array(expected), **ROUNDING)


@hypothesis.given(number(1e-4, 0.5), number(-1.0, 2.0))
def test_valley_critical_points_are_two_saddles(epsilon, zeta):
    """At x = +-sqrt(2 epsilon), y = (1 - 3 zeta) epsilon/x, of determinant -2 epsilon."""
    valley = SharpValley(epsilon, zeta)
    for x in (-math.sqrt(2.0 * epsilon), math.sqrt(2.0 * epsilon)):
        point = jnp.array([x, (1.0 - 3.0 * zeta) * epsilon / x])
        assert gradient_norm(valley, point) < 1e-14
        determinant = jnp.linalg.det(hessian(valley, point))
        assert_trees_close(determinant, jnp.array(-2.0 * epsilon), **ROUNDING)


def test_gradient_descent_crosses_the_threshold_in_the_valley_and_comes_back():
    """From (0, 6) with eta = 0.3, epsilon = 0.01: crossing at step 223, peak 7.43511 at 481."""
    valley = SharpValley(0.01)

    def step(w, _):
        return w - 0.3 * jax.grad(valley)(w), w[1]

    start = jnp.array([0.0, 6.0])
    end, heights = jax.lax.scan(step, start, None, length=20000)
    assert int(jnp.argmax(heights > 2.0 / 0.3)) == 223
    assert int(jnp.argmax(heights)) == 481
    # The numbers of THEORY section 4 have six digits.
    assert_trees_close(heights[481], jnp.array(7.43511), rtol=0.0, atol=5e-6)
    # The attracting two-cycle: its mean is known to second order, and x to the leading one.
    mean_y = 0.5 * (end[1] + step(end, None)[0][1])
    expected = jnp.array(2.0 / 0.3 + 1.5 * 0.01 * 0.3 * (3.0 - 1.0))
    assert_trees_close(mean_y, expected, rtol=0.0, atol=10 * 0.01**2)
    assert_trees_close(jnp.abs(end[0]), jnp.sqrt(jnp.array(0.02)), rtol=0.05)


@hypothesis.given(number(-6.0, 6.0), number(-6.0, 6.0), number(-3.0, 3.0))
def test_valley_of_codimension_two_has_the_eigenvalues_of_its_matrix(y1, y2, y3):
    """On the floor: those of M(y), in closed form, and three zeros."""
    middle, radius = 0.5 * (y1 + y2), math.sqrt(0.25 * (y1 - y2) ** 2 + 0.5 * y3**2)
    expected = jnp.sort(jnp.array([middle - radius, middle + radius, 0.0, 0.0, 0.0]))
    computed = spectrum(SharpValley2(0.01), jnp.array([0.0, 0.0, y1, y2, y3]))
    assert_trees_close(computed, expected, **ROUNDING)


def test_valley_of_codimension_two_is_the_formula_of_its_matrix(getkey):
    """0.5 x^T M x + 0.5 sum x^3 - epsilon (x1 + 2 y1 + y2 + y3), written with M."""
    z = jax.random.normal(getkey(), (5,))
    x, (y1, y2, y3) = z[:2], z[2:]
    matrix = jnp.array([[y1, y3 / math.sqrt(2.0)], [y3 / math.sqrt(2.0), y2]])
    slope = x[0] + 2.0 * y1 + y2 + y3
    expected = 0.5 * x @ matrix @ x + 0.5 * jnp.sum(x**3) - 0.1 * slope
    assert_trees_close(SharpValley2(0.1)(z), expected, **ROUNDING)


@hypothesis.given(st.lists(number(-3.0, 3.0), min_size=5, max_size=5))
def test_valley_of_codimension_two_has_no_critical_point(z):
    """The y part of the gradient alone stays at a distance from zero of order epsilon."""
    epsilon = 0.1
    # Its entries, x1^2/2 - 2 eps, x2^2/2 - eps and x1 x2/sqrt(2) - eps, cannot all be below eps/4.
    slope = gradient(SharpValley2(epsilon), jnp.array(z))[2:]
    assert float(jnp.max(jnp.abs(slope))) > 0.25 * epsilon


@hypothesis.given(st.lists(number(0.5, 2.0), min_size=1, max_size=4), st.integers(0, 1))
def test_product_minima(leading, negative):
    """Where the product is one, the sharpness is the sum of 1/w_i^2 and other eigenvalues are 0."""
    signs = -1.0 if negative else 1.0
    w = np.array([*leading, 1.0])
    w[0] *= signs
    w[-1] = 1.0 / np.prod(w[:-1])
    product, w = ScalarProduct(len(w)), jnp.asarray(w)
    assert gradient_norm(product, w) < 1e-12
    eigenvalues = spectrum(product, w)
    assert_trees_close(eigenvalues[-1], jnp.sum(w**-2.0), rtol=1e-10)
    assert float(jnp.max(jnp.abs(eigenvalues[:-1]))) < 1e-10 * float(eigenvalues[-1])


def test_product_saddles():
    """Two zeros make a critical point of loss 1/2; at the origin the Hessian is as stated."""
    for w in ([0.0, 0.0, 2.0], [0.0, 0.0, 0.0]):
        assert gradient_norm(ScalarProduct(3), jnp.array(w)) == 0.0
        assert float(ScalarProduct(3)(jnp.array(w))) == 0.5
    assert_trees_close(spectrum(ScalarProduct(2), jnp.zeros(2)), jnp.array([-1.0, 1.0]), **ROUNDING)
    assert_trees_close(hessian(ScalarProduct(3), jnp.zeros(3)), jnp.zeros((3, 3)), **ROUNDING)


def test_gradient_flow_keeps_the_balance_of_a_product():
    """From (2.5, 0.5) it ends at sharpness sqrt(4 + (x0^2 - y0^2)^2)."""
    product, start = ScalarProduct(2), jnp.array([2.5, 0.5])
    end = flow(product, start, 10.0, 2000)
    # Fourth order with dt = 0.005 and rates of about 7.
    assert_trees_close(product.balance(end), product.balance(start), rtol=1e-7)
    expected = jnp.sqrt(4.0 + product.balance(start)[0] ** 2)
    assert_trees_close(spectrum(product, end)[-1], expected, rtol=1e-7)
    deep, start = ScalarProduct(4), jnp.array([1.4, 0.6, -0.9, 1.1])
    end = flow(deep, start, 1.0, 500)
    assert_trees_close(deep.balance(end), deep.balance(start), rtol=1e-9)


def test_gradient_descent_on_a_product_ends_flatter_than_the_flow():
    """With eta = 0.4 it goes from (2.5, 0.5) to (1.7365475, 0.5758553), of sharpness 3.3472065."""
    product, start = ScalarProduct(2), jnp.array([2.5, 0.5])
    end = descend(product, start, 0.4, 2000)
    assert_trees_close(end, jnp.array([1.7365475, 0.5758553]), rtol=0.0, atol=1e-7)
    assert_trees_close(spectrum(product, end)[-1], jnp.array(3.3472065), rtol=0.0, atol=1e-7)
    one = descend(product, start, 0.4, 1)
    factor = 1.0 - 0.4**2 * (jnp.prod(start) - 1.0) ** 2
    assert_trees_close(product.balance(one), factor * product.balance(start), rtol=1e-13)


@hypothesis.given(number(-2.0, 2.0), number(0.5, 100.0))
def test_rosenbrock_minimum(a, b):
    """(a, a^2), with the sharpness of the stated trace and determinant."""
    rosenbrock, minimum = Rosenbrock(a, b), jnp.array([a, a**2])
    assert float(rosenbrock(minimum)) < 1e-25
    assert gradient_norm(rosenbrock, minimum) < 1e-10
    trace = 2.0 + 2.0 * b + 8.0 * a**2 * b
    expected = 0.5 * (trace + math.sqrt(trace**2 - 16.0 * b))
    assert_trees_close(spectrum(rosenbrock, minimum)[-1], jnp.array(expected), rtol=1e-12)


def test_rosenbrock_sharpness_of_the_default():
    """1001.6006 for a = 1, b = 100."""
    sharpness = spectrum(Rosenbrock(), jnp.ones(2))[-1]
    assert_trees_close(sharpness, jnp.array(1001.6006), rtol=0.0, atol=5e-5)


@hypothesis.given(st.integers(0, 2**31 - 1), st.sampled_from([1, 2, 4]))
def test_factorization_minima(seed, rank):
    """Where U V^T = T the non-zero eigenvalues are sums of those of U U^T and V V^T."""
    generator = np.random.default_rng(seed)
    left, right = generator.normal(size=(3, rank)), generator.normal(size=(4, rank))
    potential = MatrixFactorization(left @ right.T, rank)
    params = Factors(jnp.asarray(left), jnp.asarray(right))
    assert float(potential(params)) < 1e-25
    eigenvalues = spectrum(potential, params)
    sums = np.add.outer(
        np.linalg.eigvalsh(left @ left.T), np.linalg.eigvalsh(right @ right.T)
    ).ravel()
    shared = min(sums.size, eigenvalues.size)
    expected = jnp.asarray(np.sort(sums)[-shared:])
    scale = float(sums.max())
    assert_trees_close(eigenvalues[-shared:], expected, rtol=0.0, atol=1e-12 * scale)
    sharpness = float(np.linalg.norm(left, 2) ** 2 + np.linalg.norm(right, 2) ** 2)
    assert_trees_close(eigenvalues[-1], jnp.array(sharpness), rtol=1e-12)
    assert sharpness >= 2.0 * np.linalg.norm(left @ right.T, 2) * (1.0 - 1e-12)


def test_factorization_of_low_rank_keeps_the_truncated_singular_values(getkey):
    """The balanced best approximation is critical, of loss 0.5 sum s_i^2 beyond the rank."""
    target = jax.random.normal(getkey(), (4, 3))
    potential = MatrixFactorization(target, 2)
    u, s, vt = map(jnp.asarray, np.linalg.svd(target, full_matrices=False))
    root = jnp.sqrt(s[None, :2])
    params = Factors(u[:, :2] * root, vt[:2].T * root)
    assert gradient_norm(potential, params) < 1e-13
    assert_trees_close(potential(params), 0.5 * s[2] ** 2, **ROUNDING)
    assert float(spectrum(potential, params)[0]) > -1e-12
    assert_trees_close(potential.balance(params), jnp.zeros((2, 2)), **ROUNDING)
    exact = MatrixFactorization(target, 3)
    balanced = Factors(u * jnp.sqrt(s[None]), vt.T * jnp.sqrt(s[None]))
    assert_trees_close(spectrum(exact, balanced)[-1], 2.0 * s[0], **ROUNDING)


def test_factorization_saddle_at_the_origin(getkey):
    """Eigenvalues +-s_i, each `rank` times, and zeros; loss 0.5 |T|^2."""
    target = jax.random.normal(getkey(), (4, 3))
    potential = MatrixFactorization(target, 2)
    params = Factors(jnp.zeros((4, 2)), jnp.zeros((3, 2)))
    s = jnp.linalg.svd(target, compute_uv=False)
    expected = jnp.sort(jnp.concatenate([s, s, -s, -s, jnp.zeros(2)]))
    assert_trees_close(spectrum(potential, params), expected, **ROUNDING)
    assert_trees_close(potential(params), 0.5 * jnp.sum(target**2), **ROUNDING)


def test_gradient_flow_keeps_the_balance_of_a_factorization(getkey):
    """U^T U - V^T V is conserved."""
    potential = MatrixFactorization(jax.random.normal(getkey(), (3, 4)), 2)
    start = potential.init(getkey())
    end = flow(potential, start, 1.0, 500)
    assert float(potential(end)) < 0.5 * float(potential(start))
    # Fourth order with dt = 0.002 and rates of about 5.
    assert_trees_close(potential.balance(end), potential.balance(start), rtol=1e-8, atol=1e-8)


@hypothesis.given(st.integers(0, 2**31 - 1), number(0.05, 1.5), st.sampled_from([1, 3, 8]))
def test_catapult_recursion(seed, learning_rate, width):
    """One step of gradient descent closes on (f, lam), exactly."""
    catapult = Catapult(width)
    params = catapult.init(jax.random.key(seed))
    f, lam = catapult.function(params), catapult.kernel(params)
    slope = gradient(catapult, params)
    after = jax.tree.map(lambda w, g: w - learning_rate * g, params, slope)
    eta = learning_rate
    expected_f = f * (1.0 - eta * lam + eta**2 * f**2 / width)
    expected_lam = lam + eta * f**2 / width * (eta * lam - 4.0)
    assert_trees_close(catapult.function(after), expected_f, rtol=1e-11, atol=1e-11)
    assert_trees_close(catapult.kernel(after), expected_lam, rtol=1e-11, atol=1e-11)


def test_catapult_minima_have_the_kernel_as_sharpness():
    """Where f = 0 the Hessian has the one eigenvalue lam, and zeros."""
    catapult = Catapult(2)
    params = Layers(jnp.array([1.0, 2.0]), jnp.array([-4.0, 2.0]))
    assert gradient_norm(catapult, params) == 0.0
    expected = jnp.array([0.0, 0.0, 0.0, 12.5])
    assert_trees_close(spectrum(catapult, params), expected, **ROUNDING)
    assert_trees_close(catapult.kernel(params), jnp.array(12.5), **ROUNDING)
