"""The ball with more than 16 parameters, whose linear systems and eigenvalues are iterated for."""

import jax
import jax.numpy as jnp
import pytest

from flows import BallCentreFlow, RollingBall, principal_curvature, simulate
from flows.ball.nearest_point import nearest_point
from potentials import Quadratic
from tests.helpers import assert_trees_close


@pytest.mark.slow
def test_the_bowl_of_two_parameters_in_twenty():
    """Directions that the ball does not move in change neither its contact nor the curvature."""
    potential = Quadratic(jnp.concatenate([jnp.asarray([4.0, 0.5]), jnp.ones(18)]))
    start = jnp.concatenate([jnp.asarray([1.0, 1.5]), jnp.zeros(18)])
    optimizer = RollingBall(1.0, 0.2)
    run = simulate(BallCentreFlow(optimizer), potential, start, 1, measurements=())
    seen = {name: values[-1] for name, values in run.observables.items()}
    # THEORY 5, which gives eight decimals.
    expected = jnp.concatenate([jnp.asarray([7.0081e-5, 0.93931220]), jnp.zeros(18)])
    assert_trees_close(seen["contact"], expected, rtol=0.0, atol=1e-8)
    # Across the slope, which is along the second parameter but for 3e-4: 4 / w. To the tolerance
    # of the iteration.
    curvature = jnp.asarray(3.62058)
    found = principal_curvature(optimizer, potential, seen["contact"])
    assert_trees_close(found, curvature, rtol=1e-3, atol=0.0)
    products = seen["radius_times_curvature"]
    assert_trees_close(products, 0.2 * curvature, rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("size", [3, 20])
def test_nearest_points_are_minima_of_the_distance_wherever_the_search_starts(size):
    """Where the distance is not convex too: its gradient is 0, its Hessian positive, it is less."""

    def surface(q):
        return 4 * (q[0] ** 2 - 1) ** 2 + 0.25 * q[1] ** 2 + 0.5 * jnp.sum(q[2:] ** 2)

    centre, height = jnp.linspace(0.3, 0.1, size), jnp.asarray(0.5)

    def distance(q):
        return 0.5 * (q - centre) @ (q - centre) + 0.5 * (surface(q) - height) ** 2

    @jax.jit
    @jax.vmap
    def search(start):
        found = nearest_point(surface, centre, height, start, iterations=60)
        slope, hessian = jax.grad(distance)(found.point), jax.hessian(distance)(found.point)
        gain = distance(start) - distance(found.point)
        return found, slope, jnp.linalg.eigvalsh(hessian)[0], gain

    starts = 1.5 * jax.random.normal(jax.random.key(0), (16, size))
    found, slopes, lowest, gains = search(starts)
    assert bool(jnp.all(found.converged))
    # The tolerance of the residual is 1e-10, of gradients that are 10 times as long at the most.
    assert_trees_close(slopes, jnp.zeros((16, size)), rtol=0.0, atol=1e-8)
    assert float(jnp.min(lowest)) > 0
    assert float(jnp.min(gains)) > 0
    halved = jax.vmap(distance)(found.point)
    assert_trees_close(0.5 * found.distance**2, halved, rtol=1e-12, atol=0.0)
