"""What users write themselves: a flow, a projected one, a measurement, a friction law."""

from collections.abc import Mapping
from typing import ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import flows
from flows import GradientDescent, GradientFlow, simulate
from potentials import Quadratic
from tests.helpers import assert_trees_close

CURVATURES = jnp.asarray([2.0, 0.5])
POTENTIAL = Quadratic(CURVATURES)
START = jnp.asarray([0.6, 0.8])


class Rescaled(flows.AbstractFlow):
    """Gradient flow along which the loss, not the parameters, has rate -1: w' = -g / |g|^2."""

    midpoint: ClassVar[None] = None
    time_unit: ClassVar[str] = flows.TIME
    variables: ClassVar[Mapping[str, flows.Variable]] = {
        "slope": flows.Variable("loss / parameter", "norm of the gradient")
    }

    def init(self, potential, params):
        return params

    def vector_field(self, t, state, args):
        gradient = jax.grad(args)(state)
        return -gradient / jnp.sum(gradient**2)

    def params(self, state):
        return state

    def observables(self, state, potential):
        return {"slope": jnp.linalg.norm(jax.grad(potential)(state))}

    def integrator(self, dtype):
        return diffrax.Tsit5(), diffrax.PIDController(rtol=1e-9, atol=1e-11)

    @property
    def cost(self):
        return flows.Cost(gradients=1)


class Point(eqx.Module):
    """A point of the circle, and its distance from the centre before the last projection."""

    params: jax.Array
    distance: jax.Array


class OnCircle(flows.AbstractProjectedFlow):
    """Gradient flow on the unit circle, put back to it after each step; it must not start at 0."""

    midpoint: ClassVar[None] = None
    time_unit: ClassVar[str] = flows.TIME
    variables: ClassVar[Mapping[str, flows.Variable]] = {}
    failures: ClassVar[tuple[str, ...]] = ("the origin has no nearest point, |w| = {detail:g}",)
    failure_detail: ClassVar[str] = "distance"

    def init(self, potential, params):
        return Point(params, jnp.ones(()))

    def vector_field(self, t, state, args):
        gradient = jax.grad(args)(state.params)
        return Point(-gradient + (gradient @ state.params) * state.params, jnp.zeros(()))

    def project(self, state, potential):
        size = jnp.linalg.norm(state.params)
        lost = size < 1e-6
        point = jnp.where(lost, state.params, state.params / size)
        return Point(point, size), lost.astype(jnp.int32)

    def params(self, state):
        return state.params

    def observables(self, state, potential):
        return {}

    def integrator(self, dtype):
        return diffrax.Tsit5(), diffrax.PIDController(rtol=1e-7, atol=1e-9)

    @property
    def cost(self):
        return flows.Cost(gradients=1)


class Travelled(flows.AbstractMeasurement):
    """How far the path has led since the start, chord by chord."""

    @property
    def variables(self):
        return {"travelled": flows.Variable("parameter", "length of the path so far")}

    def init(self, potential, params):
        return params, jnp.zeros(())

    def measure(self, potential, params, state, index):
        before, length = state
        length = length + jnp.linalg.norm(params - before)
        return {"travelled": length}, (params, length), flows.Cost()


class Stokes(flows.AbstractFriction):
    """Viscous friction of another coefficient at each speed: 1 + |v|^2."""

    def rate(self, squared_speed):
        return 1 + squared_speed


def test_a_users_flow_is_integrated_observed_and_counted():
    """The loss falls linearly, whatever the potential; each evaluation is one gradient."""
    run = simulate(Rescaled(), POTENTIAL, START, 0.4, save_every=0.1)
    expected = POTENTIAL(START) - 0.1 * jnp.arange(5.0)
    assert_trees_close(run.observables["loss"], expected, rtol=1e-7, atol=0.0)
    slopes = jnp.linalg.norm(CURVATURES[None] * run.params, axis=1)
    assert_trees_close(run.observables["slope"], slopes, rtol=1e-12, atol=0.0)
    assert run.stats["hvp_evaluations"] == 0
    assert run.stats["gradient_evaluations"] >= 6 * run.stats["solver_steps"]


