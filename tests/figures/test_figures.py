import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import figures
from experiments.tables.optimizers import OPTIMIZERS
from figures import curves
from tests.figures import adaptive_trees, sam_trees, sweep_trees
from tests.figures.ball_trees import BALLS
from tests.figures.dims_trees import DIMS
from tests.figures.glass_trees import GLASS
from tests.figures.manifold_trees import MANIFOLDS
from tests.figures.rmsprop_trees import ADAPTIVE
from tests.figures.spectrum_trees import SPECTRA
from tests.figures.test_parity import cycles_study, order_study, rounding_study
from tests.figures.trees import (
    central,
    held_out,
    panel,
    parity,
    quartic,
    rod,
    scaling,
    trajectory,
    tree,
    valley,
)
from tests.helpers import assert_trees_close

TREE = valley(steps=600)
CENTRAL = central()
SCALING = scaling()
# A tree for each figure, all it needs in it.
TREES = dict.fromkeys(figures.FIGURES, TREE) | {
    "central": CENTRAL,
    "central_scaling": SCALING,
    "parity": parity(),
    "rod": rod(),
    "rod_quartic": quartic(),
    "panel": panel(),
    **ADAPTIVE,
    **BALLS,
    **DIMS,
    **GLASS,
    **MANIFOLDS,
    **SPECTRA,
    "sweep": sweep_trees.curves(),
    "phase_diagram": sweep_trees.diagram(),
    "parity_order": order_study(),
    "parity_two_cycles": cycles_study(),
    "parity_rounding": rounding_study(),
    "adaptive": adaptive_trees.edge(),
    "adam_bursts": adaptive_trees.bursts(),
    "thresholds_optax": adaptive_trees.thresholds(),
    "test": held_out(),
    "sam_cycle": sam_trees.cycles(),
}


def lines_of(figure: Figure) -> dict[str, Line2D]:
    """The figure's lines by gid."""
    lines = [line for axes in figure.axes for line in axes.get_lines()]
    return {str(line.get_gid()): line for line in lines if line.get_gid()}


@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_figure_is_drawn_and_leaves_the_callers_settings_alone(name):
    """The style sheet is in force only while a figure is made; to write it takes far longer."""
    before = dict(matplotlib.rcParams)
    assert figures.draw(name, TREES[name]).axes
    assert dict(matplotlib.rcParams) == before


# Of lines, contours, images, colours by value and several panels; all are written by one function.
QUICK_TO_WRITE = (
    *("ball_minima", "dims_banana", "dims_valley", "gauss_newton", "loss"),
    *("parity_two_cycles", "phase_diagram", "sweep"),
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK_TO_WRITE else pytest.mark.slow)
        for name in figures.FIGURES
    ],
)
def test_two_draws_give_the_same_bytes_and_leave_the_callers_settings_alone(name, tmp_path):
    """One of the tree in memory, one of what zarr gives back from the disk and reads lazily.

    A figure that changes by itself could not be kept under version control. The style sheet is in
    force only while a figure is made.
    """
    before = dict(matplotlib.rcParams)
    path = tmp_path / "results.zarr"
    TREES[name].to_zarr(path, zarr_format=3, consolidated=False)
    with xr.open_datatree(path, engine="zarr", consolidated=False) as stored:
        first, second = (
            figures.save(figures.draw(name, one), tmp_path / f"{i}" / "a.png").read_bytes()
            for i, one in enumerate((TREES[name], stored))
        )
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", ["loss", "sharpness", "distance", "overview"])
def test_lines_carry_exactly_the_finite_values_of_the_store(name):
    """No smoothing and no thinning: rows with nan are dropped, all others drawn."""
    drawn = lines_of(figures.draw(name, TREE))
    variables = [name] if name != "overview" else ["loss", "sharpness", "distance"]
    for variable in variables:
        for group in ("discrete", "gradient"):
            data = TREE[group].dataset.get(variable)
            if data is None:
                assert f"{group}/{variable}" not in drawn
                continue
            finite = np.isfinite(data.values)
            line = drawn[f"{group}/{variable}"]
            assert_trees_close(np.asarray(line.get_ydata()), data.values[finite], 0.0, 0.0)
            assert_trees_close(np.asarray(line.get_xdata()), data["step"].values[finite], 0.0, 0.0)


