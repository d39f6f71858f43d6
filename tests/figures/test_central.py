"""The figures of Central Flow: predictions and measurements where the tree says they are."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import figures
from tests.figures.trees import central, scaling, trajectory, tree
from tests.helpers import assert_trees_close

TREE = central()


def lines_of(axes) -> dict[str, Line2D]:
    """A panel's lines by gid."""
    return {str(line.get_gid()): line for line in axes.get_lines()}


def entries(figure: Figure) -> list[str]:
    """What the legend says."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_loss_panel_sets_the_predicted_average_beside_the_measured_one():
    """A central flow is drawn by its prediction, gradient flow by its loss."""
    drawn = lines_of(figures.draw("central", TREE).axes[0])
    assert set(drawn) == {
        "discrete/loss/0",
        "discrete/loss/0/average",
        "discrete/midpoint_loss/0",
        "central/predicted_loss",
        "gradient/loss",
    }
    predicted = TREE["central"].dataset["predicted_loss"].values
    assert_trees_close(np.asarray(drawn["central/predicted_loss"].get_ydata()), predicted)


def test_averages_are_over_a_tenth_of_the_run_and_the_legend_says_so():
    """Of 200 steps: 20, that is 21 points; none where the window would leave the run."""
    figure = figures.draw("central", TREE)
    line = lines_of(figure.axes[0])["discrete/loss/0/average"]
    loss = TREE["discrete"].dataset["loss"].values
    means = [loss[step - 10 : step + 11].mean() for step in range(10, 191)]
    assert_trees_close(np.asarray(line.get_xdata()), np.arange(10, 191))
    assert_trees_close(np.asarray(line.get_ydata()), np.array(means))
    assert "its moving average, 20 steps" in entries(figure)


def test_averages_count_steps_and_not_rows():
    """Saved every 5 steps, the same 20 steps are 5 points."""
    sparse = tree(
        TREE.attrs,
        **{name: TREE[name].to_dataset().isel(step=slice(None, None, 5)) for name in TREE.children},
    )
    drawn = lines_of(figures.draw("central", sparse).axes[2])
    samples = sparse["central"].dataset["measured_variances"].values[:, 0]
    line = drawn["central/measured_variances/0/average"]
    assert np.asarray(line.get_xdata())[10] == 60
    assert np.asarray(line.get_ydata())[10] == pytest.approx(samples[10:15].mean())


def test_the_eigenvalue_panel_has_flow_midpoints_and_threshold_and_nothing_far_below():
    """The third eigenvalue, at a tenth of 2/eta, would flatten the rest."""
    axes = figures.draw("central", TREE).axes[1]
    drawn = lines_of(axes)
    assert set(drawn) == {
        "critical",
        "central/watched_eigenvalues/0",
        "central/watched_eigenvalues/1",
        "discrete/midpoint_eigenvalues/0",
        "discrete/midpoint_eigenvalues/1",
    }
    assert axes.get_ylim()[0] > 1.0
    assert axes.get_ylim()[0] < 10.0 < axes.get_ylim()[1]


def test_the_variance_panel_pairs_each_prediction_with_its_measurement():
    """In one line style; a direction that is never critical is left out."""
    drawn = lines_of(figures.draw("central", TREE).axes[2])
    assert set(drawn) == {"central/variances/0", "central/measured_variances/0/average"}
    predicted, measured = (
        drawn["central/variances/0"],
        drawn["central/measured_variances/0/average"],
    )
    assert predicted.get_linestyle() == measured.get_linestyle()
    assert predicted.get_linewidth() > measured.get_linewidth()
    assert np.asarray(measured.get_ydata())[-1] == pytest.approx(0.3, rel=0.1)


def test_discrete_and_continuous_differ_by_more_than_colour():
    """In grey, the optimizer's lines are the thin or the dotted ones."""
    drawn = lines_of(figures.draw("central", TREE).axes[0])
    flows = [line for gid, line in drawn.items() if not gid.startswith("discrete")]
    assert min(line.get_linewidth() for line in flows) > max(
        line.get_linewidth() for gid, line in drawn.items() if gid.startswith("discrete")
    )
    assert len({str(line.get_linestyle()) for line in flows}) == len(flows)


def test_the_legend_names_each_thing_once_with_tracking_errors():
    """Over all four panels."""
    assert entries(figures.draw("central", TREE)) == [
        "discrete optimizer",
        "its moving average, 20 steps",
        "its midpoints",
        "central flow (tracking error 0.25)",
        "gradient flow (tracking error 0.5)",
    ]


def test_a_partial_run_is_drawn():
    """One row, nothing of curvature, no distance: what is there is shown."""
    row = trajectory([0], {"kind": "flow"}, predicted_loss=[1.0], variances=[[0.0]])
    figure = figures.draw("central", tree(central=row))
    assert len(figure.axes) == 4
    assert set(lines_of(figure.axes[0])) == {"central/predicted_loss"}


def test_without_a_central_flow_the_figure_says_what_it_needs():
    """As the other figures do."""
    with pytest.raises(ValueError, match="figure 'central' needs a flow of kind 'central'"):
        figures.draw("central", tree(discrete=trajectory([0, 1], loss=[1.0, 0.5])))


@pytest.mark.parametrize("power", [0.5, 0.4])
def test_the_scaling_figure_fits_the_power_of_the_deviations(power):
    """Deviations 2 eps^power give their own power, beside 1/2."""
    figure = figures.draw("central_scaling", scaling(power))
    drawn = lines_of(figure.axes[0])
    points = np.asarray(drawn["deviations"].get_xydata())
    assert_trees_close(points[:, 1], 2 * points[:, 0] ** power)
    ends = np.log(np.asarray(drawn["fit"].get_xydata()))
    assert (ends[1, 1] - ends[0, 1]) / (ends[1, 0] - ends[0, 0]) == pytest.approx(power)
    assert {f"fit, slope {power:.3f}", "slope 1/2"} <= set(entries(figure))
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"


def test_the_scaling_figure_draws_the_energy_law_through_rates_that_follow_it():
    """Rates and law are functions of zeta; the sign changes at sqrt(2)/3."""
    drawn = lines_of(figures.draw("central_scaling", scaling()).axes[1])
    points = np.asarray(drawn["rates"].get_xydata())
    law = np.asarray(drawn["law"].get_xydata())
    # The law is drawn through 200 points and interpolated between them.
    assert np.abs(np.interp(points[:, 0], *law.T) - points[:, 1]).max() < 1e-4


def test_a_study_in_progress_is_drawn_as_far_as_it_is():
    """One panel may stay empty; nothing at all is refused."""
    parts = {name: child.to_dataset() for name, child in scaling().children.items()}
    first = {name: part for name, part in parts.items() if name.startswith("deviation")}
    assert len(figures.draw("central_scaling", tree(**first)).axes) == 2
    with pytest.raises(ValueError, match="figure 'central_scaling' needs groups with the attrib"):
        figures.draw("central_scaling", tree())
