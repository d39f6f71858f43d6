"""The comparison with the peer says what it lacks; it is run where a checkout and torch are."""

import io
import sys

import pytest
from rich.console import Console

from benchmarks import peer


@pytest.fixture
def checkout(tmp_path):
    """A folder that looks like the peer's checkout, but whose modules are empty."""
    (tmp_path / "src").mkdir()
    for module in ("processes", "datasets", "functional"):
        (tmp_path / "src" / f"{module}.py").touch()
    return tmp_path


def _sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command, which has to fail as a wrong use with one line on stderr, and return it."""
    assert peer.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out.strip() == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("arguments", [[], ["--", ""]])
def test_without_a_path_it_asks_for_one(arguments, capsys):
    """`make bench-peer` passes an empty word on."""
    message = _sentence(arguments, capsys)
    assert "PEER must be the path of a checkout" in message
    assert "none was given" in message


def test_a_path_that_is_no_checkout_is_named(tmp_path, capsys):
    """The sentence tells a folder without the peer's files from no folder at all."""
    assert f"{str(tmp_path)!r} has no such file" in _sentence([str(tmp_path)], capsys)
    nowhere = str(tmp_path / "nowhere")
    assert f"{nowhere!r} is no folder" in _sentence([nowhere], capsys)


def test_missing_packages_are_named_with_the_command_that_installs_them(
    checkout, capsys, monkeypatch
):
    """Only those that are missing are named, whatever this environment has."""
    monkeypatch.setattr(peer, "find_spec", lambda name: None if name == "torch" else object())
    message = _sentence([str(checkout)], capsys)
    assert "needs torch, which" in message
    assert message.endswith("install -c constraints.txt torch`.\n")


def test_another_version_of_the_peer_is_refused(checkout, capsys, monkeypatch):
    """A name that is missing is in the sentence, and nothing of the peer stays imported."""
    monkeypatch.setattr(peer, "find_spec", lambda name: object())
    before = list(sys.path)
    assert "src.loss_criterion" in _sentence([str(checkout)], capsys)
    assert sys.path == before
    assert not any(name.split(".")[0] == "src" for name in sys.modules)


def test_steps_are_whole_numbers(capsys):
    """A wrong number of steps is usage, exit code 2."""
    with pytest.raises(SystemExit) as stop:
        peer.main(["somewhere", "--steps", "0"])
    assert stop.value.code == 2
    assert "must be a whole number >= 1, got '0'" in capsys.readouterr().err


def test_the_table_has_the_ratio_and_the_distance_of_each_row():
    """A row without eigenvalues shows a dash."""
    console = Console(file=io.StringIO(), width=120)
    console.print(peer.table([peer.Comparison("a flow", 1.0, 9.0, 4.0, 0.5, None)], 60))
    (line,) = [line for line in console.file.getvalue().splitlines() if "a flow" in line]
    cells = [cell.strip() for cell in line.split("│")[1:-1]]
    assert cells == ["a flow", "1", "4", "0.25", "9", "0.5", "-"]
