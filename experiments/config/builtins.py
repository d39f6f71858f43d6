"""The experiments that come with the package: their names, descriptions and files."""

import difflib
import importlib.resources
import tomllib
from importlib.resources.abc import Traversable


def _folder() -> Traversable:
    return importlib.resources.files("experiments") / "configs"


def builtin_names() -> tuple[str, ...]:
    """Return the names of the built-in experiments, sorted.

    Example:
        >>> from experiments import builtin_names
        >>> "central-valley" in builtin_names()
        True
    """
    entries = (entry.name for entry in _folder().iterdir())
    return tuple(sorted(name[: -len(".toml")] for name in entries if name.endswith(".toml")))


def builtin_descriptions() -> dict[str, str]:
    """Return the one-line description of each built-in experiment, by name.

    Only the TOML is read: nothing is validated, so that this takes milliseconds.
    """
    return {name: tomllib.loads(builtin_text(name))["description"] for name in builtin_names()}


def builtin_text(name: str) -> str:
    """Return the TOML of a built-in experiment."""
    return (_folder() / f"{name}.toml").read_text("utf-8")


def no_such_builtin(name: str) -> str:
    """Say that there is no built-in experiment of a name, and what there is."""
    names = builtin_names()
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return (
        f"no built-in experiment of this name{hint} (built in: {', '.join(names)}; "
        "a file's name ends in .toml)"
    )
