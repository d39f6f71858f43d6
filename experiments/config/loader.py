"""From a TOML file, or the name of a built-in experiment, to a validated config."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import tomli_w

from ..studies import StudyExperiment
from ..system.errors import NO_HOME, ConfigError, Problem, UserError
from ..system.text import show
from ..tables import Experiment, SweepExperiment, kinds
from .builtins import builtin_names, builtin_text, no_such_builtin
from .explain import explain
from .schema import Config, RunConfig

MAX_BYTES = 2**20
# tomllib takes a time that grows with the square of a dotted key's length.
_LONG_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]{1,64}[ \t]{0,4}\.[ \t]{0,4}){64}""")
_INDEX = re.compile(r"^\d{1,9}$")
# As many parts as a key may have, and more than any key of the schema has.
_MOST_PARTS = 64
_Kind = TypeVar("_Kind", bound=Config)


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate the config of an experiment, a study or a sweep.

    Args:
        source: the path of a TOML file, or the name of a built-in experiment.
        overrides: assignments `"a.b=value"` made before validation; the value is TOML, or else
            taken as a string, and a list is entered by index, `"flows.0.label=slow"`.

    Returns:
        The config with every default filled in.

    Raises:
        ConfigError: if there is no such file or name, or the config cannot be run; the message
            names each key, what was given and what is allowed.
    """
    where, data = read_tables(source, overrides)
    return validate(data, where)


def load_run_config(source: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """As `load_config`, and refuse a sweep: of what can be run by itself.

    Raises:
        ConfigError: as `load_config`, and for a sweep.
    """
    config = load_config(source, overrides)
    if isinstance(config, SweepExperiment):
        message = "this is a sweep, of many runs; start it with `eosflows sweep`"
        raise ConfigError(str(source), [Problem("sweep", message)])
    return config


def wanted_figures(path: Path) -> tuple[str, ...]:
    """The figures that the config in a run directory asks for; it need not be valid today.

    An earlier version may have written it, or a user's file may be needed to validate it.

    Args:
        path: the `config.toml` of the run directory, in which every default is filled in.

    Returns:
        The names, whether or not there are such figures.

    Raises:
        ConfigError: if there is no such file, or it is no TOML.
    """
    _, data = read_tables(path)
    table = data.get("sweep", data)
    names = table.get("figures", ()) if isinstance(table, dict) else ()
    return tuple(name for name in names if isinstance(name, str)) if names else ()


def read_tables(source: str | Path, overrides: Sequence[str] = ()) -> tuple[str, dict[str, Any]]:
    """Read a config without validating it.

    Args:
        source: as for `load_config`.
        overrides: as for `load_config`.

    Returns:
        What to call it in an error, and its tables.

    Raises:
        ConfigError: if there is no such file or name, or it is no TOML.
    """
    where, text = _read(source)
    data = _parse(where, text)
    for assignment in overrides:
        _override(data, assignment)
    return where, data


def validate(data: Mapping[str, Any], source: str = "config") -> Config:
    """Validate a config that was already parsed.

    Args:
        data: the tables, as `tomllib` gives them; a study if `study` is among them, a sweep if
            `sweep` is. The runs of a sweep are not validated here.
        source: what to call the config in an error.

    Returns:
        The config with every default filled in.

    Raises:
        ConfigError: as for `load_config`.
    """
    if "sweep" in data:
        return _validated(SweepExperiment, data, source)
    return validate_run(data, source)


def validate_run(data: Mapping[str, Any], source: str = "config") -> RunConfig:
    """As `validate`, of what can be run by itself: a table `sweep` is an unknown key."""
    if "study" in data:
        return _validated(StudyExperiment, data, source)
    return _validated(Experiment, data, source)


def _validated(model: type[_Kind], data: Mapping[str, Any], source: str) -> _Kind:
    kinds.refresh(model)
    try:
        return model.model_validate(dict(data))
    except pydantic.ValidationError as error:
        raise ConfigError(source, explain(error, data, model)) from None
    except RecursionError:
        raise ConfigError(source, [Problem("", "nested too deeply to be a config")]) from None


def to_toml(config: Config) -> str:
    """Write a config as TOML, defaults included: loading the text gives an equal config."""
    return tomli_w.dumps(config.model_dump(mode="python", exclude_none=True))


def _read(source: str | Path) -> tuple[str, str]:
    name = str(source)
    try:
        path = Path(source).expanduser()
    except RuntimeError:
        raise ConfigError(name, [Problem("", NO_HOME)]) from None
    looks_like_a_path = isinstance(source, Path) or path.suffix == ".toml" or len(path.parts) > 1
    if not looks_like_a_path:
        if name in builtin_names():
            return name, builtin_text(name)
        raise ConfigError(name, [Problem("", no_such_builtin(name))])
    try:
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "no such file"
            raise ConfigError(name, [Problem("", f"{kind}; expected a TOML file")])
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError(
                name,
                [Problem("", f"{size} bytes; a config may have at most {MAX_BYTES} (1 MiB)")],
            )
        # Editors on Windows put a byte order mark in front, which is no TOML.
        return name, path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"not UTF-8 text (byte {error.start}), so not TOML"
        raise ConfigError(name, [Problem("", message)]) from None
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise ConfigError(name, [Problem("", f"cannot be read: {error}")]) from None


def _parse(source: str, text: str) -> dict[str, Any]:
    if _LONG_KEY.search(text):
        raise ConfigError(source, [Problem("", "nested too deeply to be a config")])
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(source, [Problem("", "nested too deeply to be a config")]) from None
    except ValueError as error:
        # tomllib's own errors end in "(at line L, column C)"; int() refuses numbers of thousands
        # of digits with a bare ValueError.
        raise ConfigError(source, [Problem("", f"not valid TOML: {error}")]) from None


def _override(data: dict[str, Any], assignment: str) -> None:
    source = f"--set {_shortened(assignment, 200)}"
    key, equals, text = assignment.partition("=")
    try:
        assignment.encode()
    except UnicodeEncodeError:
        message = f"not valid text: {text!a}"
        raise ConfigError("--set", [Problem(ascii(key)[1:-1], message)]) from None
    parts = key.strip().split(".")
    key = _shortened(key, 60)
    if not equals or not all(parts):
        message = "expected KEY=VALUE, as in --set optimizer.learning_rate=0.1"
        raise ConfigError(source, [Problem("", message)])
    if len(parts) > _MOST_PARTS:
        message = f"a key of {len(parts)} parts; must have at most {_MOST_PARTS}"
        raise ConfigError(source, [Problem(key, message)])
    assign(data, key.strip(), parse_value(text.strip()), source)


def assign(data: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set a key of a config that was not yet validated, in place.

    Args:
        data: the tables.
        key: the path, `a.b`; a list is entered by index, `flows.0.label`.
        value: its value.
        source: what to call the assignment in an error.

    Raises:
        ConfigError: if the path leads through what is no table, or past the end of a list.
    """
    parts = key.split(".")
    node: Any = data
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        path = _shortened(".".join(parts[:depth]), 60) or "the config"
        if isinstance(node, dict):
            if last:
                node[part] = value
            else:
                node = node.setdefault(part, {})
        elif isinstance(node, list):
            if not _INDEX.match(part) or int(part) >= len(node):
                allowed = f"an index from 0 to {len(node) - 1}" if node else "nothing: it is empty"
                message = f"{path} is a list; got {show(part)}, allowed is {allowed}"
                raise ConfigError(source, [Problem(key, message)])
            if last:
                node[int(part)] = value
            else:
                node = node[int(part)]
        else:
            message = f"{path} is {show(node)}, not a table that {show(part)} could be in"
            raise ConfigError(source, [Problem(key, message)])


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def parse_value(text: str) -> Any:
    """Read a value as TOML, or else take it as a string."""
    if "\n" in text or len(text) > MAX_BYTES or _LONG_KEY.search(text):
        return text
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if list(parsed) == ["value"] else text
