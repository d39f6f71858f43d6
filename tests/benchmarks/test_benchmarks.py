"""The benchmark table works; what it measures depends on the machine and is not tested here."""

import io
import json

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

import benchmarks.__main__ as command
from benchmarks.memory import planned_bytes
from benchmarks.report import as_json, table
from benchmarks.rows import ROWS, Measured, Outcome, Row, row, run_row
from benchmarks.timing import interleaved


@pytest.fixture
def tiny():
    """A row that is registered for the duration of one test."""
    row("tiny", target=2.0, compares="one / two")(lambda: Measured(0.5, {"things": 3.0}))
    yield ROWS["tiny"]
    del ROWS["tiny"]


def _fails() -> Measured:
    raise RuntimeError("nothing to measure")


def _printed(outcomes: list[Outcome]) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(table(outcomes))
    return console.file.getvalue()


def test_every_claim_about_cost_has_a_row():
    """The rows that the project promises are registered."""
    promised = {"iterate", "simulate", "eigenpairs-memory", "import-flows", "list"}
    assert promised <= set(ROWS)
    assert any(name.startswith("tracking") for name in ROWS)


def test_the_table_tells_met_from_missed_and_broken():
    """Each outcome shows its name, its ratio and its verdict."""
    outcomes = [
        Outcome(Row("quick", 1.1, "a / b", _fails), Measured(1.0)),
        Outcome(Row("slow", 1.1, "a / b", _fails), Measured(1.2)),
        run_row(Row("broken", 1.1, "a / b", _fails)),
    ]
    assert [outcome.met for outcome in outcomes] == [True, False, False]
    lines = _printed(outcomes).splitlines()
    for name, word in [("quick", "pass"), ("slow", "FAIL"), ("broken", "nothing to measure")]:
        assert any(name in line and word in line for line in lines)


def test_one_row_runs_from_the_command_line(tiny, tmp_path, capsys):
    """The named row alone runs, and its numbers are in the JSON file."""
    file = tmp_path / "found.json"
    assert command.main([tiny.name, "--json", str(file)]) == 0
    assert "tiny" in capsys.readouterr().out
    (found,) = json.loads(file.read_text())["rows"]
    assert (found["ratio"], found["met"], found["details"]) == (0.5, True, {"things": 3.0})


def test_a_missed_target_is_no_error_but_an_exception_is():
    """The exit code tells a row that raised; a miss is only in the table."""
    row("missed", target=0.1, compares="")(lambda: Measured(1.0))
    row("broken", target=0.1, compares="")(_fails)
    try:
        assert command.main(["missed"]) == 0
        assert command.main(["missed", "broken"]) == 1
    finally:
        del ROWS["missed"], ROWS["broken"]


def test_an_unknown_row_is_named_with_a_suggestion(capsys):
    """A misspelt name is usage, exit code 2."""
    with pytest.raises(SystemExit) as stop:
        command.main(["iterat"])
    assert stop.value.code == 2
    assert "did you mean 'iterate'?" in capsys.readouterr().err


def test_a_name_can_be_registered_once(tiny):
    """A second row of the same name would hide the first."""
    with pytest.raises(ValueError, match="tiny"):
        row(tiny.name, target=1.0, compares="")


def test_json_keeps_what_a_row_could_not_measure():
    """An error is a field, and the ratio null."""
    outcome = run_row(Row("broken", 1.1, "a / b", _fails))
    (found,) = json.loads(as_json([outcome], {"device": "cpu"}))["rows"]
    assert found["ratio"] is None
    assert "nothing to measure" in found["error"]


def test_planned_bytes_count_results_and_temporaries_but_not_arguments():
    """An outer product of two vectors needs its matrix, whatever the vectors' size."""
    vector = jax.ShapeDtypeStruct((256,), jnp.float32)
    needed = planned_bytes(lambda x, y: jnp.outer(x, y), vector, vector)
    assert 256 * 256 * 4 <= needed < 2 * 256 * 256 * 4


def test_functions_are_timed_in_turn_after_one_call_each():
    """The order is A B, then A B for each repeat."""
    calls = []
    times = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert "".join(calls) == "ababab"
    assert set(times) == {"a", "b"}
    assert min(times.values()) >= 0
