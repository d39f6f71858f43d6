"""Wrong arguments: a ValueError that names the argument, before anything is computed."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flows import (
    CentralFlow,
    Curvature,
    GradientDescent,
    GradientFlow,
    LossAndGradient,
    ScalarMeasurement,
    iterate,
    simulate,
)
from tests.helpers import as_users_run

OPTIMIZER = GradientDescent(0.1)
FLOW = GradientFlow(OPTIMIZER)


def bowl(params):
    """A loss that is fine."""
    return 0.5 * jnp.sum(params**2)


def named(name: str) -> ScalarMeasurement:
    """A measurement that is fine but for its name, perhaps."""
    return ScalarMeasurement(name, lambda potential, params: potential(params))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.1, "learning_rate must be a finite number above 0; got -0.1"),
        (0.0, "learning_rate must be a finite number above 0; got 0.0"),
        (float("nan"), "learning_rate must be a finite number above 0; got nan"),
        (float("inf"), "learning_rate must be a finite number above 0; got inf"),
        (10**400, "learning_rate must be a number; got 10000"),
        ("fast", "learning_rate must be a number; got 'fast'"),
        (None, "learning_rate must be a number; got None"),
        (True, "learning_rate must be a number; got True"),
        (1j, "learning_rate must be a real number; got dtype complex"),
        (np.asarray([0.1, 0.2]), r"learning_rate must be a scalar; got shape \(2,\).*jax.vmap"),
    ],
)
def test_learning_rates_that_are_none(value, message):
    """Not a positive finite scalar: refused where it is given."""
    with as_users_run(), pytest.raises(ValueError, match=message):
        GradientDescent(value)


def test_a_learning_rate_known_only_at_run_time_is_checked_then():
    """Under vmap the value is not known at construction: the run fails with the same sentence."""
    with pytest.raises(Exception, match="learning_rate must be a finite number above 0"):
        jax.block_until_ready(
            jax.vmap(lambda rate: GradientDescent(rate).critical_sharpness)(
                jnp.asarray([0.1, -1.0])
            )
        )


@pytest.mark.parametrize("run", [iterate, simulate])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be an integer of at least 1; got 0"),
        ({"steps": -5}, "steps must be an integer of at least 1; got -5"),
        ({"steps": 10.5}, "steps must be an integer of at least 1; got 10.5"),
        ({"steps": True}, "steps must be an integer of at least 1; got True"),
        ({"save_every": 0}, "save_every must be an integer of at least 1; got 0"),
        (
            {"save_every": 3},
            "save_every must divide steps; got save_every=3 and steps=10. Nearby: steps=9 or",
        ),
        ({"save_every": 4, "steps": 2}, "got save_every=4 and steps=2. Nearby: steps=4.$"),
        ({"segment": 0}, "segment must be an integer of at least 1; got 0"),
        ({"params": jnp.ones(2, int)}, "params must be a float array; got dtype int64"),
        (
            {"params": {"w": jnp.ones(2), "n": 3}},
            r"params\['n'\] must be a float array; got dtype int64",
        ),
        ({"params": {"w": "two"}}, r"params\['w'\] must be a float array; got str"),
        ({"params": {}}, "params must hold at least one array"),
        ({"params": {"w": jnp.ones(0)}}, "params must hold at least one number; got only empty"),
        (
            {"potential": lambda p: jnp.sum(p**2).astype(jnp.bfloat16)},
            "must be of dtype float32 or float64; got bfloat16",
        ),
        (
            {"params": np.array([1.0, None], object)},
            "params must be a float array; got dtype object",
        ),
        (
            {"params": {"w": jnp.ones(2, jnp.bfloat16)}},
            r"params\['w'\] must be of dtype float32 or float64; got bfloat16.*jnp.float32\)",
        ),
        ({"params": jnp.ones(2, jnp.float16)}, "must be of dtype float32 or float64; got float16"),
        ({"params": jnp.asarray([1.0, jnp.nan])}, "params holds a value that is not finite"),
        (
            {"params": {"a": jnp.ones(2), "b": jnp.ones(2, jnp.float32)}},
            r"params must share one dtype; got float32 and float64.*asarray\(x, jnp.float64\)",
        ),
        ({"params": None}, "exactly one of params and state must be given"),
        ({"potential": lambda p: p**2}, r"potential\(params\) must return a float of shape \(\)"),
        ({"potential": lambda p: (p[0], p)}, r"potential\(params\) must return one array"),
        ({"potential": lambda p: 3}, r"potential\(params\) must return one array"),
        ({"potential": lambda p: jnp.asarray(3)}, "must return a float of shape"),
        ({"potential": 3.0}, "potential must be a function of the parameters; got float"),
        ({"measurements": ("loss",)}, "measurements must be a sequence of measurements"),
        ({"measurements": "loss"}, "measurements must be a sequence .* got 'loss'"),
        ({"measurements": 3}, "measurements must be a sequence .* got 3"),
        ({"measurements": Curvature}, "measurements must .* got the class Curvature: call it"),
        ({"measurements": (Curvature,)}, "measurements must .* got the class Curvature: call it"),
        ({"measurements": (named("params"),)}, "may not be named 'params'"),
        ({"measurements": (named("step"),)}, "may not be named 'step'"),
        ({"measurements": (named("mode"), Curvature(2))}, "may not be named 'mode'"),
        ({"progress": "x"}, "progress must be True, False or a function .* got 'x'"),
        ({"measurements": (Curvature(3),)}, "eigenvalues must be at most the number of parameters"),
        (
            {"measurements": (ScalarMeasurement("x", lambda potential, params: params),)},
            "function of measurement 'x' must return a scalar",
        ),
        ({"state": 3, "params": None}, "state must be the `.state` of a trajectory"),
    ],
)
def test_wrong_arguments_of_a_run(run, changes, message):
    """Each is named, with what was given."""
    model = OPTIMIZER if run is iterate else FLOW
    arguments = {"potential": bowl, "params": jnp.ones(2), "steps": 10, **changes}
    with as_users_run(), pytest.raises(ValueError, match=message):
        run(model, **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flow": OPTIMIZER}, "flow must be a flow such as"),
        ({"solver": diffrax.SlowRK(), "dt0": 0.1}, "solver must be one for .*; got SlowRK"),
        (
            {"solver": diffrax.SemiImplicitEuler(), "dt0": 0.1},
            "solver must be .* for several terms",
        ),
        ({"solver": "Tsit5"}, "solver must be a diffrax solver"),
        ({"solver": diffrax.Euler()}, "dt0 must be given: Euler has a fixed step size"),
        (
            {
                "solver": diffrax.Euler(),
                "stepsize_controller": diffrax.PIDController(rtol=1e-3, atol=1e-6),
            },
            "stepsize_controller must be diffrax.ConstantStepSize",
        ),
        ({"stepsize_controller": diffrax.ConstantStepSize()}, "dt0 must be given"),
        ({"stepsize_controller": diffrax.StepTo(ts=jnp.arange(3.0))}, "stepsize_controller must"),
        ({"dt0": -1.0}, "dt0 must be a finite number above 0"),
        ({"max_solver_steps": 0}, "max_solver_steps must be an integer of at least 1"),
        ({"adjoint": "x"}, "adjoint must be one of diffrax such as .* got 'x'"),
    ],
)
def test_wrong_arguments_of_simulate(changes, message):
    """What only the flow's integration knows."""
    arguments = {"flow": FLOW, "potential": bowl, "params": jnp.ones(2), "steps": 10, **changes}
    with as_users_run(), pytest.raises(ValueError, match=message):
        simulate(**arguments)