def test_a_users_projected_flow_stays_on_its_surface():
    """On the circle tan(angle) grows as exp((a - b) t) for curvatures a and b."""
    run = simulate(OnCircle(), POTENTIAL, 2 * START, 1.0, save_every=0.25)
    # Put there at the start; between two projections it leaves by what the tolerance allows.
    assert_trees_close(jnp.linalg.norm(run.params, axis=1), jnp.ones(5), rtol=1e-6, atol=0.0)
    tangent = START[1] / START[0] * jnp.exp(1.5)
    assert float(run.params[-1, 1] / run.params[-1, 0]) == pytest.approx(float(tangent), rel=1e-6)
    with pytest.raises(flows.SimulationError, match=r"no nearest point, \|w\| = 1e-09"):
        simulate(OnCircle(), POTENTIAL, 1e-9 * jnp.asarray([1.0, 0.0]), 1.0)


def test_a_flow_with_a_projection_of_no_effect_is_refused():
    """Only subclasses of AbstractProjectedFlow are projected."""

    class Unprojected(Rescaled):
        def project(self, state, potential):
            return state / jnp.linalg.norm(state), jnp.zeros((), jnp.int32)

    with pytest.raises(ValueError, match="flow must be an AbstractProjectedFlow to be projected"):
        simulate(Unprojected(), POTENTIAL, START, 1.0)


def test_a_users_measurement_carries_its_state_through_the_run():
    """Cut into segments too, and after the run has gone on."""
    flow = GradientFlow(GradientDescent(0.1))
    options = {"measurements": (Travelled(),), "segment": 2}
    first = simulate(flow, POTENTIAL, START, 4, **options)
    then = simulate(flow, POTENTIAL, None, 4, state=first.state, **options)
    steps = jnp.arange(9.0)[:, None]
    path = START[None] * jnp.exp(-0.1 * CURVATURES[None] * steps)
    chords = jnp.linalg.norm(jnp.diff(path, axis=0), axis=1)
    expected = jnp.concatenate([jnp.zeros(1), jnp.cumsum(chords)])
    found = jnp.concatenate([first.observables["travelled"], then.observables["travelled"]])
    assert_trees_close(found, expected, rtol=1e-6, atol=1e-9)


def test_a_users_friction_law_slows_a_particle_on_flat_ground():
    """V' = -(1 + v^2) v: v^2 / (1 + v^2) decays as exp(-2 t)."""
    flow = flows.DissipativeFlow(0.0, Stokes(), jnp.asarray([2.0, 0.0]))
    run = simulate(flow, lambda w: 0.0 * jnp.sum(w), jnp.zeros(2), 2.0, save_every=1.0)
    share = 0.8 * jnp.exp(-2 * jnp.arange(3.0))
    speed = run.observables["speed"]
    assert_trees_close(speed**2, share / (1 - share), rtol=1e-6, atol=0.0)


@jax.custom_vjp
def bend(x):
    """A function with a reverse derivative of its own, and so without a forward one."""
    return jnp.tanh(x)


bend.defvjp(lambda x: (jnp.tanh(x), x), lambda x, slope: (slope * (1 - jnp.tanh(x) ** 2),))


@pytest.mark.slow
def test_a_loss_with_custom_vjp_has_third_derivatives_and_a_central_flow():
    """Reverse mode stands in for the forward mode that JAX does not allow there."""

    def own(w):
        return 5 * jnp.sum(bend(w) ** 2 * w) + jnp.sum(w**2)

    def plain(w):
        return 5 * jnp.sum(jnp.tanh(w) ** 2 * w) + jnp.sum(w**2)

    start, direction = jnp.asarray([0.9, 0.3, 0.2]), jnp.asarray([1.0, -1.0, 0.5])
    thirds = [flows.third_derivative(f, start, direction, direction) for f in (own, plain)]
    assert_trees_close(thirds[0], thirds[1], rtol=1e-13, atol=1e-13)
    # At its edge from the start, where the flow needs third derivatives.
    sharpness = flows.top_eigenpairs(plain, start).sharpness
    flow = flows.CentralFlow(GradientDescent(2 / sharpness), rank=3)
    runs = [simulate(flow, f, start, 3, measurements=()) for f in (own, plain)]
    assert_trees_close(runs[0].params, runs[1].params, rtol=1e-10, atol=1e-12)
    assert int(runs[0].stats["third_derivative_evaluations"]) > 0
