"""The sampler of minima: it rests on them, drops nothing, and says what it could not do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flows import (
    RESULTS,
    Coulomb,
    DissipativeFlow,
    DissipativeState,
    Quadratic,
    TotalFriction,
    Viscous,
    exponential_map,
    random_velocities,
    sample_minima,
)
from flows.mechanics.settling import SettlingProblem
from flows.solvers.controllers import GuardedController
from potentials import Quadratic as Bowl
from potentials import Ring
from tests.helpers import as_users_run, assert_trees_close

TRACES = []
# 512 particles stop after about 1000 steps; the bound is for those that shall not.
OPTIONS = {"gravity": 10.0, "friction": 1.0, "tolerance": 1e-10, "max_solver_steps": 4096}


def ring(w):
    """The ring, which counts how often it is traced."""
    TRACES.append(None)
    return Ring()(w)


NORTH = jnp.asarray([1.0, 0.0])


def ring_samples(**changes):
    """512 samples of the ring, all of them by the same compiled program."""
    return sample_minima(ring, NORTH, jax.random.key(0), 512, **{**OPTIONS, **changes})


@pytest.mark.slow
@pytest.mark.parametrize(("speed", "mean"), [(0.5, 19.90), (1.0, 21.42), (2.0, 23.0)])
def test_the_ring_is_sampled_to_the_tolerance_in_the_time_that_it_takes(speed, mean):
    """THEORY's mean stopping time; every sample is on the circle to 3.16e-6.

    How far they turn is tested with the study of the ring, which counts the turns.
    """
    found = ring_samples(speed=speed)
    assert bool(jnp.all(found.converged))
    # Stopped where it crosses the tolerance, not at the end of that step.
    assert float(found.energy.max()) <= 1e-10
    assert float(found.energy.min()) >= 0.999e-10
    radius = jnp.linalg.norm(found.params, axis=1)
    # Energy 10 L <= 1e-10 is |r^2 - 1| <= 2 sqrt(1e-11).
    assert float(jnp.abs(radius - 1).max()) <= 3.1623e-6
    # Of 512 samples with another generator: the mean to three of its standard errors.
    error = float(jnp.std(found.stopping_time)) / np.sqrt(512)
    assert abs(float(found.stopping_time.mean()) - mean) < 3 * np.sqrt(2) * error


@pytest.mark.slow
def test_batches_and_more_friction_laws_give_samples_too():
    """Of any size, since each sample has its own key; drag shortens the way; Coulomb is warned of.

    One program for both: with coefficients 0 the other laws change nothing.
    """

    def rested(drag, dry):
        law = TotalFriction(Viscous(1.0), Quadratic(drag), Coulomb(dry, width=1e-2))
        with pytest.warns(UserWarning, match="friction has a Coulomb part"):
            # 200, 200 and 112 would fill it, so it makes three of 171, one with a repetition.
            return ring_samples(friction=law, batch_size=200)

    same, damped = rested(0.0, 0.0), rested(0.5, 1e-3)
    expected = ring_samples()
    # Rounding differs between the programs, and with it where a step is cut.
    for one in ("params", "stopping_time", "loss", "energy"):
        assert_trees_close(getattr(same, one), getattr(expected, one), rtol=1e-6, atol=1e-7)
    assert bool(jnp.all(same.converged))
    assert bool(jnp.all(damped.converged))
    way = lambda found: float(jnp.abs(jnp.arctan2(*found.params.T[::-1])).mean())  # noqa: E731
    assert way(damped) < 0.9 * way(same)


@pytest.mark.slow
def test_a_batch_larger_than_the_number_of_samples_is_all_of_them():
    """It is the same program even."""
    expected = ring_samples()
    before = len(TRACES)
    assert_trees_close(ring_samples(batch_size=10**6), expected, rtol=0.0, atol=0.0)
    # The loss is traced at each call, once more where a type checker draws random numbers.
    assert len(TRACES) <= before + 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:0 of 512 samples")
def test_a_new_value_does_not_compile_again_and_failures_are_reported():
    """Speed, gravity, friction, tolerance and time are arrays; the solver's reason is kept."""
    ring_samples()
    before = len(TRACES)
    # Friction of 10^4 allows steps of about 3e-4, and the way to the circle takes thousands.
    found = ring_samples(speed=30.0, gravity=4.0, friction=1e4, tolerance=1e-12, max_time=200.0)
    assert len(TRACES) <= before + 3
    assert bool(jnp.all(found.result == RESULTS.max_steps_reached))
    assert not bool(jnp.any(found.converged))
    assert "the integration of 512 failed" in found.message


