"""A run that fails says what the gradient is like where it stopped."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from flows import (
    SAM,
    GradientDescent,
    GradientFlow,
    ParityFlow,
    RiemannianFlow,
    RiemannianSAM,
    SimulationError,
    Sphere,
    iterate,
    simulate,
)
from potentials import SharpValley
from tests.helpers import as_users_run

DESCENT = GradientDescent(0.1)


def of_a_norm(params):
    """Its slope in a is not a number at a = 0."""
    return jnp.linalg.norm(params["a"]) + params["b"] ** 2


@pytest.mark.parametrize("save_every", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_gradient_that_is_not_finite_is_named_with_its_leaves(save_every):
    """The loss is finite, and so was every parameter that was saved."""
    start = {"a": jnp.zeros(2), "b": jnp.asarray(1.0)}
    message = r"is finite there, 1, but its gradient is not, with respect to params\['a'\]:"
    with pytest.raises(SimulationError, match="stopped at step 1: the loss " + message):
        iterate(DESCENT, of_a_norm, start, 4, save_every=save_every)
    with pytest.raises(SimulationError, match=message) as caught:
        simulate(GradientFlow(DESCENT), of_a_norm, start, 4, save_every=save_every)
    assert caught.value.trajectory.steps.tolist() == [0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flow", "start"),
    [
        (GradientFlow(SAM(DESCENT, 0.5)), [0.0, 0.2]),
        pytest.param(
            RiemannianFlow(RiemannianSAM(0.1, 0.5, Sphere())), [0.6, 0.8], marks=pytest.mark.slow
        ),
    ],
)
def test_a_flow_of_sharpness_aware_descent_that_stalls_asks_for_smoothing(flow, start):
    """It comes to the minimum, (1, 0) on the sphere, in finite time."""
    name = type(flow.optimizer).__name__
    with pytest.raises(SimulationError, match=f"the flow of {name} without smoothing jumps where"):
        simulate(flow, lambda w: 0.5 * w[1] ** 2, jnp.asarray(start), 80, save_every=4)


@pytest.mark.slow
def test_what_is_said_about_a_kink_works():
    """Explicit and implicit solvers stop at |w| = 0; fixed steps go on, and end beside it."""
    start = jnp.asarray([0.31, 0.12])

    def run(**options):
        return simulate(GradientFlow(DESCENT), lambda w: jnp.sum(jnp.abs(w)), start, 10, **options)

    for solver in (None, diffrax.Kvaerno5()):
        with pytest.raises(SimulationError, match=r"the gradient jumps there.*Euler\(\) with dt0="):
            run(solver=solver)
    end = run(solver=diffrax.Euler(), dt0=0.1).params[-1]
    # A step is eta dt0 = 0.01 long.
    assert float(jnp.max(jnp.abs(end))) <= 0.01


@pytest.mark.slow
def test_a_smooth_flow_that_blows_up_is_not_blamed_on_its_gradient():
    """Nor is one whose own variable fails."""
    with pytest.raises(SimulationError, match="step size fell below its minimum: the flow blows"):
        simulate(GradientFlow(DESCENT), lambda w: -jnp.sum(w**4), jnp.asarray([0.9]), 100)


@pytest.mark.parametrize(
    ("params", "hint"),
    [
        (eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(0)), r"equinox module MLP .*eqx\.partition"),
        (jnp.asarray([1 + 1j]), "real and imaginary parts as two leaves"),
        ({"a": jnp.ones(1), "k": jax.random.key(0)}, r"\['k'\] .*random key is no parameter"),
        (jnp.asarray([True]), "A mask is no parameter"),
        (jnp.asarray([1]), r"convert with \.astype\(float\)"),
    ],
)
def test_hints_fit_what_was_given_for_params(params, hint):
    """What to do with a model, complex numbers, a key, a mask and whole numbers."""
    with as_users_run(), pytest.raises(ValueError, match=hint):
        iterate(DESCENT, lambda w: 0.0, params, 3)


def test_a_catapult_is_named_where_the_parity_flow_stops():
    """Far above the edge the series in the slowness says little, and the flow says so."""
    flow = ParityFlow(GradientDescent(0.3), start="split")
    with pytest.raises(SimulationError, match=r"catapult.* is 0\.32 of the first.*`burn`"):
        simulate(flow, SharpValley(0.01), jnp.asarray([0.5, 9.0]), 20, max_solver_steps=1)
