"""Digits, synthetic data, a user's npz file, and labels."""

import tracemalloc
import zipfile

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets

from potentials import Dataset, chebyshev, load_digits, load_npz, one_hot, two_moons
from tests.helpers import assert_trees_close


def test_digits_are_the_first_ones_normalised():
    """500 real images: mean 0, variance 1, otherwise the source's pixels in the source's order."""
    data = load_digits(500)
    assert data.inputs.shape == (500, 64)
    assert data.num_classes == 10
    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    pixels, labels = pixels[:500], labels[:500]
    expected = jnp.asarray((pixels - pixels.mean()) / pixels.std())
    assert_trees_close(data.inputs, expected, rtol=1e-12)
    assert_trees_close(data.targets, jnp.asarray(np.eye(10)[labels]), rtol=0.0, atol=0.0)


def test_digits_as_images_of_few_classes():
    """One channel first; only the digits asked for; all of them by default."""
    vectors, images = load_digits(50, 3), load_digits(50, 3, flatten=False)
    assert images.inputs.shape == (50, 1, 8, 8)
    assert images.targets.shape == (50, 3)
    flat = images.inputs.reshape(50, 64)
    assert_trees_close(flat, vectors.inputs, rtol=0.0, atol=0.0)
    assert load_digits().inputs.shape == (1797, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": 1798}, "examples must be at most 1797"),
        ({"examples": 0}, "examples must be a whole number >= 1, got 0"),
        ({"examples": 361, "classes": 2}, "examples must be at most 360"),
        ({"classes": 11}, "classes must be at most 10.*got 11"),
        ({"classes": 1}, "classes must be a whole number >= 2"),
    ],
)
def test_more_digits_than_there_are_is_refused(options, message):
    """Examples and classes, each named."""
    with pytest.raises(ValueError, match=message):
        load_digits(**options)


def test_data_are_single_precision_where_jax_is(float32):
    """The default float dtype of the process."""
    assert load_digits(5).inputs.dtype == jnp.float32
    assert chebyshev().targets.dtype == jnp.float32


@hypothesis.given(st.integers(2, 40), st.integers(0, 12))
def test_chebyshev_targets_obey_the_polynomials_recurrence(examples, degree):
    """T_(k+1) = 2 x T_k - T_(k-1) on evenly spaced points from -1 to 1."""
    data = [np.asarray(chebyshev(examples, degree + i).targets) for i in range(3)]
    x = np.asarray(chebyshev(examples, degree).inputs)
    assert x.shape == (examples, 1)
    assert_trees_close(x, np.linspace(-1.0, 1.0, examples)[:, None], rtol=1e-15)
    # arccos is ill-conditioned near +-1, but cos(k arccos x) is then flat: errors of k^2 eps.
    assert_trees_close(data[2], 2.0 * x * data[1] - data[0], rtol=0.0, atol=1e-13)


def test_two_moons_are_separate_half_circles():
    """Without noise on circles of radius 1 around (0, 0) and (1, 0.5); seeded."""
    data = two_moons(31, noise=0.0)
    assert data.targets.shape == (31, 2)
    assert data.num_classes == 2
    centres = jnp.where(
        data.targets[:, :1] == 1.0, jnp.array([[0.0, 0.0]]), jnp.array([[1.0, 0.5]])
    )
    radii = jnp.linalg.norm(data.inputs - centres, axis=1)
    assert_trees_close(radii, jnp.ones(31), rtol=1e-12)
    same, other = two_moons(seed=3), two_moons(seed=4)
    assert_trees_close(same, two_moons(seed=3), rtol=0.0, atol=0.0)
    assert not jnp.array_equal(same.inputs, other.inputs)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: chebyshev(1), "examples must be a whole number >= 2"),
        (lambda: chebyshev(5, -1), "degree must be a whole number >= 0"),
        (lambda: two_moons(1), "examples must be a whole number >= 2"),
        (lambda: two_moons(noise=-0.1), "noise must be a finite number >= 0"),
        (lambda: two_moons(seed=-1), "seed must be a whole number"),
        (lambda: one_hot([0, 3], 3), r"labels must lie in 0\.\.2 .*got 3"),
        (lambda: one_hot([-1, 0]), "labels must lie in .*got -1"),
        (lambda: one_hot(np.array([0.5])), "labels must be whole numbers"),
        (lambda: Dataset(np.ones((2, 1)), np.ones((3, 1))), "must be as many"),
        (lambda: Dataset(np.ones((0, 1)), np.ones((0, 1))), "must not be empty"),
        (lambda: Dataset(np.full((2, 1), np.inf), np.ones((2, 1))), "inputs must be finite"),
    ],
)
def test_a_bad_argument_is_named(build, message):
    """A ValueError that says what is allowed."""
    with pytest.raises(ValueError, match=message):
        build()


def test_one_hot_rows_have_a_one_at_the_label():
    """With as many classes as given, or as the labels show."""
    assert_trees_close(one_hot([2, 0], 4), np.array([[0.0, 0, 1, 0], [1, 0, 0, 0]]))
    assert one_hot(np.array([2, 0])).shape == (2, 3)


