"""Manifolds, and descent on them beside closed forms: arXiv 1905.09054 and its relatives."""

import warnings

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import expm

import flows
from flows import (
    CentralFlow,
    ConstraintDrift,
    Euclidean,
    FineGrainedSGD,
    FisherSAM,
    GradientDescent,
    GradientFlow,
    Hyperboloid,
    Oblique,
    Product,
    Rescaled,
    RiemannianCurvature,
    RiemannianFlow,
    RiemannianGradientDescent,
    RiemannianSAM,
    Sphere,
    Stiefel,
    iterate,
    simulate,
)
from flows.manifolds.method import RiemannianState, riemannian_gradient
from tests.helpers import as_users_run, assert_trees_close, tree_allclose


def approx(value: jax.Array | float, **tolerances: float):
    """`pytest.approx` of an array without axes too."""
    return pytest.approx(float(value), **tolerances)


def normal(seed: int, *shape: int) -> jax.Array:
    """A fixed array of random numbers."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def symmetric(seed: int, size: int) -> jax.Array:
    """A fixed symmetric matrix."""
    a = normal(seed, size, size)
    return (a + a.T) / 2


def at_distance(d: jax.Array | float) -> jax.Array:
    """A point of the hyperbolic plane at a distance from the lowest one."""
    d = jnp.asarray(d)
    return jnp.stack([jnp.cosh(d), jnp.sinh(d), jnp.zeros_like(d)])


LOWEST = at_distance(0.0)

# The manifolds, with the shape of a point.
CASES = {
    "sphere": (Sphere(), (4,)),
    "rows": (Oblique(), (2, 3)),
    "columns": (Oblique("columns"), (3, 2, 2)),
    "kernels": (Oblique("kernels"), (2, 1, 3)),
    "stiefel": (Stiefel(), (4, 2)),
    "stiefel rows": (Stiefel("rows"), (2, 2, 3)),
    "stiefel square": (Stiefel(), (3, 3)),
    "hyperboloid": (Hyperboloid(), (3,)),
    "hyperboloids": (Hyperboloid(), (2, 3)),
    "flat": (Euclidean(), (3,)),
}


def place(name: str) -> tuple:
    """A manifold, a point of it, and two tangent vectors there."""
    manifold, shape = CASES[name]
    point = normal(0, *shape)
    if name.startswith("hyper"):
        point = point.at[..., 0].set(2.0)
    point = manifold.nearest(point)
    return manifold, point, *(manifold.tangent(point, normal(seed, *shape)) for seed in (1, 2))


def total(manifold, u: jax.Array, v: jax.Array) -> jax.Array:
    """The inner product in all groups together."""
    return jnp.sum(manifold.inner(u, v))


@pytest.mark.parametrize(
    "name",
    [
        # The rows of the other are fewer numbers.
        pytest.param(name, marks=pytest.mark.slow if name == "stiefel" else ())
        for name in CASES
        if name != "stiefel square"
    ],
)
def test_a_manifold_fits_together(name):
    """Projections, retractions, transports and charts of each, by what defines them."""
    manifold, point, u, v = place(name)
    derivative, zero, one = normal(3, *point.shape), jnp.zeros(()), jnp.ones(())
    geodesic = not name.startswith("stiefel")
    # Second derivatives of a matrix exponential take long to compile.
    names = manifold.retractions[:2] if name == "stiefel rows" else manifold.retractions

    def path(retraction):
        def along(t):
            return manifold.retract(point, t * u, retraction)

        return along, lambda t: jax.jvp(along, (t,), (one,))[1]

    @jax.jit
    def moved(t):
        """Where each retraction leads, how fast, and the part of its acceleration that bends."""
        found = []
        for retraction in names:
            along, speed = path(retraction)
            there, (fast, bent) = along(t), jax.jvp(speed, (t,), (one,))
            found.append((there, fast, manifold.tangent(there, bent), manifold.violation(there)))
        return found

    @jax.jit
    def others():
        there = manifold.retract(point, 0.7 * u, manifold.retractions[0])
        carried = manifold.transport(point, there, u, "parallel")

        def half(x):
            return 0.5 * manifold.squared_distance(manifold.chart(point, x), point)

        return {
            "violation": manifold.violation(point),
            "nearest": manifold.nearest(point),
            "tangent": manifold.tangent(point, u),
            "dual": total(manifold, manifold.gradient(point, derivative), v),
            "distance": manifold.squared_distance(point, there),
            "carried": carried,
            "back": manifold.transport(there, point, carried, "parallel"),
            "hessian": jax.hessian(half)(jnp.zeros_like(point)),
            "projector": jax.jacfwd(lambda x: manifold.tangent(point, x))(point),
        }

    found, start, later = others(), moved(zero), moved(one * 0.7)
    square = total(manifold, u, u)
    assert found["violation"] < 1e-15
    assert_trees_close(found["nearest"], point, rtol=0, atol=2e-15)
    assert_trees_close(found["tangent"], u, rtol=1e-13, atol=1e-13)
    # The gradient is dual to the derivative: <grad L, v> = e.v.
    assert found["dual"] == approx(jnp.sum(derivative * v), rel=1e-12)
    for retraction, at_start, at_end in zip(names, start, later, strict=True):
        # R(0) = w, R'(0) u = u, and of second order the acceleration is across the manifold.
        assert_trees_close(at_start[0], point, rtol=0, atol=2e-15)
        assert_trees_close(at_start[1], u, rtol=0, atol=1e-13)
        bent = jnp.max(jnp.abs(at_start[2]))
        assert (bent > 1e-2) if retraction == "qr" else (bent < 1e-12), retraction
        assert max(at_start[3], at_end[3]) < 3e-15
        if retraction == "exponential":  # A geodesic bends nowhere.
            assert jnp.max(jnp.abs(at_end[2])) < 1e-12
            assert total(manifold, at_end[1], at_end[1]) == approx(square, rel=1e-12)
    if geodesic:
        assert found["distance"] == approx(0.49 * square, rel=1e-13)
        assert_trees_close(found["carried"], later[0][1], rtol=1e-11, atol=1e-12)
        assert_trees_close(found["back"], u, rtol=1e-12, atol=1e-12)
        # The Hessian of half the squared distance is 1 on the tangent space, 0/0 notwithstanding.
        values = np.linalg.eigvalsh(np.asarray(found["hessian"]).reshape(point.size, -1))
        assert np.all((np.abs(values) < 1e-12) | (np.abs(values - 1) < 1e-12))
        projector = np.asarray(found["projector"]).reshape(point.size, -1)
        assert np.sum(values > 0.5) == np.linalg.matrix_rank(projector, tol=1e-9)


def test_geodesics_of_orthogonal_matrices_and_spheres_are_exponentials():
    """X expm(X^T V) on O(n); on the sphere the rotation in the plane of w and v."""
    manifold, x, v, _ = place("stiefel square")
    found = jax.jit(lambda: manifold.retract(x, v, "exponential"))()
    assert_trees_close(found, x @ expm(x.T @ v), rtol=1e-12, atol=1e-13)
    manifold, w, v, _ = place("sphere")
    rotated = expm(jnp.outer(v, w) - jnp.outer(w, v)) @ w
    assert_trees_close(manifold.retract(w, v, "exponential"), rotated, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", ["sphere", "stiefel", "hyperboloid"])
def test_the_chart_gives_the_riemannian_hessian(name):
    """P applied to the derivative of w -> P_w e(w), and the Weingarten formulas, two other ways."""
    manifold, point, u, _ = place(name)
    a = symmetric(4, point.size)

    def loss(w):
        return 0.5 * w.ravel() @ a @ w.ravel() + jnp.sum(jnp.sin(w))

    @jax.jit
    def products():
        def gradient(w):
            return manifold.gradient(w, jax.grad(loss)(w))

        covariant = manifold.tangent(point, jax.jvp(gradient, (point,), (u,))[1])

        def chart(x):
            return loss(manifold.chart(point, x))

        hessian = jax.hessian(chart)(jnp.zeros_like(point)).reshape(point.size, -1)
        moved = jax.jvp(jax.grad(loss), (point,), (u,))
        return covariant, hessian, *moved

    covariant, hessian, e, moved = products()
    if name == "hyperboloid":  # In other coordinates: the lengths in them are the same.
        upright = jnp.zeros_like(point).at[0].set(1.0)
        flat = manifold.transport(point, upright, u, "parallel")
        covariant = manifold.transport(point, upright, covariant, "parallel")
        assert_trees_close(hessian @ flat, covariant, rtol=1e-11, atol=1e-11)
        return
    assert_trees_close(hessian @ u.ravel(), covariant.ravel(), rtol=1e-11, atol=1e-12)
    if name == "sphere":
        expected = manifold.tangent(point, moved) - (point @ e) * u
    else:
        turned = point.T @ e
        expected = manifold.tangent(point, moved - u @ (turned + turned.T) / 2)
    assert_trees_close(covariant, expected, rtol=1e-12, atol=1e-13)


def integrated(flow, loss, start, time, count: int):
    """Where a flow is after some time, by so many steps of Runge and Kutta."""
    h = time / count
    field = jax.jit(lambda y: flow.vector_field(0.0, RiemannianState(y), loss).params)

    def move(y, k, c):
        return jax.tree.map(lambda a, b: a + c * b, y, k)

    def one(_, y):
        k1 = field(y)
        k2 = field(move(y, k1, h / 2))
        k3 = field(move(y, k2, h / 2))
        k4 = field(move(y, k3, h))
        average = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4)
        return flow.params(RiemannianState(move(y, average, h)))

    return lax.fori_loop(0, count, one, start)


# The four flows that are known exactly, at once: a product whose factors do not interact.

A = jnp.diag(jnp.asarray([1.0, 2.0, 4.0])) + 0.3 * symmetric(5, 3)
TODA = jnp.diag(jnp.asarray([1.0, -0.5, 0.7])) + jnp.diag(jnp.asarray([0.8, 0.4]), 1)
TODA = TODA + jnp.triu(TODA, 1).T
N = jnp.diag(jnp.asarray([1.0, 2.0, 3.0]))
KNOWN = Product({"w": Sphere(), "oja": Stiefel(), "toda": Stiefel(), "far": Hyperboloid()})
KNOWN_START = {
    "w": Sphere().nearest(jnp.asarray([1.0, -2.0, 0.5])),
    "oja": Stiefel().nearest(normal(6, 3, 2)),
    "toda": jnp.eye(3),
    "far": at_distance(1.5),
}


def known(p: dict[str, jax.Array]) -> jax.Array:
    """The sum of four losses, of a leaf each."""
    rayleigh = 0.5 * p["w"] @ A @ p["w"]
    oja = -0.5 * jnp.trace(p["oja"].T @ A @ p["oja"])
    brockett = -0.5 * jnp.trace(p["toda"].T @ TODA @ p["toda"] @ N)
    return rayleigh + oja + brockett + 0.5 * Hyperboloid().squared_distance(p["far"], LOWEST)


def test_flows_that_are_known_exactly():
    """Rayleigh, Oja, Toda as Brockett's double bracket, and a geodesic, to 1e-11.

    Brockett's M = X^T A X obeys dM/dt = (eta/2) [M, [M, N]], which for N = diag(1, 2, 3) and
    tridiagonal M is Toda's lattice: M(t) = Q^T M_0 Q with Q R = exp(-eta t M_0/2).
    """
    eta, time = 0.1, 20.0
    flow = RiemannianFlow(RiemannianGradientDescent(eta, KNOWN))
    end = jax.jit(lambda: integrated(flow, known, KNOWN_START, time, 1000))()
    moved = expm(-eta * time * A) @ KNOWN_START["w"]
    assert_trees_close(end["w"], Sphere().nearest(moved), rtol=1e-11, atol=1e-12)
    span = expm(eta * time * A) @ KNOWN_START["oja"]
    projector = span @ jnp.linalg.solve(span.T @ span, span.T)
    assert_trees_close(end["oja"] @ end["oja"].T, projector, rtol=1e-11, atol=1e-11)
    q, r = jnp.linalg.qr(expm(-eta * time * TODA / 2))
    q = q @ jnp.diag(jnp.sign(jnp.diagonal(r)))
    lattice = end["toda"].T @ TODA @ end["toda"]
    assert_trees_close(lattice, q.T @ TODA @ q, rtol=1e-11, atol=1e-11)
    assert_trees_close(jnp.linalg.eigvalsh(lattice), jnp.linalg.eigvalsh(TODA), rtol=1e-12)
    assert_trees_close(end["far"], at_distance(1.5 * np.exp(-eta * time)), rtol=1e-11, atol=1e-12)
    assert KNOWN.violation(end) < 1e-14


def test_a_simulated_flow_is_kept_on_the_manifold():
    """Rayleigh's flow by diffrax's solver to its tolerance; saves between its steps too."""
    eta, start = 0.1, KNOWN_START["w"]
    flow = RiemannianFlow(RiemannianGradientDescent(eta, Sphere()))

    def loss(w):
        return 0.5 * w @ A @ w

    measured = ConstraintDrift(Sphere())
    run = simulate(flow, loss, start, 20, measurements=measured)
    for step in (1, 10, 20):
        moved = expm(-eta * step * A) @ start
        assert_trees_close(run.params[step], Sphere().nearest(moved), rtol=0, atol=2e-8)
    assert run.observables["constraint_drift"].max() < 1e-15
    assert run.observables["predicted_loss"][-1] == approx(loss(run.params[-1]), rel=1e-14)
    # The field does not depend on how far the state is from the sphere, and does not lead away.
    field = flow.vector_field(0.0, RiemannianState(1.1 * start), loss).params
    assert abs(field @ start) < 1e-15
    assert_trees_close(field, flow.vector_field(0.0, RiemannianState(start), loss).params)


# A loss that couples a sphere, a Stiefel matrix and a flat leaf.

MIXED = Product({"w": Sphere(), "x": Stiefel()})
MIXED_START = {
    "w": Sphere().nearest(normal(7, 3)),
    "x": Stiefel().nearest(normal(8, 3, 2)),
    "b": normal(9, 2),
}
B = 1.5 * symmetric(10, 3)


def mixed(p: dict[str, jax.Array]) -> jax.Array:
    """A loss in which all leaves meet."""
    inner = jnp.tanh(p["x"].T @ p["w"] + p["b"])
    quadratic = 0.5 * p["w"] @ B @ p["w"] + jnp.sum(p["x"].T @ B @ p["x"] * jnp.ones((2, 2)))
    return quadratic + jnp.sum(jnp.sin(2 * inner)) + 0.5 * jnp.sum(p["b"] ** 2)


@jax.jit
def ends(flow: RiemannianFlow, steps: jax.Array):
    """Where the optimizer and its flow are after some steps."""
    optimizer, state = flow.optimizer, RiemannianState(MIXED_START)
    discrete = lax.fori_loop(0, steps, lambda _, s: optimizer.step(s, mixed), state)
    return discrete.params, integrated(flow, mixed, MIXED_START, steps, 300)


def order(make, correction: bool, *, time: float = 0.8, steps: int) -> float:
    """The order in eta of the distance between a method and its flow, at a fixed eta * steps."""
    errors = []
    for count in (steps, 2 * steps):
        flow = RiemannianFlow(make(time / count), correction)
        discrete, end = ends(flow, jnp.asarray(count))
        gaps = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), discrete, end)
        errors.append(float(jnp.sqrt(sum(jax.tree.leaves(gaps)))))
    return float(np.log2(errors[0] / errors[1]))


METHODS = {
    "default": lambda eta: RiemannianGradientDescent(eta, MIXED),
    "normalisation": lambda eta: RiemannianGradientDescent(eta, MIXED, "normalisation"),
    "qr": lambda eta: RiemannianGradientDescent(eta, MIXED, "qr"),
    "sam": lambda eta: RiemannianSAM(eta, 0.1, Product({"w": Sphere()})),
    "fine-grained": lambda eta: FineGrainedSGD(eta, MIXED),
}


@pytest.mark.parametrize(
    ("method", "correction", "expected"),
    [
        ("default", False, 1),
        ("default", True, 2),
        pytest.param("normalisation", True, 2, marks=pytest.mark.slow),
        ("qr", True, 1),  # Not of second order: the correction gains nothing.
        ("sam", False, 1),
        pytest.param("sam", True, 2, marks=pytest.mark.slow),
        ("fine-grained", False, 1),
    ],
)
def test_order_in_the_learning_rate(method, correction, expected):
    """Order 1, and 2 with the correction if the retraction is of second order."""
    # The error of "qr" that is of first order is small.
    steps = 4000 if method == "qr" else 200
    assert order(METHODS[method], correction, steps=steps) == approx(expected, abs=0.08)


def test_the_correction_needs_the_weingarten_term():
    """On the sphere: with the projected ambient Hessian in place of the Riemannian one, order 1."""
    sphere, start = Sphere(), Sphere().nearest(jnp.asarray([1.0, -2.0, 0.5]))

    def loss(w):
        return 0.5 * w @ A @ w + jnp.sin(w[0])

    @jax.jit
    def gap(eta, steps, weingarten):
        def field(w):
            e = jax.grad(loss)(w)
            gradient = sphere.tangent(w, e)
            turned = sphere.tangent(w, jax.jvp(jax.grad(loss), (w,), (gradient,))[1])
            turned -= weingarten * (w @ e) * gradient
            return -eta * gradient - eta**2 / 2 * turned

        def one(_, w):
            h = steps / 300
            k1 = field(w)
            k2 = field(w + h / 2 * k1)
            k3 = field(w + h / 2 * k2)
            return w + h / 6 * (k1 + 2 * k2 + 2 * k3 + field(w + h * k3))

        def step(_, w):
            return sphere.retract(w, -eta * sphere.tangent(w, jax.grad(loss)(w)), "exponential")

        return jnp.linalg.norm(
            lax.fori_loop(0, 300, one, start) - lax.fori_loop(0, steps, step, start)
        )

    for weingarten, expected in ((1.0, 2), (0.0, 1)):
        errors = [gap(0.8 / count, count, weingarten) for count in (200, 400)]
        assert np.log2(errors[0] / errors[1]) == approx(expected, abs=0.05)


@pytest.mark.slow
def test_the_edge_is_that_of_the_joint_hessian():
    """0.995 and 1.005 of 2/top of the whole Riemannian Hessian decide, for every retraction."""
    flow = RiemannianFlow(RiemannianGradientDescent(0.1, MIXED))
    minimum, _ = ends(flow, jnp.asarray(3000))
    assert MIXED.squared_norm(riemannian_gradient(MIXED, mixed, minimum)) < 1e-26
    curvature = RiemannianCurvature(MIXED)
    values, modes, _ = curvature.measure(
        mixed, minimum, curvature.init(mixed, minimum), jnp.asarray(0)
    )
    top = float(values["riemannian_sharpness"])
    flat, unravel = ravel_pytree(minimum)
    mode = modes[0]

    def gradient(w):
        return riemannian_gradient(MIXED, mixed, unravel(w))

    def multiplier(share, retraction):
        optimizer = RiemannianGradientDescent(share * 2 / top, MIXED, retraction)

        def step(w):
            return ravel_pytree(optimizer.step(RiemannianState(unravel(w)), mixed).params)[0]

        return mode @ jax.jvp(step, (flat,), (mode,))[1]

    @jax.jit
    def found():
        product = MIXED.tangent(minimum, jax.jvp(gradient, (flat,), (mode,))[1])
        names = (None, "normalisation", "qr")
        multipliers = [[multiplier(share, name) for share in (0.995, 1.005)] for name in names]
        hessian = jax.hessian(lambda u: mixed(MIXED.chart(minimum, unravel(u))))(
            jnp.zeros_like(flat)
        )
        return ravel_pytree(product)[0], jnp.asarray(multipliers), hessian

    product, multipliers, hessian = found()
    # The same from P applied to the derivative of P e.
    assert_trees_close(product, top * mode, rtol=1e-9, atol=1e-9)
    expected = jnp.asarray([[1 - 2 * 0.995, 1 - 2 * 1.005]] * 3)
    assert_trees_close(multipliers, expected, rtol=0, atol=1e-9)
    # It is more than any leaf has by itself.
    assert np.linalg.eigvalsh(hessian).max() == approx(top, rel=1e-12)
    start = 0
    for leaf in jax.tree.leaves(minimum):
        block = hessian[start : start + leaf.size, start : start + leaf.size]
        assert np.linalg.eigvalsh(block).max() < 0.99 * top
        start += leaf.size


@pytest.mark.parametrize("share", [0.995, 1.005])
def test_descent_leaves_a_minimum_beyond_the_edge(share):
    """From near the minimum it converges below 2/eta, and stays away from it above."""
    w = Sphere().nearest(jnp.asarray([1.0, 1e-3, 1e-3]))

    def loss(w):
        return 0.5 * jnp.sum(jnp.asarray([1.0, 3.0, 6.0]) * w**2)

    optimizer = RiemannianGradientDescent(share * 2 / 5.0, Sphere())
    run = iterate(optimizer, loss, w, 3000, save_every=3000, measurements=())
    away = float(jnp.abs(run.params[-1][2]))
    assert away < 1e-12 if share < 1 else away > 0.01


@pytest.mark.parametrize("rate", [0.3, 1.7])
def test_the_edge_moves_with_the_gradient(rate):
    """The multiplier across a gradient of length 0.6 and curvature 1.3, on both sides."""
    slope, curvature = 0.6, 1.3
    phi, bend = rate * slope, rate * curvature
    w, across = jnp.asarray([1.0, 0.0, 0.0]), jnp.asarray([0.0, 0.0, 1.0])

    def loss(w):
        return -slope * w[1] + 0.5 * curvature * w[2] ** 2

    def multiplier(manifold, retraction):
        optimizer = RiemannianGradientDescent(rate, manifold, retraction)

        def step(w):
            return optimizer.step(RiemannianState(w), loss).params

        return jax.jvp(step, (w,), (across,))[1][2]

    exponential = np.cos(phi) - np.sin(phi) / phi * bend
    assert multiplier(Sphere(), "exponential") == approx(exponential, rel=1e-12)
    normalisation = (1 - bend) / np.sqrt(1 + phi**2)
    assert multiplier(Sphere(), "normalisation") == approx(normalisation, rel=1e-12)
    hyperbolic = np.cosh(phi) - np.sinh(phi) / phi * bend
    assert multiplier(Hyperboloid(), "exponential") == approx(hyperbolic, rel=1e-12)
    # -1 is reached at (2/eta)(phi/2) cot(phi/2), (1 + sqrt(1 + phi^2))/eta and with coth.
    edge = 2 / rate * (phi / 2) / np.tan(phi / 2)
    assert np.cos(phi) - np.sin(phi) / phi * rate * edge == approx(-1, rel=1e-12)


def circle(w: jax.Array) -> jax.Array:
    """Half of the squared sine of the angle."""
    return 0.5 * w[1] ** 2


@pytest.mark.parametrize("rate", [2.2, 3.0, 8.0])
def test_two_cycles_on_the_circle_with_normalisation(rate):
    """+-arccos(2/(eta a))/2 with the multiplier 1 - 8/(eta a)^2: stable at every eta a > 2."""
    optimizer = RiemannianGradientDescent(rate, Sphere(), "normalisation")
    start = jnp.asarray([np.cos(0.3), np.sin(0.3)])
    run = iterate(optimizer, circle, start, 2000, save_every=2000, measurements=())
    angle = jnp.arctan2(run.params[-1][1], run.params[-1][0])
    assert abs(angle) == approx(0.5 * np.arccos(2 / rate), rel=1e-12)

    def step(theta):
        state = RiemannianState(jnp.stack([jnp.cos(theta), jnp.sin(theta)]))
        moved = optimizer.step(state, circle).params
        return jnp.arctan2(moved[1], moved[0])

    assert step(angle) == approx(-angle, rel=1e-12)
    assert jax.grad(step)(angle) == approx(1 - 8 / rate**2, rel=1e-10)


def test_two_cycles_on_the_circle_with_the_exponential():
    """sin(2 theta)/(2 theta) = 2/(eta a) up to eta a = pi, then two unequal angles, then escape."""
    sphere = Sphere()

    @jax.jit
    def ended(rate):
        optimizer = RiemannianGradientDescent(rate, sphere)
        state = RiemannianState(jnp.asarray([np.cos(0.3), np.sin(0.3)]))
        state = lax.fori_loop(0, 4000, lambda _, s: optimizer.step(s, circle), state)
        _, states = lax.scan(lambda s, _: (optimizer.step(s, circle), s.params), state, length=200)
        return jnp.arctan2(states[:, 1], states[:, 0])

    angles = ended(3.0)
    assert_trees_close(angles[1:], -angles[:-1], rtol=1e-11)
    assert jnp.sinc(2 * angles[0] / np.pi) == approx(2 / 3.0, rel=1e-11)
    angles = ended(3.2)
    assert_trees_close(angles[2:], angles[:-2], rtol=1e-9)
    assert abs(abs(angles[1]) - abs(angles[0])) > 0.1
    # Round the circle, to where the minimum at 0 cannot be.
    assert jnp.max(jnp.abs(ended(5.0))) > 1.7


@pytest.mark.slow
def test_hyperbolic_mean_is_an_edge():
    """The mean of two points at +-r is unstable iff eta > 2 tanh(r)/r; beyond, a two-cycle."""
    r, space = 1.2, Hyperboloid()
    points = jnp.stack([at_distance(r), at_distance(-r)])

    def loss(w):
        return 0.25 * sum(space.squared_distance(w, p) for p in points)

    curvature = RiemannianCurvature(space)
    values, _, _ = curvature.measure(loss, LOWEST, curvature.init(loss, LOWEST), jnp.asarray(0))
    assert values["riemannian_sharpness"] == approx(r / np.tanh(r), rel=1e-12)
    threshold = 2 * np.tanh(r) / r

    @jax.jit
    def end(rate):
        optimizer = RiemannianGradientDescent(rate, space)
        start = space.nearest(jnp.asarray([1.0, 0.01, 0.02]))
        state = RiemannianState(start)
        return lax.fori_loop(0, 6000, lambda _, s: optimizer.step(s, loss), state).params

    assert_trees_close(end(0.995 * threshold), LOWEST, rtol=1e-12, atol=1e-12)
    rate = 1.005 * threshold
    z = abs(jnp.arcsinh(end(rate)[2]))
    big = np.arccosh(np.cosh(r) * np.cosh(z))
    assert z > 0.05
    assert rate * big * np.tanh(z) / np.tanh(big) == approx(2 * z, rel=1e-10)


@pytest.mark.parametrize("name", ["sphere", "stiefel"])
def test_riemannian_sam_descends_the_loss_with_its_slope(name):
    """Up to rho^2 for both transports; the ambient gradient projected at w is off by rho."""
    manifold, point, _, _ = place(name)
    product = Product({"*": manifold})
    a = symmetric(4, point.size)

    def loss(w):
        return 0.5 * w.ravel() @ a @ w.ravel() + jnp.sum(jnp.sin(w))

    def slope(w):
        return jnp.sqrt(product.squared_norm(riemannian_gradient(product, loss, w)))

    @jax.jit
    def gaps(rho):
        effective = riemannian_gradient(product, lambda w: loss(w) + rho * slope(w), point)
        found = [
            -RiemannianSAM(0.1, rho, manifold, transport=by).velocity(point, loss)
            for by in ("parallel", "projection")
        ]
        gradient = riemannian_gradient(product, loss, point)
        above = manifold.retract(point, rho * gradient / slope(point), manifold.retractions[0])
        found += [manifold.tangent(point, jax.grad(loss)(above))]
        return jnp.stack([jnp.linalg.norm(x - effective) for x in found])

    orders = np.log2(gaps(2e-3) / gaps(1e-3))
    assert orders == pytest.approx([2, 2, 1], abs=0.05)


@pytest.mark.slow
def test_riemannian_sam_on_a_squared_distance():
    """A two-cycle of half-length eta rho/(2 - eta); the flow arrives at ln(1 + d_0/rho)/eta."""
    eta, rho, far, space = 0.4, 0.3, 1.2, Hyperboloid()

    def loss(w):
        return 0.5 * space.squared_distance(w, LOWEST)

    optimizer = RiemannianSAM(eta, rho, space)
    run = iterate(optimizer, loss, at_distance(far), 200, save_every=100, measurements=())
    assert abs(jnp.arcsinh(run.params[-1][1])) == approx(eta * rho / (2 - eta), rel=1e-12)
    # At this cycle |grad L| makes the threshold equal to the sharpness, 1.
    assert optimizer.critical_sharpness_at(run.params[-1], loss) == approx(1, rel=1e-11)
    assert optimizer.critical_sharpness_at(LOWEST, loss) == 0
    steep = optimizer.critical_sharpness_at(at_distance(far), lambda w: 1e9 * loss(w))
    assert steep == approx(2 / eta, rel=1e-6)
    arrival = np.log(1 + far / rho) / eta
    # The smoothing makes it slow down and rest once it is there.
    flow = RiemannianFlow(RiemannianSAM(eta, rho, space, smoothing=1e-4))
    run = simulate(flow, loss, at_distance(far), 8, measurements=())
    distances = jnp.arcsinh(run.params[:, 1])
    steps = np.asarray(run.steps, float)
    before = steps < arrival
    exact = (far + rho) * np.exp(-eta * steps) - rho
    assert np.sum(before) == 5
    assert_trees_close(distances[before], jnp.asarray(exact[before]), rtol=0, atol=1e-5)
    assert jnp.all(jnp.abs(distances[~before]) < 1e-4)


def test_without_smoothing_riemannian_sam_arrives_at_the_known_time():
    """The error that the smoothing s makes before it arrives is of order s^2, and 0 at s = 0."""
    eta, rho, far, space, time = 0.4, 0.3, 1.2, Hyperboloid(), 3.6

    def loss(w):
        return 0.5 * space.squared_distance(w, LOWEST)

    @jax.jit
    def arrival(smoothing):
        flow = RiemannianFlow(RiemannianSAM(eta, rho, space, smoothing=smoothing))
        end = integrated(flow, loss, at_distance(far), time, 600)
        # d + rho decays as exp(-eta t) until d is 0.
        return time + jnp.log(1 + jnp.arcsinh(end[1]) / rho) / eta

    exact = np.log(1 + far / rho) / eta
    assert time < exact
    assert arrival(0.0) == approx(exact, abs=1e-11)
    errors = np.asarray([arrival(s) - exact for s in (4e-3, 2e-3, 1e-4, 1e-6)])
    assert np.log2(errors[0] / errors[1]) == approx(2, abs=0.05)
    assert np.log2(errors[1] / errors[2]) == approx(2 * np.log2(20), abs=0.05)
    assert abs(errors[3]) < 1e-10


def test_riemannian_sam_on_the_circle():
    """The two-cycle 2 theta = (eta a/2) sin(2 theta + 2 rho), where the flat one diverges."""
    rate, rho = 2.0, 0.1
    optimizer = RiemannianSAM(rate, rho, Sphere())
    start = jnp.asarray([np.cos(0.3), np.sin(0.3)])
    run = iterate(optimizer, circle, start, 4000, save_every=2000, measurements=())
    theta = abs(jnp.arctan2(run.params[-1][1], run.params[-1][0]))
    assert 2 * theta == approx(rate / 2 * jnp.sin(2 * theta + 2 * rho), rel=1e-11)


def test_fisher_sam_descends_a_scaled_gradient():
    """-eta (g + rho H F^-1 g/|g|_{F^-1}) to order rho^2; with F = H a multiple of the gradient."""
    h, metric, w = symmetric(3, 3) + 3 * jnp.eye(3), jnp.asarray([1.0, 2.0, 5.0]), normal(1, 3)

    def loss(w):
        return 0.5 * w @ h @ w + jnp.sum(jnp.cos(w))

    gradient = jax.grad(loss)(w)
    along = gradient / metric / jnp.sqrt(jnp.sum(gradient**2 / metric))
    slope = jax.jvp(jax.grad(loss), (w,), (along,))[1]

    def gap(rho):
        found = FisherSAM(0.1, rho, fisher=lambda w: metric).velocity(w, loss)
        return float(jnp.linalg.norm(found + gradient + rho * slope))

    assert np.log2(gap(2e-3) / gap(1e-3)) == approx(2, abs=0.02)
    # F = 1 is SAM; with the squares of the gradient the small ones are perturbed more.
    flat = FisherSAM(0.1, 0.2, strength=0.0).velocity(w, loss)
    expected = -jax.grad(loss)(w + 0.2 * gradient / jnp.linalg.norm(gradient))
    assert_trees_close(flat, expected, rtol=1e-13)
    assert not tree_allclose(FisherSAM(0.1, 0.2).velocity(w, loss), flat, rtol=1e-3)


def invariant(w: jax.Array) -> jax.Array:
    """A loss of the direction only."""
    u = w / jnp.linalg.norm(w)
    return 0.5 * u @ A @ u + jnp.sin(u[0])


def test_descent_on_a_scale_invariant_loss_is_descent_on_the_sphere():
    """That is u' = norm(u - (eta/q) grad L(u)), q' = q + eta^2 |grad L(u)|^2/q, to rounding."""
    eta, w = 0.3, jnp.asarray([1.0, -2.0, 0.5])
    plain = GradientDescent(eta)
    state, u, q = plain.init(w), w / jnp.linalg.norm(w), w @ w
    step = jax.jit(lambda s: plain.step(s, invariant))
    sphere = jax.jit(
        lambda u, rate: (
            RiemannianGradientDescent(rate, Sphere(), "normalisation")
            .step(RiemannianState(u), invariant)
            .params
        )
    )
    slope = jax.jit(lambda u: jnp.sum(jax.grad(invariant)(u) ** 2))
    for _ in range(50):
        square, rate = slope(u), eta / q
        state, u, q = step(state), sphere(u, rate), q + eta**2 * square / q
        norm = jnp.linalg.norm(state.params)
        assert_trees_close(state.params / norm, u, rtol=0, atol=1e-14)
        assert norm**2 == approx(q, rel=1e-14)


@pytest.mark.slow
def test_the_corrected_flow_grows_the_norm_as_descent_does():
    """Gradient flow conserves |w|^2; the corrected one has d|w|^2/dt = eta^2 |g|^2: order 2."""
    w = jnp.asarray([1.0, -2.0, 0.5])

    def rate(correction):
        return GradientFlow(GradientDescent(0.2), correction=correction)

    for correction, expected in ((False, 0.0), (True, 0.04)):
        flow = rate(correction)
        field = flow.vector_field(0.0, flow.init(invariant, w), invariant).params
        gradient = jax.grad(invariant)(w)
        assert 2 * w @ field == approx(expected * gradient @ gradient, abs=1e-15)

    @jax.jit
    def gap(count):
        optimizer = GradientDescent(2.0 / count)
        flow, h = GradientFlow(optimizer, correction=True), count / 200.0

        def field(w):
            return flow.vector_field(0.0, flow.init(invariant, w), invariant).params

        def one(_, w):
            k1 = field(w)
            k2 = field(w + h / 2 * k1)
            k3 = field(w + h / 2 * k2)
            return w + h / 6 * (k1 + 2 * k2 + 2 * k3 + field(w + h * k3))

        state = lax.fori_loop(
            0, count, lambda _, s: optimizer.step(s, invariant), optimizer.init(w)
        )
        return jnp.sum(lax.fori_loop(0, 200, one, w) ** 2) - jnp.sum(state.params**2)

    assert np.log2(gap(100) / gap(200)) == approx(2, abs=0.1)


@pytest.mark.slow
def test_weight_decay_and_noise_set_the_norm_of_scale_invariant_weights():
    """E |w|^4 = eta n/(2 c): the decay c against gradients of mean square n on the sphere.

    q = |w|^2 obeys q' = (1 - eta c)^2 q + eta^2 n_t/q exactly, so that with n_t = n it rests at
    q^2 = (eta n/(2 c))/(1 - eta c/2). For random n_t the corrections are of the relative order of
    eta c, here 0.1%, and the mean of the sample is as uncertain.
    """
    eta, decay, size = 0.1, 0.01, 11
    method = GradientDescent(eta, weight_decay=decay)

    def fourth_power(noise):
        """The mean of q^2 over the last two thirds of 3000 steps, from where it should be."""

        def one(state, key):
            def loss(w):
                return noise(key, w) @ w / jnp.linalg.norm(w)

            state = method.step(state, loss)
            return state, jnp.sum(state.params**2) ** 2

        def chain(key):
            start = method.init(
                jnp.ones(size) * (eta * (size - 1) / (2 * decay)) ** 0.25 / size**0.5
            )
            _, found = lax.scan(one, start, jax.random.split(key, 3000))
            return found[1000:]

        return jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(0), 60))

    def gaussian(key, w):
        return jax.random.normal(key, (size,))

    def of_one_length(key, w):
        u = lax.stop_gradient(w / jnp.linalg.norm(w))
        across = gaussian(key, w)
        across = across - (across @ u) * u
        return (size - 1) ** 0.5 * across / jnp.linalg.norm(across)

    expected = eta * (size - 1) / (2 * decay)
    found = fourth_power(gaussian)
    assert jnp.mean(found) == approx(expected, rel=3e-3)
    assert jnp.std(found) > 0.01 * expected
    found = fourth_power(of_one_length)
    rest = np.full(found[:, -1].shape, expected / (1 - eta * decay / 2))
    assert_trees_close(found[:, -1], rest, rtol=1e-6)


def test_fine_grained_descent_is_a_clip_of_each_group():
    """No step is longer than (sqrt(2) - 1) eta; the flow is dissipative by sum R^2/sqrt(max)."""
    rows = Oblique()
    optimizer = FineGrainedSGD(0.3, rows)
    point = rows.nearest(normal(0, 3, 4))
    weights = jnp.asarray([[0.05], [2**0.5 - 1], [4.0]])
    directions = rows.tangent(point, normal(1, 3, 4))
    directions = weights * directions / jnp.linalg.norm(directions, axis=1, keepdims=True)

    def loss(w):
        return jnp.sum(directions * w)

    velocity = optimizer.velocity(point, loss)
    sizes = jnp.linalg.norm(velocity, axis=1)
    r = weights[:, 0]
    expected = r / jnp.sqrt(jnp.maximum(1, r**2 * (2 + r) ** 2))
    assert_trees_close(sizes, expected, rtol=1e-13)
    assert sizes.max() == approx(2**0.5 - 1, rel=1e-13)
    assert jnp.argmax(sizes) == 1
    fall = jnp.sum(jax.grad(loss)(point) * velocity)
    assert fall == approx(-jnp.sum(r * expected), rel=1e-12)
    # At a minimum it is descent on the product: the same edge, and a derivative without nan.
    flat = FineGrainedSGD(0.3, Sphere())

    def bowl(w):
        return 2.0 * w[1] ** 2

    top = jnp.asarray([1.0, 0.0])
    slope = jax.jvp(lambda w: flat.velocity(w, bowl), (top,), (jnp.asarray([0.0, 1.0]),))[1]
    assert_trees_close(slope, jnp.asarray([0.0, -4.0]), rtol=1e-13, atol=1e-13)
    # The second stage of the normalisation is a constant of the loss.
    assert Rescaled(loss, 0.5)(point) == approx(0.5 * loss(point))


@pytest.mark.slow
@pytest.mark.parametrize("retraction", [None, "qr"])
def test_a_thousand_steps_stay_on_the_manifold(retraction):
    """Constraints to 1e-14, far beyond the edge too, where nothing settles."""
    optimizer = RiemannianGradientDescent(1.0, KNOWN, retraction)
    measured = ConstraintDrift(KNOWN)
    run = iterate(optimizer, known, KNOWN_START, 1000, save_every=125, measurements=measured)
    assert run.observables["constraint_drift"].max() < 1e-14
    assert jnp.linalg.norm(run.params["w"][-1] - run.params["w"][-2]) > 0.01


@pytest.mark.slow
def test_single_precision_runs_in_single_precision():
    """No leaf of a run in float32 is of another precision, and it stays on the manifold."""
    start = jax.tree.map(lambda x: x.astype(jnp.float32), MIXED_START)

    def loss(p):
        return mixed(jax.tree.map(lambda x: x.astype(jnp.float64), p)).astype(jnp.float32)

    optimizer = RiemannianSAM(jnp.asarray(0.05), 0.05, MIXED)
    measured = (ConstraintDrift(MIXED), RiemannianCurvature(MIXED))
    run = iterate(optimizer, loss, start, 20, save_every=10, measurements=measured)
    assert {x.dtype for x in jax.tree.leaves((run.params, run.observables))} == {
        jnp.dtype("float32")
    }
    assert run.observables["constraint_drift"].max() < 1e-6


def test_vmap_and_grad_go_through_descent():
    """A batch of learning rates is the single runs; the derivative is that of the formula."""
    start = jnp.asarray([0.6, 0.8])

    def end(rate):
        optimizer = RiemannianSAM(rate, 0.1, Sphere())
        return iterate(optimizer, circle, start, 1, measurements=()).params[-1, 1]

    def exact(rate):
        theta = jnp.arctan2(start[1], start[0])
        return jnp.sin(theta - rate / 2 * jnp.sin(2 * (theta + 0.1)))

    rates = jnp.asarray([0.1, 0.2])
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(end)))(rates)
    assert_trees_close(values, exact(rates), rtol=1e-14)
    assert_trees_close(slopes, jax.vmap(jax.grad(exact))(rates), rtol=1e-13)


@pytest.mark.slow
def test_vmap_and_grad_go_through_a_run():
    """The derivative by the learning rate of where a flow ends, beside the exact one."""
    start = jnp.asarray([0.6, 0.8])

    def end(rate):
        flow = RiemannianFlow(RiemannianGradientDescent(rate, Sphere()))
        steps = {"solver": diffrax.Heun(), "dt0": 0.1}
        run = simulate(flow, circle, start, 4, save_every=4, measurements=(), **steps)
        return run.params[-1, 1]

    rates = jnp.asarray([0.1, 0.2])
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(end)))(rates)

    def ratio(rate):
        return 0.8 / 0.6 * jnp.exp(-4 * rate)

    def exact(rate):
        return ratio(rate) / jnp.sqrt(1 + ratio(rate) ** 2)

    assert_trees_close(values, exact(rates), rtol=1e-5)
    assert_trees_close(slopes, jax.vmap(jax.grad(exact))(rates), rtol=1e-3)


@pytest.mark.slow
def test_a_learning_rate_may_be_a_schedule():
    """Warmup: the flow's angle has the integral of eta in it, and the optimizer counts."""

    def warmup(t):
        return 0.02 * t

    optimizer = RiemannianGradientDescent(warmup, Sphere())
    start = jnp.asarray([0.6, 0.8])
    run = simulate(RiemannianFlow(optimizer), circle, start, 10, measurements=())
    ratio = 0.8 / 0.6 * jnp.exp(-0.01 * run.steps.astype(float) ** 2)
    assert_trees_close(run.params[:, 1] / run.params[:, 0], ratio, rtol=1e-7)
    discrete = iterate(optimizer, circle, start, 2)
    assert_trees_close(discrete.params[1], start, rtol=1e-15)
    assert int(discrete.state.optimizer.count) == 3


