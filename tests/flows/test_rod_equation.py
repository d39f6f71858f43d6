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
