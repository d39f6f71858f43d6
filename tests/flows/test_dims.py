"""Dissipative mechanics against the numbers of THEORY 6, and against Euler and Lagrange."""

import dataclasses
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
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
from tests.helpers import as_users_run, assert_trees_close

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


class Landscape(eqx.Module):
    """Shares of the ring, of the bowl |w|^2 / 2, and of a plane: one program for all runs."""

    shares: Any

    def __call__(self, w):
        ring, bowl, slope = self.shares
        return ring * RING(w) + bowl * Bowl([1.0, 1.0])(w) + slope * w[0]


class Run(eqx.Module):
    """What is integrated: where, under which laws, from where, how long and how well."""

    shares: Any
    gravity: Any
    frictions: Any
    start: Any
    velocity: Any
    end: Any
    rtol: Any

    def __init__(self, *values):
        names = [field.name for field in dataclasses.fields(self)]
        for name, value in zip(names, values, strict=True):
            setattr(self, name, jnp.asarray(value))

    def __call__(self):
        """The states at 0, 1/400, ..., 1 of the time, by the flow's vector field alone."""
        viscous, drag, dry = self.frictions
        flow = DissipativeFlow(
            self.gravity, TotalFriction(Viscous(viscous), Quadratic(drag), Coulomb(dry))
        )
        states = diffrax.diffeqsolve(
            diffrax.ODETerm(flow.vector_field),
            diffrax.Tsit5(),
            t0=0.0,
            t1=self.end,
            dt0=None,
            y0=DissipativeState(self.start, self.velocity),
            args=Landscape(self.shares),
            # THEORY does not say the absolute tolerance.
            stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=1e-2 * self.rtol),
            saveat=diffrax.SaveAt(ts=jnp.linspace(0.0, 1.0, 401) * self.end),
            max_steps=50000,
        ).ys
        return states, jax.vmap(lambda y: flow.observables(y, Landscape(self.shares)))(states)