def test_an_optimizer_that_is_none():
    """A flow given to iterate is refused."""
    with (
        as_users_run(),
        pytest.raises(ValueError, match="optimizer must be an optimizer such as"),
    ):
        iterate(FLOW, bowl, jnp.ones(2), 10)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Curvature("a"), "eigenvalues must be an integer of at least 1; got 'a'"),
        (lambda: Curvature(0), "eigenvalues must be an integer of at least 1; got 0"),
        (lambda: Curvature(every=1.5), "every must be an integer of at least 1; got 1.5"),
        (lambda: Curvature(max_products=0), "max_products must be an integer of at least 1"),
        (lambda: Curvature(tolerance="a"), "tolerance must be a number between 0 and 1; got 'a'"),
        (lambda: Curvature(tolerance=1.0), "tolerance must be a number between 0 and 1; got 1.0"),
        (lambda: ScalarMeasurement("x", 3), "function must be a function; got 3"),
        (lambda: ScalarMeasurement(3, bowl), "name must be a string; got 3"),
        (lambda: ScalarMeasurement("x", bowl, units=3), "units must be a string; got 3"),
    ],
)
def test_wrong_arguments_of_measurements(build, message):
    """Where the measurement is made."""
    with as_users_run(), pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("run", [iterate, simulate])
def test_numbers_of_numpy_are_numbers(run):
    """Sizes may come out of an array, and give no warning."""
    model = OPTIMIZER if run is iterate else FLOW
    measurements = (LossAndGradient(), Curvature(np.int64(2), every=np.int32(2)))
    every = np.int32(2)
    trajectory = run(
        model, bowl, np.ones(2), np.int64(4), save_every=every, measurements=measurements
    )
    assert trajectory.steps.tolist() == [0, 2, 4]


@pytest.mark.parametrize("run", [iterate, simulate])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"measurements": ()},
            r"measurements must be \(LossAndGradient, Curvature\(1\)\), as in the run that `state` "
            r"comes from; got \(\)",
        ),
        (
            {"measurements": (LossAndGradient(), Curvature(2))},
            r"measurements must be .*Curvature\(1\)\), .*got \(LossAndGradient, Curvature\(2\)\)",
        ),
        ({"potential": lambda p: p**2}, r"potential\(params\) must return a float of shape \(\)"),
    ],
)
def test_going_on_with_something_else(run, changes, message):
    """What differs is named, with both kinds."""
    model = OPTIMIZER if run is iterate else FLOW
    measurements = (LossAndGradient(), Curvature(1))
    state = run(model, bowl, jnp.ones(2), 4, measurements=measurements).state
    arguments = {"potential": bowl, "measurements": measurements, **changes}
    potential = arguments.pop("potential")
    with as_users_run(), pytest.raises(ValueError, match=message):
        run(model, potential, None, 4, state=state, **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solver": diffrax.Kvaerno5()}, "solver must be Tsit5, as .* got Kvaerno5"),
        (
            {"stepsize_controller": diffrax.ConstantStepSize(), "dt0": 0.1},
            "stepsize_controller must be PIDController, as .* got ConstantStepSize",
        ),
        ({"flow": CentralFlow(OPTIMIZER, 1)}, "flow must be GradientFlow, as .* got CentralFlow"),
    ],
)
def test_going_on_with_another_integration(changes, message):
    """Another solver, controller or flow."""
    state = simulate(FLOW, bowl, jnp.ones(2), 4).state
    with as_users_run(), pytest.raises(ValueError, match=message):
        simulate(**{"flow": FLOW, **changes}, potential=bowl, params=None, steps=4, state=state)
