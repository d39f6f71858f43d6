"""The ring, and the data sets of the studies of uncertainty."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets

from potentials import (
    Dataset,
    Ring,
    banana,
    cross_entropy,
    generated_regression,
    kl_divergence,
    load_breast_cancer,
    load_digits,
    load_other_digits,
    load_wine,
    one_hot,
    smoothed,
)
from tests.helpers import assert_trees_close


def test_the_ring_is_minimal_on_its_circle():
    """Loss 0, and the Hessian 2 w w^T there; r^4 / 4 in the middle."""
    ring = Ring(1.5)
    for angle in (0.3, 2.0):
        w = 1.5 * jnp.asarray([np.cos(angle), np.sin(angle)])
        assert float(ring(w)) == pytest.approx(0.0, abs=1e-30)
        assert_trees_close(jax.hessian(ring)(w), 2 * w[:, None] * w[None, :], rtol=1e-12)
    assert float(ring(jnp.zeros(2))) == pytest.approx(1.5**4 / 4)


def test_the_divergence_is_the_cross_entropy_above_its_minimum():
    """0 where the softmax is the target, with a zero in the target too."""
    target = jnp.asarray([0.2, 0.5, 0.3])
    other = jnp.asarray([0.1, 0.4, -0.6])
    assert float(kl_divergence(jnp.log(target) + 3.0, target)) == pytest.approx(0.0, abs=1e-15)
    entropy = -float(jnp.sum(target * jnp.log(target)))
    expected = float(cross_entropy(other, target)) - entropy
    assert float(kl_divergence(other, target)) == pytest.approx(expected, rel=1e-12)
    hard = jnp.asarray([0.0, 1.0, 0.0])
    assert float(kl_divergence(other, hard)) == pytest.approx(float(cross_entropy(other, hard)))


def test_smoothed_targets_are_probabilities():
    """The share of the uniform distribution, between 0 and 1."""
    rows = smoothed(one_hot([0, 2], 3), 0.3)
    assert_trees_close(rows, np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]))
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match="smoothing must be a finite number > 0 and < 1"):
            smoothed(rows, share)
    for labels in ([0, 1, 2], [["a", "b"]]):
        with pytest.raises(ValueError, match=r"targets must be rows of probabilities.*one_hot"):
            smoothed(labels, 0.1)


def test_the_generated_regression_has_a_gap_and_follows_its_curve():
    """Inputs outside of the gap on both sides; without noise the targets are the curve."""
    data = generated_regression(40, 0.0, 1.6, 3)
    x = np.asarray(data.inputs)
    assert (np.abs(x - 0.5) >= 0.8).all()
    assert (x < 0.5).sum() == 20
    assert_trees_close(np.asarray(data.targets), np.sin(2 * x) + x / 3)
    with pytest.raises(ValueError, match="gap must be a finite number >= 0 and < 4, got 4"):
        generated_regression(gap=4.0)


def test_the_banana_bends_around_the_other_class():
    """Without noise class 0 is a parabola; the seed alone decides."""
    data = banana(40, 0.0, 1)
    x = np.asarray(data.inputs)[np.asarray(data.targets)[:, 0] == 1]
    assert len(x) == 20
    assert_trees_close(x[:, 1], x[:, 0] ** 2 - 1)
    assert_trees_close(data, banana(40, 0.0, 1), rtol=0.0, atol=0.0)


@pytest.mark.parametrize(
    ("load", "features", "classes", "examples"),
    [(load_breast_cancer, 30, 2, 569), (load_wine, 13, 3, 178)],
)
def test_tables_are_standardised(load, features, classes, examples):
    """Mean 0 and variance 1 of each column, and one-hot targets."""
    data = load()
    assert data.inputs.shape == (examples, features)
    assert data.targets.shape == (examples, classes)
    assert float(jnp.abs(jnp.mean(data.inputs, axis=0)).max()) < 1e-12
    assert float(jnp.abs(jnp.std(data.inputs, axis=0) - 1).max()) < 1e-12
    with pytest.raises(ValueError, match=f"examples must be at most {examples}"):
        load(1000)


def test_other_digits_are_scaled_as_the_known_ones():
    """The same affine map of the pixels, applied to digits that are not among the known."""
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    known, other = load_digits(None, 5), load_other_digits(classes=5)
    first = images[labels < 5][0]
    slope, shift = np.polyfit(first, np.asarray(known.inputs[0]), 1)
    assert_trees_close(np.asarray(other.inputs), slope * images[labels >= 5] + shift, rtol=1e-9)
    assert (np.asarray(other.targets).argmax(axis=1) >= 5).all()


def test_parts_are_standardised_by_the_training_part_alone():
    """Its own mean is 0 and variance 1; the same map for others, and zero where nothing varies."""
    train = Dataset(np.array([[1.0, 0.1], [3.0, 0.1], [5.0, 0.1]]), np.ones((3, 1)))
    test = Dataset(np.array([[3.0, 0.1], [7.0, 0.4]]), np.ones((2, 1)))
    deviation = np.sqrt(8 / 3)
    found = np.asarray(train.standardised(train).inputs)
    assert_trees_close(found, np.array([[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]]) / [deviation, 1.0])
    expected = np.array([[0.0, 0.0], [4 / deviation, 0.3]])
    assert_trees_close(np.asarray(test.standardised(train).inputs), expected)
    whole = np.asarray(train.standardised(train, axes=(0, 1)).inputs)
    assert (whole.mean(), whole.std()) == pytest.approx((0.0, 1.0), abs=1e-14)
    with pytest.raises(ValueError, match="reference must have inputs of shape"):
        test.standardised(Dataset(np.ones((2, 3)), np.ones((2, 1))))


def test_a_split_has_every_example_once():
    """At random, the same for the same seed."""
    data = banana(30)
    first, second = data.split(12, seed=4)
    together = np.concatenate([np.asarray(first.inputs), np.asarray(second.inputs)])
    expected = np.asarray(data.inputs)
    assert first.inputs.shape == (12, 2)
    assert_trees_close(together[np.lexsort(together.T)], expected[np.lexsort(expected.T)])
    assert_trees_close(data.split(12, seed=4), (first, second), rtol=0.0, atol=0.0)
    with pytest.raises(ValueError, match=r"first must be a whole number in 1\.\.29, got 30"):
        data.split(30)
