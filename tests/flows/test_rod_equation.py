"""Rod Flow's solver, its vector field and the equations of THEORY 3 are one right-hand side."""

import diffrax
import jax
import jax.numpy as jnp
import pytest
from jax.flatten_util import ravel_pytree

from flows import DenseRodState, GradientDescent, HeavyBall, RodFlow, simulate
from potentials import SharpValley
from tests.helpers import assert_trees_close

VALLEY = SharpValley(0.01)
# Above the edge of stability, 6.667 and 10, where the rods are longest.
EDGE = {
    "descent": (GradientDescent(0.3), jnp.asarray([0.3, 6.8])),
    "momentum": (HeavyBall(0.3, 0.5), jnp.asarray([0.3, 10.3])),
}
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


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", EDGE)
def test_a_run_at_the_edge_integrates_the_vector_field(kind, form, rank):
    """The slope kept at accepted points, the field there and the equations agree, and the paths.

    By hand the field is integrated from where the rods have turned to their directions: before,
    that of a factor is stiff.
    """
    optimizer, start = EDGE[kind]
    flow = RodFlow(optimizer, rank, alignment=False, dense_limit=FORMS[form])
    state, states = None, []
    for _ in range(4):
        run = simulate(
            flow, VALLEY, start if state is None else None, 5, state=state, save_every=5,
            measurements=(),
        )  # fmt: skip
        state = run.state
        states.append(state)
    for here in states:
        y, kept = here.flow, here.solver.inner
        velocity, change = written_out(optimizer, y.centre, covariance_of(y), rank)
        field = flow.vector_field(0.0, y, VALLEY)
        if isinstance(y, DenseRodState):
            own, found = (f.covariance for f in (kept[1], field))
            moved = ravel_pytree(kept[1].centre)[0]
        else:
            found = tangent(field.factor.T @ y.factor + y.factor.T @ field.factor, y.factor)
            own = tangent(kept.sources.T @ kept.sources - 2 * y.factor.T @ y.factor, y.factor)
            moved, change = kept.velocity, tangent(change, y.factor)
        # Relative to the terms of each, which nearly cancel at the edge.
        size = float(jnp.max(jnp.abs(covariance_of(y))))
        assert size > 1e-3
        assert_trees_close(own, change, rtol=0.0, atol=1e-6 * size)
        assert_trees_close(found, change, rtol=0.0, atol=1e-5 * size)
        scale = 1e-6 * float(jnp.max(jnp.abs(velocity)))
        assert_trees_close(moved, velocity, rtol=0.0, atol=scale)
        assert_trees_close(ravel_pytree(field.centre)[0], velocity, rtol=0.0, atol=scale)
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
