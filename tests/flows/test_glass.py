"""Gradient glass, Alice and its flow against closed forms, exact counting, and each other."""

import dataclasses
import functools
import itertools

import diffrax
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

import flows
from flows import Alice, AliceFlow, AliceState, GlassDensity, GradientDescent
from flows.glass.alice import quasi_newton_step
from flows.glass.crossings import crossings, jump_density
from flows.glass.density import LOSS_CHANGE, rademacher
from potentials import MLP, SupervisedPotential, mse
from tests.helpers import as_users_run, assert_trees_close

# The averages of the Hessian and of glass keep their values with it.
KEPT = 1 - 1e-15
FREE = functools.partial(Alice, 1e-3, b2=KEPT, clip="none")


def network(activation: str, examples: int, widths: tuple[int, ...] = (6, 16, 3)):
    """A network on random data, with a mean squared error."""
    keys = jax.random.split(jax.random.key(1), 3)
    inputs = jax.random.normal(keys[0], (examples, widths[0]))
    targets = jax.random.normal(keys[1], (examples, widths[-1]))
    return SupervisedPotential(MLP(widths, activation, key=keys[2]), inputs, targets, mse)


def sums(density) -> np.ndarray:
    """The sum over each array: first weights and biases, then those of the output."""
    return np.array([float(jnp.sum(x)) for x in jax.tree.leaves(density)])


def estimate(potential, sigma: float) -> np.ndarray:
    """The density of each array, by 16 probes."""
    return sums(flows.glass_density(potential, potential.params, sigma, probes=16).density)


# The density.


def test_the_expected_change_of_the_loss_is_that_of_a_random_walk():
    """An integrated walk has the variance rho |delta|^3 / 3; the mean size is c sqrt(rho) ..."""
    assert pytest.approx(0.460659, abs=5e-7) == LOSS_CHANGE
    # The mean of |x| of a normal number of variance 1/3.
    density = lambda x: x * np.exp(-1.5 * x**2) * np.sqrt(1.5 / np.pi)  # noqa: E731
    mean = 2 * scipy.integrate.quad(density, 0, np.inf)[0]
    assert mean == pytest.approx(LOSS_CHANGE, rel=1e-12)
    # Walks of 400 steps, 20,000 of them.
    generator = np.random.default_rng(0)
    rho, delta, steps = 2.5, 0.3, 400
    jumps = generator.choice([-1.0, 1.0], (20_000, steps)) * np.sqrt(rho * delta / steps)
    changes = np.cumsum(jumps, 1).sum(1) * delta / steps
    assert np.var(changes) == pytest.approx(rho * delta**3 / 3, rel=0.03)
    expected = float(flows.glass_loss_change(jnp.asarray([rho]), jnp.asarray([-delta])))
    assert np.abs(changes).mean() == pytest.approx(expected, rel=0.02)


def test_the_density_agrees_with_an_exact_count_of_the_boundaries():
    """The sums over the first weights within 25% at 400 examples; biases within a factor 3; and
    the weights of the output, whose gradient is continuous, have none.
    """
    potential, sigma = network("relu", 400), 3e-3
    probes = rademacher(0, potential.params, 16)
    exact = np.mean(
        [
            sums(jump_density(potential, potential.params, probe, sigma))
            for probe in (jax.tree.map(lambda x, i=i: x[i], probes) for i in range(16))
        ],
        axis=0,
    )
    found = flows.glass_density(potential, potential.params, sigma, probes=16)
    weights, biases, *output = sums(found.density) / exact[0]
    assert weights == pytest.approx(1, rel=0.25)
    assert 1 / 3 < biases / (exact[1] / exact[0]) < 3
    # Of an order of sigma^3; by the exact count they vanish to rounding.
    assert max(output) < 0.01
    assert max(exact[2:]) < 1e-25 * exact[0]
    assert int(found.cost.gradients) == 33


