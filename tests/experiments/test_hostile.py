"""Hostile and broken input on the command line: exit code 2, and a message of a line or a few."""

import os
import pickle
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from experiments.cli import main
from experiments.config.loader import MAX_BYTES
from experiments.run_directory.checkpoint import write as write_checkpoint
from experiments.run_directory.directory import prepare
from experiments.store.store import RESULTS_FOLDER, Store
from tests.experiments.configs import NETWORK, VALLEY, config, write
from tests.potentials.cifar_batches import write_folder

TEXT = tomli_w.dumps(VALLEY)
TABLE = VALLEY["optimizer"]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Any:
    """Call the command line, which must refuse; what it says, in one line and without a frame."""

    def calling(*words: str | Path) -> str:
        begin = time.process_time()
        code = main([str(word) for word in words])
        # It is a second, or some with imports; what grows with the square of its input takes hours.
        assert time.process_time() - begin < 30
        captured = capsys.readouterr()
        assert code == 2
        assert "Traceback" not in captured.err
        assert len(captured.err) < 6000
        return " ".join(captured.err.split())

    return calling


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"#" * 10_000_000, f"10000000 bytes; a config may have at most {MAX_BYTES} (1 MiB)"),
        (b"x = " + b"{a = " * 5000 + b"1" + b"}" * 5000, "nested too deeply"),
        (b"x = " + b"{a = " * 200 + b"1" + b"}" * 200, "x: unknown key"),
        (b"[a" + b".a" * 5000 + b"]", "nested too deeply"),
        (b'name = "a\0b"', "not valid TOML"),
        (b'"a\\u0000b" = 1', '"a\\u0000b": unknown key'),
        (b'"" = 1', '"": unknown key'),
        (b'"\\u009b31m" = 1', '"\\u009b31m": unknown key'),
        (b"\xef\xbb\xbf\xef\xbb\xbfsteps = 1", "not valid TOML"),
        (b'name = "\xff"', "not UTF-8 text (byte 8)"),
        (b"seed = 1979-05-27T07:32:00Z", "seed: given 1979-05-27T07:32:00+00:00; must be a whole"),
        (b"seed = 1979-05-27", "seed: given 1979-05-27; must be a whole number"),
        (b"seed = " + b"9" * 5001, "not valid TOML: Exceeds the limit"),
        (b"seed = 0x" + b"f" * 5000, "seed: given a value too long to show; must be at most"),
        (b"precision = 0x" + b"f" * 5000, "precision: given a value too long to show; must be"),
        (b"\n".join(b"k%d = 1" % i for i in range(30_000)), "k17: unknown key"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else "",
)
def test_a_hostile_config_is_refused_at_once(
    content: bytes, says: str, refused: Any, tmp_path: Path
) -> None:
    """By file, and by key where it is one that is wrong; 30,000 problems are told as twenty."""
    file = tmp_path / "mine.toml"
    # The rest of it is right.
    whole = content if len(content) > MAX_BYTES else content + b"\n" + TEXT.encode()
    file.write_bytes(whole)
    said = refused("run", file, "--out", tmp_path / "run")
    assert said.startswith(f"error: {file}: ")
    assert says in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        (".".join(["a"] * 10_000) + "=1", "a key of 10000 parts; must have at most 64"),
        ("optimizer.learning_rate=" + "9" * 10_000, "optimizer.learning_rate: given '9999"),
        ("optimizer.learning_rate=0x" + "f" * 10_000, "optimizer.learning_rate: given a value"),
        ("optimizer.learning_rate=-0.0", "given -0.0; must be greater than 0"),
        ("optimizer.learning_rate=07:32:00", "given 07:32:00; must be a number"),
        ("steps=" + "[" * 10_000, "steps: given '[[["),
        ("flows." + "9" * 10_000 + ".label=a", "allowed is an index from 0 to 0"),
        ("flows.0x0.label=a", "allowed is an index from 0 to 0"),
        ("a" * 100_000 + "=1", "unknown key"),
        ("seed.x=1", "seed is 18446744073709551616, not a table that 'x' could be in"),
    ],
    ids=lambda value: value[:24],
)
def test_a_hostile_assignment_is_refused_at_once(
    assignment: str, says: str, refused: Any, tmp_path: Path
) -> None:
    """The message stays short however long the assignment is."""
    file = write(tmp_path / "mine.toml", tomli_w.dumps({**VALLEY, "seed": 2**64}))
    assert says in refused("run", file, "--set", assignment, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"potential": {"kind": "catapult", "width": 2**31 - 1}}, "potential.width: given"),
        ({"potential": {"kind": "whitley", "dimension": 10**5}}, "must be at most 1000"),
        (
            {
                "potential": {
                    "kind": "matrix_factorization",
                    "rank": 10**4,
                    "target": [[1.0] * 10**4],
                }
            },
            "potential.rank: given 10000; two factors of 100010000 numbers",
        ),
        (
            {
                "potential": {"kind": "catapult", "width": 10**6},
                "curvature": {"eigenvalues": 10**4},
            },
            "curvature.eigenvalues: given 10000; eigenvectors of 20000000000 numbers",
        ),
        (
            {
                "potential": {
                    **NETWORK["potential"],
                    "model": {"kind": "mlp", "hidden": [10**6] * 2},
                }
            },
            "potential.model.hidden: given [1000000, 1000000]; a network of",
        ),
        (
            {"potential": {**NETWORK["potential"], "model": {"kind": "mlp", "hidden": [1] * 101}}},
            "potential.model.hidden: given",
        ),
        ({"flows": [{"kind": "gradient"}] * 101}, "flows: given"),
        ({"figures": ["loss", "loss"]}, "must name each figure once"),
    ],
    ids=["units", "quadratic cost", "product", "basis", "weights", "layers", "flows", "figures"],
)
def test_what_would_freeze_the_machine_is_refused(
    changes: dict[str, Any], says: str, refused: Any, tmp_path: Path
) -> None:
    """Before anything of that size is allocated."""
    file = write(tmp_path / "mine.toml", tomli_w.dumps({**VALLEY, **changes}))
    said = refused("run", file, "--out", tmp_path / "run")
    assert says in said
    assert not (tmp_path / "run").exists()


