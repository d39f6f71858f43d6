"""Criteria and precision, by their definitions."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from potentials import cast, cross_entropy, mse
from tests.helpers import assert_trees_close

logits = st.lists(st.floats(-30.0, 30.0, allow_subnormal=False), min_size=4, max_size=4)


def test_mse_is_half_the_squared_error_summed_over_outputs():
    """0.5 (1 + 4) for errors 1 and 2."""
    assert float(mse(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0]))) == 2.5


@hypothesis.given(logits, st.integers(0, 3), st.floats(-50.0, 50.0))
def test_cross_entropy_is_the_negative_log_probability_of_the_label(values, label, shift):
    """And does not change when all logits are shifted."""
    prediction, target = jnp.array(values), jnp.zeros(4).at[label].set(1.0)
    shifted = np.array(values) - max(values)
    expected = jnp.array(np.log(np.exp(shifted).sum()) - shifted[label])
    loss = cross_entropy(prediction, target)
    # Logits up to 80 in size carry an absolute rounding error of about 1e-14.
    assert_trees_close(loss, expected, rtol=1e-12, atol=1e-13)
    assert_trees_close(cross_entropy(prediction + shift, target), expected, rtol=1e-12, atol=1e-12)


def test_cross_entropy_has_the_gradient_softmax_minus_target():
    """The textbook identity, at extreme logits too."""
    prediction, target = jnp.array([1000.0, 0.0, -3.0]), jnp.array([0.0, 1.0, 0.0])
    expected = jax.nn.softmax(prediction) - target
    assert_trees_close(jax.grad(cross_entropy)(prediction, target), expected, rtol=1e-13)


def test_a_single_logit_is_refused():
    """A softmax of one class says nothing."""
    with pytest.raises(ValueError, match="at least 2 classes"):
        cross_entropy(jnp.ones(1), jnp.ones(1))


def test_cast_changes_float_arrays_only():
    """Integers, functions and None stay."""
    tree = {"w": jnp.ones(2), "n": np.ones(2), "i": jnp.arange(2), "f": jnp.tanh, "none": None}
    single = cast(tree, "float32")
    assert single["w"].dtype == single["n"].dtype == jnp.float32
    assert single["i"].dtype == tree["i"].dtype
    assert single["f"] is jnp.tanh
    assert single["none"] is None


def test_cast_refuses_what_is_no_float(float32):
    """Integers, and double precision that JAX would silently cut."""
    with pytest.raises(ValueError, match="dtype must be a float dtype, got int32"):
        cast(jnp.ones(2), "int32")
    with pytest.raises(ValueError, match=r"float64 needs JAX's x64 mode"):
        cast(jnp.ones(2), "float64")