@pytest.fixture
def save(tmp_path):
    """A function that writes arrays to a file and gives its path."""

    def write(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return write


def test_npz_labels_become_classes(save):
    """Whole numbers become one-hot rows; inputs stay as they are."""
    inputs = np.arange(12, dtype=np.uint8).reshape(4, 3)
    data = load_npz(save(inputs=inputs, targets=np.array([2, 0, 1, 0])))
    assert data.num_classes == 3
    assert_trees_close(data.inputs, jnp.asarray(inputs.astype(float)), rtol=0.0, atol=0.0)
    expected = jnp.asarray(np.eye(3)[[2, 0, 1, 0]])
    assert_trees_close(data.targets, expected, rtol=0.0, atol=0.0)


def test_npz_takes_the_first_examples_of_the_first_classes(save):
    """From labels and from one-hot rows alike."""
    inputs, labels = np.arange(4.0), np.array([2, 0, 1, 0])
    for targets in (labels, one_hot(labels)):
        data = load_npz(save(inputs=inputs, targets=targets), examples=2, classes=2)
        assert_trees_close(data.inputs, jnp.array([[1.0], [2.0]]), rtol=0.0, atol=0.0)
        assert_trees_close(data.targets, jnp.eye(2), rtol=0.0, atol=0.0)
        assert data.num_classes == 2


@pytest.mark.parametrize(
    ("targets", "classes"),
    [
        (np.repeat(np.arange(1, 11), 4), 10),
        (np.tile(np.arange(97, 123), 2), 26),
        (np.array([9, 0, 5] * 4), 3),
        (np.array([1, -1] * 3), 2),
    ],
)
def test_npz_labels_that_do_not_count_from_zero_become_those_that_occur(save, targets, classes):
    """In ascending order, and a warning says which; no class is empty."""
    with pytest.warns(UserWarning, match=rf"become the classes 0 to {classes - 1}, in this order"):
        data = load_npz(save(inputs=np.zeros(len(targets)), targets=targets))
    assert data.num_classes == classes
    _, expected = np.unique(targets, return_inverse=True)
    assert_trees_close(data.targets, jnp.asarray(np.eye(classes)[expected]), rtol=0.0, atol=0.0)


def test_npz_classes_keep_labels_of_which_some_do_not_occur(save):
    """Who says how many there are has labels that count from zero."""
    path = save(inputs=np.zeros(3), targets=np.array([0, 5, 9]))
    assert load_npz(path, classes=10).targets.shape == (3, 10)


def test_npz_columns_of_integers_are_labels_and_whole_floats_are_asked_about(save):
    """A column is no regression because of its shape; floats are one, with a word about it."""
    column = np.array([[0], [1], [2], [1]])
    assert load_npz(save(inputs=np.zeros(4), targets=column)).num_classes == 3
    path = save(inputs=np.zeros(4), targets=np.array([0.0, 1.0, 0.0, 1.0]))
    with pytest.warns(UserWarning, match='Give task="classification" if they are labels'):
        assert load_npz(path).num_classes is None
    assert load_npz(path, task="classification").num_classes == 2
    assert load_npz(path, task="regression").num_classes is None
    integers = save(inputs=np.zeros(2), targets=np.array([3, 70_000]))
    assert_trees_close(load_npz(integers, task="regression").targets, jnp.array([[3.0], [7e4]]))


def test_npz_first_examples_of_a_sorted_file_are_warned_of(save):
    """Drawn at random, or as many of each class, they show all classes."""
    path = save(inputs=np.arange(40.0), targets=np.repeat(np.arange(4), 10))
    with pytest.warns(UserWarning, match=r"first 10 examples show 1 of 4 classes.* Give shuffle"):
        load_npz(path, 10)
    drawn, again, other = (load_npz(path, 10, shuffle=seed) for seed in (0, 0, 1))
    assert_trees_close(drawn.inputs, again.inputs, rtol=0.0, atol=0.0)
    assert drawn.inputs.tolist() != other.inputs.tolist()
    assert bool(jnp.all(jnp.sum(drawn.targets, axis=0) > 0))
    for options in ({}, {"shuffle": 3}):
        shares = jnp.sum(load_npz(path, 10, stratify=True, **options).targets, axis=0)
        assert shares.tolist() == [3.0, 3.0, 2.0, 2.0]


def test_npz_unscaled_bytes_are_warned_of(save):
    """Normalised, each input has mean 0 and variance 1."""
    images = np.arange(256, dtype=np.uint8).reshape(16, 4, 4)
    path = save(inputs=images, targets=np.arange(16))
    with pytest.warns(UserWarning, match="whole numbers up to 255, as of unscaled bytes"):
        load_npz(path)
    inputs = load_npz(path, normalise=True).inputs
    assert_trees_close(jnp.mean(inputs, axis=0), jnp.zeros((4, 4)), rtol=0.0, atol=1e-12)
    assert_trees_close(jnp.std(inputs, axis=0), jnp.ones((4, 4)), rtol=1e-12, atol=0.0)


def test_npz_regression_targets_stay_numbers(save):
    """Floats that are not one-hot, as a column or as rows."""
    column = load_npz(save(inputs=np.ones((3, 2, 2)), targets=np.array([0.5, 1.0, 2.0])), 2)
    assert column.num_classes is None
    assert column.inputs.shape == (2, 2, 2)
    assert_trees_close(column.targets, jnp.array([[0.5], [1.0]]), rtol=0.0, atol=0.0)
    rows = load_npz(save(inputs=np.ones(3), targets=np.ones((3, 2))))
    assert rows.num_classes is None


def test_one_hot_rows_are_made_of_the_examples_taken_alone(save):
    """A million labels of a thousand classes, of which 100 are wanted: not 8 GB on the way."""
    count = 10**6
    labels = (np.arange(count) % 1000).astype(np.int16)
    path = save(inputs=np.zeros(count, np.uint8), targets=labels)
    tracemalloc.start()
    data = load_npz(path, examples=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.targets.shape == (100, 1000)
    # The labels as they are read and as int64, masks of them, and the indices of all.
    assert peak < 50 * count
    assert load_npz(path, examples=6, classes=3).targets.shape == (6, 3)


def test_one_hot_rows_of_a_small_file_do_not_fill_the_memory(save):
    """30,000 classes of one example each are 240 kB as labels, 7.2 GB as rows."""
    path = save(inputs=np.zeros(30_000, np.uint8), targets=np.arange(30_000))
    message = "30000 examples in 30000 classes would be one-hot rows of 900000000 numbers, must"
    with pytest.raises(ValueError, match=message):
        load_npz(path)
    assert load_npz(path, examples=10).targets.shape == (10, 30_000)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"inputs": np.ones(2)}, {}, "has no targets, only inputs; expected"),
        ({"x": np.ones(2)}, {}, "has no inputs, only x; expected"),
        ({"inputs": np.array([None, 1]), "targets": np.ones(2)}, {}, "inputs of .* cannot be read"),
        ({"inputs": np.ones(2), "targets": np.array(["a", "b"])}, {}, "targets must be real"),
        ({"inputs": np.ones(2) * 1j, "targets": np.ones(2)}, {}, "inputs must be real"),
        ({"inputs": np.array([1, np.nan]), "targets": np.ones(2)}, {}, "inputs must be finite"),
        ({"inputs": np.ones(2), "targets": np.ones(3)}, {}, "as many examples as inputs, 2"),
        ({"inputs": np.ones(2), "targets": np.ones((2, 1, 1))}, {}, "targets must have shape"),
        ({"inputs": np.ones(0), "targets": np.ones(0)}, {}, "inputs must have a leading axis"),
        ({"inputs": np.array(1.0), "targets": np.ones(1)}, {}, "inputs must have a leading axis"),
        ({"inputs": np.full(2, 1e39), "targets": np.ones(2)}, {}, "inputs must be finite in"),
        ({"inputs": np.ones(2), "targets": np.array([0, 10**9])}, {}, "regression as floats"),
        ({"inputs": np.ones(2), "targets": np.array([0, 1])}, {"classes": 3}, "classes must be at"),
        ({"inputs": np.ones(2), "targets": np.array([0, 1])}, {"examples": 3}, "examples must be"),
        ({"inputs": np.ones(2), "targets": np.array([2, 3])}, {"classes": 5}, "classes must be at"),
        ({"inputs": np.ones(2), "targets": np.array([0, -(10**9)])}, {}, "one of -1000000000"),
        (
            {"inputs": np.ones(2), "targets": np.ones(2)},
            {"stratify": True},
            "stratify must be left",
        ),
        (
            {"inputs": np.ones(3), "targets": np.array([0, 1, 1])},
            {"stratify": True, "examples": 3, "classes": 2},
            "at most 2 with stratify: class 0 has 1; got 3",
        ),
        (
            {"inputs": np.ones(2), "targets": np.array([0.5, 1.0])},
            {"task": "classification"},
            "must be whole numbers of shape",
        ),
        ({"inputs": np.ones(2), "targets": np.ones(2)}, {"classes": 2}, "classes must be left out"),
    ],
)
def test_npz_arrays_that_do_not_fit_are_refused(save, arrays, options, message):
    """Each with the file, the name of the array and what is expected."""
    path = save(**arrays)
    with jax.enable_x64(False), pytest.raises(ValueError, match=message) as caught:
        load_npz(path, **options)
    assert str(path) in str(caught.value)


def test_npz_files_that_are_none_are_refused(tmp_path):
    """Missing, a folder, a single array, text, an archive of something else."""
    with pytest.raises(ValueError, match=r"none\.npz' does not exist; expected .*inputs"):
        load_npz(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="is a folder"):
        load_npz(tmp_path)
    np.save(tmp_path / "one.npy", np.ones(2))
    with pytest.raises(ValueError, match="holds a single array"):
        load_npz(tmp_path / "one.npy")
    (tmp_path / "text.npz").write_text("inputs = 1")
    with pytest.raises(ValueError, match="cannot be read"):
        load_npz(tmp_path / "text.npz")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("inputs", "no array")
    with pytest.raises(ValueError, match=r"has no targets|cannot be read|must be real"):
        load_npz(tmp_path / "other.npz")