def test_the_critical_line_stands_at_two_over_the_learning_rate():
    """Horizontal, dashed, named, and inside the frame even where the curves stay far below."""
    low = tree({"critical_sharpness": 20.0}, discrete=trajectory([0, 1], sharpness=[1.0, 1.1]))
    for results, value in ((TREE, 2 / 0.3), (low, 20.0)):
        figure = figures.draw("sharpness", results)
        (axes,) = figure.axes
        line = lines_of(figure)["critical"]
        assert_trees_close(np.asarray(line.get_ydata()), np.full(2, value))
        assert line.get_linestyle() == "--"
        assert axes.get_ylim()[0] < value < axes.get_ylim()[1]
        assert [text.get_text() for text in axes.texts] == ["2/η"]


def test_a_threshold_that_varies_is_drawn_as_a_curve():
    """Named beside the frame, or where it leaves the panel if the learning rate ends near zero."""
    steps = np.arange(5)
    for last, inside in ((12.0, True), (1e6, False)):
        critical = np.array([np.inf, 20.0, 10.0, 11.0, last])
        discrete = trajectory(steps, sharpness=np.full(5, 4.0), critical_sharpness=critical)
        figure = figures.draw("sharpness", tree({"critical_label": "2/eta"}, discrete=discrete))
        (axes,) = figure.axes
        line = lines_of(figure)["critical"]
        assert_trees_close(np.asarray(line.get_xdata()), steps[1:], 0.0, 0.0)
        assert_trees_close(np.asarray(line.get_ydata()), critical[1:], 0.0, 0.0)
        (label,) = axes.texts
        assert label.get_text() == "2/η"
        assert label.xy == ((1.0, 12.0) if inside else (3.0, 11.0))
        assert axes.get_ylim()[0] < 4.0 < 12.0 < axes.get_ylim()[1] < 30.0 or not inside
        assert axes.get_ylim()[1] < 30.0


FORMULAS = {
    "2/eta": "2/η",
    "(2 - eta lambda)/eta": r"$\frac{(2 - η\,λ)}{η}$",
    "2(1 + beta)/eta": r"$\frac{2(1 + β)}{η}$",
    "2(1 + beta)/((1 + 2 beta) eta)": r"$\frac{2(1 + β)}{(1 + 2\,β)\,η}$",
    "2/(eta + 2 a rho)": r"$\frac{2}{η + 2\,a\,ρ}$",
    "2(1 + beta1)/((1 - beta1) eta)": r"$\frac{2(1 + β_1)}{(1 - β_1)\,η}$",
    "(2 - eta lambda)(1 + beta1)/((1 - beta1) eta)": (
        r"$\frac{(2 - η\,λ)(1 + β_1)}{(1 - β_1)\,η}$"
    ),
    "2(1 + beta1)/((1 - beta1)(1 + 2 beta1) eta)": (
        r"$\frac{2(1 + β_1)}{(1 - β_1)(1 + 2\,β_1)\,η}$"
    ),
    "numerical": "numerical",
    "none": "none",
    "lambda*(|g|)": "λ*(|g|)",
    "lambda*": "λ*",
}


# A plain one, two fractions, and what is no formula; all are parsed by one function.
QUICK_TO_SHOW = (
    *("2/eta", "2(1 + beta)/((1 + 2 beta) eta)", "(2 - eta lambda)(1 + beta1)/((1 - beta1) eta)"),
    "lambda*(|g|)",
)


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        pytest.param(*pair, marks=() if pair[0] in QUICK_TO_SHOW else pytest.mark.slow)
        for pair in FORMULAS.items()
    ],
)
def test_the_critical_line_is_named_by_the_optimizers_own_formula(label, shown, tmp_path):
    """Momentum moves the threshold, and a long formula is a fraction; in a sweep's legend too."""
    attrs = {"critical_sharpness": 1.5, "critical_label": label}
    figure = figures.draw(
        "sharpness", tree(attrs, discrete=trajectory([0, 1], sharpness=[1.0, 1.1]))
    )
    assert [text.get_text() for text in figure.axes[0].texts] == [shown]
    figures.save(figure, tmp_path / "one.png")
    swept = sweep_trees.curves()
    swept.attrs["critical_label"] = label
    figure = figures.draw("sweep", swept)
    assert figure.legends[0].get_texts()[-1].get_text() == f"critical sharpness, {shown}"
    figures.save(figure, tmp_path / "two.png")


def test_the_formula_of_every_optimizer_is_one_that_figures_are_tested_with():
    """So that none is drawn with words for its symbols."""
    tables = OPTIMIZERS.entries.values()
    labels = {label for one in tables for label in (one.critical_label, one.decayed_label)}
    assert labels == set(FORMULAS)