def test_a_start_off_the_manifold_is_projected_with_a_warning():
    """In a run of the optimizer and of the flow; one on it, up to rounding, passes silently."""
    optimizer = RiemannianGradientDescent(0.1, Sphere())
    for run in (iterate, simulate):
        runner = optimizer if run is iterate else RiemannianFlow(optimizer)
        with pytest.warns(UserWarning, match="params does not lie on Sphere.*misses by 1") as said:
            trajectory = run(runner, circle, jnp.asarray([1.2, 1.6]), 1)
        assert_trees_close(trajectory.params[0], jnp.asarray([0.6, 0.8]), rtol=1e-14)
        assert said[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run(runner, circle, jnp.asarray([0.6, 0.8]), 1)


@pytest.mark.parametrize(
    ("manifold", "params", "message"),
    [
        (Sphere(), jnp.zeros(3), "params must have one nearest point on Sphere.*zero vectors"),
        (Stiefel(), jnp.ones((3, 2)), "params must have one nearest point on Stiefel"),
        (Hyperboloid(), jnp.asarray([-2.0, 1.0]), "params must have one nearest point on Hyper"),
        (Oblique(), jnp.eye(2).at[0].set(0.0), "params must have one nearest point on Oblique"),
        (Stiefel(), jnp.ones((2, 3)), r"params must have at most as many columns.*\(2, 3\)"),
        (Stiefel("rows"), jnp.ones((3, 2)), "3 rows of 2 entries"),
        (Stiefel(), jnp.ones(3), r"params must be a matrix to have orthonormal columns.*\(3,\)"),
        (Oblique("kernels"), jnp.ones((2, 2)), "params must have at least 3 axes"),
        (Sphere(), jnp.ones(1), "params must have at least two entries"),
        (Hyperboloid(), jnp.ones(()), "params must have at least two entries along its last"),
        (Product({"w": Sphere()}), {"v": jnp.ones(2)}, "'w' fits none of 'v'"),
        (Product({"v": Stiefel()}), {"v": jnp.ones(2)}, "params 'v' must be a matrix"),
        (Product(lambda path, leaf: 3), {"v": jnp.ones(2)}, "got 3 for the leaf 'v'"),
    ],
)
def test_starts_that_no_manifold_holds_are_refused(manifold, params, message):
    """The leaf, what is allowed, and what was given; also by the flow."""
    optimizer = RiemannianGradientDescent(0.1, manifold)

    def loss(p):
        return sum(jnp.sum(x) for x in jax.tree.leaves(p))

    with pytest.raises(ValueError, match=message):
        iterate(optimizer, loss, params, 1)
    with pytest.raises(ValueError, match=message):
        simulate(RiemannianFlow(optimizer), loss, params, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RiemannianSAM(0.1, -0.1, Sphere()), "radius must be a finite number, at least 0"),
        (lambda: FisherSAM(0.1, -0.1), "radius must be a finite number, at least 0"),
        (lambda: FisherSAM(0.1, 0.1, fisher=3), 'fisher must be "gradient", or a function'),
        (lambda: FineGrainedSGD(0.1, Sphere(), distance=0), "distance must be a finite number abo"),
        (lambda: RiemannianGradientDescent(0.1, "ball"), "manifold must be a manifold such as"),
        (
            lambda: RiemannianGradientDescent(0.1, Sphere(), "qr"),
            'manifold, "exponential" or "norm',
        ),
        (
            lambda: RiemannianGradientDescent(0.1, Sphere(), "cayley"),
            "retraction must be one of Non",
        ),
        (
            lambda: RiemannianSAM(0.1, 0.1, Sphere(), transport="pole"),
            'transport must be one of "p',
        ),
        (lambda: Oblique("channels"), 'channels must be "rows", "columns" or "kernels"'),
        (lambda: Stiefel("both"), 'orthonormal must be "columns" or "rows"'),
        (lambda: Product({}), "parts must be a dictionary from patterns"),
        (lambda: Product({"w": 3}), "parts must have strings for keys and manifolds"),
        (lambda: RiemannianFlow(GradientDescent(0.1)), "optimizer must be RiemannianGradientDesc"),
        (
            lambda: CentralFlow(RiemannianGradientDescent(0.1, Sphere())),
            "on a manifold",
        ),
    ],
)
def test_wrong_arguments_are_refused_with_a_sentence(make, message):
    """The argument, what is allowed, and what was given."""
    with as_users_run(), pytest.raises(ValueError, match=message):
        make()