FREE, ON_RING, ON_BOWL = (0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
GAMMAS = (8.0, 16.0, 32.0, 64.0, 128.0)
STOP = 22.683787
RUNS = {
    **{
        f"free {rtol:g}": Run(ON_RING, 10.0, FREE, (1.0, 0.0), (0.0, 3.0), 20.0, rtol)
        for rtol in (1e-6, 1e-8, 1e-10)
    },
    "geodesic": Run(ON_BOWL, 0.0, FREE, (2.0, 0.0), (-1.0, 0.3), 6.0, 1e-9),
    **{
        f"{kind} {gamma:g}": Run(ON_RING, 1.0, (gamma, 0.0, 0.0), (0.3, 0.2), v, gamma, 1e-9)
        for kind, v in (("rest", (0.0, 0.0)), ("moving", (0.5, 0.2)))
        for gamma in GAMMAS
    },
    "reference": Run(ON_RING, 10.0, (1.0, 0.0, 0.0), (1.0, 0.0), (0.0, 3.0), STOP, 1e-10),
    # Shallow, so that the metric is flat: |w| below 0.1 in units of gravity 1.
    "drag": Run(ON_BOWL, 1.0, (0.0, 2.0, 0.0), (0.0, 0.0), (0.1, 0.0), 1000.0, 1e-7),
    "dry": Run((0.0, 0.0, 0.5), 1.0, (0.0, 0.0, 1.0), (0.0, 0.0), (0.0, 0.0), 1.0, 1e-9),
}


@pytest.fixture(scope="module")
def runs():
    """All of them as one compiled call, which is what mapping over hyperparameters is for."""
    together = jax.tree.map(lambda *x: jnp.stack(x), *RUNS.values())
    states, observed = jax.jit(jax.vmap(lambda run: run()))(together)
    one = lambda i: jax.tree.map(lambda x: x[i], (states, observed))  # noqa: E731
    return {label: one(i) for i, label in enumerate(RUNS)}


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

    @jax.jit
    def both():
        change = flow.vector_field(0.0, DissipativeState(POINT, VELOCITY), wavy)
        acceleration = jax.flatten_util.ravel_pytree(change.velocity)[0]
        momentum = jax.grad(lagrangian, argnums=1)
        rate_of_momentum = jax.jvp(momentum, (flat, v), (v, acceleration))[1]
        gradient = jax.grad(lambda w: wavy(unravel(w)))(flat)
        lowered = v + gradient * (gradient @ v)
        friction = -law.rate(v @ lowered) * lowered
        return change.position, rate_of_momentum, jax.grad(lagrangian)(flat, v) + friction

    position, rate_of_momentum, expected = both()
    assert_trees_close(position, VELOCITY)
    assert_trees_close(rate_of_momentum, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("law", LAWS, ids=name)
def test_energy_is_lost_at_the_rate_of_the_dissipated_power(law):
    """dE/dt = -r |v|_G^2: gamma |v|^2, c |v|^3 and mu |v|, to first order in the width."""
    flow = DissipativeFlow(2.5, law)
    state = DissipativeState(POINT, VELOCITY)

    @jax.jit
    def both():
        change = flow.vector_field(0.0, state, wavy)
        rate = jax.jvp(lambda s: energy(flow, wavy, s), (state,), (change,))[1]
        return rate, flow.observables(state, wavy)

    rate, found = both()
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


def test_without_friction_energy_is_conserved(runs):
    """On the ring over T = 20 the drift is 3.8e-6, 4.1e-8 and 4.9e-10 at rtol 1e-6, -8 and -10."""
    energies = [runs[f"free {rtol:g}"][1]["total_energy"] for rtol in (1e-6, 1e-8, 1e-10)]
    found = jnp.stack([jnp.max(jnp.abs(e / e[0] - 1)) for e in energies])
    # Of another absolute tolerance, and sampling; a factor of two leaves the order of magnitude.
    ratios = found / jnp.asarray([3.8e-6, 4.1e-8, 4.9e-10])
    assert float(ratios.min()) > 0.5, found
    assert float(ratios.max()) < 2.0, found


def test_without_gravity_it_is_a_geodesic(runs):
    """On |w|^2 / 2 from (2, 0): THEORY's end point, its speed and Clairaut's invariant."""
    states, observed = runs["geodesic"]
    end = jnp.asarray([-3.98203224, -1.59515234])
    # THEORY's nine digits.
    assert_trees_close(states.position[-1], end, rtol=0.0, atol=2e-8)
    speed = observed["speed"]
    assert_trees_close(speed, jnp.full_like(speed, 2.2561028345), rtol=1e-8)
    (x, y), (u, v) = states.position.T, states.velocity.T
    clairaut = (x * v - y * u) / speed
    assert_trees_close(clairaut, jnp.full_like(speed, 0.2659453243), rtol=1e-8)


def test_the_overdamped_limit_is_a_gradient_flow(runs):
    """Errors of order 2 in 1/gamma from rest, with THEORY's numbers, and 1 with v_0 fixed."""
    limit = jnp.asarray([0.56790934, 0.37860623])
    rest, moving = (
        jnp.stack([jnp.linalg.norm(runs[f"{kind} {g:g}"][0].position[-1] - limit) for g in GAMMAS])
        for kind in ("rest", "moving")
    )
    assert_trees_close(rest[:3], jnp.asarray([5.744e-3, 1.429e-3, 3.568e-4]), rtol=1e-3)
    orders = [float(jnp.log2(e[-2] / e[-1])) for e in (rest, moving)]
    assert orders == pytest.approx([2.0, 1.0], abs=0.05)


def test_the_reference_run_on_the_ring(runs):
    """E falls to 1e-10 at t = 22.683787 at the angle 2.650755; r^2 phi' = v_y exp(-t)."""
    states, observed = runs["reference"]
    energies, power = observed["total_energy"], observed["dissipated_power"]
    # It never grows, so that there is one such time, a step of Newton's from the end.
    assert bool(jnp.all(jnp.diff(energies) < 0))
    late = jnp.log(energies[-1] / 1e-10) * energies[-1] / power[-1]
    assert abs(float(late)) < 2e-6
    w, v = states.position, states.velocity
    assert float(jnp.arctan2(w[-1, 1], w[-1, 0])) == pytest.approx(2.650755, abs=1e-6)
    momentum = w[:, 0] * v[:, 1] - w[:, 1] * v[:, 0]
    # Of 3 at the start 4e-10 is left, which the absolute tolerance of 1e-12 resolves.
    expected = 3 * jnp.exp(-jnp.linspace(0.0, STOP, 401))
    assert_trees_close(momentum, expected, rtol=1e-2, atol=0.0)
    assert_trees_close(momentum, expected, rtol=0.0, atol=1e-9)


def test_with_quadratic_drag_the_energy_decays_algebraically(runs):
    """E t^2 -> 9 pi^2 / (32 c^2) in a shallow well."""
    found = runs["drag"][1]["total_energy"][-1] * 1000.0**2
    # The correction is of order 1 / (c A_0 t) with the first amplitude A_0 = 0.1.
    assert float(found) == pytest.approx(9 * np.pi**2 / (32 * 2.0**2), rel=3e-2)


def test_coulomb_friction_sticks_on_a_band_where_it_creeps(runs):
    """Where gravity |g| / sqrt(1 + |g|^2) < mu it creeps at width s / sqrt(1 - s^2), not faster."""
    share = 0.5 / np.sqrt(1 + 0.5**2)
    expected = 1e-3 * share / np.sqrt(1 - share**2)
    assert float(runs["dry"][1]["speed"][-1]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
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


def test_hyperparameters_map_without_compiling_again():
    """One trace of the field for all values, and the same as one by one."""
    traces = []

    def counted(w):
        traces.append(None)
        return wavy(w)

    @jax.jit
    def field(gravity, friction):
        flow = DissipativeFlow(gravity, friction)
        return flow.vector_field(0.0, DissipativeState(POINT, VELOCITY), counted).velocity

    gravities = jnp.asarray([1.0, 2.0, 3.0])
    frictions = [Viscous(jnp.asarray(gamma)) for gamma in (0.5, 1.5, 0.1)]
    one_by_one = [field(g, f) for g, f in zip(gravities, frictions, strict=True)]
    assert len(traces) == 1
    stack = lambda *x: jnp.stack(x)  # noqa: E731
    mapped = jax.vmap(field)(gravities, jax.tree.map(stack, *frictions))
    assert_trees_close(mapped, jax.tree.map(stack, *one_by_one), rtol=1e-12, atol=1e-12)


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

    slopes = eqx.filter_jit(eqx.filter_grad(lambda both: total(*both)))((flow, rest))
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
    with as_users_run(), pytest.raises(ValueError, match=message):
        build()
