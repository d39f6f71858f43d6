"""How accurately a run is integrated, by one word."""

import diffrax
import jax
import jax.numpy as jnp
import pytest

from flows import GradientDescent, GradientFlow, ParityFlow, PartwiseController, simulate
from flows.solvers.accuracy import suited_integrator
from flows.solvers.chebyshev import RungeKuttaChebyshev
from tests.helpers import as_users_run

_BOWL_CURVATURE = (0.3, 2.0, 9.0)
_FLOW = GradientFlow(GradientDescent(0.1))


def _bowl(w):
    return 0.5 * jnp.sum(jnp.asarray(_BOWL_CURVATURE, w.dtype) * w**2)


def _error(**options):
    start = jnp.ones(3)
    run = simulate(_FLOW, _bowl, start, 40, save_every=40, measurements=(), **options)
    exact = jnp.exp(-4 * jnp.asarray(_BOWL_CURVATURE))
    error = float(jnp.max(jnp.abs(run.params[-1] - exact)))
    return error, float(run.stats["gradient_evaluations"])


@pytest.mark.slow
def test_a_better_accuracy_has_a_smaller_error_and_costs_more():
    """On a bowl, against the exact solution."""
    errors, costs = zip(
        *(_error(accuracy=word) for word in ("draft", "default", "reference")), strict=True
    )
    assert errors[0] > errors[1] > errors[2]
    assert costs[0] < costs[1] < costs[2]
    # Each is within a hundred times its relative tolerance: 1e-3, 1e-8 and 1e-10.
    assert errors[0] < 1e-1
    assert errors[1] < 1e-6
    assert errors[2] < 1e-8


def _controller(flow, dtype, size, accuracy, **options):
    options = {"free": True, **options}
    return suited_integrator(flow, dtype, size, accuracy, **options).controller


def test_tolerances_are_scaled_wherever_a_controller_keeps_them():
    """In a controller that wraps another, both."""
    flow = ParityFlow(GradientDescent(0.1))
    controller = _controller(flow, jnp.float64, 1000, "draft")
    assert isinstance(controller, PartwiseController)
    assert controller.rtol == pytest.approx(1e-3)
    assert controller.controller.rtol == pytest.approx(1e-3)
    assert controller.atol == 0


def test_no_tolerance_is_finer_than_rounding():
    """In float32 a hundredth of the default would be."""
    controller = _controller(_FLOW, jnp.float32, 3, "reference")
    assert controller.rtol == pytest.approx(8 * float(jnp.finfo(jnp.float32).eps))


def test_a_draft_of_a_large_gradient_flow_takes_long_steps():
    """Not if the user names a solver, whose tolerances would not fit."""
    for size, free, accuracy, expected in (
        (1000, True, "draft", RungeKuttaChebyshev),
        (1000, False, "draft", diffrax.Tsit5),
        (100, True, "draft", diffrax.Tsit5),
        (1000, True, "default", diffrax.Tsit5),
        (1000, True, "reference", diffrax.Tsit5),
    ):
        found = suited_integrator(_FLOW, jnp.float32, size, accuracy, free=free)
        assert type(found.solver) is expected
    momentum = GradientFlow(GradientDescent(0.1), correction=True)
    assert type(suited_integrator(momentum, jnp.float32, 1000, "draft", free=True).solver) is (
        diffrax.Tsit5
    )


@pytest.mark.slow
def test_it_costs_less_than_a_gradient_a_step():
    """The gradient flow of many parameters, where Tsit5 is bound by its stability."""
    curvature = jnp.linspace(0.001, 0.01, 600, dtype=jnp.float32).at[:5].set(20)
    start = jnp.ones(600, jnp.float32)

    def bowl(w):
        return 0.5 * jnp.sum(curvature * w**2)

    def run(**options):
        return simulate(_FLOW, bowl, start, 1000, save_every=1000, measurements=(), **options)

    found = run(accuracy="draft")
    exact = jnp.exp(-100 * curvature)
    # Ten times the relative tolerance.
    assert float(jnp.linalg.norm(found.params[-1] - exact)) < 1e-2 * float(jnp.linalg.norm(start))
    assert float(found.stats["gradient_evaluations"]) < 1000
    stable = run(solver=diffrax.Tsit5())
    assert float(stable.stats["gradient_evaluations"]) > 4 * float(
        found.stats["gradient_evaluations"]
    )


def test_bad_words_and_two_accuracies_are_refused():
    """With what is allowed."""
    message = "accuracy must be one of 'draft', 'default'"
    for wrong in ("high", ["draft"]):
        with as_users_run(), pytest.raises(ValueError, match=message):
            _error(accuracy=wrong)
    with pytest.raises(ValueError, match="accuracy must be left out with Euler"):
        _error(accuracy="draft", solver=diffrax.Euler(), dt0=0.5)
    controller = diffrax.PIDController(rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="accuracy must be left out"):
        _error(accuracy="draft", stepsize_controller=controller)


def test_it_goes_through_vmap():
    """One accuracy for all members."""

    def final(rate):
        flow = GradientFlow(GradientDescent(rate))
        options = {"save_every": 10, "measurements": (), "accuracy": "draft"}
        return simulate(flow, _bowl, jnp.ones(3), 10, **options).params[-1]

    rates = jnp.asarray([0.05, 0.1])
    exact = jnp.exp(-10 * jnp.outer(rates, jnp.asarray(_BOWL_CURVATURE)))
    assert float(jnp.max(jnp.abs(jax.vmap(final)(rates) - exact))) < 1e-2
