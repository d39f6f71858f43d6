"""Dissipative mechanics against the numbers of THEORY 6, and against Euler and Lagrange."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

from flows import (
    Coulomb,
    DissipativeFlow,
    DissipativeState,
    GradientDescent,
    Quadratic,
    TotalFriction,
    Viscous,
    distance,
    iterate,
    simulate,
)
from potentials import Quadratic as Bowl
from potentials import Ring
from tests.helpers import assert_trees_close

RING, NORTH = Ring(), jnp.asarray([1.0, 0.0])
LAWS = [
    Viscous(0.7),
    Quadratic(0.4),
    Coulomb(0.3),
    TotalFriction(Viscous(0.2), Quadratic(0.1), Coulomb(0.3)),
]
name = lambda law: type(law).__name__  # noqa: E731


def wavy(params):
    """A loss of a nested pytree without any symmetry."""
    a, b = params["a"], params["b"]["c"]
    return jnp.sum(jnp.sin(a) ** 2) + jnp.cos(a[0] * b) + 0.3 * b**4 + jnp.prod(a)


POINT = {"a": jnp.asarray([0.4, -1.1, 0.8]), "b": {"c": jnp.asarray(0.6)}}
VELOCITY = {"a": jnp.asarray([1.2, 0.3, -0.5]), "b": {"c": jnp.asarray(-0.7)}}


def solve(flow, potential, state, end, rtol=1e-9, atol=1e-12, event=None, saveat=None):
    """Integrate by hand, with the flow's vector field alone."""
    return diffrax.diffeqsolve(
        diffrax.ODETerm(flow.vector_field),
        diffrax.Tsit5(),
        t0=0.0,
        t1=end,
        dt0=None,
        y0=state,
        args=potential,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
        event=event,
        saveat=diffrax.SaveAt(t1=True) if saveat is None else saveat,
        max_steps=20000,
    )


def energy(flow, potential, state):
    """The total energy."""
    return flow.observables(state, potential)["total_energy"]


