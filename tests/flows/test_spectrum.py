"""The Hessian's spectrum: exact where it is known, and an estimate with an honest error beyond."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flows import GradientDescent, SpectralDensity, hessian_spectrum, iterate, measure
from flows.curvature.spectrum import find_spectrum, lanczos
from tests.helpers import as_users_run

SCALES = jnp.asarray([-1.0, 0.0, 2.0, 2.0, 5.0])
# A basis in which the Hessian is full; its signs and those of a probe have nothing in common.
BASIS = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (5, 5)))[0]
FULL = BASIS @ jnp.diag(SCALES) @ BASIS.T


def diagonal(w):
    """A quadratic with eigenvalues `SCALES`."""
    return 0.5 * jnp.sum(SCALES.astype(w.dtype) * w**2)


def full(w):
    """The same in another basis."""
    return 0.5 * w @ (FULL.astype(w.dtype) @ w)


@pytest.mark.parametrize(("loss", "dense_limit"), [(full, 512), (diagonal, 0)])
def test_moments_are_exact(loss, dense_limit):
    """From the matrix always, and from signs without it if it is diagonal: v_i^2 = 1."""
    found = hessian_spectrum(loss, jnp.zeros(5), probes=3, dense_limit=dense_limit)
    for power in range(1, 6):
        moment = jnp.mean(jnp.sum(found.weights * found.nodes**power, axis=1))
        assert moment == pytest.approx(float(jnp.mean(SCALES**power)), abs=1e-11)
    assert found.trace == pytest.approx(8.0, abs=1e-13)
    assert found.trace_error == pytest.approx(0.0, abs=1e-13)
    assert [float(x) for x in found.range] == pytest.approx([-1.0, 5.0], abs=1e-12)


def test_lanczos_ends_where_the_krylov_space_does():
    """Four distinct eigenvalues make four nodes, and what lies beyond is zero and decoupled.

    An implementation that goes on divides rounding errors by their own size.
    """
    start = jnp.ones(5) / jnp.sqrt(5.0)
    found = lanczos(lambda v: SCALES * v, start, 5)
    matrix = jnp.diag(found.diagonal) + jnp.diag(found.couplings, 1) + jnp.diag(found.couplings, -1)
    assert jnp.linalg.eigvalsh(matrix[:4, :4]) == pytest.approx(
        np.array([-1.0, 0, 2, 5]), abs=1e-12
    )
    assert not jnp.any(matrix[4])
    assert found.couplings[3] == 0


def test_lanczos_keeps_its_accuracy_over_many_steps():
    """Each of 60 eigenvalues is found once, to 1e-10, over four decades."""
    exact = jnp.logspace(-2.0, 2.0, 60)
    found = lanczos(lambda v: exact * v, jnp.full(60, 60**-0.5), 60)
    matrix = jnp.diag(found.diagonal) + jnp.diag(found.couplings, 1) + jnp.diag(found.couplings, -1)
    assert jnp.linalg.eigvalsh(matrix) == pytest.approx(np.asarray(exact), abs=1e-10)


def test_the_trace_and_its_error_are_hutchinsons():
    """Over many probes: |estimate - trace| is some standard errors; they fall as 1/sqrt(n)."""
    found = [
        find_spectrum(full, jnp.zeros(5), probes=n, depth=1, seed=4, dense_limit=0)
        for n in (100, 1600)
    ]
    for one in found:
        assert abs(one.trace - 8.0) < 4 * one.trace_error
    # Var(v^T H v) = 2 sum_(i != j) H_ij^2 for signs.
    spread = jnp.sqrt(2 * (jnp.sum(FULL**2) - jnp.sum(jnp.diag(FULL) ** 2)))
    assert found[1].trace_error == pytest.approx(float(spread) / 40, rel=0.1)
    one = find_spectrum(full, jnp.zeros(5), probes=1, depth=1, seed=4, dense_limit=0)
    assert jnp.isnan(one.trace_error)


def test_the_density_integrates_to_the_moments():
    """Its integral is 1, its mean that of the eigenvalues, its variance larger by width^2."""
    values, _ = measure(SpectralDensity(points=400), full, jnp.zeros((1, 5)))
    density, at = values["spectral_density"][0], values["spectral_eigenvalue"][0]
    assert jnp.trapezoid(density, at) == pytest.approx(1.0, abs=1e-4)
    assert jnp.trapezoid(density * at, at) == pytest.approx(1.6, abs=1e-3)
    second = float(jnp.mean(SCALES**2)) + (0.01 * 6) ** 2
    assert jnp.trapezoid(density * at**2, at) == pytest.approx(second, abs=2e-3)
    # Two of five eigenvalues are 2.
    near = jnp.abs(at - 2.0) < 0.5
    assert jnp.trapezoid(jnp.where(near, density, 0), at) == pytest.approx(0.4, abs=1e-3)


@pytest.mark.usefixtures("float32")
def test_in_a_run_it_is_measured_when_due_in_the_precision_of_the_run():
    """Every second save; the density of equal eigenvalues has a width too."""

    def bowl(w):
        return 0.5 * jnp.sum(w**2)

    spectrum = SpectralDensity(points=20, every=2)
    run = iterate(GradientDescent(0.1), bowl, jnp.ones(2), 2, measurements=spectrum)
    assert run.observables["hessian_trace"].tolist()[::2] == [2.0, 2.0]
    assert np.isnan(run.observables["hessian_trace"][1])
    assert {x.dtype for x in run.observables.values()} == {jnp.dtype("float32")}
    assert run.observables["spectral_density"][0].max() > 10


def test_bad_arguments_are_refused():
    """What was given, and what is allowed."""
    with pytest.raises(ValueError, match="points must be an integer of at least 2; got 1"):
        SpectralDensity(points=1)
    with as_users_run(), pytest.raises(ValueError, match=r"probes must be .*got 0"):
        hessian_spectrum(diagonal, jnp.zeros(5), probes=0)