def test_more_memory_than_there_is_is_told(
    refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the store says why it ends where it does."""
    import jax

    from experiments.runs.tracks import Tracks

    def exhaust(*words: Any) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nx")

    file = write(tmp_path / "mine.toml", TEXT)
    with monkeypatch.context() as patch:
        patch.setattr(Tracks, "advance", exhaust)
        said = refused("run", file, "--out", tmp_path / "run")
    assert "more memory than there is would be needed (RESOURCE_EXHAUSTED: Out of memory" in said
    attributes = Store.open(tmp_path / "run" / RESULTS_FOLDER).attributes()
    assert attributes["status"] == "failed"
    assert attributes["message"].startswith("at step 0: RESOURCE_EXHAUSTED")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory whose results are stored by hand, and its config beside it."""
    path = tmp_path / "run"
    prepare(path, config(), overwrite=False, resume=False)
    store = Store.create(path / RESULTS_FOLDER, {"name": "tiny-valley", "status": "running"})
    import xarray as xr

    rows = xr.Dataset({"loss": ("step", np.arange(5.0))}, {"step": np.arange(5, dtype=np.int32)})
    store.append("discrete", rows, 5)
    store.finish({"status": "interrupted"})
    write_checkpoint(path, config(), {"step": 4}, np.zeros(1))
    write(tmp_path / "mine.toml", TEXT)
    return path


def readers(run: Path) -> list[list[str | Path]]:
    """Every command that reads a run directory."""
    return [
        ["show", run],
        ["figure", run, "loss"],
        ["export", run, "--to", "csv"],
        ["export", run, "--to", "netcdf"],
    ]


def test_a_store_that_is_a_link_or_a_file_is_refused(
    run: Path, refused: Any, tmp_path: Path
) -> None:
    """By every command, and what the link leads to stays as it is."""
    elsewhere = tmp_path / "elsewhere"
    shutil.move(run / RESULTS_FOLDER, elsewhere)
    before = sorted(elsewhere.rglob("*"))
    (run / RESULTS_FOLDER).symlink_to(elsewhere)
    resume = ["run", tmp_path / "mine.toml", "--out", run, "--resume"]
    overwrite = [*resume[:-1], "--overwrite"]
    for words in (*readers(run), resume, overwrite):
        said = refused(*words)
        assert RESULTS_FOLDER in said
        assert "is a link" in said
    assert sorted(elsewhere.rglob("*")) == before
    (run / RESULTS_FOLDER).unlink()
    write(run / RESULTS_FOLDER, "no folder")
    for words in (*readers(run), resume):
        assert f"{run / RESULTS_FOLDER}: is a file, not a folder of results" in refused(*words)


def test_a_store_with_a_torn_chunk_is_told(run: Path, refused: Any) -> None:
    """Cut off, emptied, or of something else."""
    chunk = run / RESULTS_FOLDER / "discrete" / "loss" / "c" / "0"
    for content in (chunk.read_bytes()[:7], b"", b"x" * 1000):
        chunk.write_bytes(content)
        for words in readers(run):
            assert f"{run / RESULTS_FOLDER}: the results cannot be read" in refused(*words)


def test_metadata_of_a_huge_array_are_told(run: Path, refused: Any) -> None:
    """An array without chunks reads as fill values: one of any length, from a file of few bytes."""
    import json

    for name in ("loss", "step"):
        file = run / RESULTS_FOLDER / "discrete" / name / "zarr.json"
        metadata = json.loads(file.read_text())
        metadata["shape"] = metadata["chunk_grid"]["configuration"]["chunk_shape"] = [2**52]
        file.write_text(json.dumps(metadata))
    for words in readers(run):
        assert f"{run / RESULTS_FOLDER}: the results cannot be read" in refused(*words)


def test_a_config_that_is_a_folder_is_told(run: Path, refused: Any, tmp_path: Path) -> None:
    """Of an earlier run; and of the new one, where the store is not there yet."""
    (run / "config.toml").unlink()
    (run / "config.toml").mkdir()
    assert f"{run / 'config.toml'}: a folder; expected a TOML file" in refused("figure", run)
    words = ["run", tmp_path / "mine.toml", "--out", run]
    assert "holds a run already" in refused(*words)
    assert f"{run / 'config.toml'}: a folder" in refused(*words, "--resume")
    shutil.rmtree(run / RESULTS_FOLDER)
    shutil.rmtree(run / "checkpoint")
    assert f"{run / 'config.toml'}: a folder" in refused(*words, "--resume")
    assert f"{tmp_path}: a folder; expected a TOML file" in refused("run", tmp_path)


def test_an_output_that_is_a_file_or_is_locked_is_told(
    refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is not replaced even if told to; root, whom no lock binds, is refused by the call."""
    file, taken = write(tmp_path / "mine.toml", TEXT), write(tmp_path / "taken", "mine")
    for option in ((), ("--overwrite",), ("--resume",)):
        said = refused("run", file, "--out", taken, *option)
        assert f"{taken}: is a file; the output must be a folder" in said
    assert taken.read_text() == "mine"
    original = Path.open

    def refuse(self: Path, mode: str = "r", *words: Any, **options: Any) -> Any:
        if "locked" in str(self) and "w" in mode:
            raise PermissionError(13, "Permission denied", str(self))
        return original(self, mode, *words, **options)

    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    monkeypatch.setattr(Path, "open", refuse)
    assert f"{locked}: cannot be written (Permission denied" in refused(
        "run", file, "--out", locked
    )


def _npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def _with_member(path: Path, header: bytes, data: bytes, compress: bool = False) -> Path:
    """An archive whose `inputs` have a header and data that need not agree."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else 0) as archive:
        text = header + b" " * (-(len(header) + 11) % 64) + b"\n"
        length = len(text).to_bytes(2, "little")
        archive.writestr("inputs.npy", b"\x93NUMPY\x01\x00" + length + text + data)
        archive.writestr("targets.npy", b"")
    return path


class _Harm:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harm",)


def hostile_data(folder: Path) -> list[tuple[dict[str, Any], str]]:
    """Data tables whose files are hostile, and what is said of each."""
    harm, ones = np.array([_Harm(), 1], object), np.ones(2)
    huge = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,)}" % 2**50
    negative = b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -8)}"
    files = [
        (_npz(folder / "o.npz", inputs=harm, targets=ones), "it holds Python objects"),
        (_npz(folder / "n.npz", inputs=np.array([1, np.nan]), targets=ones), "inputs must be fin"),
        (_npz(folder / "t.npz", inputs=ones, targets=np.array([0.5, np.inf])), "targets must be f"),
        (_npz(folder / "s.npz", inputs=np.zeros(2, "i4,O"), targets=ones), "Python objects"),
        (_with_member(folder / "h.npz", huge, b"12345678"), "its header promises"),
        (_with_member(folder / "m.npz", negative, b"12345678" * 8), "inputs of"),
        (_with_member(folder / "e.npz", b"__import__('os').mkdir('harm')", b""), "inputs of"),
        (_with_member(folder / "b.npz", b"(" * 60_000, b""), "inputs of"),
    ]
    cut = folder / "c.npz"
    cut.write_bytes(files[0][0].read_bytes()[:150])
    files.append((cut, "cannot be read"))
    tables: list[tuple[dict[str, Any], str]] = [
        ({"kind": "npz", "path": str(path)}, says) for path, says in files
    ]
    for name, batch, says in (
        ("command", {"data": _Harm(), "labels": [0]}, "which no batch needs"),
        ("object", {"data": harm, "labels": [0]}, "dtype 'O8', not of numbers"),
        ("float", {"data": np.full((1, 3072), np.nan), "labels": [0]}, "data must be uint8"),
        (
            "nested",
            {"data": np.zeros((1, 3072), np.uint8), "labels": [[0]]},
            "labels one or a list",
        ),
        ("large", {"data": np.zeros((1, 3072), np.uint8), "labels": [2**70]}, "labels one or a"),
    ):
        write_folder(folder / name)
        (folder / name / "data_batch_1").write_bytes(pickle.dumps(batch, 2))
        tables.append(({"kind": "cifar10", "folder": str(folder / name), "examples": 1}, says))
    return tables