@pytest.mark.parametrize("law", LAWS, ids=name)
def test_the_equations_are_those_of_euler_and_lagrange(law):
    """d/dt dT/dv - d(T - V)/dw = -r G v, with every derivative taken of the energies themselves."""
    flow = DissipativeFlow(2.5, law)
    flat, unravel = jax.flatten_util.ravel_pytree(POINT)
    v = jax.flatten_util.ravel_pytree(VELOCITY)[0]

    def lagrangian(w, v):
        slope = jax.jvp(lambda w: wavy(unravel(w)), (w,), (v,))[1]
        return (v @ v + slope**2) / 2 - 2.5 * wavy(unravel(w))

    change = flow.vector_field(0.0, DissipativeState(POINT, VELOCITY), wavy)
    assert_trees_close(change.position, VELOCITY)
    acceleration = jax.flatten_util.ravel_pytree(change.velocity)[0]
    momentum = jax.grad(lagrangian, argnums=1)
    rate_of_momentum = jax.jvp(momentum, (flat, v), (v, acceleration))[1]
    gradient = jax.grad(lambda w: wavy(unravel(w)))(flat)
    lowered = v + gradient * (gradient @ v)
    friction = -law.rate(v @ lowered) * lowered
    expected = jax.grad(lagrangian)(flat, v) + friction
    assert_trees_close(rate_of_momentum, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("law", LAWS, ids=name)
def test_energy_is_lost_at_the_rate_of_the_dissipated_power(law):
    """dE/dt = -r |v|_G^2: gamma |v|^2, c |v|^3 and mu |v|, to first order in the width."""
    flow = DissipativeFlow(2.5, law)
    state = DissipativeState(POINT, VELOCITY)
    change = flow.vector_field(0.0, state, wavy)
    rate = jax.jvp(lambda s: energy(flow, wavy, s), (state,), (change,))[1]
    found = flow.observables(state, wavy)
    assert_trees_close(rate, -found["dissipated_power"], rtol=1e-12, atol=1e-12)
    speed = found["speed"]
    powers = {
        Viscous: 0.7 * speed**2,
        Quadratic: 0.4 * speed**3,
        Coulomb: 0.3 * speed,
        TotalFriction: 0.2 * speed**2 + 0.1 * speed**3 + 0.3 * speed,
    }
    # Coulomb's law is regularised below a speed of 1e-3: a share of width^2 / (2 |v|^2) < 1e-6.
    assert_trees_close(found["dissipated_power"], powers[type(law)], rtol=1e-6)


def test_without_friction_energy_is_conserved():
    """On the ring over T = 20 the drift is 3.8e-6, 4.1e-8 and 4.9e-10 at rtol 1e-6, -8 and -10."""
    flow = DissipativeFlow(10.0, Viscous(0.0), jnp.asarray([0.0, 3.0]))
    start, saveat = flow.init(RING, NORTH), diffrax.SaveAt(ts=jnp.linspace(0.0, 20.0, 401))

    @jax.jit
    @jax.vmap
    def drift(rtol):
        states = solve(flow, RING, start, 20.0, rtol, 1e-2 * rtol, saveat=saveat).ys
        energies = jax.vmap(lambda state: energy(flow, RING, state))(states)
        return jnp.max(jnp.abs(energies / energies[0] - 1))

    found = drift(jnp.asarray([1e-6, 1e-8, 1e-10]))
    # THEORY does not say the absolute tolerance; a factor of two leaves the order of magnitude.
    ratios = found / jnp.asarray([3.8e-6, 4.1e-8, 4.9e-10])
    assert float(ratios.min()) > 0.5, found
    assert float(ratios.max()) < 2.0, found


def test_without_gravity_it_is_a_geodesic():
    """On |w|^2 / 2 from (2, 0): THEORY's end point, its speed and Clairaut's invariant."""
    flow = DissipativeFlow(0.0, Viscous(0.0), jnp.asarray([-1.0, 0.3]))
    bowl, start = Bowl([1.0, 1.0]), jnp.asarray([2.0, 0.0])
    run = simulate(flow, bowl, start, 6.0, save_every=0.5, measurements=())
    end = jnp.asarray([-3.98203224, -1.59515234])
    # Ten times the solver's tolerance of 1e-8 on a path of length 6 |v|.
    assert_trees_close(run.params[-1], end, rtol=0.0, atol=2e-7)
    speed = run.observables["speed"]
    assert_trees_close(speed, jnp.full_like(speed, 2.2561028345), rtol=1e-7)
    w, v = run.state.flow.position, run.state.flow.velocity
    momentum = w[0] * v[1] - w[1] * v[0]
    assert_trees_close(momentum / speed[-1], jnp.asarray(0.2659453243), rtol=1e-7)


def test_the_overdamped_limit_is_a_gradient_flow():
    """Errors of order 2 in 1/gamma from rest, with THEORY's numbers, and 1 with v_0 fixed."""
    limit = jnp.asarray([0.56790934, 0.37860623])
    start = jnp.asarray([0.3, 0.2])
    gammas = jnp.asarray([8.0, 16.0, 32.0, 64.0, 128.0])

    @jax.jit
    @jax.vmap
    @jax.vmap
    def error(gamma, v):
        flow = DissipativeFlow(1.0, Viscous(gamma))
        end = solve(flow, RING, DissipativeState(start, v), gamma).ys.position[0]
        return jnp.linalg.norm(end - limit)

    velocities = jnp.zeros((2, 5, 2)).at[1].set(jnp.asarray([0.5, 0.2])[None])
    rest, moving = error(jnp.stack([gammas, gammas]), velocities)
    assert_trees_close(rest[:3], jnp.asarray([5.744e-3, 1.429e-3, 3.568e-4]), rtol=1e-3)
    orders = [float(jnp.log2(e[-2] / e[-1])) for e in (rest, moving)]
    assert orders == pytest.approx([2.0, 1.0], abs=0.05)


def test_the_reference_run_on_the_ring():
    """It stops at E < 1e-10 at t = 22.683787 at the angle 2.650755; r^2 phi' = v_y exp(-t)."""
    flow = DissipativeFlow(10.0, Viscous(1.0), jnp.asarray([0.0, 3.0]))

    def excess(t, y, args, **options):
        return jnp.log(energy(flow, args, y) / 1e-10)

    event = diffrax.Event(excess, optimistix.Bisection(rtol=0.0, atol=1e-8))
    found = jax.jit(lambda: solve(flow, RING, flow.init(RING, NORTH), 100.0, 1e-10, 1e-13, event))()
    w = found.ys.position[0]
    # The energy of 1e-10 is an angle of 1e-5 / gamma, of which the end has the digits.
    assert float(found.ts[0]) == pytest.approx(22.683787, abs=2e-6)
    assert float(jnp.arctan2(w[1], w[0])) == pytest.approx(2.650755, abs=1e-6)
    v = found.ys.velocity[0]
    momentum = 3 * np.exp(-float(found.ts[0]))
    # Of 3 at the start 4e-10 is left, which the absolute tolerance of 1e-13 resolves.
    assert float(w[0] * v[1] - w[1] * v[0]) == pytest.approx(momentum, rel=1e-3)


def test_with_quadratic_drag_the_energy_decays_algebraically():
    """E t^2 -> 9 pi^2 / (32 c^2) in a shallow well."""
    c = 2.0
    flow, bowl = DissipativeFlow(1.0, Quadratic(c)), Bowl([1.0])
    # Shallow, so that the metric is flat: w^2 / 2 with |w| below 0.1 in units of gravity 1.
    start = DissipativeState(jnp.zeros(1), jnp.asarray([0.1]))
    end = jax.jit(lambda: solve(flow, bowl, start, 1000.0, 1e-6).ys)()
    found = energy(flow, bowl, jax.tree.map(lambda x: x[0], end)) * 1000.0**2
    # The correction is of order 1 / (c A_0 t) with the first amplitude A_0 = 0.1.
    assert float(found) == pytest.approx(9 * np.pi**2 / (32 * c**2), rel=3e-2)


def test_coulomb_friction_sticks_on_a_band_where_it_creeps():
    """Where gravity |g| / sqrt(1 + |g|^2) < mu it creeps at width s / sqrt(1 - s^2), not faster."""
    law, slope = Coulomb(1.0, width=1e-3), 0.5
    flow, plane = DissipativeFlow(1.0, law), lambda w: slope * w[0]
    rest = DissipativeState(jnp.zeros(1), jnp.zeros(1))
    end = jax.jit(lambda: solve(flow, plane, rest, 1.0).ys)()
    speed = flow.observables(jax.tree.map(lambda x: x[0], end), plane)["speed"]
    share = slope / np.sqrt(1 + slope**2)
    expected = 1e-3 * share / np.sqrt(1 - share**2)
    assert float(speed) == pytest.approx(expected, rel=1e-6)


def test_it_has_its_own_time_and_costs_a_gradient_and_a_product_an_evaluation():
    """Steps may be fractions; a distance to an optimizer is refused."""
    flow = DissipativeFlow(1.0, Viscous(1.0))
    assert flow.time_unit == "time"
    run = simulate(flow, RING, jnp.asarray([0.5, 0.0]), 0.75, save_every=0.25)
    assert_trees_close(run.steps, jnp.asarray([0.0, 0.25, 0.5, 0.75]))
    assert run.to_dataset()["step"].attrs["units"] == "time"
    assert_trees_close(run.observables["loss"], run.observables["predicted_loss"])
    # A gradient and a Hessian-vector product; six evaluations a step, and three at the start.
    assert int(run.stats["gradient_equivalents"]) == 3 * (6 * int(run.stats["solver_steps"]) + 3)
    discrete = iterate(GradientDescent(0.1), RING, NORTH, 3)
    with pytest.raises(ValueError, match="a flow that models an optimizer"):
        distance(run, discrete)


def test_hyperparameters_and_velocities_map_without_compiling_again():
    """One trace for all values, and the same as one by one."""
    traces = []

    def counted(w):
        traces.append(None)
        return RING(w)

    @jax.jit
    def end(gravity, friction, velocity):
        flow = DissipativeFlow(gravity, friction, velocity)
        return solve(flow, counted, flow.init(counted, NORTH), 1.0).ys.position[0]

    one, other = Viscous(jnp.asarray(0.5)), Viscous(jnp.asarray(1.5))
    values = (jnp.asarray([1.0, 2.0]), jax.tree.map(lambda *x: jnp.stack(x), one, other))
    velocities = jnp.asarray([[0.0, 1.0], [0.3, 0.4]])
    ends = jnp.stack(
        [
            end(jnp.asarray(1.0), one, velocities[0]),
            end(jnp.asarray(2.0), other, velocities[1]),
        ]
    )
    count = len(traces)
    end(jnp.asarray(3.0), Viscous(jnp.asarray(0.1)), velocities[0])
    assert len(traces) == count
    mapped = jax.vmap(end)(*values, velocities)
    assert_trees_close(mapped, ends, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("law", LAWS, ids=name)
def test_it_differentiates_at_rest(law):
    """The field's derivative in every state and hyperparameter is finite where nothing moves."""
    flow = DissipativeFlow(2.5, law)
    rest = jax.tree.map(jnp.zeros_like, VELOCITY)

    def total(flow, velocity):
        state = DissipativeState(POINT, velocity)
        change = flow.vector_field(0.0, state, wavy)
        watched = flow.observables(state, wavy)
        return sum(jnp.sum(x) for x in jax.tree.leaves((change, watched)))

    slopes = eqx.filter_grad(lambda both: total(*both))((flow, rest))
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(slopes))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DissipativeFlow(-1.0, Viscous(1.0)), "gravity must be .*at least 0; got -1.0"),
        (lambda: DissipativeFlow(1.0, 1.0), "friction must be a friction law: Viscous"),
        (lambda: Viscous(-0.1), "coefficient must be .*at least 0; got -0.1"),
        (lambda: Quadratic(float("nan")), "coefficient must be .*at least 0; got nan"),
        (lambda: Coulomb(1.0, width=0.0), "width must be .*above 0; got 0.0"),
        (lambda: TotalFriction(), "laws must hold at least one friction law"),
        (lambda: TotalFriction(Viscous(1.0), 2.0), "friction must be a friction law.*got 2.0"),
        (
            lambda: DissipativeFlow(1.0, Viscous(1.0), jnp.asarray([1, 2])),
            "velocity must be a float array",
        ),
        (
            lambda: DissipativeFlow(1.0, Viscous(1.0), jnp.ones(3)).init(RING, NORTH),
            r"velocity must have shape \(2,\); got \(3,\)",
        ),
        (
            lambda: DissipativeFlow(1.0, Viscous(1.0), {"a": NORTH}).init(RING, NORTH),
            "velocity must have the structure of params",
        ),
    ],
)
def test_bad_input_is_named(build, message):
    """What was given, and what is allowed."""
    with pytest.raises(ValueError, match=message):
        build()