@pytest.mark.parametrize("variable", ["preconditioned_sharpness", ""])
def test_no_threshold_of_another_variable_is_drawn_beside_a_swept_sharpness(variable):
    """That of an adaptive method is one of its preconditioned sharpness."""
    swept = sweep_trees.curves()
    assert "critical" in lines_of(figures.draw("sweep", swept))
    swept.attrs["critical_variable"] = variable
    assert "critical" not in lines_of(figures.draw("sweep", swept))


def test_no_critical_line_is_drawn_where_the_threshold_is_unknown():
    """A flow without an optimizer has none."""
    results = tree(discrete=trajectory([0, 1], sharpness=[1.0, 2.0]))
    assert "critical" not in lines_of(figures.draw("sharpness", results))


def test_axes_are_named_with_units():
    """What x and y are is read off the figure alone."""
    (axes,) = figures.draw("sharpness", TREE).axes
    assert axes.get_ylabel() == "sharpness\n(loss / parameter²)"
    assert axes.get_xlabel() == "step (optimizer steps)"
    (axes,) = figures.draw("loss", tree({"time_label": "time"}, **one_group("loss"))).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time", "loss")


def one_group(variable: str) -> dict[str, xr.Dataset]:
    """A discrete run that holds one variable only."""
    return {"discrete": trajectory([0, 1, 2], **{variable: [1.0, 2.0, 3.0]})}


def test_every_flow_has_its_own_colour_and_line_style():
    """Told apart in colour, and in a copy without colour; the same whatever the order stored."""
    names = ["gradient", "central", "rod", "dissipative", "ball", "corrected"]
    stored = {name: trajectory([0, 1], loss=[1.0, 2.0]) for name in names}
    backwards = dict(reversed(stored.items()))
    looks = [
        {
            group: (str(look["color"]), str(look["linestyle"]))
            for group in names
            for look in [curves.look_of(tree(**groups), group)]
        }
        for groups in (stored, backwards)
    ]
    assert looks[0] == looks[1]
    assert len({color for color, _ in looks[0].values()}) == len(names)
    assert len({style for _, style in looks[0].values()}) == len(names)


def test_the_loss_is_logarithmic_where_it_spans_a_large_factor():
    """And linear where it does not, or where it is negative."""

    def scale(values):
        results = tree(discrete=trajectory(np.arange(len(values)), loss=values))
        return figures.draw("loss", results).axes[0].get_yscale()

    assert scale(np.geomspace(1.0, 1e-6, 50)) == "log"
    assert scale(np.linspace(1.0, 2.0, 50)) == "linear"
    assert scale(np.linspace(-1.0, 1e3, 50)) == "linear"


