"""Metrics by hand, and the posteriors against closed forms of a linear model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments.uncertainty.laplace import Laplace
from experiments.uncertainty.methods import METHODS
from experiments.uncertainty.metrics import (
    classification_metrics,
    expected_calibration_error,
    out_of_distribution_auroc,
)
from experiments.uncertainty.posteriors import Fit, Posteriors
from experiments.uncertainty.training import interpolate
from flows import sample_minima
from potentials import MLP, SupervisedPotential, cross_entropy, kl_divergence, mse, smoothed
from tests.helpers import assert_trees_close

KEY = jax.random.key(0)


def test_metrics_of_three_predictions_by_hand():
    """NLL in nats, Brier over all classes, accuracy."""
    p = np.array([[0.8, 0.2], [0.4, 0.6], [0.7, 0.3]])
    found = classification_metrics(p, np.array([0, 1, 1]))
    assert found["nll"] == pytest.approx(-np.log([0.8, 0.6, 0.3]).mean())
    assert found["brier"] == pytest.approx(2 * np.array([0.04, 0.16, 0.49]).mean())
    assert found["accuracy"] == pytest.approx(2 / 3)
    # Bins 0.8, 0.6 and 0.7: |1 - 0.8|, |1 - 0.6| and |0 - 0.7|, a third each.
    assert found["ece"] == pytest.approx((0.2 + 0.4 + 0.7) / 3)
    assert np.isnan(list(classification_metrics(np.nan * p, np.array([0, 1, 1])).values())).all()


def test_perfectly_calibrated_predictions_have_no_calibration_error():
    """Of ten with confidence 0.7, seven are right."""
    p = np.tile([0.7, 0.3], (10, 1))
    truth = np.array([0] * 7 + [1] * 3)
    assert expected_calibration_error(p, truth) == pytest.approx(0.0, abs=1e-12)


def test_the_calibration_error_weights_bins_by_their_examples():
    """Three of confidence 0.9 in one bin, two of them right, and a wrong one of 0.6."""
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.6, 0.4]])
    found = expected_calibration_error(p, np.array([0, 1, 1, 1]))
    assert found == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.6)
    # Two confidences that share a bin count as their mean: |1/2 - 0.95|.
    p = np.array([[0.92, 0.08], [0.98, 0.02]])
    assert expected_calibration_error(p, np.array([0, 1])) == pytest.approx(0.45)


def test_the_calibration_error_counts_what_is_certain() -> None:
    """A confidence of exactly 1 is in the last bin: one of two is right, |1/2 - 1|."""
    p = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert expected_calibration_error(p, np.array([0, 1])) == pytest.approx(0.5)
    # And in the same bin as 0.92: |1/2 - 0.96|.
    p = np.array([[1.0, 0.0], [0.92, 0.08]])
    assert expected_calibration_error(p, np.array([0, 1])) == pytest.approx(0.46)


def test_the_brier_score_of_three_classes_by_hand():
    """(0.5^2 + 0.3^2 + 0.2^2 + 0.9^2 + 0.2^2 + 0.7^2) / 2, where no example has the last class."""
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    found = classification_metrics(p, np.array([0, 0]))["brier"]
    assert found == pytest.approx((0.25 + 0.09 + 0.04 + 0.81 + 0.04 + 0.49) / 2)


def test_entropy_tells_the_unknown_from_the_known():
    """1 if it always does, 0.5 if it never can, nan if there is nothing to judge."""
    sure, unsure = np.tile([1.0, 0.0], (4, 1)), np.tile([0.5, 0.5], (3, 1))
    assert out_of_distribution_auroc(sure, unsure) == 1.0
    assert out_of_distribution_auroc(sure, sure) == 0.5
    # Surer of the unknown than of the known; and of three known and two unknown, 5 of 6 pairs.
    assert out_of_distribution_auroc(unsure, sure) == 0.0
    p = np.array([0.99, 0.9, 0.7, 0.8, 0.6])
    rows = np.stack([p, 1 - p], axis=1)
    assert out_of_distribution_auroc(rows[:3], rows[3:]) == pytest.approx(5 / 6)
    assert np.isnan(out_of_distribution_auroc(sure, np.nan * unsure))


def linear():
    """Three parameters (two weights and a bias) and five targets with noise 0.5."""
    x = jax.random.normal(KEY, (5, 2))
    y = jax.random.normal(jax.random.key(1), (5, 1))
    potential = SupervisedPotential(MLP((2, 1), key=KEY), x, y, mse)
    design = jnp.concatenate([x, jnp.ones((5, 1))], axis=1)
    return potential, design


def test_laplace_of_a_linear_model_is_the_exact_posterior():
    """Precision X^T X / noise^2, and covariance (that + 1 / deviation^2)^-1."""
    potential, design = linear()
    laplace = Laplace(potential, potential.params, noise=0.5)
    precision = design.T @ design / 0.25
    assert_trees_close(laplace.curvature, precision, rtol=1e-10)
    drawn = laplace.sample(KEY, 20000, 0.7)
    flat = jax.vmap(lambda p: jax.flatten_util.ravel_pytree(p)[0])(drawn)
    covariance = jnp.linalg.inv(precision + jnp.eye(3) / 0.49)
    # The standard error of a variance from 20000 draws is 1%.
    assert_trees_close(jnp.cov(flat.T), covariance, rtol=0.05, atol=0.02 * float(covariance.max()))


def test_the_curvature_of_classes_is_the_gauss_newton_matrix_of_the_cross_entropy():
    """For a linear model, the Hessian of the summed cross entropy itself."""
    x, targets = jax.random.normal(KEY, (5, 2)), smoothed(np.eye(3)[[0, 1, 2, 0, 1]], 0.1)
    model = MLP((2, 3), key=KEY)
    potential = SupervisedPotential(model, x, targets, kl_divergence)
    other = SupervisedPotential(model, x, targets, cross_entropy)
    flat, unravel = jax.flatten_util.ravel_pytree(potential.params)
    expected = jax.hessian(lambda w: 5 * other(unravel(w)))(flat)
    assert_trees_close(Laplace(potential, potential.params).curvature, expected, rtol=1e-8)


@pytest.fixture(scope="module")
def posteriors():
    """All methods around a network of 42 parameters that meets six smoothed targets."""
    x = jax.random.normal(KEY, (6, 2))
    targets = smoothed(np.eye(2)[[0, 1, 0, 1, 1, 0]], 0.1)
    potential = SupervisedPotential(MLP((2, 8, 2), key=KEY), x, targets, kl_divergence)
    trained, loss = interpolate(potential, potential.init(jax.random.key(1)))
    assert float(loss) < 1e-8
    return (
        potential,
        trained,
        Posteriors(potential, trained, KEY, samples=12, members=3, tolerance=1e-5),
    )


@pytest.mark.slow
def test_samples_of_dissipative_mechanics_agree_on_the_training_inputs_alone(posteriors):
    """The probabilities there are the targets; away from them they spread."""
    potential, _, methods = posteriors
    fit = methods.fit("dims", 0.5)
    assert fit.kept == 1.0
    losses = jax.vmap(jax.vmap(kl_divergence), (0, None))(
        fit.predict(potential.inputs), potential.targets
    )
    assert float(losses.mean(axis=1).max()) <= 1e-5
    inside = jax.nn.softmax(fit.predict(potential.inputs), axis=-1)
    # Pinsker: a mean divergence of 1e-5 over 6 is |p - t|_1 <= sqrt(2 * 6e-5), half of it each.
    assert float(jnp.abs(inside - potential.targets[None]).max()) <= 0.5 * np.sqrt(1.2e-4) * 1.01
    away = jax.nn.softmax(fit.predict(4 * potential.inputs), axis=-1)
    assert float(jnp.std(away, axis=0).max()) > 0.05


@pytest.mark.slow
def test_minima_of_a_trained_network_agree_on_its_training_inputs_and_differ_away(posteriors):
    """Samples of the set of minima itself, from a network of loss below 1e-8."""
    potential, trained, _ = posteriors
    assert float(potential(trained)) < 1e-8
    tolerance = 1e-4
    found = sample_minima(
        potential, trained, KEY, 12, speed=0.5, gravity=10.0, friction=1.0, tolerance=tolerance
    )
    assert bool(found.converged.all())
    # Gravity times the loss is part of the energy, which is at most the tolerance.
    assert float(found.loss.max()) <= tolerance / 10
    assert_trees_close(found.loss, jax.vmap(potential)(found.params), rtol=1e-6, atol=1e-12)
    apart = jax.vmap(lambda w: ravel_pytree(w)[0] - ravel_pytree(trained)[0])(found.params)
    # Of speeds 0.5 sqrt(42) = 3.2, along a set of dimension 30 or more of 42.
    assert float(jnp.linalg.norm(apart, axis=1).min()) > 1.0

    def difference(inputs):
        outputs = jax.vmap(lambda w: jax.nn.softmax(potential.predict(w, inputs), axis=-1))
        centre = jax.nn.softmax(potential.predict(trained, inputs), axis=-1)
        return np.asarray(jnp.abs(outputs(found.params) - centre[None]).max(axis=(1, 2)))

    # Pinsker: a mean divergence of 1e-5 over 6 is |p - t|_1 <= sqrt(2 * 6e-5), half of it each, and
    # 2e-4 for that of the trained network.
    assert difference(potential.inputs).max() <= 0.5 * np.sqrt(1.2e-4) * 1.01 + 2e-4
    assert np.median(difference(4 * potential.inputs)) > 0.05


@pytest.mark.slow
def test_a_small_scale_leaves_nothing_but_the_trained_network(posteriors):
    """Laplace, linearised and Riemannian samples all tend to it, and to each other faster."""
    potential, _, methods = posteriors
    point = methods.fit("map", 1.0).predict(potential.inputs)
    spread = {}
    for method in ("laplace", "linearised_laplace", "riemannian_laplace"):
        found = methods.fit(method, 1e-3).predict(potential.inputs)
        spread[method] = found
        # 42 weights of deviation 1e-3, and predictions that depend on them with slopes of order 1.
        assert float(jnp.abs(found - point).max()) < 0.05
    linear = spread["linearised_laplace"]
    for method in ("laplace", "riemannian_laplace"):
        assert float(jnp.abs(spread[method] - linear).max()) < 1e-3


def test_the_ensemble_meets_the_targets_with_every_member(posteriors):
    """Each is another solution."""
    potential, _, methods = posteriors
    found = methods.fit("deep_ensemble", 1.0).predict(potential.inputs)
    assert found.shape == (3, 6, 2)
    assert float(jnp.abs(jax.nn.softmax(found, axis=-1) - potential.targets[None]).max()) < 1e-3
    away = methods.fit("deep_ensemble", 1.0).predict(4 * potential.inputs)
    assert float(jnp.std(away, axis=0).min()) > 0.01


def test_members_that_are_not_trained_do_not_count(posteriors, monkeypatch):
    """Their share and the largest loss are told, and so is a base network that is not trained."""
    potential, trained, methods = posteriors
    starts = []

    def second_fails(potential, start):
        starts.append(start)
        end = start if len(starts) == 2 else trained
        return end, potential(end)

    monkeypatch.setattr("experiments.uncertainty.posteriors.interpolate", second_fails)
    with pytest.warns(UserWarning, match="1 of 3 members of the ensemble did not end"):
        fit = methods.fit("deep_ensemble", 1.0)
    assert fit.kept == pytest.approx(2 / 3)
    assert fit.training_loss == pytest.approx(float(potential(starts[1])))
    found = fit.predict(potential.inputs)
    assert found.shape == (2, 6, 2)
    assert float(jnp.abs(jax.nn.softmax(found, axis=-1) - potential.targets[None]).max()) < 1e-3
    with pytest.warns(UserWarning, match="the network's training did not end at its targets"):
        base = Posteriors(potential, starts[1], KEY, samples=12, members=3)
    assert base.fit("map", 1.0).training_loss == pytest.approx(float(potential(starts[1])))


def test_a_scale_is_chosen_by_its_score_and_by_who_counts(posteriors, monkeypatch):
    """The smallest finite score, wherever it stands, of scales at which nine tenths count."""
    _, _, methods = posteriors

    def chosen(scores, kept=(1.0, 1.0, 1.0), method="dims"):
        scales = (0.1, 0.2, 0.3)
        found = {scale: Fit(lambda x: x, k, 0.0) for scale, k in zip(scales, kept, strict=True)}
        given = {id(fit): score for fit, score in zip(found.values(), scores, strict=True)}
        monkeypatch.setattr(methods, "fit", lambda method, scale: found[scale])
        fit, scale = methods.choose(method, scales, lambda fit: given[id(fit)])
        assert np.isnan(scale) or fit is found[scale]
        return scale

    assert chosen([1.0, 2.0, 3.0]) == 0.1
    assert chosen([2.0, 1.0, 3.0]) == 0.2
    assert chosen([float("nan"), 2.0, 1.0]) == 0.3
    assert chosen([float("nan"), 2.0, float("-inf")], (1.0, 1.0, 0.5)) == 0.2
    # The best has too few samples; 0.9 itself is too few; where all have too few, the best.
    assert chosen([1.0, 3.0, 2.0], (0.89, 1.0, 0.95)) == 0.3
    assert chosen([1.0, 3.0, 2.0], (0.9, 1.0, 0.9)) == 0.2
    assert chosen([3.0, 1.0, 2.0], (0.5, 0.1, 0.8)) == 0.2
    for method in ("map", "deep_ensemble"):
        assert np.isnan(chosen([1.0, 2.0, 3.0], method=method))
    assert set(METHODS) >= {"dims", "laplace", "linearised_laplace", "riemannian_laplace"}
