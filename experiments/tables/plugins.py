"""Kinds of a user's own: from a file that the command line names, or an installed package.

A config never names code: whoever runs a stranger's config runs none of the stranger's code. What a
run imported is noted beside its results by name and hash, so that it goes on with the same.
"""

import contextlib
import hashlib
import importlib.metadata
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..system.errors import NO_HOME, DirectoryError, UserError
from . import kinds

_T = TypeVar("_T")

GROUP = "eosflows.plugins"
"""The entry points of installed packages: modules that register kinds as they are imported."""


class Imported(NamedTuple):
    """A file that was imported for the kinds that it registers.

    Attributes:
        path: the file, absolute.
        sha256: the hash of its content.
        module: the name under which Python knows it.
        kinds: what it registered, each as "concept kind".
    """

    path: Path
    sha256: str
    module: str
    kinds: tuple[str, ...]


_files: dict[Path, Imported] = {}
_packages: dict[str, tuple[str, tuple[str, ...]]] = {}


def import_file(path: str | Path) -> Imported:
    """Import a Python file that registers kinds of its own for configs.

    Its folder is on `sys.path` while it is imported. A file that was imported before is imported
    again only if it has changed.

    Args:
        path: the file, whose name ends in `.py`.

    Returns:
        What was imported.

    Raises:
        UserError: if there is no such file, it is no Python, raises an error or registers nothing;
            the message names the file, and the line of an error.

    Example:
        >>> import pathlib, tempfile
        >>> from experiments import import_file
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "mine.py"
        >>> _ = file.write_text('''
        ... from experiments import register_potential
        ...
        ... class Bowl:
        ...     def __init__(self, steepness: float = 1.0):
        ...         self.steepness = steepness
        ...
        ... register_potential("bowl", Bowl)
        ... ''')
        >>> import_file(file).kinds
        ('potential bowl',)
    """
    kinds.discover()
    found, content = _read(path)
    digest = hashlib.sha256(content).hexdigest()
    before = _files.get(found)
    if before is not None and before.sha256 == digest:
        return before
    _forget(found)
    name = f"eosflows_import_{found.stem}_{hashlib.sha256(str(found).encode()).hexdigest()[:8]}"
    module = types.ModuleType(name)
    module.__file__ = str(found)
    sys.modules[name] = module
    sys.path.insert(0, str(found.parent))
    try:
        with kinds.registering(str(found)):
            exec(_compiled(content, found), module.__dict__)
        registered = kinds.registered(str(found))
        if not registered:
            message = "registers nothing; call experiments.register_potential or one of its like"
            raise UserError(f"{found}: {message} in it")
    except BaseException as error:
        kinds.forget(str(found))
        del sys.modules[name]
        if isinstance(error, UserError | KeyboardInterrupt):
            raise
        raise UserError(f"{found}: {_what(error, found)}") from error
    finally:
        sys.path.remove(str(found.parent))
    _files[found] = Imported(found, digest, name, registered)
    return _files[found]


@contextlib.contextmanager
def importing(paths: Sequence[str | Path]) -> Iterator[None]:
    """Import files for a block of code, after which their kinds are forgotten.

    Raises:
        UserError: as `import_file`.
    """
    before = set(_files)
    try:
        for path in paths:
            import_file(path)
        yield
    finally:
        for path in set(_files) - before:
            _forget(path)


def after_importing(paths: Sequence[str], function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a function after importing files: what a worker does, whose process has none yet."""
    for path in paths:
        import_file(path)
    return function(*arguments)


def imported_files() -> tuple[str, ...]:
    """The files that are imported now, for processes that are to do the same."""
    return tuple(map(str, _files))


def import_installed() -> None:
    """Import what installed packages offer as entry points of the group `eosflows.plugins`.

    Raises:
        UserError: if one cannot be imported; the message names the package.
    """
    for entry in importlib.metadata.entry_points(group=GROUP):
        package = entry.dist.name if entry.dist is not None else entry.value
        origin = f"the package {package}"
        try:
            with kinds.registering(origin):
                entry.load()
        except Exception as error:
            kinds.forget(origin)
            message = f"its plugin {entry.name!r} cannot be imported ({_what(error, None)})"
            raise UserError(f"{origin}: {message}; repair the package or uninstall it") from error
        version = entry.dist.version if entry.dist is not None else ""
        _packages[package] = (version, kinds.registered(origin))


def record(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Describe what was imported, for `environment.json`: names, kinds and hashes, but no code.

    Args:
        config: what runs, as plain tables; of installed packages those that it uses are described.
    """
    files = [
        {"file": one.path.name, "sha256": one.sha256, "kinds": list(one.kinds)}
        for one in _files.values()
    ]
    used = _words(config)
    packages = [
        {"package": name, "version": version, "kinds": list(registered)}
        for name, (version, registered) in _packages.items()
        if any(kind.partition(" ")[2] in used for kind in registered)
    ]
    return files + packages


def check_same(before: Any, config: Mapping[str, Any], path: Path) -> None:
    """Check that what is imported now is what an earlier part of a run had imported.

    Args:
        before: what `record` said then; None if that is not known.
        config: what is to go on, as plain tables; it need not be valid.
        path: the run directory.

    Raises:
        DirectoryError: if it differs; the message says in which file or package.
    """
    if not isinstance(before, list):
        return
    then, now = _identities(before), _identities(record(config))
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) == now.get(name):
            continue
        if name not in now:
            what = f"it ran with {name}: go on with the same"
        elif name not in then:
            what = f"it ran without {name}: leave that out"
        else:
            what = f"it ran with another {name} ({then[name]}, now {now[name]}): restore that"
        raise DirectoryError(
            f"{path}: cannot resume, {what}, replace the run (--overwrite) or choose another "
            "folder (--out)"
        )


def _identities(described: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What must not differ, by what each file and package is called."""
    found = {}
    for one in described:
        if "file" in one:
            found[f"--import {one['file']}"] = f"sha256 {one['sha256'][:12]}"
        else:
            found[f"the package {one['package']}"] = f"version {one['version']}"
    return found


def _words(value: Any) -> set[str]:
    """All texts in a config; the kinds are among them."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return {word for item in value for word in _words(item)}
    return {value} if isinstance(value, str) else set()


def _read(path: str | Path) -> tuple[Path, bytes]:
    try:
        found = Path(path).expanduser().absolute()
    except RuntimeError:
        raise UserError(f"--import {path}: {NO_HOME}") from None
    if not found.is_file():
        kind = "is a folder" if found.is_dir() else "there is no such file"
        raise UserError(f"--import {path}: {kind}; expected a Python file")
    if found.suffix != ".py":
        raise UserError(f"--import {path}: must be a Python file, whose name ends in .py")
    try:
        return found, found.read_bytes()
    except OSError as error:
        raise UserError(f"--import {path}: cannot be read ({error.strerror})") from error


def _compiled(content: bytes, path: Path) -> types.CodeType:
    try:
        return compile(content, str(path), "exec")
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f" in line {line}" if line else ""
        message = getattr(error, "msg", str(error))
        raise UserError(f"{path}: is no Python{where}: {message}") from error


def _forget(path: Path) -> None:
    before = _files.pop(path, None)
    if before is not None:
        kinds.forget(str(path))
        sys.modules.pop(before.module, None)


def _what(error: BaseException, path: Path | None) -> str:
    """Say in a sentence what was raised, and in which line of a file."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
