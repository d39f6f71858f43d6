"""The figures of the Hessian's spectrum and of its eigenvectors."""

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

import figures
from tests.figures.spectrum_trees import SPECTRA, STEPS, TOPS
from tests.figures.trees import valley


def mesh_of(axes) -> QuadMesh:
    """The map of a panel."""
    (mesh,) = [one for one in axes.collections if isinstance(one, QuadMesh)]
    return mesh


def test_the_density_of_each_trajectory_is_a_map_with_the_threshold_over_it():
    """Saves without a measurement are left out; the top of each column lies where it was put."""
    upper, lower, below = figures.draw("spectral_density", SPECTRA["spectral_density"]).axes[:3]
    assert [axes.get_title(loc="left") for axes in (upper, lower)] == [
        "discrete optimizer",
        "gradient flow",
    ]
    for axes in (upper, lower):
        values = np.asarray(mesh_of(axes).get_array())
        assert values.shape[1] == 4
        corners = np.asarray(mesh_of(axes).get_coordinates())
        middles = (corners[:-1, 0, 1] + corners[1:, 0, 1]) / 2
        high = middles > 2
        tops = middles[high][np.argmax(values[high], axis=0)]
        assert tops == pytest.approx(TOPS[[0, 2, 3, 4]], abs=0.2)
        lines = {line.get_gid(): line for line in axes.get_lines()}
        assert np.asarray(lines["critical"].get_ydata())[0] == 10.0
        assert axes.get_ylim()[1] >= 10.0
    low, high = below.get_ylim()
    assert low <= (TOPS[0] + 2) - 0.1 * TOPS[0]
    assert high >= (TOPS[3] + 2) + 0.1 * TOPS[3]


def test_overlaps_are_maps_of_each_mode_with_every_earlier_one():
    """On the left those with the save before, none at the first; on the right with the first."""
    drawn = figures.draw("eigenvector_overlaps", SPECTRA["eigenvector_overlaps"])
    panels = {axes.get_title(loc="left"): axes for axes in drawn.axes}
    before = np.asarray(mesh_of(panels["vᵢ along uⱼ of the save before"]).get_array())
    first = np.asarray(mesh_of(panels["vᵢ along uⱼ of the first save"]).get_array())
    assert before == pytest.approx(np.array([[1, 0, 1, 0.866], [0, 1, 0, 0.5]]))
    assert first[:, 0] == pytest.approx([1, 0])
    assert first[:, 2] == pytest.approx([0, 1])
    spans = {line.get_gid(): line for axes in drawn.axes for line in axes.get_lines()}
    assert np.asarray(spans["discrete/subspace_overlap"].get_xdata()).tolist() == STEPS[1:].tolist()


def test_gauss_newton_eigenvalues_are_drawn_with_the_sharpness_of_their_trajectory():
    """In its colour; not the sharpness of a trajectory that has no other matrix."""
    (axes,) = figures.draw("gauss_newton", SPECTRA["gauss_newton"]).axes
    lines = {line.get_gid(): line for line in axes.get_lines()}
    labels = [line.get_label() for line in axes.get_lines()]
    assert "gradient flow, Gauss-Newton" in labels
    assert "discrete optimizer, Hessian" in labels
    for group in ("discrete", "gradient"):
        one, whole = (lines[f"{group}/{n}"] for n in ("gauss_newton_sharpness", "sharpness"))
        assert np.asarray(one.get_ydata()).tolist() == (TOPS - 1)[[0, 2, 3, 4]].tolist()
        assert np.asarray(whole.get_ydata()).tolist() == TOPS.tolist()
        assert one.get_color() == whole.get_color()
        assert one.get_linestyle() != whole.get_linestyle()
    further = lines["discrete/gauss_newton_eigenvalues/1"]
    assert np.asarray(further.get_ydata()).tolist() == (TOPS / 2)[[0, 2, 3, 4]].tolist()
    assert "without/sharpness" not in lines
    assert np.asarray(lines["critical"].get_ydata())[0] == 10.0
    assert axes.get_ylim()[1] >= 10.0


def test_the_sharpness_of_each_group_of_parameters_has_its_name():
    """A number where there are no names; all panels have one scale, and the sharpness of all."""
    upper, lower = figures.draw("group_sharpness", SPECTRA["group_sharpness"]).axes
    for axes, group in ((upper, "discrete"), (lower, "gradient")):
        lines = {line.get_gid(): line for line in axes.get_lines()}
        for place, share in enumerate((2, 4, 100)):
            drawn = np.asarray(lines[f"{group}/group_sharpness/{place}"].get_ydata())
            assert drawn == pytest.approx(TOPS / share)
        assert np.asarray(lines[f"{group}/sharpness"].get_ydata()).tolist() == TOPS.tolist()
        assert axes.get_yscale() == "log"
        assert axes.get_ylim()[0] < TOPS[0] / 100
        assert axes.get_ylim()[1] > 10.0
    named = ["layers.0.weight", "layers.0.bias", "layers.1.*", "all parameters"]
    assert upper.get_legend_handles_labels()[1] == named
    numbered = ["group 1", "group 2", "group 3", "all parameters"]
    assert lower.get_legend_handles_labels()[1] == numbered
    assert upper.get_ylim() == lower.get_ylim()


@pytest.mark.parametrize("name", SPECTRA)
def test_what_was_not_measured_is_asked_for(name):
    """By the table that measures it."""
    with pytest.raises(
        ValueError, match=rf"needs a table \[\[measurements\]\] of kind '{name[:8]}"
    ):
        figures.draw(name, valley(steps=10))
