"""Rod Flow's solver, its vector field and the equations of THEORY 3 are one right-hand side."""

import diffrax
import jax
import jax.numpy as jnp
import pytest
from jax.flatten_util import ravel_pytree

from flows import DenseRodState, GradientDescent, HeavyBall, RodFlow, simulate
from flows.rod.equation import rod_slope, rod_slope_from_centre
from potentials import SharpValley
from tests.helpers import assert_trees_close

VALLEY = SharpValley(0.01)
# Just above the edge of stability, 6.667 and 10.
EDGE = {
    "descent": (GradientDescent(0.3), jnp.asarray([0.1, 6.75])),
    "momentum": (HeavyBall(0.3, 0.5), jnp.asarray([0.1, 10.05])),
}
SLOW = pytest.mark.slow
FORMS = {"dense": 512, "factor": 0}


def written_out(optimizer, centre, covariance, rank):
    """dc/dt and dSigma/dt, with the map's whole Jacobian at each point."""
    flat, unravel = ravel_pytree(centre)

    def increment(z):
        return ravel_pytree(optimizer.step(unravel(z), VALLEY))[0] - z

    jacobian = jax.jacfwd(increment)
    values, vectors = jnp.linalg.eigh(covariance)
    move, derivative, feed = increment(flat), jacobian(flat), 0.0
    change = derivative
    mean = move
    for value, vector in zip(values[::-1][:rank], vectors.T[::-1][:rank], strict=True):
        rod = jnp.sqrt(jnp.maximum(value, 0)) * vector
        mean += (increment(flat + rod) + increment(flat - rod)) / 2 - move
        change += (jacobian(flat + rod) + jacobian(flat - rod)) / 2 - derivative
        spread = (increment(flat + rod) - increment(flat - rod)) / 2
        feed += jnp.outer(spread, spread)
    return mean - change @ mean / 2, (jnp.outer(mean, mean) + feed) / 2 - 2 * covariance


def tangent(matrix, factor):
    """The part of a matrix that a factor can move along: all but (I - Pi) M (I - Pi)."""
    _, lengths, directions = jnp.linalg.svd(factor, full_matrices=False)
    # The vector field takes rows shorter than this for zero.
    rows = jnp.where((lengths > 1e-6 * lengths[0])[:, None], directions, 0)
    rest = jnp.eye(factor.shape[1]) - rows.T @ rows
    return matrix - rest @ matrix @ rest


def covariance_of(state):
    """Sigma, of either form."""
    return state.covariance if isinstance(state, DenseRodState) else state.factor.T @ state.factor


# The field of the dense form is written out in tests/flows/test_rod.py too.
QUICK = [(1, "factor", "descent")]
ALL = [
    (r, form, kind) if (r, form, kind) in QUICK else pytest.param(r, form, kind, marks=SLOW)
    for r in (1, 2)
    for form in FORMS
    for kind in EDGE
]


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "form", "kind"), ALL)
def test_a_run_at_the_edge_integrates_the_vector_field(rank, form, kind):
    """The slope kept at accepted points, the field there and the equations agree, and the paths.

    By hand the field is integrated from where the rods have turned to their directions: before,
    that of a factor is stiff.
    """
    optimizer, start = EDGE[kind]
    flow = RodFlow(optimizer, rank, alignment=False, dense_limit=FORMS[form])
    options = {"save_every": 5, "measurements": ()}
    states = [simulate(flow, VALLEY, start, 5, **options).state]
    for _ in range(3):
        states.append(simulate(flow, VALLEY, None, 5, state=states[-1], **options).state)

    @jax.jit
    def compared(y, kept):
        """Sigma, and (dc/dt, dSigma/dt) of the solver, of the vector field, and written out."""
        covariance, field = covariance_of(y), flow.vector_field(0.0, y, VALLEY)
        velocity, change = written_out(optimizer, y.centre, covariance, rank)
        if isinstance(y, DenseRodState):
            own, found = ((ravel_pytree(f.centre)[0], f.covariance) for f in (kept[1], field))
            return covariance, own, found, (velocity, change)
        own = kept.velocity, kept.sources.T @ kept.sources - 2 * covariance
        found = ravel_pytree(field.centre)[0], field.factor.T @ y.factor + y.factor.T @ field.factor
        pairs = own, found, (velocity, change)
        return covariance, *((v, tangent(matrix, y.factor)) for v, matrix in pairs)

    for here in states:
        covariance, own, found, expected = compared(here.flow, here.solver.inner)
        # Relative to the terms of each, which nearly cancel at the edge.
        size, speed = (float(jnp.max(jnp.abs(x))) for x in (covariance, expected[0]))
        assert size > 1e-3
        for velocity, change in (own, found):
            assert_trees_close(velocity, expected[0], rtol=0.0, atol=1e-6 * speed)
            assert_trees_close(change, expected[1], rtol=0.0, atol=1e-6 * size)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(flow.vector_field),
        diffrax.Tsit5(),
        t0=0.0,
        t1=10.0,
        dt0=0.05,
        y0=states[1].flow,
        args=VALLEY,
        stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-11),
    )
    end, last = jax.tree.map(lambda x: x[0], solution.ys), states[-1].flow
    moved = jax.tree.map(jnp.subtract, last.centre, states[1].flow.centre)
    distance = float(jnp.linalg.norm(ravel_pytree(moved)[0]))
    assert_trees_close(end.centre, last.centre, rtol=0.0, atol=1e-3 * distance)
    size = float(jnp.max(jnp.abs(covariance_of(last))))
    assert_trees_close(covariance_of(end), covariance_of(last), rtol=0.0, atol=1e-3 * size)


