"""Reports: one file that holds all of a run or a sweep, and needs nothing from elsewhere."""

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from experiments.cli import main
from experiments.report import html
from experiments.store.store import RESULTS_FOLDER, Store


def results(path: Path, groups: dict[str, xr.Dataset], **attributes) -> Path:
    """A run directory with results that were stored by hand."""
    path.mkdir()
    (path / "config.toml").write_text('name = "<mine>"\n')
    store = Store.create(path / RESULTS_FOLDER, {"name": "<mine>", "status": "running"})
    for name, data in groups.items():
        if "step" in data.coords and name != "sweep":
            store.append(name, data, data.sizes["step"])
        else:
            store.write(name, data)
    store.finish({"status": "finished", **attributes})
    return path


def trajectory(scale: float) -> xr.Dataset:
    """A loss that halves at each step, and a sharpness that rises."""
    steps = np.arange(5, dtype=np.int32)
    loss = xr.Variable("step", scale * 0.5**steps, {"units": "loss"})
    return xr.Dataset({"loss": loss, "sharpness": ("step", scale + steps)}, {"step": steps})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a flow whose name is HTML."""
    groups = {"discrete": trajectory(1.0), "flow <b>": trajectory(2.0)}
    return results(tmp_path / "run", groups, critical_sharpness=3.0)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep of two keys whose numbers are all different."""
    values = np.arange(2 * 3 * 2 * 4, dtype=float).reshape(2, 3, 2, 4)
    data = xr.Dataset(
        {
            "loss": (("rate", "seed", "trajectory", "step"), values),
            "final_loss": (("rate", "seed", "trajectory"), values[..., -1]),
            "status": (("rate", "seed"), np.full((2, 3), "finished", object)),
        },
        {
            "rate": [0.1, 0.2],
            "seed": [0, 1, 2],
            "trajectory": np.array(["discrete", "flow"], object),
            "step": np.arange(4),
        },
    )
    axes = {"axes": ["rate", "seed"], "keys": ["optimizer.rate", "seed"], "kind": "sweep"}
    return results(tmp_path / "sweep", {"sweep": data}, quantity="final_loss", **axes)


def test_a_run_is_one_file_that_loads_nothing(run, capsys):
    """Below 5 MB, and with all names escaped."""
    pytest.importorskip("bokeh")
    assert main(["report", str(run)]) == 0
    assert "report.html" in capsys.readouterr().out
    page = (run / "report.html").read_text("utf-8")
    assert len(page) < 5e6
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=\"(https?:)?//", page)
    assert "&lt;mine&gt;" in page
    assert "<mine>" not in page
    assert page.count("<script") == page.count("</script>")


def test_a_report_is_replaced_only_on_request_and_belongs_to_the_run(run, capsys):
    """As an export is."""
    pytest.importorskip("bokeh")
    assert main(["report", str(run)]) == 0
    assert main(["report", str(run)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["report", str(run), "--overwrite"]) == 0


def test_the_curves_are_those_of_the_store(run):
    """And the threshold is one of them."""
    pytest.importorskip("bokeh")
    from experiments import load
    from experiments.report import interactive

    layout = interactive.layout(load(run, params=False))
    from bokeh.models import GlyphRenderer

    drawn = {}
    for one in layout.select({"type": GlyphRenderer}):
        drawn.setdefault(one.name, []).append(list(one.data_source.data["y"]))
    assert list(0.5 ** np.arange(5)) in drawn["discrete"]
    assert [2.0, 3.0, 4.0, 5.0, 6.0] in drawn["flow <b>"]
    assert [3.0, 3.0] in drawn["2/eta"] if "2/eta" in drawn else drawn["critical"]


def test_a_sweep_has_a_slider_for_each_key_and_all_of_its_numbers(sweep):
    """What the script picks from is in order."""
    pytest.importorskip("bokeh")
    from bokeh.models import ColumnDataSource, CustomJS, Slider

    from experiments import load
    from experiments.report import interactive

    layout = interactive.layout(load(sweep, params=False))
    assert [one.title for one in layout.children if isinstance(one, Slider)] == [
        "optimizer.rate = 0.1",
        "seed = 0",
    ]
    updates = [
        callback
        for callback in layout.references()
        if isinstance(callback, CustomJS) and "stores" in callback.args
    ]
    assert [one.args["axes"] for one in updates] == [["rate", "seed"]] * 2
    held = next(one.args["stores"]["loss"] for one in updates if "loss" in one.args["stores"])
    assert isinstance(held, ColumnDataSource)
    # Axes in their order, then the steps: rate 0.2, seed 1, the flow's curve.
    numbers = held.data["flow"].reshape(2, 3, 4)
    assert numbers[1, 1].tolist() == [36.0, 37.0, 38.0, 39.0]


def test_without_bokeh_it_says_what_to_install(run, monkeypatch, capsys):
    """It is an optional extra."""
    monkeypatch.setattr(html.importlib.util, "find_spec", lambda name: None)
    assert main(["report", str(run)]) == 2
    assert "pip install 'eosflows[report]'" in capsys.readouterr().err
