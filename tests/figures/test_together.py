"""Several runs in one figure."""

import numpy as np
import pytest

import figures
from tests.figures.trees import held_out, trajectory, tree


def run(rate, first=0):
    """A run of a rate, with a flow."""
    step = np.arange(first, first + 5)
    of_it = {"first_step": first} if first else {}
    return tree(
        {"title": "two rates", "critical_sharpness": 2 / rate, "learning_rate": rate},
        discrete=trajectory(step, {"kind": "optimizer", **of_it}, sharpness=step + 1.0),
        rod=trajectory(
            step,
            {"kind": "flow", "flow_kind": "rod", "label": "rod", **of_it},
            sharpness=step + 2.0,
            distance=np.full(5, rate),
        ),
    )


def test_each_run_has_a_colour_and_its_own_threshold():
    """Trajectories of one name have one style; equal thresholds are drawn once."""
    drawn = figures.draw("sharpness", figures.several({"a": run(0.1), "b": run(0.2)}))
    (axes,) = drawn.axes
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    names = ["discrete optimizer, a", "rod flow, a", "discrete optimizer, b", "rod flow, b"]
    colors = [lines[name].get_color() for name in names]
    assert colors[0] == colors[1] != colors[2] == colors[3]
    assert lines[names[1]].get_linestyle() == lines[names[3]].get_linestyle()
    critical = [line for line in axes.get_lines() if line.get_gid() == "critical"]
    assert [line.get_ydata()[0] for line in critical] == [20.0, 10.0]
    assert [line.get_color() for line in critical] == colors[::2]
    alike = figures.draw("sharpness", figures.several({"a": run(0.1), "b": run(0.1)}))
    assert [text.get_text() for text in alike.axes[0].texts] == ["2/η"]


def test_a_branch_is_marked_where_it_begins():
    """Once, with the run's name."""
    both = figures.several({"a": run(0.1), "b": run(0.2, first=2)})
    texts = [text.get_text() for text in figures.draw("distance", both).axes[0].texts]
    assert texts == ["start of b"]


def test_figures_of_one_run_draw_no_two():
    """Whatever tells that a figure can is what it needs."""
    from figures.together import check_draws_several

    with pytest.raises(ValueError, match=r"'central' draws one run; several are drawn by distance"):
        check_draws_several("central")
    check_draws_several("test")
    figures.draw("test", figures.several({"a": held_out(), "b": held_out()}))
    with pytest.raises(ValueError, match="s is a sweep"):
        figures.several({"s": tree({"kind": "sweep"})})