@pytest.mark.parametrize(("count", "time"), [(1, None), (3, 0.7)], ids=["still", "changing"])
def test_the_derivative_at_the_centre_and_what_the_ends_add_are_the_whole(count, time):
    """JF = DF(c) Fbar + rest: asked for, and given to the slope that evaluates the centre alone."""
    keys = jax.random.split(jax.random.key(count), 3)
    matrix = jax.random.normal(keys[0], (4, 4))
    centre, rods = jax.random.normal(keys[1], (4,)), 0.3 * jax.random.normal(keys[2], (count, 4))
    # Of several rods, one has no length.
    rods = rods.at[1:2].set(0)
    now = None if time is None else jnp.asarray(time)

    def increment(z, t):
        return jnp.sin(matrix @ z) * (1 if t is None else jnp.cos(t))

    exact = rod_slope(increment, centre, rods, now)
    assert exact.beyond_centre is None
    asked = rod_slope(increment, centre, rods, now, True)
    along = jax.jacfwd(lambda z: increment(z, now))(centre) @ exact.mean
    if now is not None:
        along += jax.jacfwd(lambda t: increment(centre, t))(now)
    change = 2 * (exact.mean - exact.velocity)
    assert_trees_close(asked.beyond_centre, change - along, rtol=0.0, atol=1e-12)
    known = rod_slope_from_centre(increment, centre, rods, now, asked.beyond_centre)
    for slope in (asked, known):
        for name in ("velocity", "mean", "spreads", "stretch"):
            assert_trees_close(getattr(slope, name), getattr(exact, name), rtol=0.0, atol=1e-12)
    used = 1 if count == 1 else 2
    middle = count > 1
    assert (int(exact.values), int(exact.derivatives)) == (2 * used + middle, 2 * used + middle)
    assert (int(asked.values), int(asked.derivatives)) == (2 * used + middle, 2 * used + 1)
    assert (int(known.values), int(known.derivatives)) == (2 * used, 1)
    assert float(jnp.linalg.norm(asked.beyond_centre)) > 0.01


@pytest.mark.slow
def test_steps_that_suppose_what_the_ends_add_are_of_order_two():
    """Against the dense form, whose derivatives are exact; the ends add 4% of the velocity here.

    Without its change from step to step, what they suppose would be wrong in first order.
    """

    def potential(w):
        return 0.5 * (6.5 + 3 * w[1] ** 2) * w[0] ** 2 - 0.05 * w[1]

    flow = RodFlow(GradientDescent(0.3), alignment=False, dense_limit=0)
    start = flow.init(potential, jnp.asarray([0.3, 0.1]))
    solver, terms = flow.integrator(jnp.float64).solver, diffrax.ODETerm(flow.vector_field)

    @jax.jit
    def distance(length, expected):
        def step(count, carry):
            y, own = carry
            zero, still = jnp.zeros(()), jnp.asarray(False)
            y, _, _, own, _ = solver.step(terms, zero, length, y, potential, own, still)
            return y, own

        steps = jnp.round(8 / length).astype(jnp.int32)
        y, own = jax.lax.fori_loop(0, steps, step, solver.start(start, potential))
        added, moved = own.inner.beyond_centre, own.inner.velocity
        off = ravel_pytree(y.centre)[0] - ravel_pytree(expected)[0]
        return jnp.linalg.norm(off), jnp.linalg.norm(added) / jnp.linalg.norm(moved)

    exact = diffrax.diffeqsolve(
        diffrax.ODETerm(flow.vector_field),
        diffrax.Tsit5(),
        t0=0.0,
        t1=8.0,
        dt0=0.05,
        y0=DenseRodState(start.centre, covariance_of(start)),
        args=potential,
        stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-13),
    )
    expected = jax.tree.map(lambda x: x[0], exact.ys.centre)
    (coarse, share), (fine, _) = (distance(jnp.asarray(h), expected) for h in (1 / 8, 1 / 16))
    assert float(share) > 0.03
    assert float(fine) < 2e-6
    # 4 at order two; 2.4 if what is supposed does not change.
    assert float(coarse / fine) > 3.5