def test_a_wild_value_does_not_flatten_the_rest():
    """One bad eigenvalue among 100, or a diverging run: the frame still fits the others."""
    sharpness = np.linspace(1.0, 5.0, 100)
    sharpness[70] = 1e12
    (axes,) = figures.draw(
        "sharpness", tree(discrete=trajectory(np.arange(100), sharpness=sharpness))
    ).axes
    assert axes.get_ylim()[1] < 50
    diverging = np.append(2.0 ** np.arange(900.0), np.inf)
    results = tree(
        {"status": "diverged"},
        discrete=trajectory(np.arange(901), loss=diverging),
        gradient=trajectory(np.arange(901), loss=np.exp(-np.arange(901.0) / 200)),
    )
    (axes,) = figures.draw("loss", results).axes
    assert 1.0 < axes.get_ylim()[1] < 1e6
    assert axes.get_ylim()[0] < np.exp(-4.5)


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
@pytest.mark.parametrize("name", ["loss", "sharpness", "distance", "overview"])
@pytest.mark.parametrize("rows", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_one_row_and_constants_are_drawn(name, value, rows, tmp_path):
    """A run that was stopped after its first step still has a figure."""
    variables = {v: np.full(rows, value) for v in ("loss", "sharpness", "distance")}
    results = tree({"status": "diverged"}, gradient=trajectory(np.arange(rows), **variables))
    figure = figures.draw(name, results)
    low, high = figure.axes[0].get_ylim()
    assert low < value < high
    figures.save(figure, tmp_path / "one.png")


def test_the_overview_has_one_panel_per_variable_that_is_there():
    """All three, or only those for which some group has a finite value."""
    assert len(figures.draw("overview", TREE).axes) == 3
    assert len(figures.draw("overview", tree(**one_group("loss"))).axes) == 1


def test_a_predicted_loss_is_drawn_beside_the_loss_at_the_centre():
    """A flow's prediction of the average loss takes the flow's own look."""
    flow = trajectory([0, 1], {"label": "central"}, loss=[1.0, 0.5], predicted_loss=[1.0, 0.6])
    drawn = lines_of(figures.draw("loss", tree(central=flow)))
    assert drawn["central/predicted_loss"].get_label() == "central, predicted average"
    widths = [drawn[f"central/{v}"].get_linewidth() for v in ("loss", "predicted_loss")]
    assert widths[0] < widths[1]


def test_a_prediction_that_equals_the_loss_is_not_drawn_twice():
    """Gradient flow predicts the loss at its own centre: one curve, under its plain name."""
    flow = trajectory([0, 1], {"label": "gradient"}, loss=[1.0, 0.5], predicted_loss=[1.0, 0.5])
    (line,) = lines_of(figures.draw("loss", tree(gradient=flow))).values()
    assert line.get_label() == "gradient"


def test_the_legend_lists_each_trajectory_once_with_its_tracking_error():
    """One entry per group over all panels; the distance figure states the error."""

    def entries(name):
        return [text.get_text() for text in figures.draw(name, TREE).legends[0].get_texts()]

    assert entries("overview") == ["gradient descent", "gradient flow"]
    assert entries("distance") == ["gradient flow (tracking error 0.012)"]


def test_paths_are_the_stored_parameters_over_the_stored_grid():
    """Vertices, start, end, frame and axis names come from the store."""
    figure = figures.draw("paths", TREE)
    (axes,) = figure.axes
    drawn = lines_of(figure)
    for group in ("discrete", "gradient"):
        params = TREE[group].dataset["params"].values
        vertices = np.asarray(drawn[f"{group}/params"].get_xydata())
        assert_trees_close(vertices, params, 0.0, 0.0)
        end = np.asarray(drawn[f"{group}/end"].get_xydata())
        assert_trees_close(end, params[-1:], 0.0, 0.0)
    assert_trees_close(np.asarray(drawn["start"].get_xydata()), np.array([[0.0, 6.0]]))
    assert drawn["discrete/params"].get_marker() == "o"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    assert axes.get_xlim() == (-0.6, 0.6)


def test_level_sets_follow_the_loss_and_not_its_transpose():
    """On a plane the level sets are straight lines, whose points are known exactly."""
    x0, x1 = np.linspace(-1, 1, 20), np.linspace(0, 5, 30)
    plane = np.where(x1 > 4.5, np.nan, x0[:, None] - 0.3 * x1)
    grid = xr.Dataset({"loss": (("x0", "x1"), plane)}, coords={"x0": x0, "x1": x1})
    path = trajectory([0, 1], params=[[0.5, 1.0], [0.1, 1.0]])
    (axes,) = figures.draw("paths", tree(landscape=grid, discrete=path)).axes
    (sets,) = (c for c in axes.collections if isinstance(c, QuadContourSet) and not c.filled)
    points = 0
    for level, segments in zip(sets.levels, sets.allsegs, strict=True):
        for x, y in (vertex for segment in segments for vertex in segment):
            # The grid's values are interpolated linearly, which rounds twice.
            assert abs(x - 0.3 * y - level) < 1e-12
            points += 1
    assert points > 100


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loss", r"figure 'loss' needs the variable 'loss'.*the store holds: discrete \(accuracy"),
        ("sharpness", r"figure 'sharpness' needs the variable 'sharpness'.*\[curvature\]"),
        ("distance", "figure 'distance' needs the variable 'distance'"),
        ("overview", "figure 'overview' needs at least one of the variables"),
        ("paths", "figure 'paths' needs a two-parameter potential: no group 'landscape'"),
    ],
)
def test_a_figure_without_data_says_what_it_needs_and_what_is_there(name, message):
    """The reader of the message knows which setting to change."""
    results = tree(discrete=trajectory([0, 1], accuracy=[0.1, 0.2], loss=[np.nan, np.nan]))
    with pytest.raises(ValueError, match=message):
        figures.draw(name, results)


def test_paths_without_parameters_say_how_to_store_them():
    """A landscape alone is no path."""
    results = tree(landscape=TREE["landscape"].to_dataset(), **one_group("loss"))
    with pytest.raises(ValueError, match=r"'params' with two parameters \(save_params = true\)"):
        figures.draw("paths", results)


def test_an_unknown_figure_is_refused_with_a_suggestion():
    """A misspelt name costs no search through the documentation."""
    with pytest.raises(ValueError, match=r"no figure 'sharpnes'.*Did you mean 'sharpness'\?"):
        figures.draw("sharpnes", TREE)
