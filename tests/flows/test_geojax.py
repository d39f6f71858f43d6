"""Manifolds against geojax, a library of others: points, gradients, geodesics, transports."""

from typing import Any

import geojax
import jax
import jax.numpy as jnp
import pytest

from flows import Hyperboloid, Oblique, Sphere, Stiefel
from tests.helpers import assert_trees_close

# Both are closed forms in double precision.
CLOSE = {"rtol": 1e-12, "atol": 1e-13}


def both(name: str) -> tuple[Any, Any, tuple[int, ...]]:
    """Ours, geojax's, and the shape of a point."""
    return {
        "sphere": (Sphere(), geojax.Sphere(5), (5,)),
        "hyperboloid": (Hyperboloid(), geojax.Hyperboloid(5), (5,)),
        "stiefel": (Stiefel(), geojax.StiefelEuclidean((5, 3)), (5, 3)),
    }[name]


@pytest.mark.parametrize("name", ["sphere", "hyperboloid", "stiefel"])
def test_gradients_and_geodesics_are_theirs(name):
    """Gradient, tangent projection, norm, exponential."""
    ours, theirs, shape = both(name)
    first, second = jax.random.split(jax.random.key(3))
    point = theirs.random_point(first)
    ambient = jax.random.normal(second, shape)
    gradient = ours.gradient(point, ambient)
    assert_trees_close(gradient, theirs.egrad_to_rgrad(point, ambient), **CLOSE)
    vector = ours.tangent(point, 0.5 * ambient)
    assert_trees_close(vector, theirs.tangent_project(point, 0.5 * ambient), **CLOSE)
    squared = jnp.sum(ours.inner(vector, vector))
    assert_trees_close(squared, theirs.inner(point, vector, vector), **CLOSE)
    end = ours.retract(point, vector, "exponential")
    assert_trees_close(end, theirs.exp(point, vector), rtol=1e-11, atol=1e-12)
    assert_trees_close(ours.nearest(1.1 * point), theirs.project(1.1 * point), **CLOSE)


@pytest.mark.parametrize("name", ["sphere", "hyperboloid"])
def test_distances_and_parallel_transports_are_theirs(name):
    """Between two points that are not far from each other."""
    ours, theirs, shape = both(name)
    keys = jax.random.split(jax.random.key(4), 3)
    start = theirs.random_point(keys[0])
    end = theirs.exp(start, ours.tangent(start, 0.7 * jax.random.normal(keys[1], shape)))
    distance = jnp.sqrt(ours.squared_distance(start, end))
    assert_trees_close(distance, theirs.dist(start, end), rtol=1e-10, atol=0.0)
    vector = ours.tangent(start, jax.random.normal(keys[2], shape))
    moved = ours.transport(start, end, vector, "parallel")
    assert_trees_close(moved, theirs.transport(start, end, vector), rtol=1e-10, atol=1e-12)


def test_an_oblique_matrix_is_a_product_of_their_spheres():
    """Each column by itself."""
    ours, theirs = Oblique("columns"), geojax.Sphere(4)
    first, second = jax.random.split(jax.random.key(5))
    point = ours.nearest(jax.random.normal(first, (4, 3)))
    vector = ours.tangent(point, jax.random.normal(second, (4, 3)))
    end = ours.retract(point, vector, "exponential")
    assert_trees_close(end, jax.vmap(theirs.exp, 1, 1)(point, vector), **CLOSE)