def test_samples_that_still_move_at_max_time_are_reported_as_such():
    """None is dropped, none counts as at rest."""
    with pytest.warns(UserWarning, match="0 of 512 samples are at rest; 512 still moved at max_"):
        found = ring_samples(max_time=5.0)
    assert found.params.shape == (512, 2)
    assert not bool(jnp.any(found.converged))
    assert_trees_close(found.stopping_time, jnp.full(512, 5.0))
    assert bool(jnp.all(found.energy > 1e-10))
    with pytest.warns(UserWarning, match="still moved"):
        some = ring_samples(max_time=21.0)
    # The others of the batch stop at their own times.
    assert 0 < int(some.converged.sum()) < 512
    assert bool(jnp.all((some.stopping_time < 21.0) == some.converged))


def test_a_particle_that_starts_at_rest_stays():
    """Its energy is below the tolerance from the first, so that nothing crosses it."""
    found = ring_samples(speed=1e-9)
    assert bool(jnp.all(found.converged))
    assert_trees_close(found.stopping_time, jnp.zeros(512))
    # Nor is it integrated.
    assert int(found.stats["solver_steps"].max()) == 0
    assert_trees_close(found.params, jnp.broadcast_to(NORTH, (512, 2)))


def test_a_start_that_is_no_minimum_is_allowed_and_said():
    """The particles fall to the circle, and rest there."""
    with pytest.warns(UserWarning, match="params is not at a minimum: its loss is 0.141 above"):
        found = sample_minima(ring, NORTH / 2, jax.random.key(0), 512, **OPTIONS)
    assert bool(jnp.all(found.converged))
    assert float(jnp.abs(jnp.linalg.norm(found.params, axis=1) - 1).max()) <= 3.1623e-6


@pytest.mark.slow
def test_it_runs_inside_other_transformations():
    """Mapped, compiled and differentiated in the speed, as finite differences do."""

    def total(speed):
        found = sample_minima(ring, NORTH, jax.random.key(0), 3, **{**OPTIONS, "speed": speed})
        return jnp.sum(found.params)

    step = 1e-3
    speeds = 0.7 + step * jnp.asarray([-1.0, 0.0, 1.0])
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(total)))(speeds)
    difference = float(values[2] - values[0]) / (2 * step)
    # End points are known to the root of the tolerance over gravity, 3e-6 of each of 6 numbers.
    assert float(slopes[1]) == pytest.approx(difference, abs=2e-2)


def test_geodesics_of_a_bowl_end_where_quadrature_says():
    """THEORY's geodesic as an exponential map, in batches too."""
    velocities = 6.0 * jnp.asarray([[-1.0, 0.3]] * 3)
    start = jnp.asarray([2.0, 0.0])
    ends, arrived = exponential_map(Bowl([1.0, 1.0]), start, velocities, batch_size=2)
    assert bool(jnp.all(arrived))
    expected = jnp.broadcast_to(jnp.asarray([-3.98203224, -1.59515234]), (3, 2))
    assert_trees_close(ends, expected, rtol=0.0, atol=2e-7)


@pytest.mark.slow
def test_a_particle_that_falls_below_the_minimum_is_not_at_rest():
    """Its energy passes the tolerance while it moves: a slope of cos(w) down from `minimum`."""
    with pytest.warns(UserWarning, match="0 of 4 samples are at rest"):
        found = sample_minima(
            lambda w: jnp.cos(w[0]), jnp.asarray([np.pi / 2]), jax.random.key(0), 4, **OPTIONS
        )
    assert not np.asarray(found.converged).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gravity": -1.0}, "gravity must be a finite number above 0; got -1.0"),
        ({"gravity": 0.0}, "gravity must be a finite number above 0; got 0.0"),
        ({"friction": -1.0}, "friction must be a finite number above 0; got -1.0"),
        ({"friction": Quadratic(1.0)}, "friction must have a viscous part above 0"),
        ({"friction": Viscous(0.0)}, "friction must have a viscous part above 0"),
        ({"speed": 0.0}, "speed must be a finite number above 0"),
        ({"tolerance": 0.0}, "tolerance must be a finite number above 0"),
        ({"max_time": 0.0}, "max_time must be a finite number above 0"),
        ({"num_samples": 0}, "num_samples must be an integer of at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1; got 0"),
        ({"minimum": np.nan}, "minimum must be a finite number; got nan"),
        ({"minimum": 1.0}, "minimum must be at most the loss at params, 0; got 1"),
        ({"key": 0}, "key must be one PRNG key, as jax.random.key.0. is; got 0"),
        ({"key": jnp.zeros(2)}, r"key must be one PRNG key.*; got an array of float64 of shape"),
        ({"key": jax.random.split(jax.random.key(0), 3)}, r"key must be .*; got keys of shape .3"),
        ({"max_solver_steps": 0}, "max_solver_steps must be an integer of at least 1; got 0"),
        ({"params": jnp.ones(2, int)}, "params must be a float array"),
        ({"potential": lambda w: w}, r"potential\(params\) must return a float of shape"),
    ],
)
def test_bad_input_is_named(changes, message):
    """What was given, and what is allowed."""
    given = {"potential": Ring(), "params": NORTH, "num_samples": 3, **OPTIONS}
    with as_users_run(), pytest.raises(ValueError, match=message):
        sample_minima(**{"key": jax.random.key(0), **given, **changes})