@pytest.mark.parametrize("widths", [(3, 5, 2), pytest.param((3, 4, 4, 2), marks=pytest.mark.slow)])
def test_the_exact_count_finds_where_the_gradient_jumps(widths):
    """Between two crossings the activation patterns of all examples stay; at each one changes."""
    potential = network("relu", 6, widths)
    probe = jax.tree.map(lambda x: x[0], rademacher(3, potential.params, 1))
    found = crossings(potential, potential.params, probe, 0.5)
    assert len(found.times) > 10

    def patterns(t: float) -> np.ndarray:
        params = jax.tree.map(lambda w, z: np.asarray(w + t * z), potential.params, probe)
        signal, masks = np.asarray(potential.inputs), []
        for layer in params.layers[:-1]:
            signal = signal @ layer.weight.T + layer.bias
            masks.append(signal > 0)
            signal = np.maximum(signal, 0)
        return np.concatenate(masks, 1)

    edges = np.concatenate([[-0.5], np.sort(found.times), [0.5]])
    assert np.diff(edges).min() > 1e-9
    middles = [patterns(t) for t in 0.5 * (edges[1:] + edges[:-1])]
    for before, after in itertools.pairwise(middles):
        # One unit, of one example, with others of later layers perhaps.
        assert (before != after).any(1).sum() == 1
    fine = [patterns(t) for t in np.linspace(-0.5, 0.5, 2001)]
    changes = sum((a != b).any(1).sum() for a, b in itertools.pairwise(fine))
    assert changes <= len(found.times)


