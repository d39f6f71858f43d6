"""How the rooms of `flows` may depend on each other, read from their imports."""

import ast
from pathlib import Path

import pytest

FLOWS = Path(__file__).parent.parent / "flows"

# A room may import those of lower floors, and modules of its own.
FLOORS = (
    ("core",),
    ("linear_algebra", "solvers", "optimizers"),
    ("curvature",),
    ("gradient", "central", "rod", "ball", "mechanics"),
    ("measurements",),
    ("runs",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a module imports from, by relative imports."""
    nodes = ast.walk(ast.parse(path.read_text()))
    modules = [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom) and n.level == 2]
    return {module.split(".")[0] for module in modules}


def test_every_room_has_a_floor():
    """A new room is given its floor here."""
    assert {path.parent.name for path in FLOWS.glob("*/*.py")} == set(FLOOR)


@pytest.mark.parametrize("room", FLOOR)
def test_a_room_imports_from_lower_floors_alone(room):
    """Rooms on one floor know nothing of each other."""
    for path in (FLOWS / room).glob("*.py"):
        for other in imported_rooms(path) - {room}:
            assert FLOOR[other] < FLOOR[room], f"{path.name} of {room} imports from {other}"


def test_no_file_lies_beside_the_rooms():
    """The top of the package holds the public names and the map alone."""
    assert {path.name for path in FLOWS.glob("*.py")} == {"__init__.py"}