@pytest.mark.slow
def test_a_loss_above_zero_is_measured_from_its_minimum():
    """The energy has the loss above `minimum` in it: half the ring's particles are as before."""
    shift = {"num_samples": 4, "tolerance": 1e-6, "gravity": 10.0, "max_solver_steps": 4096}
    raised = lambda w: Ring()(w) + 0.5  # noqa: E731
    found = sample_minima(raised, NORTH, jax.random.key(0), minimum=0.5, **shift)
    expected = sample_minima(Ring(), NORTH, jax.random.key(0), **shift)
    assert bool(jnp.all(found.converged))
    # The loss has the rounding of 0.5, by which the moment of rest shifts.
    assert_trees_close(found.stopping_time, expected.stopping_time, rtol=1e-6)
    assert_trees_close(found.params, expected.params, atol=1e-6)
    # An evaluation is a gradient and a product, Tsit5 makes six a step and three at the start; each
    # accepted step looks at the energy once.
    steps, rejected = found.stats["solver_steps"], found.stats["rejected_steps"]
    expected = 3 * (6 * steps + 3) + steps - rejected
    assert bool(jnp.all(found.stats["gradient_equivalents"] == expected))


def test_the_energy_has_the_slope_in_it_and_rest_the_rounding_of_the_loss():
    """v^T G v / 2 + gravity (L - minimum) with G = I + g g^T, where g is not zero."""
    solver, controller = DissipativeFlow(2.0, Viscous(1.0)).integrator(jnp.float64)
    problem = SettlingProblem(
        flow=DissipativeFlow(2.0, Viscous(1.0)),
        potential=Ring(),
        tolerance=jnp.asarray(1e-30),
        max_time=jnp.asarray(1.0),
        minimum=jnp.asarray(1.0),
        solver=solver,
        controller=GuardedController(controller),
        max_solver_steps=1,
    )
    w, v = np.array([1.2, 0.5]), np.array([0.3, -0.7])
    # L = (|w|^2 - 1)^2 / 4.
    loss, slope = (w @ w - 1) ** 2 / 4, (w @ w - 1) * (w @ v)
    energy, _ = problem.energy(DissipativeState(jnp.asarray(w), jnp.asarray(v)))
    assert_trees_close(energy, jnp.asarray((v @ v + slope**2) / 2 + 2.0 * (loss - 1)), rtol=1e-14)
    nothing = jnp.zeros(())
    assert bool(problem.rests(nothing, jnp.asarray(1 - 1e-15)))
    assert not bool(problem.rests(nothing, jnp.asarray(1 - 1e-12)))
    assert not bool(problem.rests(jnp.asarray(1e-29), jnp.asarray(1.0)))


@pytest.mark.slow
@pytest.mark.usefixtures("float32")
def test_in_single_precision_particles_stop_at_the_end_of_a_step():
    """They are at rest all the same, and not at once."""
    found = sample_minima(
        Ring(), jnp.asarray([1.0, 0.0]), jax.random.key(0), 4, tolerance=1e-4, gravity=10.0
    )
    assert found.params.dtype == jnp.float32
    assert bool(jnp.all(found.converged))
    assert float(found.energy.max()) <= 1e-4
    assert float(found.stopping_time.min()) > 1.0


def test_each_velocity_is_drawn_from_its_own_key_whatever_the_generator():
    """A batch of keys of `rbg` gives what its first one does: batches would change the samples."""
    key = jax.random.key(0, impl="rbg")
    drawn = random_velocities(NORTH, key, 3, 2.0)
    for velocity, own in zip(drawn, jax.random.split(key, 3), strict=True):
        assert_trees_close(velocity, 2.0 * jax.random.normal(own, (2,)), rtol=0, atol=0)