def test_only_the_boundaries_of_an_mlp_with_relu_are_counted():
    """Others are refused, and so is a segment of no length."""
    relu = network("relu", 3)
    smooth = network("tanh", 3)
    for potential, length, sentence in (
        (smooth, 0.1, r'an MLP with the activation "relu" and biases; got the activation tanh'),
        (relu, 0.0, "length must be a finite number above 0; got 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            jump_density(potential, potential.params, potential.params, length)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_second_differences_follow_the_powers_of_jumps_and_of_smoothness(activation):
    """The squared second difference goes as sigma for ReLU, and as sigma^4 for tanh and for the
    weights of the output of both; the density is one power less.
    """
    potential = network(activation, 400)
    small, large = (estimate(potential, sigma) for sigma in (1e-3, 4e-3))
    slopes = 1 + np.log(large / small) / np.log(4)
    expected = 1 if activation == "relu" else 4
    assert slopes[0] == pytest.approx(expected, abs=0.25)
    # With ReLU the gradient of the output's weights has kinks: each adds a share of sigma^2, and
    # their number grows with sigma; these small lengths see both powers.
    assert slopes[2] == pytest.approx(4, abs=0.25) if activation == "tanh" else 3 < slopes[2] < 4


@pytest.mark.slow
def test_the_density_falls_as_one_over_the_number_of_examples():
    """Jumps of one example are 1/N of its own, and there are N times as many."""
    few, many = (
        estimate(potential, 3e-3)[0] for potential in (network("relu", 100), network("relu", 1600))
    )
    assert np.log(few / many) / np.log(16) == pytest.approx(1, abs=0.25)


def test_on_a_quadratic_the_curvature_is_a_row_of_the_hessian_and_there_is_no_glass():
    """It is |(H z)_i|, of any pytree."""
    hessian = jnp.asarray([[2.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.0, -1.0, 1.0]])

    def loss(w):
        x = jnp.concatenate([w["a"], w["b"].reshape(-1)])
        return 0.5 * x @ hessian @ x

    params = {"a": jnp.ones(2), "b": jnp.ones((1, 1))}
    found = flows.glass_density(loss, params, 0.1, probes=5, seed=4)
    probes = rademacher(4, params, 5)
    flat = jnp.concatenate([probes["a"], probes["b"].reshape(5, 1)], 1)
    expected = jnp.mean(jnp.abs(flat @ hessian), 0)
    assert_trees_close(found.curvature, {"a": expected[:2], "b": expected[2:, None]}, rtol=1e-12)
    assert max(sums(found.density)) < 1e-28


def test_a_measurement_sums_over_each_array_and_counts_its_gradients():
    """At every second save, with the same probes each time."""
    potential = network("relu", 20)
    measurement = GlassDensity(1e-2, probes=3, every=2)
    run = flows.iterate(
        GradientDescent(1e-3), potential, potential.params, 2, measurements=measurement
    )
    leaves = run.observables["leaf_glass_density"]
    expected = flows.glass_density(potential, potential.params, 1e-2, probes=3)
    assert_trees_close(np.asarray(leaves[0]), sums(expected.density), rtol=1e-9)
    assert jnp.isnan(leaves[1]).all()
    assert run.observables["glass_density"][2] == pytest.approx(float(jnp.sum(leaves[2])))
    # Two estimates, and two gradients a probe for the comparison at the first.
    assert int(run.stats["measurement_gradient_equivalents"]) == 2 * 7 + 6


def test_an_activation_without_kinks_is_warned_of():
    """The density then rises with sigma."""
    potential = network("tanh", 20)
    with pytest.warns(UserWarning, match=r"grows as sigma to the power 3 at sigma = "):
        flows.iterate(
            GradientDescent(1e-3), potential, potential.params, 1, measurements=GlassDensity(1e-2)
        )
    flows.iterate(
        GradientDescent(1e-3),
        potential,
        potential.params,
        1,
        measurements=GlassDensity(1e-2, check=False),
    )


def test_the_warning_comes_once_for_each_of_a_batch():
    """At the first save, though under `jax.vmap` the comparison is computed at all of them."""
    bowl = lambda w: jnp.sum(w**4)  # noqa: E731
    measured = GlassDensity(1e-2)

    def run(rate):
        return flows.iterate(
            GradientDescent(rate), bowl, jnp.ones(2), 3, measurements=measured
        ).observables["glass_density"]

    def runs():
        jax.block_until_ready(jax.vmap(run)(jnp.asarray([1e-3, 2e-3])))
        jax.effects_barrier()

    with pytest.warns(UserWarning, match="grows as sigma") as said:
        runs()
    assert len(said) == 2


def test_a_seed_has_a_range():
    """Here and in the functions that draw probes."""
    for make in (lambda: GlassDensity(seed=2**32), lambda: Alice(0.1, seed=-1)):
        with pytest.raises(ValueError, match=r"seed must be an integer from 0 to 4294967295; got"):
            make()


# The step.


def test_the_step_is_the_minimum_of_the_model_and_has_the_closed_form():
    """It is |g|/k, k = alpha + h + sqrt(alpha (alpha + 2 h)), alpha = 3 rho / (4 pi |g|)."""
    g, h, rho = (jnp.exp(jax.random.normal(jax.random.key(i), (50,))) for i in range(3))
    d = quasi_newton_step(-g, h, rho)
    alpha = 3 * rho / (4 * jnp.pi * g)
    assert pytest.approx(3 / (4 * np.pi), rel=1e-15) == 9 / 8 * LOSS_CHANGE**2
    assert_trees_close(d, g / (alpha + h + jnp.sqrt(alpha * (alpha + 2 * h))), rtol=1e-13)
    for i in range(3):
        model = lambda x, i=i: float(  # noqa: E731
            -g[i] * x + h[i] * x**2 / 2 + LOSS_CHANGE * jnp.sqrt(rho[i]) * x**1.5
        )
        best = scipy.optimize.minimize_scalar(model, (0, float(d[i])), tol=1e-12).x
        assert best == pytest.approx(float(d[i]), rel=1e-5)
    zero = jnp.zeros(())
    one = jnp.ones(())
    assert quasi_newton_step(zero, zero, zero) == 0
    assert quasi_newton_step(zero, zero, one) == 0
    assert quasi_newton_step(one, zero, zero) == jnp.inf
    assert quasi_newton_step(one, 4 * one, zero) == 0.25
    assert quasi_newton_step(one, zero, one) == pytest.approx(2 * np.pi / 3)


@pytest.mark.parametrize("glass", [False, True])
def test_the_step_is_right_over_the_range_of_single_precision(glass):
    """Both h |g| and rho may be far below 1e-38, or above 1e38, where g and h are not."""
    powers = jnp.asarray([-36.0, -30.0, -20.0, 0.0, 20.0, 36.0])
    g, h = (10.0**x for x in jnp.meshgrid(powers, powers, indexing="ij"))
    rho = (g * jnp.sqrt(g * h) if glass else jnp.zeros_like(g)).astype(jnp.float32)
    g, h = g.astype(jnp.float32), h.astype(jnp.float32)
    exact = quasi_newton_step(*(x.astype(float) for x in (g, h, rho)))
    # Where d itself and rho are numbers of this precision.
    kept = (exact > 1e-36) & (exact < 1e36) & jnp.isfinite(rho) & ((rho > 1e-36) | (not glass))
    assert jnp.sum(kept) > 20 - 10 * glass
    found = quasi_newton_step(g, h, rho)
    assert found.dtype == jnp.float32
    assert_trees_close(found[kept].astype(float), exact[kept], rtol=2e-6)
    assert quasi_newton_step(g[0, 0], h[0, 0], rho[0, 0] * 0) == pytest.approx(1, rel=1e-6)


def test_the_step_has_its_derivatives():
    """By all three, where h or rho is 0 too: from h s^2 + b s = |g|, d = s^2."""
    c = 1.5 * LOSS_CHANGE
    for g, h, rho in ((2.0, 3.0, 0.5), (2.0, 0.0, 0.5)):
        s, b = float(quasi_newton_step(*map(jnp.asarray, (g, h, rho)))) ** 0.5, c * rho**0.5
        below = 2 * h * s + b
        expected = 2 * s * np.asarray([1, -(s**2), -s * c / (2 * rho**0.5)]) / below
        found = jax.grad(quasi_newton_step, argnums=(0, 1, 2))(*map(jnp.asarray, (g, h, rho)))
        assert_trees_close(jnp.stack(found), jnp.asarray(expected), rtol=1e-12)


def test_the_clip_scales_its_bounds():
    """By 1, |m|, or |m| / (sqrt(s) + eps)."""
    m, s = jnp.asarray([-2.0, 3.0]), jnp.asarray([16.0, 16.0])
    h, rho = jnp.asarray([1e-6, 1e6]), jnp.zeros(2)
    state = AliceState(m, m, m, s, h, rho, None)
    for clip, low, high in (
        ("fixed", 0.1, 0.2),
        ("sgdm", 0.3, 0.4),
        ("adam", 0.075, 0.1),
    ):
        method = Alice(0.1, clip=clip, lr_min=0.1, eps=0.0)
        delta = method.displacement(state, 0)
        assert_trees_close(delta, jnp.asarray([high, -low]), rtol=1e-12)
    unbounded = Alice(0.1, clip="none").displacement(state, 0)
    assert_trees_close(unbounded, jnp.asarray([2e6, -3e-6]), rtol=1e-12)


HESSIAN = jnp.asarray([[2.0, 1.0, 0.3], [1.0, 3.0, -1.0], [0.3, -1.0, 1.5]])


def affine(w):
    """A quadratic whose minimum is not at the origin."""
    return 0.5 * w @ HESSIAN @ w - jnp.sum(w)


@pytest.mark.parametrize(
    ("method", "exact"),
    [
        (Alice(1e-2), True),
        (Alice(1e-2, b1=0.5, omega=0.4, phi=0.2, clip="fixed", hessian="rms"), True),
        (Alice(1e-2, b1=0.7, glass=False, clip="sgdm", lr_max=0.1), True),
        (Alice(1e-2, phi=0.2), False),
        (Alice(1e-2, omega=0.5), False),
    ],
)
def test_the_momentum_is_the_gradient_for_affine_gradients(method, exact):
    """That is m = g(mu) for ever, whatever the step, if and only if phi = omega (1 - b1)."""

    @jax.jit
    def errors(params):
        def one(state, _):
            after = method.step(state, affine)
            return after, jnp.max(jnp.abs(after.momentum - jax.grad(affine)(state.params)))

        return jax.lax.scan(one, method.init(params), length=50)[1]

    worst = float(jnp.max(errors(jnp.asarray([1.0, -2.0, 0.5]))))
    assert worst < 1e-14 if exact else worst > 1e-3


def test_an_error_of_the_momentum_decays_by_b1():
    """The other multiplier, whatever the steps are."""
    method, start = Alice(1e-2, b1=0.7), jnp.asarray([1.0, -2.0, 0.5])
    state = method.step(method.init(start), affine)
    state = dataclasses.replace(state, momentum=state.momentum + jnp.asarray([0.3, -0.2, 0.1]))
    for power in (1, 2, 3):
        before, state = state, method.step(state, affine)
        error = state.momentum - jax.grad(affine)(before.params)
        assert_trees_close(error, 0.7**power * jnp.asarray([0.3, -0.2, 0.1]), rtol=1e-12)


def test_without_glass_the_multipliers_are_those_of_a_first_order_method():
    """1 - phi lambda / k along an axis, with the rms or the size of the Hessian."""
    bowl = lambda w: 0.5 * jnp.sum(jnp.asarray([1.0, 10.0]) * w**2)  # noqa: E731
    for hessian in ("abs", "rms"):
        method = FREE(glass=False, hessian=hessian, sample_every=3, probes=2)
        run = flows.iterate(method, bowl, jnp.ones(2), 7)
        expected = 0.9 ** np.arange(8)
        assert_trees_close(np.asarray(run.params), np.stack([expected, expected], 1), rtol=1e-9)
    # A gradient a step, one of them beyond the last save, and two for each of two probes at steps
    # 0, 3 and 6.
    assert int(run.stats["gradient_evaluations"]) == 8 + 2 * 2 * 3


def gathered(method: Alice, potential, params, density: float) -> AliceState:
    """The averages at a start, with a given density of glass, before any move."""
    state = AliceFlow(method).init(potential, params)
    return dataclasses.replace(state, density=jax.tree.map(lambda x: x * 0 + density, params))


def after_steps(method, potential, start, density, steps):
    """Where steps lead from a start with given glass: the first is made with its averages."""
    state = gathered(method, potential, start, density)
    delta = method.displacement(state, 0.0)
    state = dataclasses.replace(
        state,
        params=start + method.share * delta,
        ahead=start + method.omega * delta,
        count=jnp.asarray(1),
    )
    return jax.lax.fori_loop(1, steps, lambda _, s: method.step(s, potential), state).params


steps_from = jax.jit(after_steps, static_argnames="potential")


def sharp(w):
    """A bowl of curvature 8."""
    return 4 * jnp.sum(w**2)


def test_an_unstable_two_cycle_bounds_the_basin():
    """Of half-length phi s^2 / 2, s = b / (phi lambda / 2 - h), where h < phi lambda / 2."""
    phi, rho = 0.5, 2.0
    method = FREE(b1=0.5, hessian="none")
    root = 1.5 * LOSS_CHANGE * np.sqrt(rho) / (phi * 8 / 2)
    half = phi * root**2 / 2

    def after(method, factor, steps):
        return float(steps_from(method, sharp, jnp.asarray([factor * half]), rho, steps)[0])

    assert after(method, 1.0, 1) == pytest.approx(-half, rel=1e-12)
    assert after(method, 1.0, 2) == pytest.approx(half, rel=1e-12)
    assert abs(after(method, 0.99, 12)) < 0.9 * half
    assert abs(after(method, 1.01, 12)) > 1.1 * half
    # The clip keeps the motion bounded where it would diverge.
    clipped = FREE(b1=0.5, hessian="none", clip="fixed", lr_max=3 * root**2)
    assert not abs(after(method, 4.0, 20)) <= 4 * half
    assert abs(after(clipped, 4.0, 20)) <= 4 * half


def test_every_minimum_is_stable_at_small_amplitude_with_glass():
    """However sharp: there is no edge at 2/eta."""
    method, small = FREE(b1=0.5, hessian="none"), jnp.asarray([1e-13])
    sharpest = lambda w: 1e5 * sharp(w)  # noqa: E731
    assert 0 < float(steps_from(method, sharpest, small, 1.0, 10)[0]) < 1e-13


@pytest.mark.parametrize("steep", [2.0, 20.0])
def test_no_sharpness_decides_about_stability_without_glass(steep):
    """A Hessian with the sharpness 20 h is unstable, one with 2 h is not, each times any number."""
    size, phi = 8, 0.2
    signs = rademacher(0, jnp.zeros(size), 1)[0]
    v = jnp.arange(1.0, size + 1)
    v = v - (v @ signs) * signs / size
    v = v / jnp.linalg.norm(v)
    # H z = h z, which knows nothing of the eigenvalue along v.
    hessian = jnp.eye(size) + (steep - 1) * jnp.outer(v, v)
    method = FREE(b1=1 - phi, glass=False)
    for scale in (1e-3, 1.0, 1e3):
        loss = lambda w, scale=scale: 0.5 * scale * w @ hessian @ w  # noqa: E731
        run = flows.iterate(method, loss, v, 3, measurements=())
        assert_trees_close(run.params[-1], (1 - phi * steep) ** 3 * v, rtol=1e-9, atol=1e-9)


def test_alice_has_no_critical_sharpness():
    """A sentence for who asks."""
    with pytest.raises(ValueError, match="no sharpness decides about the stability of Alice"):
        flows.critical_sharpness(Alice(0.1))
    with pytest.raises(ValueError, match="no sharpness decides"):
        flows.iterate(Alice(0.1), affine, jnp.ones(3), 1, measurements=flows.Threshold(Alice(0.1)))


# The flow.

ACCURATE = diffrax.PIDController(rtol=1e-10, atol=1e-13)


def solved(flow, potential, state, times):
    """The parameters of a flow at some times."""
    return diffrax.diffeqsolve(
        diffrax.ODETerm(flow.vector_field),
        diffrax.Tsit5(),
        0.0,
        times[-1],
        None,
        state,
        args=potential,
        saveat=diffrax.SaveAt(ts=jnp.asarray(times)),
        stepsize_controller=ACCURATE,
        max_steps=100_000,
    ).ys.params


@pytest.mark.slow
def test_glass_makes_the_decay_algebraic():
    """x(t) = x0 / (1 + phi (2 pi / (3 rho)) lambda^2 |x0| t), not exponential."""
    curvature, rho, start = 3.0, 2.0, -1.5
    bowl = lambda w: 0.5 * curvature * jnp.sum(w**2)  # noqa: E731
    method = FREE(hessian="none")
    state = gathered(method, bowl, jnp.asarray([start]), rho)
    times = [1.0, 10.0, 100.0]
    rate = 0.1 * 2 * np.pi / (3 * rho) * curvature**2 * abs(start)
    expected = start / (1 + rate * np.asarray(times))
    found = solved(AliceFlow(method), bowl, state, times)[:, 0]
    assert_trees_close(np.asarray(found), expected, rtol=1e-7)


@pytest.mark.slow
def test_with_both_terms_the_root_of_the_step_obeys_the_closed_form():
    """2 ln(s/s0) - (b/h) (1/s - 1/s0) = -phi t, with h s^2 + b s = |g|."""
    curvature, rho = 3.0, 2.0
    bowl = lambda w: 0.5 * curvature * jnp.sum(w**2)  # noqa: E731
    method = FREE()
    state = gathered(method, bowl, jnp.asarray([1.5]), rho)
    times = np.array([1.0, 10.0, 60.0])
    gradients = curvature * np.concatenate(
        [[1.5], solved(AliceFlow(method), bowl, state, list(times))[:, 0]]
    )
    b = 1.5 * LOSS_CHANGE * np.sqrt(rho)
    s = (-b + np.sqrt(b**2 + 4 * curvature * gradients)) / (2 * curvature)
    left = 2 * np.log(s[1:] / s[0]) - b / curvature * (1 / s[1:] - 1 / s[0])
    assert_trees_close(left, -0.1 * times, rtol=1e-7)


def bent(w):
    """A loss whose gradient is not affine."""
    return jnp.sum(jnp.log(jnp.cosh(2 * w))) + 0.2 * w[0] * w[1]


@pytest.mark.slow
def test_the_flow_is_of_first_order_with_the_momentum_in_its_state_and_of_none_without():
    """At times in proportion to 1/phi, for phi = 1 - b1 to zero; THEORY has 1.004 and none."""
    errors = {True: [], False: []}

    @functools.partial(jax.jit, static_argnames="momentum")
    def error(steps, momentum):
        time = 1.0 * steps
        method = FREE(b1=1 - 1 / time, hessian="none")
        start = jnp.asarray([0.9, -0.6])
        discrete = after_steps(method, bent, start, 1.0, steps)
        begin = gathered(method, bent, start, 1.0)
        if not momentum:
            begin = dataclasses.replace(begin, momentum=None)
        flow = AliceFlow(method, momentum=momentum)
        return jnp.linalg.norm(solved(flow, bent, begin, [time])[0] - discrete)

    for steps in (100, 200):
        for momentum in (True, False):
            errors[momentum].append(float(error(steps, momentum)))
    orders = {key: np.log2(pair[0] / pair[1]) for key, pair in errors.items()}
    assert orders[True] == pytest.approx(1, abs=0.02)
    assert abs(orders[False]) < 0.1
    assert errors[False][1] > 10 * errors[True][1]


def test_the_flow_models_every_average_of_the_optimizer():
    """With all terms, clipped as Adam is; at the cost of a gradient, and two for each probe."""
    start = jnp.asarray([0.9, -0.6])
    method = Alice(0.02, b1=0.95, b2=0.98, sigma=0.1, probes=2, sample_every=1)
    optimizer = flows.iterate(method, bent, start, 40, measurements=())
    run = flows.simulate(
        AliceFlow(method),
        bent,
        start,
        40,
        measurements=(),
        solver=diffrax.Heun(),
        stepsize_controller=diffrax.ConstantStepSize(),
        dt0=0.5,
    )
    assert flows.tracking_error(run, optimizer) < 0.03
    assert int(run.stats["gradient_evaluations"]) == 5 * (1 + 2 * 80)


@pytest.mark.parametrize("clip", [pytest.param("none", marks=pytest.mark.slow), "adam"])
def test_alice_is_eulers_method_on_its_flow(clip):
    """With steps of one; with all averages and the clip."""
    method = Alice(0.02, b2=0.98, sigma=0.1, probes=2, sample_every=1, clip=clip)
    start = jnp.asarray([0.9, -0.6])
    optimizer = flows.iterate(method, bent, start, 30, measurements=())
    run = flows.simulate(
        AliceFlow(method),
        bent,
        start,
        30,
        measurements=(),
        solver=diffrax.Euler(),
        stepsize_controller=diffrax.ConstantStepSize(),
        dt0=1.0,
    )
    # Rounding only: some 2e-16 at each of 30 steps, which the motion hardly widens.
    assert_trees_close(run.params, optimizer.params, rtol=0, atol=1e-13)


def test_single_precision_stays_single():
    """Hyperparameters are float64, parameters float32."""
    potential = network("relu", 5, (2, 3, 1))
    params = jax.tree.map(lambda x: x.astype(jnp.float32), potential.params)
    method = Alice(0.01)
    after = jax.eval_shape(lambda p: method.step(method.init(p), potential), params)
    assert {x.dtype for x in jax.tree.leaves(after)} == {jnp.dtype("float32"), jnp.dtype("int32")}
    flow = AliceFlow(method)
    moved = jax.eval_shape(
        lambda p: flow.vector_field(0.0, flow.init(potential, p), potential), params
    )
    assert {x.dtype for x in jax.tree.leaves(moved)} == {jnp.dtype("float32")}


def test_no_matrix_of_all_parameters_is_built():
    """Neither in a step nor in a field: no array has P x P entries."""
    potential = network("relu", 5, (7, 11, 3))
    method = Alice(0.01, probes=3)
    flow = AliceFlow(method)
    state = method.init(potential.params)
    count = sum(x.size for x in jax.tree.leaves(potential.params))
    for function, given in (
        (lambda s: method.step(s, potential), state),
        (
            lambda s: flow.vector_field(0.0, s, potential),
            dataclasses.replace(state, ahead=None, count=None),
        ),
    ):
        for shape in shapes(jax.make_jaxpr(function)(given).jaxpr):
            assert np.prod(shape) < count**2 / 4


def shapes(jaxpr):
    """The shapes of all that a program computes."""
    for equation in jaxpr.eqns:
        yield from (out.aval.shape for out in equation.outvars)
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from shapes(inner)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: flows.glass_density(affine, jnp.ones(3), 0.0), "sigma must be a finite number ab"),
        (lambda: flows.glass_density(affine, jnp.ones(3), -1.0), "sigma must be a finite number"),
        (lambda: flows.glass_density(affine, jnp.ones(3), probes=0), "probes must be an integer"),
        (lambda: GlassDensity(sigma=0.0), "sigma must be a finite number above 0"),
        (lambda: GlassDensity(probes=0), "probes must be an integer of at least 1"),
        (lambda: Alice(0.1, sigma=0.0), "sigma must be a finite number above 0"),
        (lambda: Alice(0.1, probes=0), "probes must be an integer of at least 1"),
        (lambda: Alice(0.1, phi=2.0), "phi must be above 0 and below 2"),
        (lambda: Alice(0.1, hessian="diagonal"), 'hessian must be "abs" or "rms" or "none"; got'),
        (lambda: Alice(0.1, clip="norm"), 'clip must be "adam" or "sgdm" or "fixed" or "none"'),
        (lambda: Alice(0.1, glass=False, hessian="none"), 'hessian must be "abs" or "rms" with'),
        (lambda: Alice(0.1, lr_min=0.3, lr_max=0.2), "lr_min must be at most lr_max, 0.2; got 0.3"),
        (lambda: Alice(0.1, lr_min=0.3), "lr_min must be at most lr_max, 0.2; got 0.3"),
        (
            lambda: Alice(lambda t: 0.1 / (1 + t)),
            "sigma must be given with a learning rate",
        ),
        (
            lambda: flows.glass_loss_change(jnp.ones(3), jnp.ones(1)),
            r"displacement must have leaves of the shapes of density, \[\(3,\)\]; got \[\(1,\)\]",
        ),
        (lambda: AliceFlow(GradientDescent(0.1)), "optimizer must be Alice"),
        (lambda: AliceFlow(Alice(0.1, redraw=True)), "optimizer must have redraw=False"),
    ],
)
def test_wrong_input_gets_a_sentence(make, sentence):
    """Which argument, what is allowed, and what was given."""
    with as_users_run(), pytest.raises(ValueError, match=sentence):
        make()


def test_new_probes_are_drawn_at_each_sampling():
    """From the seed and the count: the same in every run, others at every step."""
    method = Alice(0.1, redraw=True, sample_every=1)
    state = method.init(jnp.ones(8))
    assert state.probes is None
    first = method.directions(state)
    second = method.directions(dataclasses.replace(state, count=state.count + 1))
    assert_trees_close(first, method.directions(state))
    assert (first != second).any()
    assert (jnp.abs(first) == 1).all()
