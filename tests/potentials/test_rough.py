"""The rough potentials that a ball rolls on: what their docstrings state."""

import jax
import jax.numpy as jnp
import numpy as np

from potentials import GaussianPits, SineRegression, Weierstrass, WeierstrassSine, Whitley
from tests.helpers import assert_trees_close
from tests.potentials.dense import gradient, hessian


def test_the_slope_of_the_sum_of_sines_has_no_decaying_weights():
    """It is the sum of cos(k^2 t), n at t = 0; the sum itself is odd with period 2 pi."""
    potential, t = WeierstrassSine(100), 1.3
    slope = np.cos(np.arange(1, 101) ** 2 * t).sum()
    # Arguments of up to 1e4 lose four of sixteen digits.
    assert_trees_close(gradient(potential, jnp.asarray([t]))[0], jnp.asarray(slope), rtol=1e-10)
    assert_trees_close(gradient(potential, jnp.zeros(1)), jnp.asarray([100.0]), rtol=1e-14)
    value = potential(jnp.asarray([t]))
    assert_trees_close(potential(jnp.asarray([-t])), -value, rtol=1e-14)
    assert_trees_close(potential(jnp.asarray([t + 2 * np.pi])), value, rtol=1e-9)


def test_the_extremes_of_weierstrass_are_at_whole_numbers():
    """W(0) = (1 - a^n) / (1 - a) = -W(1) for odd b, flat there, with the largest curvature."""
    a, b, terms = 0.5, 3.0, 6
    potential = Weierstrass(a, b, terms)
    top = (1 - a**terms) / (1 - a)
    values = jnp.stack([potential(jnp.asarray([t])) for t in (0.0, 1.0)])
    assert_trees_close(values, jnp.asarray([top, -top]), rtol=1e-14)
    steepest = np.pi**2 * ((a * b**2) ** terms - 1) / (a * b**2 - 1)
    assert_trees_close(hessian(potential, jnp.ones(1)), jnp.asarray([[steepest]]), rtol=1e-12)


def test_pits_are_seeded_and_sit_in_a_bowl():
    """The same seed draws the same pits; one far pit has curvature k + d / s^2 at its bottom."""
    one, same, other = GaussianPits(8), GaussianPits(8), GaussianPits(8, seed=1)
    assert_trees_close(one.centres, same.centres, rtol=0.0, atol=0.0)
    assert not jnp.array_equal(one.centres, other.centres)
    assert bool(jnp.all(jnp.abs(one.centres) <= 1) & jnp.all(one.shares >= 0.5))
    pit = GaussianPits(1, depth=0.2, width=0.1, curvature=1.5)
    curvature = 1.5 + 0.2 * pit.shares[0] / 0.01
    expected = curvature * jnp.eye(2)
    assert_trees_close(hessian(pit, pit.centres[0]), expected, rtol=1e-12, atol=1e-12)
    bowl = GaussianPits(3, depth=0.0, curvature=2.0)
    assert_trees_close(bowl(jnp.asarray([1.0, 2.0])), jnp.asarray(5.0), rtol=1e-15)


def test_whitley_is_zero_and_flat_to_third_order_at_its_minimum():
    """At (1, 1, 1); and its value elsewhere is the double sum written with cosines."""
    potential, point = Whitley(3), np.asarray([0.4, -1.1, 0.8])
    ones = jnp.ones(3)
    assert float(potential(ones)) == 0.0
    assert not hessian(potential, ones).any()
    y = 100 * (point[:, None] ** 2 - point) ** 2 + (1 - point) ** 2
    expected = (y**2 / 4000 - np.cos(y) + 1).sum()
    assert_trees_close(potential(jnp.asarray(point)), jnp.asarray(expected), rtol=1e-12)


def test_the_sine_is_found_at_its_frequency_and_in_its_mirror_image():
    """Loss 0 at (w0, b0) and (-w0, pi - b0), with the stated Hessian; local minima beside."""
    potential = SineRegression(12.0, 0.5, 64)
    for point in ([12.0, 0.5], [-12.0, np.pi - 0.5]):
        assert float(potential(jnp.asarray(point))) < 1e-28
    x = np.linspace(-1, 1, 64)
    weights = np.cos(12 * x + 0.5) ** 2
    expected = [[(weights * x**2).mean(), (weights * x).mean()]]
    expected.append([expected[0][1], weights.mean()])
    found = hessian(potential, jnp.asarray([12.0, 0.5]))
    assert_trees_close(found, jnp.asarray(expected), rtol=1e-12)
    line = jnp.stack([jnp.linspace(2.0, 22.0, 401), jnp.full(401, 0.5)], axis=1)
    losses = np.asarray(jax.jit(jax.vmap(lambda p: potential(p)))(line))
    inner = losses[1:-1]
    lows = line[1:-1, 0][(inner < losses[:-2]) & (inner < losses[2:])]
    assert len(lows) >= 3
    assert 12.0 in np.asarray(lows).round(6)