def test_geodesics_are_followed_for_a_time_and_told_where_they_end_early():
    """On a plane they are straight lines."""
    velocities = jnp.asarray([[1.0, 2.0], [-3.0, 0.5]])
    plane = lambda w: 0.0 * w[0]  # noqa: E731
    ends, arrived = exponential_map(plane, NORTH, velocities, time=2.5)
    assert bool(jnp.all(arrived))
    assert_trees_close(ends, NORTH[None] + 2.5 * velocities, rtol=1e-12)
    _, arrived = exponential_map(Ring(), NORTH, velocities, time=2.5, max_solver_steps=1)
    assert not bool(jnp.any(arrived))


def wall(w):
    """Flat up to 10, where it rises by e every 1/300; it overflows at 12.4."""
    return jnp.exp(300 * (w - 10))


@pytest.mark.slow
def test_geodesics_climb_a_wall_whose_slope_overflows_when_squared():
    """They climb the wall for the length that they were given."""
    speeds, time = jnp.asarray([0.5, 1.0, 2.0, 3.0, 5.0, 8.0, -1.0]), 50.0
    ends, arrived = exponential_map(wall, jnp.zeros(()), speeds, time=time, max_solver_steps=2000)
    assert bool(jnp.all(arrived))
    # Length of the graph up to slope u: (sqrt(1 + u^2) - arsinh(1/u)) / 300; u0 = 300 exp(-3000).
    start = (1 - (np.log(2 / 300) + 3000)) / 300
    slopes = 300 * wall(ends[:-1])
    lengths = (jnp.sqrt(1 + slopes**2) - jnp.arcsinh(1 / slopes)) / 300 - start
    # Tolerances of 1e-8 of the position 10, in a few hundred steps, times slopes of up to 1e5.
    assert_trees_close(lengths, time * speeds[:-1], rtol=1e-3)
    assert_trees_close(ends[-1], jnp.asarray(-50.0), rtol=1e-12)


@pytest.mark.slow
def test_samples_thrown_at_a_wall_come_to_rest_for_any_gravity():
    """Particles thrown at a wall come back in few steps; mapped over gravity without a jit."""

    def thrown(gravity):
        found = sample_minima(
            wall, jnp.zeros(()), jax.random.key(0), 32, speed=40.0, gravity=gravity, tolerance=1e-6
        )
        return found.converged, found.params, found.stats["solver_steps"]

    converged, ends, steps = jax.vmap(thrown)(jnp.asarray([1.0, 100.0]))
    assert bool(jnp.all(converged))
    assert float(jnp.max(ends)) < 10
    # 432 without an overflow, in a run of four.
    assert int(jnp.max(steps)) < 2000


@pytest.mark.parametrize(
    ("velocities", "message"),
    [
        (jnp.ones((3, 1)), r"velocities must have shape \(3, 2\)"),
        (jnp.ones((2,)), r"velocities must have shape \(2, 2\)"),
        (jnp.ones(()), r"velocities must have shape \(1, 2\)"),
        ({"a": jnp.ones((3, 2))}, "velocities must have the structure of params"),
        (jnp.ones((0, 2)), "velocities must hold at least one number"),
    ],
)
def test_velocities_that_are_not_like_the_parameters_are_named(velocities, message):
    """With the shape that they should have."""
    with as_users_run(), pytest.raises(ValueError, match=message):
        exponential_map(Ring(), NORTH, velocities)


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("changes", [{"speed": 1e-60}, {"tolerance": 1e-50}, {"gravity": 1e60}])
def test_a_number_that_single_precision_does_not_have_is_named(changes):
    """As a Python number it is fine; as nothing or infinity it would give wrong samples."""
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be"):
        sample_minima(Ring(), jnp.asarray([1.0, 0.0]), jax.random.key(0), 3, **changes)


def test_bad_input_of_velocities_and_geodesics_is_named():
    """A key of the older sort is one, too."""
    with as_users_run(), pytest.raises(ValueError, match="key must be one PRNG key"):
        random_velocities(NORTH, "seed", 3, 1.0)
    old = random_velocities(NORTH, jax.random.PRNGKey(0), 3, 1.0)
    assert_trees_close(old, random_velocities(NORTH, jax.random.key(0), 3, 1.0))
    with pytest.raises(ValueError, match="max_solver_steps must be an integer of at least 1"):
        exponential_map(Ring(), NORTH, jnp.ones((3, 2)), max_solver_steps=0)
