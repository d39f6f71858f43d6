"""How the rooms of `experiments` may depend on each other, read from their imports."""

import ast
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"

# A room may import those of lower floors, and modules of its own. The command line is on top.
FLOORS = (
    ("system", "compare", "uncertainty"),
    ("store", "panel"),
    ("tables",),
    ("studies",),
    ("config",),
    ("run_directory", "validation"),
    ("report",),
    ("runs",),
    ("sweep",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a module imports from, at its top or within a function."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 2:
            modules += [node.module] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules += [node.module.removeprefix("experiments.")]
    return {module.split(".")[0] for module in modules} & FLOOR.keys()


def test_every_room_has_a_floor() -> None:
    """A new room gets its floor here."""
    assert {path.parent.name for path in EXPERIMENTS.glob("*/*.py")} == set(FLOOR)


@pytest.mark.parametrize("room", FLOOR)
def test_a_room_imports_only_from_lower_floors(room: str) -> None:
    """Rooms on one floor do not know of each other, so that no two rooms form a circle."""
    for path in (EXPERIMENTS / room).glob("*.py"):
        for other in imported_rooms(path) - {room}:
            assert FLOOR[other] < FLOOR[room], f"{path.name} of {room} imports from {other}"


def test_what_compares_knows_no_config() -> None:
    """It takes and returns arrays, so that single runs and batches can share it."""
    assert set().union(*map(imported_rooms, (EXPERIMENTS / "compare").glob("*.py"))) <= {"compare"}
