"""CIFAR-10 from a tiny folder of the published format, and folders that are not it."""

import builtins
import datetime
import os
import pickle
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from potentials import load_cifar10
from tests.helpers import assert_trees_close
from tests.potentials.cifar_batches import python2_pickle, write_folder


@pytest.fixture
def folder(tmp_path):
    """A tiny folder of the published format."""
    write_folder(tmp_path / "cifar-10-batches-py")
    return tmp_path / "cifar-10-batches-py"


def test_images_and_labels_are_those_of_the_batches(tmp_path):
    """All thirty images, colour planes first, normalised per channel, labels one-hot."""
    images, labels = write_folder(tmp_path)
    data = load_cifar10(tmp_path)
    assert data.num_classes == 10
    planes = images.reshape(-1, 3, 32, 32).astype(float)
    mean, deviation = (f(planes, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    assert_trees_close(data.inputs, jnp.asarray((planes - mean) / deviation), rtol=1e-10)
    assert_trees_close(data.targets, jnp.asarray(np.eye(10)[labels]), rtol=0.0, atol=0.0)


def test_the_first_examples_of_the_first_classes_are_taken(folder):
    """Four of two classes lie in the first three batches; the order is kept."""
    data = load_cifar10(folder, examples=4, classes=2)
    assert data.inputs.shape == (4, 3, 32, 32)
    expected = jnp.asarray(np.eye(2)[[0, 1, 0, 1]])
    assert_trees_close(data.targets, expected, rtol=0.0, atol=0.0)


def test_only_the_batches_that_are_needed_are_read(folder):
    """Later ones may be missing."""
    for i in (3, 4, 5):
        (folder / f"data_batch_{i}").unlink()
    assert load_cifar10(folder, examples=12).inputs.shape[0] == 12
    with pytest.raises(ValueError, match=r"lacks data_batch_3: data_batch_1, .*give 12 images"):
        load_cifar10(folder, examples=13)


def test_vectors_the_test_split_and_the_parent_folder(folder):
    """`flatten`, `split` and the folder that holds the standard one."""
    images = load_cifar10(folder.parent, split="test")
    vectors = load_cifar10(folder.parent, split="test", flatten=True)
    assert images.inputs.shape == (6, 3, 32, 32)
    assert_trees_close(vectors.inputs, images.inputs.reshape(6, 3072), rtol=0.0, atol=0.0)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("keys", ["str", "bytes"])
def test_batches_that_python_3_wrote_are_read_too(folder, protocol, keys):
    """Every pickle protocol, keys as text or as bytes, labels as NumPy scalars."""
    expected = load_cifar10(folder, examples=6)
    pixels = np.random.default_rng(0).integers(0, 256, (36, 3072), dtype=np.uint8)[:6]
    batch = {"data": pixels, "labels": list(np.arange(6)), "filenames": ["a.png"]}
    if keys == "bytes":
        batch = {key.encode(): value for key, value in batch.items()}
    (folder / "data_batch_1").write_bytes(pickle.dumps(batch, protocol=protocol))
    data = load_cifar10(folder, examples=6)
    assert_trees_close(data.inputs, expected.inputs, rtol=0.0, atol=0.0)
    assert_trees_close(data.targets, expected.targets, rtol=0.0, atol=0.0)


class Call:
    """Calls a function when an ordinary unpickler loads it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_pickle_that_would_run_code_is_refused(folder, tmp_path):
    """The command does not run."""
    mark = tmp_path / "ran"
    batch = {"data": Call(os.system, f"touch {mark}")}
    (folder / "data_batch_1").write_bytes(pickle.dumps(batch))
    with pytest.raises(ValueError, match=r"no CIFAR-10 python batch: it asks for .*system"):
        load_cifar10(folder)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Call(eval, "1 + 1"), "eval, which no batch needs"),
        (Call(getattr, {}, "clear"), "getattr, which no batch needs"),
        (Call(builtins.__import__, "os"), "__import__, which no batch needs"),
        (Call(np.load, "/dev/null"), "load, which no batch needs"),
        (datetime.date(2020, 1, 1), "date, which no batch needs"),
        (np.array([Call(os.system, "echo harm")], object), "dtype 'O8', not of numbers"),
        (np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]), "dtype 'V12', not of numbers"),
        (np.array(["text"]), "dtype 'U4', not of numbers"),
        (np.datetime64("2020-01-01"), "dtype 'M8', not of numbers"),
    ],
    ids=["eval", "getattr", "import", "load", "date", "objects", "fields", "text", "time"],
)
def test_what_is_no_array_of_numbers_is_refused(folder, content, message, protocol):
    """Calls, classes, and arrays of anything else, in old and new protocols."""
    batch = {"data": content, "labels": [0]}
    (folder / "data_batch_1").write_bytes(pickle.dumps(batch, protocol))
    with pytest.raises(ValueError, match=f"data_batch_1 is no CIFAR-10 python batch: .*{message}"):
        load_cifar10(folder)


@pytest.mark.parametrize("columns", [2**31 - 1, -1, 0, 3071])
def test_an_array_of_another_size_than_its_data_is_refused(folder, columns):
    """The shape in the pickle is changed; the data stay those of two images."""
    content = python2_pickle(np.zeros((2, 3072), np.uint8), [0, 1])
    shape = struct.pack("<i", 3072)
    assert content.count(shape) == 1
    changed = content.replace(shape, struct.pack("<i", columns))
    (folder / "data_batch_1").write_bytes(changed)
    if columns == -1:  # NumPy takes it for "as many as there are".
        assert load_cifar10(folder, examples=2).inputs.shape == (2, 3, 32, 32)
        return
    with pytest.raises(ValueError, match=r"data_batch_1 is no .*cannot reshape"):
        load_cifar10(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no CIFAR-10 python batch"),
        (b"not a pickle", "is no CIFAR-10 python batch"),
        (pickle.dumps([1, 2]), "must hold a dict with data and labels"),
        (pickle.dumps({"data": 1}), "must hold a dict with data and labels"),
        (pickle.dumps({"data": np.ones((1, 2)), "labels": [0]}), "data must be uint8 of shape"),
        (pickle.dumps({"data": np.array([None]), "labels": [0]}), "an array of dtype 'O8', not of"),
        (python2_pickle(np.zeros((2, 3072), np.uint8), [0]), "labels must be whole numbers, one"),
        (python2_pickle(np.zeros((1, 3072), np.uint8), [10]), r"labels must lie in 0\.\.9"),
    ],
)
def test_a_damaged_batch_is_refused(folder, content, message):
    """The message names the file and what is wrong in it."""
    (folder / "data_batch_1").write_bytes(content)
    with pytest.raises(ValueError, match=f"data_batch_1.*{message}"):
        load_cifar10(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 11}, "classes must be at most 10"),
        ({"classes": 1}, "classes must be a whole number >= 2"),
        ({"examples": 0}, "examples must be a whole number >= 1"),
        ({"examples": 31}, r"examples must be at most 30|lacks"),
        ({"examples": 7, "classes": 2}, "examples must be at most 6"),
        ({"split": "tset"}, "split must be one of test, train.*Did you mean 'test'"),
    ],
)
def test_more_than_there_is_is_refused(folder, options, message):
    """Classes, examples, splits."""
    with pytest.raises(ValueError, match=message):
        load_cifar10(folder, **options)


def test_a_missing_folder_says_what_is_expected(tmp_path):
    """The names of the batches and of the folder; a folder without them too."""
    expected = r"data_batch_1, .*cifar-10-batches-py.*is no folder"
    with pytest.raises(ValueError, match=expected):
        load_cifar10(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has none of them"):
        load_cifar10(tmp_path)
