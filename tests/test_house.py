"""The rules of the house, read from the source: arrows, types, classes, tracebacks."""

import ast
import traceback
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import flows

ROOT = Path(__file__).parent.parent
FLOWS = ROOT / "flows"
PACKAGES = ("potentials", "flows", "experiments", "figures")

# A room may import those of lower floors, and modules of its own.
FLOORS = (
    ("core",),
    ("linear_algebra", "solvers", "optimizers"),
    ("curvature",),
    (
        "gradient",
        "central",
        "rod",
        "oscillation",
        "edge",
        "ball",
        "glass",
        "manifolds",
        "mechanics",
    ),
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
def test_a_room_imports_only_from_lower_floors(room):
    """Rooms on one floor know nothing of each other."""
    for path in (FLOWS / room).glob("*.py"):
        for other in imported_rooms(path) - {room}:
            assert FLOOR[other] < FLOOR[room], f"{path.name} of {room} imports from {other}"


def test_no_file_lies_beside_the_rooms():
    """The top of the package holds only the public names and the map."""
    assert {path.name for path in FLOWS.glob("*.py")} == {"__init__.py"}


def modules(*packages: str) -> Iterator[tuple[Path, ast.Module]]:
    """The syntax tree of each module of some packages."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def public_arguments(node: ast.Module | ast.ClassDef) -> Iterator[ast.arg]:
    """The arguments of public functions and methods, constructors and calls among them."""
    for child in node.body:
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from public_arguments(child)
        elif isinstance(child, ast.FunctionDef) and (
            not child.name.startswith("_") or child.name in ("__init__", "__call__")
        ):
            given = child.args
            for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs):
                if argument.arg not in ("self", "cls"):
                    yield argument


def test_few_public_arguments_may_be_anything():
    """At most one in twenty is annotated with a bare `Any`, or not at all."""
    arguments = [a for _, tree in modules(*PACKAGES) for a in public_arguments(tree)]
    anything = [a for a in arguments if a.annotation is None or name_of(a.annotation) == "Any"]
    assert len(anything) <= 0.05 * len(arguments), f"{len(anything)} of {len(arguments)}"


def name_of(node: ast.expr) -> str:
    """The last part of a dotted name, without what is in brackets behind it."""
    if isinstance(node, ast.Subscript):
        return name_of(node.value)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


CLASSES = [
    (path, node)
    for path, tree in modules("potentials", "flows")
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef)
]
OWN = {node.name for _, node in CLASSES}


def test_a_concrete_class_is_final():
    """A class of ours is a base only if its name says that it is abstract."""
    for path, node in CLASSES:
        bases = {name_of(base) for base in node.bases} & OWN
        concrete = {base for base in bases if not base.lstrip("_").startswith("Abstract")}
        assert not concrete, f"{path}: {node.name} is a subclass of {', '.join(concrete)}"


def test_an_abstract_class_implements_nothing():
    """Each of its methods and properties is abstract; fields of the class may have defaults."""
    for path, node in CLASSES:
        if node.name.lstrip("_").startswith("Abstract"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    decorators = {name_of(decorator) for decorator in method.decorator_list}
                    assert "abstractmethod" in decorators, f"{path}: {node.name}.{method.name}"


@pytest.mark.parametrize("room", ["gradient", "central", "rod", "ball"])
def test_a_flow_takes_the_threshold_from_its_optimizer(room):
    """No flow asks for the class `GradientDescent`, or divides 2 by a learning rate."""
    for path in (FLOWS / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and name_of(node.func) == "isinstance":
                classes = {name_of(n) for n in ast.walk(node.args[1]) if isinstance(n, ast.expr)}
                assert "GradientDescent" not in classes, f"{path.name}:{node.lineno}"
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                two = isinstance(node.left, ast.Constant) and node.left.value in (2, 2.0)
                assert not (two and "learning_rate" in ast.unparse(node.right)), (
                    f"{path.name}:{node.lineno}"
                )


def test_a_potential_that_raises_has_a_short_traceback():
    """At most nine of our functions lie between a user's `simulate` and the loss."""
    chains = []

    def loss(w):
        # `extract_stack` would read the source of each frame too.
        files = [Path(frame.f_code.co_filename) for frame, _ in traceback.walk_stack(None)]
        chains.append(sum(path.is_relative_to(FLOWS) for path in files))
        return 0.5 * jnp.sum(jnp.asarray([1.0, 2.0]) * w**2) + 0.1 * w[0] ** 4

    flow = flows.CentralFlow(flows.GradientDescent(0.3))
    # The loss is called while a run is traced: nothing has to be compiled.
    jax.eval_shape(lambda w: flows.simulate(flow, loss, w, 3).params, jnp.ones(2))
    assert 0 < max(chains) <= 9
