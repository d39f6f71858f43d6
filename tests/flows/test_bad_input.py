"""Wrong arguments: a ValueError that names the argument, before anything is computed."""

import inspect

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flows import Curvature, GradientDescent, GradientFlow, ScalarMeasurement, iterate, simulate

# The import hook's type check of the tests would come first; users do not have it.
simulate, iterate = inspect.unwrap(simulate), inspect.unwrap(iterate)

OPTIMIZER = GradientDescent(0.1)
FLOW = GradientFlow(OPTIMIZER)


def bowl(params):
    """A loss that is fine."""
    return 0.5 * jnp.sum(params**2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.1, "learning_rate must be a finite number above 0; got -0.1"),
        (0.0, "learning_rate must be a finite number above 0; got 0.0"),
        (float("nan"), "learning_rate must be a finite number above 0; got nan"),
        (float("inf"), "learning_rate must be a finite number above 0; got inf"),
        ("fast", "learning_rate must be a number; got 'fast'"),
        (None, "learning_rate must be a number; got None"),
        (True, "learning_rate must be a number; got True"),
        (1j, "learning_rate must be a real number; got dtype complex"),
        (np.asarray([0.1, 0.2]), r"learning_rate must be a scalar; got shape \(2,\).*jax.vmap"),
    ],
)
def test_learning_rates_that_are_none(value, message):
    """Not a positive finite scalar: refused where it is given."""
    with pytest.raises(ValueError, match=message):
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
        ({"segment": 0}, "segment must be an integer of at least 1; got 0"),
        ({"params": jnp.ones(2, int)}, "params must be a float array; got dtype int64"),
        (
            {"params": {"w": jnp.ones(2), "n": 3}},
            r"params\['n'\] must be a float array; got dtype int64",
        ),
        ({"params": {"w": "two"}}, r"params\['w'\] must be a float array; got str"),
        ({"params": {}}, "params must hold at least one array"),
        ({"params": jnp.asarray([1.0, jnp.nan])}, "params holds a value that is not finite"),
        (
            {"params": {"a": jnp.ones(2), "b": jnp.ones(2, jnp.float32)}},
            "params must share one dtype; got float32 and float64",
        ),
        ({"params": None}, "exactly one of params and state must be given"),
        ({"potential": lambda p: p**2}, r"potential\(params\) must return a float of shape \(\)"),
        ({"potential": lambda p: (p[0], p)}, r"potential\(params\) must return one array"),
        ({"potential": lambda p: 3}, r"potential\(params\) must return one array"),
        ({"potential": lambda p: jnp.asarray(3)}, "must return a float of shape"),
        ({"potential": 3.0}, "potential must be a function of the parameters; got float"),
        ({"measurements": ("loss",)}, "measurements must be a sequence of measurements"),
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
    with pytest.raises(ValueError, match=message):
        run(model, **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flow": OPTIMIZER}, "flow must be a flow such as"),
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
    ],
)
def test_wrong_arguments_of_simulate(changes, message):
    """What only the flow's integration knows."""
    arguments = {"flow": FLOW, "potential": bowl, "params": jnp.ones(2), "steps": 10, **changes}
    with pytest.raises(ValueError, match=message):
        simulate(**arguments)


def test_an_optimizer_that_is_none():
    """A flow given to iterate is refused."""
    with pytest.raises(ValueError, match="optimizer must be an optimizer such as"):
        iterate(FLOW, bowl, jnp.ones(2), 10)
