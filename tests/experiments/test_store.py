"""The results store: what it promises at every moment of a run."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from experiments import DirectoryError, load
from experiments.runs.task import earlier_store
from experiments.store.store import RESULTS_FOLDER, Store
from experiments.system.errors import DamagedError
from tests.experiments.configs import values

LENGTH = 11


def rows(start: int, stop: int, step_dtype: Any = np.int32) -> xr.Dataset:
    """Rows `start` to `stop` of a trajectory with a scalar, a vector and parameters."""
    steps = np.arange(start, stop, dtype=step_dtype)
    loss = {"units": "loss", "long_name": "loss at the parameters"}
    return xr.Dataset(
        {
            "loss": ("step", steps.astype(np.float32) ** 2, loss),
            "eigenvalues": (("step", "mode"), np.ones((stop - start, 2)) * steps[:, None]),
            "params": (("step", "parameter"), np.ones((stop - start, 3)) * steps[:, None]),
        },
        {"step": ("step", steps, {"units": "optimizer steps"})},
        {"label": "discrete"},
    )


def ground(count: int) -> xr.Dataset:
    """A group that is no trajectory."""
    return rows(0, count).drop_vars("step").rename_dims(step="x0")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.create(tmp_path / RESULTS_FOLDER, {"name": "mine", "status": "running"})


def test_pieces_come_back_as_the_whole(store: Store) -> None:
    """Values, types, dimensions and attributes survive, whatever the pieces."""
    for start, stop in ((0, 1), (1, 6), (6, LENGTH)):
        store.append("discrete", rows(start, stop), LENGTH)
    store.finish({"status": "finished", "learning_rate": 0.1})
    tree = load(store.path.parent)
    xr.testing.assert_identical(tree["discrete"].to_dataset(), rows(0, LENGTH))
    assert tree.attrs == {"name": "mine", "status": "finished", "learning_rate": 0.1}


def test_plain_xarray_opens_a_finished_store(store: Store) -> None:
    """Also one that stopped early: no row is left that was laid out and not written."""
    store.append("discrete", rows(0, 4), LENGTH)
    store.finish({"status": "diverged"})
    with xr.open_datatree(store.path, engine="zarr") as tree:
        assert tree["discrete"].sizes["step"] == 4
        np.testing.assert_array_equal(values(tree, "discrete", "step"), np.arange(4))


def test_arrays_have_their_final_length_from_the_start(store: Store) -> None:
    """An append writes chunks and no metadata of arrays."""
    store.append("discrete", rows(0, 1), LENGTH)
    assert zarr.open_array(store.path / "discrete" / "params", mode="r").shape == (LENGTH, 3)
    before = (store.path / "discrete" / "loss" / "zarr.json").stat().st_mtime_ns
    store.append("discrete", rows(1, 5), LENGTH)
    assert (store.path / "discrete" / "loss" / "zarr.json").stat().st_mtime_ns == before


def test_chunks_do_not_follow_the_appends(store: Store) -> None:
    """Many small appends leave one file per array, not one per append."""
    for step in range(LENGTH):
        store.append("discrete", rows(step, step + 1), LENGTH)
    files = [path for path in (store.path / "discrete" / "loss" / "c").rglob("*") if path.is_file()]
    assert len(files) == 1


def test_a_running_store_is_readable(store: Store) -> None:
    """What was appended is there, what was only laid out is not."""
    store.append("discrete", rows(0, 5), LENGTH)
    assert load(store.path.parent)["discrete"].sizes["step"] == 5


def test_a_row_exists_if_and_only_if_its_step_is_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between two variables leaves no half row, and the next append heals it."""
    store.append("discrete", rows(0, 3), LENGTH)

    def crash(self: Any, key: Any, value: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(type(store._arrays["discrete"]["params"]), "__setitem__", crash)
        with pytest.raises(OSError, match="no space"):
            store.append("discrete", rows(3, 6), LENGTH)
    assert load(store.path.parent)["discrete"].sizes["step"] == 3
    again = Store.open(store.path)
    assert again.rows("discrete") == 3
    again.append("discrete", rows(3, LENGTH), LENGTH)
    again.finish({})
    xr.testing.assert_equal(load(store.path)["discrete"].to_dataset(), rows(0, LENGTH))


def test_rows_can_be_taken_back(store: Store) -> None:
    """As a resumed run does with the rows after its checkpoint, finished or not."""
    store.append("discrete", rows(0, 8), LENGTH)
    store.finish({"status": "finished"})
    again = Store.open(store.path)
    again.reopen(LENGTH)
    again.truncate("discrete", 5)
    assert load(store.path)["discrete"].sizes["step"] == 5
    again.append("discrete", rows(5, LENGTH), LENGTH)
    again.finish({"status": "finished"})
    with xr.open_datatree(store.path, engine="zarr") as tree:
        xr.testing.assert_equal(tree["discrete"].to_dataset(), rows(0, LENGTH))


def test_a_flows_own_time_may_be_a_float(store: Store) -> None:
    """Physical time has no whole steps; unwritten rows are nan then."""
    store.append("fall", rows(0, 4, np.float64), LENGTH)
    tree = load(store.path.parent)
    assert tree["fall"]["step"].dtype == np.float64
    assert tree["fall"].sizes["step"] == 4


def test_rows_that_do_not_fit_are_refused(store: Store) -> None:
    """Other variables than before, or more rows than the run has."""
    store.append("discrete", rows(0, 4), LENGTH)
    with pytest.raises(DirectoryError, match=r"discrete has the variables .* the run gives"):
        store.append("discrete", rows(4, 5).drop_vars("loss"), LENGTH)
    with pytest.raises(ValueError, match="laid out for 11"):
        store.append("discrete", rows(4, LENGTH + 1), LENGTH)


def test_what_is_not_finite_is_no_attribute(store: Store) -> None:
    """JSON knows neither nan nor None: such an attribute is absent."""
    store.update("", {"critical_sharpness": float("nan"), "message": None, "seed": np.int32(3)})
    assert store.attributes() == {"name": "mine", "status": "running", "seed": 3}


def test_a_link_or_a_file_in_place_of_results_is_refused(tmp_path: Path, store: Store) -> None:
    """Nothing outside the folder is read, written or deleted through a link."""
    from experiments.store.store import remove

    link = tmp_path / "elsewhere" / RESULTS_FOLDER
    link.parent.mkdir()
    link.symlink_to(store.path)
    for action in (load, Store.open, remove):
        with pytest.raises(DirectoryError, match="is a link"):
            action(link)
    with pytest.raises(DirectoryError, match="is a link"):
        load(link.parent)
    link.unlink()
    link.write_text("no folder")
    with pytest.raises(DirectoryError, match="is a file"):
        load(link.parent)
    with pytest.raises(DirectoryError, match="no such folder"):
        load(tmp_path / "nowhere")


def test_results_of_another_program_are_refused(tmp_path: Path) -> None:
    """A tree of any other origin."""
    foreign = xr.DataTree.from_dict({"/a": xr.Dataset({"x": ("t", [1.0])})})
    foreign.to_zarr(tmp_path / RESULTS_FOLDER, consolidated=False)
    with pytest.raises(DirectoryError, match="no results of an eosflows run"):
        load(tmp_path)


def test_a_store_has_its_attributes_from_its_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill right after the group was made leaves one of ours, with which a run goes on."""
    marks = {"name": "mine", "status": "running"}
    create = zarr.create_group

    def create_and_die(*arguments: Any, **options: Any) -> None:
        create(*arguments, **options)
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(zarr, "create_group", create_and_die)
        with pytest.raises(RuntimeError, match="killed"):
            Store.create(tmp_path / RESULTS_FOLDER, marks)
    earlier = earlier_store(tmp_path)
    assert earlier is not None
    assert earlier.attributes() == marks
    assert load(tmp_path).attrs == marks


def test_a_folder_in_which_nothing_was_written_yet_is_no_store(tmp_path: Path) -> None:
    """A run begins again then; but where only the metadata are lost it says so."""
    path = tmp_path / RESULTS_FOLDER
    assert earlier_store(tmp_path) is None
    path.mkdir()
    assert earlier_store(tmp_path) is None
    (path / "zarr.0123.partial").write_text("{")
    assert earlier_store(tmp_path) is None
    (path / "part").mkdir()
    with pytest.raises(DirectoryError, match="not a readable results store"):
        earlier_store(tmp_path)


def test_a_label_may_end_as_a_torn_file_does(store: Store) -> None:
    """Of the two only the file is removed."""
    store.append("a.partial", rows(0, 4), LENGTH)
    torn = store.path / "a.partial" / "loss" / "zarr.0123.partial"
    torn.write_text("{")
    again = Store.open(store.path)
    again.reopen(LENGTH)
    assert not torn.exists()
    assert again.rows("a.partial") == 4


def test_a_damaged_chunk_is_told(store: Store) -> None:
    """As an error about the store, whatever the codec raises."""
    store.append("discrete", rows(0, LENGTH), LENGTH)
    store.finish({})
    chunk = store.path / "discrete" / "loss" / "c" / "0"
    chunk.write_bytes(chunk.read_bytes()[:5])
    with pytest.raises(DirectoryError, match="cannot be read"):
        load(store.path.parent)


def test_a_torn_chunk_is_found_before_a_run_goes_on(store: Store) -> None:
    """By the array's name; without its steps a store cannot even be opened."""
    store.append("discrete", rows(0, 4), LENGTH)
    store.write("landscape", ground(2))
    store.check()
    for name in ("loss", "step"):
        chunk = store.path / "discrete" / name / "c" / "0"
        chunk.write_bytes(chunk.read_bytes()[:5])
        with pytest.raises(DirectoryError, match="discrete/loss is damaged"):
            store.check()
    with pytest.raises(DirectoryError, match="not a readable results store"):
        Store.open(store.path)


@pytest.mark.filterwarnings("ignore:Object at .* is not recognized")
@pytest.mark.parametrize("group", ["landscape", "discrete"])
def test_a_group_whose_deletion_was_cut_short_is_replaced(group: str, store: Store) -> None:
    """Of which the arrays are left, and not what makes them a group."""
    store.append("discrete", rows(0, 4), LENGTH)
    store.write("landscape", ground(2))
    (store.path / group / "zarr.json").unlink()
    again = Store.open(store.path)
    again.write("landscape", ground(3))
    again.append("discrete", rows(0 if group == "discrete" else 4, 6), LENGTH)
    assert load(store.path)["landscape"].sizes["x0"] == 3
    xr.testing.assert_equal(load(store.path)["discrete"].to_dataset(), rows(0, 6))


def test_a_group_that_is_written_at_once_is_there_in_one_piece(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader, or a run that goes on after a kill, finds the earlier one."""
    earlier, later = (rows(0, count).drop_vars("params") for count in (2, 3))
    store.write("sweep", earlier)

    def kill(*arguments: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(zarr.Array, "__setitem__", kill)
        with pytest.raises(RuntimeError, match="killed"):
            store.write("sweep", later)
    xr.testing.assert_identical(load(store.path)["sweep"].to_dataset(), earlier)
    assert set(load(store.path).children) == {"sweep"}
    again = Store.open(store.path)
    again.reopen()
    assert {entry.name for entry in store.path.iterdir()} == {"sweep", "zarr.json"}
    again.write("sweep", later)
    xr.testing.assert_identical(load(store.path)["sweep"].to_dataset(), later)


def test_a_store_is_readable_while_it_is_laid_out_and_resized(store: Store) -> None:
    """One array after the other: no row is there that was not written, and none is missing."""
    discrete = store.path / "discrete"
    store.append("discrete", rows(0, 4), LENGTH)
    for length in (LENGTH + 5, 4):
        zarr.open_array(discrete / "loss", mode="r+").resize((length,))
        xr.testing.assert_equal(load(store.path)["discrete"].to_dataset(), rows(0, 4))
    shutil.rmtree(discrete / "step")
    assert load(store.path)["discrete"].sizes["step"] == 0


@pytest.mark.parametrize(
    ("error", "damaged"), [(PermissionError("not yours"), False), (FileNotFoundError("gone"), True)]
)
def test_what_the_file_system_refuses_is_not_called_damaged(
    error: OSError, damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be whole, so that nothing is begun anew for it."""
    path = tmp_path / RESULTS_FOLDER
    Store.create(path, {"name": "mine", "status": "running"})

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(zarr, "open_group", refuse)
    with pytest.raises(DirectoryError, match="not a readable results store") as caught:
        Store.open(path)
    assert isinstance(caught.value, DamagedError) is damaged
