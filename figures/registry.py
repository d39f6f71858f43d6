"""Which figures there are, and what each needs of a run, known without importing matplotlib."""

import ast
import dataclasses
import functools
import importlib
import importlib.resources
from collections.abc import Callable
from typing import Any

# From an xarray DataTree to a matplotlib Figure; neither is imported here.
Draw = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a config must ask for so that a figure has its data.

    Attributes:
        flow: The kind of flow that must be among the flows; empty if any will do.
        study: The kind of study that it draws; empty if it draws an experiment or a sweep.
        sweep: True if it draws a sweep as a whole.
        curvature: True if the eigenvalues of the Hessian must be measured.
        measurement: The kind of measurement that must be among `[[measurements]]`; empty if none.
        params: True if the parameters must be saved.
        size: The number of parameters that it draws; 0 if any will do.
        several: True if it can draw several runs in one.
    """

    flow: str = ""
    study: str = ""
    sweep: bool = False
    curvature: bool = False
    measurement: str = ""
    params: bool = False
    size: int = 0
    several: bool = False


_REGISTERED: dict[str, tuple[Needs, Draw]] = {}


def figure(name: str, *, needs: Needs = Needs()) -> Callable[[Draw], Draw]:
    """Register a function as the figure of a name.

    In the package `figures` both arguments must be literals, `needs` a call of `Needs`: they are
    read from the source where only names and needs are asked for. A function registered elsewhere,
    by a plugin, is known as soon as its module is imported.

    Args:
        name: What a config and the command line call the figure.
        needs: What it needs of a run.

    Returns:
        A decorator that returns the function as it is.

    Raises:
        ValueError: If there is a figure of that name already.

    Example:
        >>> from figures import registry
        >>> from matplotlib.figure import Figure
        >>> @registry.figure("empty", needs=registry.Needs(params=True))
        ... def draw(tree):
        ...     return Figure()
        >>> registry.known()["empty"].params
        True
        >>> registry.forget("empty")
    """

    def register(draw: Draw) -> Draw:
        before = _REGISTERED.get(name)
        home = (draw.__module__, draw.__qualname__)
        if before is not None and (before[1].__module__, before[1].__qualname__) != home:
            raise ValueError(f"name must be a new one; there is a figure {name!r} already.")
        if before is None and name in _own() and not draw.__module__.startswith("figures."):
            raise ValueError(f"name must be a new one; there is a figure {name!r} already.")
        _REGISTERED[name] = (needs, draw)
        return draw

    return register


def forget(name: str) -> None:
    """Take a figure that was registered out again, so that its name is free."""
    _REGISTERED.pop(name, None)


def known() -> dict[str, Needs]:
    """Return what each figure needs, by name, without importing the module that draws it.

    The package's own figures are in the order of its modules' names, and followed by those that
    plugins registered.
    """
    own = {name: needs for name, (_, needs) in _own().items()}
    return {**own, **{name: needs for name, (needs, _) in _REGISTERED.items()}}


def find(name: str) -> Draw:
    """Return the function that draws a figure, importing its module if that is not yet done.

    Raises:
        KeyError: If there is no such figure.
    """
    if name not in _REGISTERED:
        module, _ = _own()[name]
        importlib.import_module(f"figures.{module}")
    return _REGISTERED[name][1]


@functools.cache
def _own() -> dict[str, tuple[str, Needs]]:
    """Return the module and the needs of each figure of this package, read from the sources."""
    found: dict[str, tuple[str, Needs]] = {}
    folder = importlib.resources.files("figures")
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py") and "\n@figure(" in (text := file.read_text("utf-8")):
            for node in ast.parse(text).body:
                for call in getattr(node, "decorator_list", []):
                    if isinstance(call, ast.Call) and ast.unparse(call.func) == "figure":
                        name = ast.literal_eval(call.args[0])
                        found[name] = (file.name.removesuffix(".py"), _needs(call))
    return found


def _needs(call: ast.Call) -> Needs:
    """Read `Needs(...)` from the decorator's call."""
    for argument in call.keywords:
        if argument.arg == "needs" and isinstance(argument.value, ast.Call):
            given = {str(k.arg): ast.literal_eval(k.value) for k in argument.value.keywords}
            return Needs(**given)
    return Needs()
