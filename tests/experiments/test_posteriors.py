"""What the posteriors ask of the mechanics, against a linear model in closed form."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import flows
from experiments.uncertainty.posteriors import Posteriors
from potentials import MLP, SupervisedPotential, mse

KEY = jax.random.key(0)
GRAVITY, FRICTION, TOLERANCE, NOISE = 3.0, 2.0, 1e-4, 0.5


def linear() -> tuple[SupervisedPotential, Any]:
    """A weight of an input that is 0 and a bias, with two targets: the weight is free."""
    targets = jnp.array([[0.2], [0.2]])
    potential = SupervisedPotential(MLP((1, 1), key=KEY), jnp.zeros((2, 1)), targets, mse)
    _, unravel = ravel_pytree(potential.params)
    (trained,) = (
        params
        for params in (unravel(jnp.array(flat)) for flat in ([1.0, 0.2], [0.2, 1.0]))
        if float(potential(params)) == 0
    )
    return potential, trained


def posteriors(potential: SupervisedPotential, trained: Any) -> Posteriors:
    """Around weights whose loss is 0."""
    return Posteriors(
        potential,
        trained,
        KEY,
        samples=16,
        members=1,
        noise=NOISE,
        gravity=GRAVITY,
        friction=FRICTION,
        tolerance=TOLERANCE,
    )


@pytest.mark.slow
def test_a_particle_goes_as_far_as_its_scale_and_stops_at_the_energy_of_the_tolerance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Along the free weight v / friction = scale z, less what is left of the speed at the end."""
    potential, trained = linear()
    thrown = []
    original = flows.sample_minima

    def sample(*arguments: Any, **options: Any) -> Any:
        thrown.append(original(*arguments, **options))
        return thrown[-1]

    monkeypatch.setattr(flows, "sample_minima", sample)
    scale = 0.7
    fit = posteriors(potential, trained).fit("dims", scale)
    energy = np.asarray(thrown[0].energy)
    # The energy at which a loss of the tolerance is the whole of it, found to 1e-6.
    assert energy == pytest.approx(GRAVITY * TOLERANCE, rel=1e-5)
    # Of an input 1: the free weight and the bias, less those of the start.
    at_one, at_zero = (np.asarray(fit.predict(jnp.array([[x]])))[:, 0, 0] for x in (1.0, 0.0))
    way = at_one - at_zero - 1.0
    normal = flows.random_velocities(trained, jax.random.fold_in(KEY, 1), 16, 1.0)
    index = int(np.argmax(np.asarray(ravel_pytree(trained)[0]) == 1.0))
    expected = scale * np.asarray(jax.vmap(lambda v: ravel_pytree(v)[0][index])(normal))
    assert np.abs(expected).max() > scale
    # The speed that is left is at most that of the energy.
    left = np.sqrt(2 * GRAVITY * TOLERANCE) / FRICTION
    assert np.abs(way - expected).max() <= left * (1 + 1e-4)


@pytest.mark.slow
def test_riemannian_samples_follow_geodesics_of_the_negative_log_posterior(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its likelihood, sum of (y - f)^2 / (2 noise^2), and its prior, |w|^2 / (2 scale^2)."""
    potential, trained = linear()
    asked = []

    def exponential_map(graph: Any, params: Any, velocities: Any) -> Any:
        asked.append((graph, params))
        ends = jax.tree.map(lambda w, v: w[None] + v, params, velocities)
        return ends, jnp.ones(16, bool)

    monkeypatch.setattr(flows, "exponential_map", exponential_map)
    methods = posteriors(potential, trained)
    monkeypatch.setattr(
        methods, "_draw", lambda scale: jax.tree.map(lambda w: jnp.stack([w + 1] * 16), trained)
    )
    fit = methods.fit("riemannian_laplace", 0.5)
    ((graph, start),) = asked
    assert start is trained
    other = jax.tree.map(lambda w: w + 0.3, trained)
    squares = float(jnp.sum(ravel_pytree(other)[0] ** 2))
    # Two examples with the residual 0.3.
    expected = 2 * 0.3**2 / (2 * NOISE**2) + squares / (2 * 0.5**2)
    assert float(graph(other)) == pytest.approx(expected)
    # The velocities are what Laplace's samples are away from the trained weights.
    assert np.asarray(fit.predict(jnp.zeros((1, 1)))) == pytest.approx(1.2)
