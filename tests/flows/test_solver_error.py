"""The solver's error, as the difference to a run with tighter tolerances."""

import diffrax
import jax.numpy as jnp
import numpy as np
import pytest

from flows import GradientDescent, GradientFlow, RodFlow, solver_error
from potentials import Quadratic, SharpValley

FLOW = GradientFlow(GradientDescent(0.1))
BOWL = Quadratic(jnp.asarray([1.0, 10.0]))
LOOSE = diffrax.PIDController(rtol=1e-4, atol=1e-6)


def test_it_is_the_distance_to_the_exact_solution():
    """Of e^(-eta lambda t), to the tenth that the tighter run leaves, or what rounding steps do."""
    found = solver_error(FLOW, BOWL, jnp.ones(2), 20, stepsize_controller=LOOSE)
    exact = np.exp(-0.1 * np.arange(21)[:, None] * np.array([1.0, 10.0]))
    errors = np.linalg.norm(np.asarray(found.trajectory.params) - exact, axis=1)
    left = np.linalg.norm(np.asarray(found.tighter.params) - exact, axis=1)
    assert left.max() < 0.3 * errors.max()
    assert np.abs(found.distances - errors).max() <= left.max()
    assert found.largest == found.distances.max()
    assert 1e-7 < found.largest < 1e-3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the smallest of the 1 eigenvalues")
def test_rod_flows_default_tolerance_on_the_valley():
    """It holds 1e-3 along the whole run, through the onset, and ends at y = 6.63861."""
    flow = RodFlow(GradientDescent(0.3), 2, alignment=False)
    found = solver_error(flow, SharpValley(0.01), jnp.asarray([0.0, 6.0]), 1000, save_every=4)
    assert found.tighter.params[-1, 1] == pytest.approx(6.63861, abs=2e-5)
    assert 0 < found.distances[-1] < 1e-5
    assert found.largest < 1e-3


@pytest.mark.slow
@pytest.mark.usefixtures("float32")
def test_in_float32_it_is_what_rounding_leaves():
    """Tolerances of 1e-5 and 1e-6 on numbers of about 1."""
    found = solver_error(FLOW, lambda w: 0.5 * jnp.sum(w**2), jnp.ones(1), 2)
    assert found.distances.dtype == jnp.float32
    assert found.largest < 1e-5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"factor": 1.0}, "factor must be above 1, to make tolerances tighter; got 1"),
        ({"factor": 0.0}, "factor must be a finite number above 0"),
        (
            {"solver": diffrax.Euler(), "stepsize_controller": diffrax.ConstantStepSize()},
            "stepsize_controller must have tolerances rtol and atol.*got ConstantStepSize",
        ),
    ],
)
def test_what_makes_no_tighter_run_is_refused(options, sentence):
    """Before anything is run."""
    with pytest.raises(ValueError, match=sentence):
        solver_error(FLOW, BOWL, jnp.ones(2), 5, **options)
