"""How constructors and loaders state what they take, and what they say of anything else."""

import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import potentials
from potentials.checks import NonNegative, Number, TwoOrMore, Vector, WholeNumber, checked
from potentials.networks import Activation
from tests.helpers import as_users_run


@checked
def _load(
    examples: TwoOrMore | None = None,
    noise: NonNegative = 0.1,
    *,
    split: Literal["train", "test"] = "train",
    activation: Literal["tanh"] | Callable[..., Any] = "tanh",
) -> tuple[Any, ...]:
    return examples, noise, split, activation


def test_arguments_are_checked_and_converted():
    """Defaults too; None and functions pass where the annotation has them."""
    examples, noise, split, activation = _load(None, split="test", activation=jnp.sin)
    assert (examples, split, activation) == (None, "test", jnp.sin)
    assert isinstance(noise, jax.Array)
    assert noise.dtype == jnp.float64
    assert not noise.weak_type
    assert type(_load(np.int32(3))[0]) is int


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"examples": 1}, "examples must be a whole number >= 2, got 1"),
        ({"examples": 2.0}, r"examples must be a whole number >= 2, got 2\.0"),
        ({"examples": True}, "examples must be a whole number >= 2, got True"),
        ({"noise": -1}, r"noise must be a finite number >= 0, got -1"),
        ({"noise": None}, "noise must be real numbers, got None"),
        ({"noise": "0.1"}, "noise must be real numbers, got '0.1'"),
        ({"noise": 1j}, "noise must be real numbers"),
        ({"split": "trian"}, "split must be one of test, train; got 'trian'. Did you mean 'train'"),
        ({"split": None}, "split must be one of test, train; got None"),
        ({"activation": "tan"}, "activation must be one of tanh; got 'tan'. Did you mean 'tanh'"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    """With what is allowed, and what was given."""
    with as_users_run(), pytest.raises(ValueError, match=message):
        _load(**arguments)


def test_pythons_own_errors_name_the_function():
    """An unknown or missing argument is no matter of the checks."""
    with pytest.raises(TypeError, match=r"_load\(\) got an unexpected keyword argument 'example'"):
        _load(example=3)  # pyright: ignore[reportCallIssue]

    @checked
    def needs(examples: TwoOrMore) -> int:
        return examples

    with pytest.raises(TypeError, match=r"needs\(\) missing 1 required positional argument"):
        needs()  # pyright: ignore[reportCallIssue]


def test_bounds_are_open_or_closed():
    """`above` and `below` exclude the bound itself, `least` and `most` include it."""
    number, whole = Number(above=0.0, below=1.0), WholeNumber(least=0, most=2)
    for value in (0.0, 1.0, float("nan"), -float("inf")):
        with pytest.raises(ValueError, match="x must be a finite number > 0 and < 1, got"):
            number("x", value)
    assert float(Number(least=0.0)("x", 0)) == 0.0
    assert [whole("n", n) for n in (0, 2)] == [0, 2]
    with pytest.raises(ValueError, match=r"n must be a whole number in 0\.\.2, got 3"):
        whole("n", 3)
    with pytest.raises(ValueError, match=r"k must hold finite numbers > 0 only, got \[1\. 0\.\]"):
        Vector(above=0.0)("k", [1.0, 0.0])


def test_the_activations_have_a_name_each():
    """The type of a network's argument lists the keys of the table."""
    assert set(get_args(Activation)) == set(potentials.ACTIVATIONS)


def test_every_argument_of_the_package_has_a_type():
    """Public constructors and functions: the tables of a config are derived from them."""
    public = [getattr(potentials, name) for name in potentials.__all__]
    untyped = [
        f"{thing.__name__}({name})"
        for thing in public
        if callable(thing) and not inspect.isabstract(thing)
        for name, argument in inspect.signature(thing).parameters.items()
        if argument.annotation in (inspect.Parameter.empty, Any)
    ]
    assert untyped == []
