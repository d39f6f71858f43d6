"""The pages of the API: a directive of mkdocstrings for each public name, by package and room."""

import functools
import importlib
import inspect
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import griffe

PACKAGES = ("flows", "potentials", "experiments", "figures")


def home(package: str, name: str) -> str:
    """Return the module in which a public name is defined, or the package for a constant."""
    value = getattr(importlib.import_module(package), name)
    module = getattr(value, "__module__", None) or ""
    return module if module.startswith(f"{package}.") else _assigned_in(package, name)


def _assigned_in(package: str, name: str) -> str:
    """Return the module from which a package imports a constant, which does not know it itself."""
    found = _read(package)[name]
    return found.target_path.rpartition(".")[0] if found.is_alias else package


@functools.cache
def _read(package: str) -> "griffe.Object | griffe.Alias":
    import griffe

    return griffe.load(package)


def rooms() -> dict[str, list[str]]:
    """Return the public names of each room, as `package.name`, in the order of `__all__`.

    Only flows has rooms: the others are one.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for name in importlib.import_module(package).__all__:
            parts = home(package, name).split(".")
            room = f"{package}-{parts[1]}" if package == "flows" else package
            found[room].append(f"{package}.{name}")
    return found


def pages() -> dict[str, str]:
    """Return the Markdown of each page by its file's name."""
    by_room = rooms()
    written = {f"{room}.md": _page(room, names) for room, names in by_room.items()}
    return {**written, "index.md": _overview(by_room)}


def _title(room: str) -> str:
    return room.replace("-", ".", 1)


def _page(room: str, names: list[str]) -> str:
    directives = "\n\n".join(f"::: {name}" for name in names)
    return f"# {_title(room)}\n\n{directives}\n"


def _overview(by_room: dict[str, list[str]]) -> str:
    lines = [
        "# API",
        "",
        "Every public name, with the first sentence of its docstring. "
        "`help(flows)` has the map of the flows and their equations.",
        "",
    ]
    for room, names in by_room.items():
        lines += [f"## {_title(room)}", "", "| name | |", "| --- | --- |"]
        lines += [f"| [`{one}`][{one}] | {_summary(one)} |" for one in names]
        lines.append("")
    return "\n".join(lines)


def _summary(path: str) -> str:
    """Return the first sentence of a docstring on one line; nothing for a constant."""
    package, name = path.split(".")
    value = getattr(importlib.import_module(package), name)
    if not (inspect.isclass(value) or callable(value)):
        return ""
    text = (inspect.getdoc(value) or "").split("\n\n")[0]
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