def test_flows_and_methods_of_flat_space_refuse_a_manifold():
    """They would perturb, or look for a derivative, off it."""
    method, start = RiemannianGradientDescent(0.1, Sphere()), jnp.asarray([0.6, 0.0, 0.8])
    with pytest.raises(ValueError, match="on a manifold sharpness-aware descent is RiemannianSAM"):
        flows.SAM(method, 0.1)
    for flow in (flows.GradientFlow(method), flows.RodFlow(method, 1)):
        with pytest.raises(ValueError, match="where its flow is RiemannianFlow"):
            simulate(flow, lambda w: w @ w, start, 2)


@pytest.mark.parametrize("name", ["sphere", "rows", "stiefel", "hyperboloid", "flat"])
def test_at_a_maximum_all_riemannian_eigenvalues_are_negative(name):
    """-d^2/2 has the Hessian -1; the directions across the manifold do not count as 0."""
    manifold, point, _, _ = place(name)
    # On the Stiefel manifold the chord takes the place of d: to second order it is the same.
    dimension = {"sphere": 3, "rows": 4, "stiefel": 5, "hyperboloid": 2, "flat": 3}[name]
    curvature = RiemannianCurvature(manifold, point.size)

    def loss(w):
        return -0.5 * manifold.squared_distance(w, point)

    values, _, _ = curvature.measure(loss, point, curvature.init(loss, point), jnp.asarray(0))
    assert values["riemannian_sharpness"] == approx(-1, rel=1e-11)
    found = values["riemannian_eigenvalues"]
    assert_trees_close(found[:dimension], -jnp.ones(dimension), rtol=1e-11)
    assert jnp.all(jnp.isnan(found[dimension:]))


@pytest.mark.slow
def test_at_a_maximum_of_many_parameters_too():
    """Without the Hessian: the iteration stays in the tangent space. Float32 is coarser."""
    for dtype, tolerance in ((float, 1e-6), (jnp.float32, 1e-4)):
        spectrum = jnp.linspace(1.0, 2.0, 600).at[-1].set(3.0).astype(dtype)
        top = jnp.zeros(600, dtype).at[-1].set(1.0)
        curvature = RiemannianCurvature(Sphere(), 2)

        def loss(w, spectrum=spectrum):
            return 0.5 * jnp.sum(spectrum * w**2)

        values, modes, _ = curvature.measure(loss, top, curvature.init(loss, top), jnp.asarray(0))
        found = values["riemannian_eigenvalues"]
        # The tolerance of the residual bounds the error.
        assert_trees_close(found, (spectrum - 3.0)[598:596:-1], rtol=0, atol=2e-3)
        assert jnp.max(jnp.abs(modes[:, -1])) < tolerance
