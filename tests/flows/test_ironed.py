"""The ironed landscape against brute force, scipy and the numbers of THEORY 5."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from flows import ironed
from potentials import WeierstrassSine


def waves(p):
    """A line with waves of several lengths."""
    return jnp.sin(7.0 * p[0]) / 3 + jnp.cos(31.0 * p[0]) / 20


def hills(p):
    """A plane with hills."""
    return jnp.sin(3.0 * p[0]) * jnp.cos(4.0 * p[1]) + 0.2 * p[0]


def test_the_envelope_of_a_line_is_the_dilation_formula():
    """Divide and conquer against every pair of points, heights and contacts."""
    found = ironed(waves, 0.2, lower=0.0, upper=1.0, points=101)
    x = found.coordinates[0]
    q = 0.01 * np.arange(-20, 121)
    offset = 0.2**2 - (q[None, :] - x[:, None]) ** 2
    line = np.asarray([float(waves(jnp.asarray([t]))) for t in q])
    caps = np.where(offset > -1e-12, line + np.sqrt(np.maximum(offset, 0)), -np.inf)
    assert np.abs(found.height - caps.max(axis=1)).max() < 1e-12
    assert np.abs(found.contact[:, 0] - q[caps.argmax(axis=1)]).max() < 1e-12


def test_the_ironed_plane_is_the_grey_dilation():
    """With a ball as structuring element, as scipy has it; another height scale is other units."""
    radius, step, scale = 0.25, 0.05, 1.5
    found = ironed(hills, radius, lower=[-1, -1], upper=[1, 1], points=41, height_scale=scale)
    line = step * np.arange(-25, 26)
    x, y = np.meshgrid(line, line, indexing="ij")
    heights = scale * (np.sin(3 * x) * np.cos(4 * y) + 0.2 * x)
    u, v = np.meshgrid(step * np.arange(-5, 6), step * np.arange(-5, 6), indexing="ij")
    squared = radius**2 - u**2 - v**2
    ball = squared > -1e-12
    expected = scipy.ndimage.grey_dilation(
        heights, footprint=ball, structure=np.sqrt(np.maximum(squared, 0))
    )[5:-5, 5:-5]
    assert np.abs(scale * found.height - expected).max() < 1e-12


@pytest.mark.parametrize(("radius", "count"), [(0.0, 1562), (0.01, 69), (0.1, 9), (0.3, 3)])
def test_the_sum_of_sines_keeps_as_many_minima_as_the_theory_says(radius, count):
    """Interior minima on [0, 2.1]; with a ball all of them are creases."""
    # A spacing of 1e-5, a sixtieth of the finest wave, resolves these; 0.003 needs twice that.
    found = ironed(WeierstrassSine(100), radius, lower=0.0, upper=2.1, points=210_001)
    assert len(found.points) == count
    places = np.flatnonzero(found.minima)
    if radius:
        assert (found.creases[places] | found.creases[places - 1]).all()


@pytest.mark.parametrize(
    ("radius", "lowest", "ripple"),
    [(0.1, -0.045095, 0.1451), (0.5, 0.067044, 0.0330), (2.0, 0.091518, 0.0085)],
)
def test_a_tilted_ripple_is_ironed_between_its_bounds(radius, lowest, ripple):
    """The offset y_c - (a x + rho sqrt(1 + a^2)) is within phi = 0.1 sin 20 t, for a = 0.5."""

    def tilted(p):
        return 0.5 * p[0] + 0.1 * jnp.sin(20.0 * p[0])

    found = ironed(tilted, radius, lower=0.0, upper=2.0, points=20_001)
    offset = found.height - (0.5 * found.coordinates[0] + radius * np.sqrt(1.25))
    assert offset.min() > -0.1
    assert offset.max() < 0.1 + 1e-9
    # A kink's slope of up to 2.5 times the spacing of 1e-4 is what a grid misses of a minimum.
    assert offset.min() == pytest.approx(lowest, abs=2.5e-4)
    assert np.ptp(offset) == pytest.approx(ripple, abs=2.5e-4)


def test_without_a_radius_nothing_is_ironed():
    """And level stretches are one minimum, if they are any."""
    found = ironed(waves, 0.0, lower=0.0, upper=1.0, points=50)
    assert np.array_equal(found.height, found.landscape)
    assert not found.creases.any()
    flat = ironed(lambda p: jnp.abs(jnp.abs(p[0]) - 0.5) * 0 + 1.0, 0.0, lower=0.0, upper=1.0)
    assert not flat.minima.any()


def test_a_level_stretch_of_a_plane_is_one_minimum():
    """If it rises on all sides: a disc, and a disc that a channel drains."""

    def disc(p):
        return jnp.maximum(p[0] ** 2 + p[1] ** 2 - 0.25, 0.0)

    def drained(p):
        return jnp.where((jnp.abs(p[1]) < 0.1) & (p[0] > 0), -p[0], disc(p))

    for potential, count in ((disc, 1), (drained, 0)):
        found = ironed(potential, 0.0, lower=[-1, -1], upper=[1, 1], points=41)
        assert len(found.points) == count


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": -1.0}, "radius must be a finite number, at least 0; got -1.0"),
        ({"upper": 0.0}, "lower must be finite and below upper; got 0.0 and 0.0"),
        ({"lower": [0, 0, 0], "upper": [1, 1, 1]}, "lower and upper must be one number each, or"),
        ({"points": 2}, "points must be at least 3 along each axis; got 2"),
        ({"points": 10_000_000, "radius": 2.0}, "points must make a grid of at most 20000000"),
        ({"height_scale": -1.0}, "height_scale must be a finite number above 0"),
        ({"lower": -1.0, "potential": lambda p: 1 / p[0]}, "in which the potential is finite"),
    ],
)
def test_wrong_arguments(arguments, message):
    """Each is named, with what was given."""
    given = {"potential": waves, "radius": 0.1, "lower": 0.0, "upper": 1.0, **arguments}
    with pytest.raises(ValueError, match=message):
        ironed(given.pop("potential"), given.pop("radius"), **{"points": 11, **given})
