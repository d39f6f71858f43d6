"""Results for other programs: what they read is what was stored, and nothing else is replaced."""

import csv
import importlib.machinery
import importlib.util
import json
import os
import stat
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from experiments import DirectoryError, export, load
from experiments.cli import main
from experiments.report import exports
from experiments.store.store import RESULTS_FOLDER, Store
from tests.experiments.runs import noting_what_is_synchronised


def trajectory(count: int, dtype: Any = np.float64) -> xr.Dataset:
    """Numbers that are hard to write: thirds, subnormals, not finite ones, and a matrix a step."""
    generator = np.random.default_rng(count)
    loss = generator.normal(size=count) / 3
    loss[: min(count, 6)] = [np.nan, np.inf, -np.inf, -0.0, 5e-324, 1e308][:count]
    with np.errstate(over="ignore", under="ignore"):
        loss = loss.astype(dtype)
    steps = np.arange(count, dtype=np.int32)
    return xr.Dataset(
        {
            "loss": ("step", loss, {"units": "loss", "long_name": "loss, at the parameters"}),
            "matrix": (("step", "row", "column"), generator.normal(size=(count, 2, 2))),
            "positive": ("step", loss > 0),
            "scale": ((), np.float64(1 / 3), {"units": "1"}),
            "weights": ("row", np.array([0.1, 0.2])),
        },
        {
            "step": ("step", steps, {"units": "steps"}),
            "row": ("row", np.array(["first", 'the "second",\nä'], object)),
        },
        {"label": "discrete", "complete": True, "shares": [0.25, 0.5], "message": ""},
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with results that were stored by hand."""
    (tmp_path / "run").mkdir()
    store = Store.create(tmp_path / "run" / RESULTS_FOLDER, {"name": "mine", "status": "running"})
    store.append("discrete", trajectory(7), 9)
    store.append("a.flow", trajectory(5, np.float32), 5)
    store.append("empty", trajectory(0), 3)
    values = {"loss": (("x0", "x1"), np.eye(2, 3)), "turned": (("x1", "x0"), np.eye(3, 2) / 3)}
    store.write("ground", xr.Dataset(values, {"x1": [0.1, 0.2, 0.3]}))
    store.finish({"status": "finished", "learning_rate": 0.1, "seed": 2**32 - 1})
    return tmp_path / "run"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Call the command line: exit code and what it says, on both streams."""

    def calling(*words: str | Path) -> tuple[int, str]:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out + captured.err

    return calling


def test_netcdf_gives_an_identical_tree(run: Path, call: Any) -> None:
    """Groups, variables, coordinates, attributes, text and what is not finite."""
    code, said = call("export", run, "--to", "netcdf")
    assert code == 0
    assert f"results in {run / 'results.nc'}" in said
    with xr.open_datatree(run / "results.nc") as tree:
        xr.testing.assert_identical(tree.load(), load(run))
        assert tree["a.flow"]["loss"].dtype == np.float32
        assert np.signbit(tree["discrete"]["loss"].values[3])


def test_csv_has_the_very_same_numbers(run: Path, call: Any) -> None:
    """Bit by bit, one file for each group and in it one column for each entry of a variable."""
    assert call("export", run, "--to", "csv")[0] == 0
    folder = run / "results-csv"
    tables = {path.name: columns(path) for path in folder.glob("*.csv")}
    assert set(tables) == {
        *("discrete.csv", "discrete@row.csv", "a.flow.csv", "a.flow@row.csv"),
        *("empty.csv", "empty@row.csv", "ground.csv", "ground@x1.csv"),
    }
    for group in ("discrete", "a.flow", "empty"):
        data, table = load(run)[group].to_dataset(), tables[f"{group}.csv"]
        entries = [f"matrix[{i}][{j}]" for i in range(2) for j in range(2)]
        assert list(table) == ["step", "loss", *entries, "positive"]
        assert [int(text) for text in table["step"]] == data["step"].values.tolist()
        assert [text == "True" for text in table["positive"]] == data["positive"].values.tolist()
        # The doubles that are read, made single again where they came from single ones.
        assert_same(table["loss"], data["loss"].values)
        for i in range(2):
            for j in range(2):
                assert_same(table[f"matrix[{i}][{j}]"], data["matrix"].values[:, i, j])
    assert tables["discrete@row.csv"]["row"] == ["first", 'the "second",\nä']
    assert_same(tables["ground@x1.csv"]["x1"], np.array([0.1, 0.2, 0.3]))
    assert_same(tables["ground.csv"]["loss[1]"], np.array([0.0, 1.0]))
    assert_same(tables["ground.csv"]["turned[0]"], np.array([1 / 3, 0.0]))


def columns(path: Path) -> dict[str, list[str]]:
    """The columns of a CSV file by their headings."""
    with path.open(encoding="utf-8", newline="") as file:
        headings, *rows = list(csv.reader(file))
    return {heading: [row[i] for row in rows] for i, heading in enumerate(headings)}


def assert_same(texts: list[str], values: np.ndarray) -> None:
    """That text is read as the same bits; nan is nan."""
    read = np.array([float(text) for text in texts], np.float64)
    assert np.array_equal(np.isnan(read), np.isnan(values))
    expected = values.astype(np.float64)
    known = ~np.isnan(read)
    assert read[known].tobytes() == expected[known].tobytes()


def test_csv_keeps_the_attributes_beside_the_tables(run: Path) -> None:
    """Of the root, the groups and the variables, with types, dimensions and single numbers."""
    folder = export(run, "csv", run.parent / "elsewhere" / "tables")
    metadata = json.loads((folder / "metadata.json").read_text("utf-8"))
    assert metadata["groups"]["/"]["attributes"] == dict(load(run).attrs)
    described = metadata["groups"]["/a.flow"]
    assert described["attributes"] == dict(trajectory(1).attrs)
    assert described["files"] == {"step": "a.flow.csv", "row": "a.flow@row.csv"}
    assert described["variables"]["loss"] == {
        "dimensions": ["step"],
        "shape": [5],
        "dtype": "float32",
        "attributes": {"units": "loss", "long_name": "loss, at the parameters"},
    }
    assert described["variables"]["scale"]["value"] == 1 / 3
    assert described["variables"]["row"]["dtype"] == "str"


@pytest.mark.parametrize(("to", "name"), [("netcdf", "results.nc"), ("csv", "results-csv")])
def test_an_export_is_replaced_only_on_request(run: Path, call: Any, to: str, name: str) -> None:
    """The new one has the new results and nothing of the old, nor is anything else left."""
    assert call("export", run, "--to", to)[0] == 0
    code, said = call("export", run, "--to", to)
    assert code == 2
    assert f"{run / name}: exists already; replace it (--overwrite)" in " ".join(said.split())
    Store.open(run / RESULTS_FOLDER).update("", {"learning_rate": 0.7})
    assert call("export", run, "--to", to, "--overwrite")[0] == 0
    assert sorted(path.name for path in run.iterdir()) == sorted([name, RESULTS_FOLDER])
    if to == "netcdf":
        with xr.open_datatree(run / name) as tree:
            assert tree.attrs["learning_rate"] == 0.7
    else:
        assert '"learning_rate": 0.7' in (run / name / "metadata.json").read_text()


@pytest.mark.parametrize(("to", "name"), [("netcdf", "results.nc"), ("csv", "results-csv")])
def test_an_export_that_breaks_leaves_the_earlier_one(
    run: Path, to: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk in the middle, and a crash whose half file is there still."""
    path = export(run, to)
    before = {file: file.read_bytes() for file in (path, *path.rglob("*")) if file.is_file()}
    half = run / f".{name}.partial"
    half.write_text("half of it")

    def fill(*words: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(xr.DataTree, "to_netcdf", fill)
        patch.setattr(json, "dumps", fill)
        with pytest.raises(DirectoryError, match="No space left on device"):
            export(run, to, overwrite=True)
    assert before == {
        file: file.read_bytes() for file in (path, *path.rglob("*")) if file.is_file()
    }
    assert not half.exists()
    export(run, to, overwrite=True)
    assert not half.exists()


@pytest.mark.parametrize("to", ["netcdf", "csv"])
def test_an_export_is_on_the_disk_before_it_takes_its_name(
    run: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut would else leave the name of one whose files are empty."""
    check = noting_what_is_synchronised(monkeypatch)
    replace, checked = exports._replace, []

    def replace_checked(path: Path, temporary: Path) -> None:
        check(temporary)
        checked.append(path)
        replace(path, temporary)

    monkeypatch.setattr(exports, "_replace", replace_checked)
    path = export(run, to)
    assert checked == [path]


def test_nothing_but_an_export_is_replaced(run: Path, tmp_path: Path, call: Any) -> None:
    """Files and folders of the user, the results themselves, links."""
    text, folder, link = tmp_path / "notes.txt", tmp_path / "mine", tmp_path / "link"
    text.write_text("mine")
    folder.mkdir()
    (folder / "metadata.json").write_text("{}")
    link.symlink_to(text)
    refused = [
        ("netcdf", text, "is no netCDF-4 file"),
        ("netcdf", folder, "is a folder; this format is written to a file"),
        ("netcdf", link, "is a link"),
        ("csv", text, "is a file; this format is written to a folder"),
        ("csv", folder, "is no folder that an export wrote"),
        ("csv", run / RESULTS_FOLDER, "is no folder that an export wrote"),
        ("csv", Path("/"), "names no folder"),
        ("csv", Path("~nobody-of-this-name/x"), "no home folder of that user"),
        ("netcdf", text / "below", "cannot be written"),
    ]
    for to, out, says in refused:
        code, said = call("export", run, "--to", to, "--out", out, "--overwrite")
        assert code == 2
        assert str(out) in said
        assert says in said
    assert text.read_text() == "mine"
    export(run, "csv")
    (run / "results-csv" / "notes.txt").write_text("mine")
    with pytest.raises(DirectoryError, match=r"holds notes\.txt, which no export wrote"):
        export(run, "csv", overwrite=True)


def test_wrong_words_are_told(run: Path, tmp_path: Path, call: Any) -> None:
    """No such format, no format at all, no results."""
    assert call("export", run, "--to", "excel")[0] == 2
    assert call("export", run)[0] == 2
    code, said = call("export", tmp_path / "none", "--to", "csv")
    assert code == 2
    assert f"{tmp_path / 'none'}: no such folder of results" in said
    with pytest.raises(ValueError, match="to must be one of netcdf, csv; got 'excel'"):
        export(run, "excel")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_locked_folder_is_told(run: Path, tmp_path: Path, call: Any) -> None:
    """The folder is named."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    code, said = call("export", run, "--to", "csv", "--out", locked / "x")
    assert code == 2
    assert "cannot be written" in said


def test_a_run_directory_may_hold_its_exports(run: Path) -> None:
    """It is still one of ours: the run can be gone on with, and replaced with its exports."""
    from experiments.run_directory.directory import prepare
    from tests.experiments.configs import config

    path = run.parent / "ours"
    prepare(path, config(), overwrite=False, resume=False)
    (run / RESULTS_FOLDER).rename(path / RESULTS_FOLDER)
    export(path, "csv")
    export(path, "netcdf")
    assert prepare(path, config(), overwrite=False, resume=True)
    assert not prepare(path, config(), overwrite=True, resume=False)
    assert sorted(entry.name for entry in path.iterdir()) == ["config.toml", "environment.json"]


class Recorder(types.ModuleType):
    """A tracker that remembers what it is told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.runs: list[dict[str, Any]] = []

    def init(self, **options: Any) -> None:
        self.runs.append({**options, "rows": [], "finished": False})

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.runs[-1]["rows"].append((step, metrics))

    def finish(self) -> None:
        self.runs[-1]["finished"] = True


@pytest.mark.parametrize("to", ["trackio", "wandb"])
def test_a_tracker_is_given_each_trajectory(
    run: Path, call: Any, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its finite numbers by step and entry, its attributes and the config."""
    monkeypatch.setitem(sys.modules, to, tracker := Recorder(to))
    (run / "config.toml").write_text("steps = 6\n")
    code, said = call("export", run, "--to", to, "--project", "mine")
    assert code == 0
    assert f"logged run/discrete in project mine of {to}" in said
    assert [one["name"] for one in tracker.runs] == ["run/a.flow", "run/discrete"]
    assert all(one["finished"] and one["project"] == "mine" for one in tracker.runs)
    discrete = tracker.runs[1]
    assert discrete["config"]["config"] == {"steps": 6}
    assert discrete["config"]["attributes"]["shares"] == [0.25, 0.5]
    stored = load(run)["discrete"].to_dataset()
    assert [step for step, _ in discrete["rows"]] == stored["step"].values.tolist()
    for row, (_, metrics) in enumerate(discrete["rows"]):
        loss, matrix = float(stored["loss"][row]), stored["matrix"][row].values
        assert metrics.get("loss", loss) == loss or np.isnan(loss)
        assert ("loss" in metrics) == bool(np.isfinite(loss))
        assert metrics["matrix[1][0]"] == matrix[1, 0]
        assert "scale" not in metrics


def test_a_tracker_that_is_not_there_is_named(run: Path, call: Any, monkeypatch: Any) -> None:
    """With what installs it; and it takes no file."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, said = call("export", run, "--to", "trackio")
    assert code == 2
    assert "trackio is not installed: pip install trackio" in said
    code, said = call("export", run, "--to", "wandb", "--overwrite")
    assert code == 2
    assert "--out and --overwrite are for files" in said
