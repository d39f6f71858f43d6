"""The ball's solver, its vector field and the equations of THEORY 5 are one right-hand side."""

import diffrax
import jax
import jax.numpy as jnp
import pytest

from flows import BallCentreFlow, RollingBall, simulate
from tests.helpers import assert_trees_close

# By hand, in fewer programs, the field of a bowl is integrated in tests/flows/test_ball.py.
pytestmark = pytest.mark.slow

RATE, RADIUS, SCALE = 0.05, 0.5, 0.8
FLOW = BallCentreFlow(RollingBall(RATE, RADIUS, SCALE, candidates=11), curvature=False)


def groove(p):
    """Too sharp for the ball, radius times curvature 2, with a slope along it."""
    return (0.5 * 4.0 * p[1] ** 2 + 0.5 * p[0]) / SCALE


def written_out(state, creased):
    """dx/dt and dy/dt of F = a L, by the slopes at the contact and at its mirror image."""
    slope = SCALE * jax.grad(groove)(state.contact)
    root = jnp.sqrt(1 + slope @ slope)
    foot = jnp.append(state.contact, SCALE * groove(state.contact))
    normal = jnp.append(-slope, 1.0) / root
    # The ball touches: its centre is on the normal at the contact.
    centre = jnp.append(state.centre, state.height)
    assert_trees_close(centre, foot + RADIUS * normal, rtol=0.0, atol=1e-8)
    if creased:
        # Halfway between the slopes of both walls, which differ in sign across the groove.
        slope = slope * jnp.asarray([1.0, 0.0])
    return -RATE / SCALE * slope, -RATE / SCALE * (slope @ slope)


@pytest.fixture(scope="module")
def states():
    """Where the solver stands after each of eight steps: down one wall, and along the crease."""
    state, found = None, []
    for _ in range(8):
        start = jnp.asarray([0.0, 1.0]) if state is None else None
        state = simulate(FLOW, groove, start, 1, state=state, measurements=()).state
        found.append(state)
    return found


def test_a_run_down_a_wall_and_along_a_crease_integrates_the_vector_field(states):
    """The velocity kept at accepted points, the field there and the equations agree."""
    creased = [bool(jnp.abs(s.flow.centre[1]) < 1e-6) for s in states]
    assert creased[:2] == [False, False]
    assert creased[-4:] == [True] * 4
    field = jax.jit(lambda state: FLOW.vector_field(0.0, state, groove))
    for here, crease in zip(states, creased, strict=True):
        dx, dy = written_out(here.flow, crease)
        found = field(here.flow)
        # The solver keeps velocities over eta / a, which a schedule changes.
        kept = RATE / SCALE * here.solver.dx, RATE / SCALE * here.solver.dy
        for pair in (kept, (found.centre, found.height)):
            assert_trees_close(pair, (dx, dy), rtol=1e-7, atol=1e-8)


@jax.jit
def by_hand(y0, steps):
    """Through Tsit5, without the projection."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(FLOW.vector_field),
        diffrax.Tsit5(),
        t0=0.0,
        t1=steps,
        dt0=0.05,
        y0=y0,
        args=groove,
        stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-10),
    )
    return jax.tree.map(lambda x: x[0], (solution.ys.centre, solution.ys.height))


@pytest.mark.parametrize(("first", "last"), [(0, 1), (-4, -1)], ids=["wall", "crease"])
def test_by_hand_the_vector_field_leads_where_a_run_does(states, first, last):
    """Over one step down the wall, and three along the crease."""
    end = by_hand(states[first].flow, jnp.asarray(float(last - first)))
    expected = states[last].flow
    assert_trees_close(end, (expected.centre, expected.height), rtol=0.0, atol=1e-7)