def test_hostile_data_are_refused_and_nothing_in_them_runs(
    refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of the table and the file are named."""
    monkeypatch.chdir(tmp_path)
    for data, says in hostile_data(tmp_path):
        potential = {**NETWORK["potential"], "data": data}
        file = write(tmp_path / "mine.toml", tomli_w.dumps({**NETWORK, "potential": potential}))
        said = refused("run", file, "--out", tmp_path / "run")
        assert said.startswith(f"error: {file}: potential.data: ")
        assert data.get("path", data.get("folder")) in said
        assert says in said
    assert not (tmp_path / "harm").exists()
    assert not (tmp_path / "run").exists()


def test_a_member_of_more_bytes_than_may_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an archive of a few kilobytes may have, of nothing but zeros."""
    from potentials import load_npz
    from potentials.data import cifar10, npz

    path = tmp_path / "zeros.npz"
    np.savez_compressed(path, inputs=np.zeros(10**6), targets=np.zeros(10**6))
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(npz, "_MOST_BYTES", 10**6)
    with pytest.raises(ValueError, match="it has 8000128 bytes, an array may have at most 1000000"):
        load_npz(path)
    from potentials import load_cifar10

    write_folder(tmp_path)
    monkeypatch.setattr(cifar10, "_MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"data_batch_1 is no .* a batch may have at most 1000"):
        load_cifar10(tmp_path)
