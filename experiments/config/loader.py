"""From a TOML file, or the name of a built-in experiment, to a validated config."""

import json
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
_YAML = (".yaml", ".yml")
# tomllib takes a time that grows with the square of a dotted key's length.
_LONG_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]{1,64}[ \t]{0,4}\.[ \t]{0,4}){64}""")
_INDEX = re.compile(r"^\d{1,9}$")
_BRACKETS = re.compile(r"\[(\d{1,9})\]")
# A word without quotes where TOML wants a value, as the shell leaves it: [{kind=central}].
_BARE_WORD = re.compile(
    r"(?<=[\[,=])(\s*)(?!(?:true|false|inf|nan)\b)([A-Za-z_][\w-]*)(?=\s*[,\]}])"
)
_BACKSLASH = re.compile(r'"[^"\n]*\\[^"\n]*"')
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
        override(data, assignment)
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
    is_file = path.suffix in (".toml", ".json", *_YAML)
    looks_like_a_path = isinstance(source, Path) or is_file or len(path.parts) > 1
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
    suffix = Path(source).suffix
    if suffix in _YAML:
        message = "YAML is not read: write the same tables as TOML (key = value, [table]) or JSON"
        raise ConfigError(source, [Problem("", message)])
    try:
        if suffix != ".json":
            return tomllib.loads(text)
        found = json.loads(text)
    except RecursionError:
        raise ConfigError(source, [Problem("", "nested too deeply to be a config")]) from None
    except ValueError as error:
        # tomllib's own errors end in "(at line L, column C)"; int() refuses numbers of thousands
        # of digits with a bare ValueError.
        language = "JSON" if suffix == ".json" else "TOML"
        message = f"not valid {language}: {error}{_about_backslashes(text, error)}"
        raise ConfigError(source, [Problem("", message)]) from None
    if not isinstance(found, dict):
        raise ConfigError(source, [Problem("", f"given {show(found)}; must be a JSON object")])
    return found


def _about_backslashes(text: str, error: ValueError) -> str:
    """Return what to do if a path with backslashes may be why a text is no TOML; "" if not."""
    line = re.search(r"at line (\d{1,9})", str(error))
    lines = text.splitlines()
    if line is None or not 0 < int(line[1]) <= len(lines):
        return ""
    if not _BACKSLASH.search(lines[int(line[1]) - 1]):
        return ""
    return (
        ". A backslash in double quotes begins an escape: write a Windows path in single quotes "
        "('C:\\data\\mine.npz'), or with / in place of it"
    )


def override(data: dict[str, Any], assignment: str) -> None:
    """Make an assignment `"a.b=value"` in a config that was not yet validated, in place.

    Raises:
        ConfigError: if it is none, or leads through what is no table.
    """
    source = f"--set {_shortened(assignment, 200)}"
    key, equals, text = assignment.partition("=")
    try:
        assignment.encode()
    except UnicodeEncodeError:
        message = f"not valid text: {text!a}"
        raise ConfigError("--set", [Problem(ascii(key)[1:-1], message)]) from None
    whole = dotted(key.strip())
    parts, key = whole.split("."), _shortened(key, 60)
    if not equals or not all(parts):
        message = "expected KEY=VALUE, as in --set optimizer.learning_rate=0.1"
        raise ConfigError(source, [Problem("", message)])
    if len(parts) > _MOST_PARTS:
        message = f"a key of {len(parts)} parts; must have at most {_MOST_PARTS}"
        raise ConfigError(source, [Problem(key, message)])
    assign(data, whole, parse_value(text.strip()), source)


def dotted(key: str) -> str:
    """Return a key with its indices as parts: `flows.0.kind` for `flows[0].kind`."""
    return _BRACKETS.sub(r".\1", key)


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
    parts, key = key.split("."), _shortened(key, 60)
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
    # A shell takes quotes away: [{kind="central"}] arrives as [{kind=central}].
    repaired = [_BARE_WORD.sub(r'\1"\2"', text)] if text[:1] in "[{" else []
    for attempt in (text, *repaired):
        try:
            parsed = tomllib.loads(f"value = {attempt}")
        except (ValueError, RecursionError):
            continue
        if list(parsed) == ["value"]:
            return parsed["value"]
    return text
